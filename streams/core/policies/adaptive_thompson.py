"""Thompson sampling that finds out what actions share, and how long the past is worth keeping."""

from dataclasses import replace
from typing import ClassVar

from streams.core.policies.bayesian_policies import ThompsonPolicy
from streams.core.policies.beliefs import (
    ADAPT,
    BASE_REWARD,
    DAY_MS,
    DRAWS,
    EXPLORATION,
    EXPLORE_LAST_WAVE,
    FLOOR_SHARE,
    INTERACTION_PRECISION,
    MAIN_PRECISION,
    NOISE_VARIANCE,
)
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.log_linear import LogLinear
from streams.core.policies.mixed_memory import MixedMemory
from streams.core.policies.parameters import Parameter
from streams.core.policies.recent_levels import RecentLevels

__all__ = ["AdaptiveThompson"]

SLOW = Parameter(
    name="slow_half_life_days",
    kind="float",
    default=3.0,
    low=1e-3,
    high=3650.0,
    doc="age in days at which an example counts half, in the longer of the two fading memories",
)
FAST = replace(
    SLOW,
    name="fast_half_life_days",
    default=0.75,
    doc="age in days at which an example counts half, in the shorter of the two fading memories",
)


FLOOR_FADES = Parameter(
    name="floor_fades",
    kind="int",
    default=1_000,
    low=0,
    high=10**9,
    doc="examples learned after which the floor fades; 0: it stays",
)
FADING = 0.45  # below a half: intervals on adaptive logs ask for floors that fall slowly

MEMORIES = (0.94, 0.02, 0.02, 0.02)  # most tastes last longer than a campaign
RATES = 0.8  # that effects multiply, while no reward is negative
PRIOR = (*(float((1.0 - RATES) * share) for share in MEMORIES), RATES)


class AdaptiveThompson(ThompsonPolicy):
    """Thompson sampling over memories of one hierarchical model: the default policy.

    :class:`~streams.core.policies.hierarchical_linear.HierarchicalLinear` weighs what actions
    share by their features, so that a template never sent before is judged by them, against what
    each has of its own, by the evidence. Four memories are weighed against each other by the
    likelihood of what came (:class:`~streams.core.policies.mixed_memory.MixedMemory`): one that
    forgets nothing, one with levels that drift as templates wear out
    (:class:`~streams.core.policies.recent_levels.RecentLevels`), and two that forget slowly and
    fast. A fifth model is there for rewards that are never negative: that of how often they come,
    with effects that multiply (:class:`~streams.core.policies.log_linear.LogLinear`).
    Probabilities are the mixture of theirs. Templates that are retired lose what was their own, and
    leave what they taught of features: those that take their place are judged by it.

    The floor is ``floor (1 + n / floor_fades)^-0.45`` after n examples: 0.02 where nothing is
    known, 0.007 after 10,000. A constant one costs more the less there is left to learn, a
    third of all regret in a world where actions are hardly alike; one that falls more slowly
    than ``n^-1/2`` still leaves logs that other policies can be valued on [2]_
    (``tests/bench/test_adaptive_log.py`` measures that).

    ``exploration`` is a factor on the posterior's spread, 1 is Thompson sampling to the letter
    [1]_. A wave is decided by one frozen snapshot, thousands of sends that explore side by side:
    far less is enough.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512, and
        actions times (1 + d_user) at most 8,192.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    References
    ----------
    .. [1] Chapelle & Li 2011, An Empirical Evaluation of Thompson Sampling, on its parameter alpha.
    .. [2] Zhan, Hadad, Hirshberg & Athey 2021, Off-Policy Evaluation via Adaptive Weighting with
       Data from Contextual Bandits.
    """

    name: ClassVar[str] = "adaptive-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        DRAWS,
        FLOOR_SHARE,
        FLOOR_FADES,
        replace(EXPLORATION, default=0.1),
        EXPLORE_LAST_WAVE,
        MAIN_PRECISION,
        INTERACTION_PRECISION,
        ADAPT,
        BASE_REWARD,
        NOISE_VARIANCE,
        SLOW,
        FAST,
    )

    floor_fades: int
    slow_half_life_days: float
    fast_half_life_days: float

    def _make_model(self) -> MixedMemory:
        lasting, slow, fast = (
            HierarchicalLinear(
                self.d_user, self.d_action, replace(self.beliefs, half_life_days=days)
            )
            for days in (0.0, self.slow_half_life_days, self.fast_half_life_days)
        )
        levels = RecentLevels(lasting, self.fast_half_life_days * DAY_MS)
        rates = LogLinear(self.d_user, self.d_action, self.beliefs)
        return MixedMemory([lasting, levels, slow, fast, rates], PRIOR)

    @property
    def floor_now(self) -> float:
        """The share of decisions that is uniform, after what was learned so far."""
        if not self.floor_fades:
            return self.floor
        return float(self.floor * (1.0 + self.n_learned / self.floor_fades) ** -FADING)
