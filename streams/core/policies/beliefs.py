"""What is believed before any example, in the parameters that every linear model shares."""

from dataclasses import dataclass, replace

from streams.core.policies.draws import FLOOR
from streams.core.policies.parameters import Parameter

__all__ = [
    "ADAPT",
    "BASE_RATE",
    "BASE_REWARD",
    "BELIEFS",
    "DAY_MS",
    "DRAWS",
    "EXPLORATION",
    "EXPLORE_LAST_WAVE",
    "FLOOR_SHARE",
    "HALF_LIFE",
    "INTERACTION_PRECISION",
    "MAIN_PRECISION",
    "NOISE_VARIANCE",
    "Beliefs",
]

DAY_MS = 86_400_000.0

DRAWS = Parameter(
    name="draws",
    kind="int",
    default=512,
    low=16,
    high=16_384,
    doc="posterior draws that probabilities are estimated from",
)
FLOOR_SHARE = Parameter(
    name="floor",
    kind="float",
    default=FLOOR,
    low=0.0,
    high=1.0,
    doc="share of decisions that are uniform over the eligible actions",
)
EXPLORATION = Parameter(
    name="exploration",
    kind="float",
    default=0.5,
    low=0.0,
    high=10.0,
    doc="factor on the posterior's spread; 1 is Thompson sampling, 0 is greedy",
)
EXPLORE_LAST_WAVE = Parameter(
    name="explore_last_wave",
    kind="bool",
    default=False,
    doc="explore in a campaign's last wave too: other campaigns and evaluations learn from it",
)
MAIN_PRECISION = Parameter(
    name="main_precision",
    kind="float",
    default=100.0,
    low=1e-3,
    high=1e6,
    doc="examples that the belief in no effect of a user or an action is worth",
)
INTERACTION_PRECISION = Parameter(
    name="interaction_precision",
    kind="float",
    default=300.0,
    low=1e-3,
    high=1e6,
    doc="examples that the belief in no effect of both together is worth",
)
ADAPT = Parameter(
    name="adapt",
    kind="bool",
    default=True,
    doc="adapt both precisions to the data",
)
BASE_REWARD = Parameter(
    name="base_reward",
    kind="float",
    default=0.03,
    low=-1e6,
    high=1e6,
    doc="reward expected before any example",
)
BASE_RATE = replace(
    BASE_REWARD, low=1e-6, high=1.0 - 1e-6, doc="probability expected before any example"
)
NOISE_VARIANCE = Parameter(
    name="noise_variance",
    kind="float",
    default=0.03,
    low=1e-9,
    high=1e12,
    doc="variance of a reward expected before any example",
)
HALF_LIFE = Parameter(
    name="half_life_days",
    kind="float",
    default=0.0,
    low=0.0,
    high=3650.0,
    doc="age in days at which an example counts half; 0 forgets nothing",
)
BELIEFS: tuple[Parameter, ...] = (
    MAIN_PRECISION,
    INTERACTION_PRECISION,
    ADAPT,
    BASE_REWARD,
    NOISE_VARIANCE,
    HALF_LIFE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """Values of :data:`BELIEFS`, for a reward model; it may have no use for some.

    Attributes
    ----------
    main_precision, interaction_precision
        How many examples the belief that an effect is nil is worth: for effects of the user or
        the action alone, and for those of both together.
    adapt
        Whether these two are adapted to the data.
    base_reward
        The reward expected before any example.
    noise_variance
        The noise expected before any example.
    half_life_days
        The age at which an example counts half, in days; 0 forgets nothing.
    """

    main_precision: float = 100.0
    interaction_precision: float = 300.0
    adapt: bool = True
    base_reward: float = 0.03
    noise_variance: float = 0.03
    half_life_days: float = 0.0

    @property
    def half_life_ms(self) -> float:
        """The half-life in the unit of ``at_ms``."""
        return self.half_life_days * DAY_MS
