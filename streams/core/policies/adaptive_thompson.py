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
    FLOOR_SHARE,
    INTERACTION_PRECISION,
    MAIN_PRECISION,
    NOISE_VARIANCE,
)
from streams.core.policies.hierarchical_linear import HierarchicalLinear
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


PRIOR = (0.94, 0.02, 0.02, 0.02)  # most tastes last longer than a campaign


class AdaptiveThompson(ThompsonPolicy):
    """Thompson sampling over four memories of one hierarchical model: the default policy.

    :class:`~streams.core.policies.hierarchical_linear.HierarchicalLinear` weighs what actions
    share by their features, so that a template never sent before is judged by them, against what
    each has of its own, by the evidence. Four memories are weighed against each other by the
    likelihood of what came (:class:`~streams.core.policies.mixed_memory.MixedMemory`): one that
    forgets nothing, one with levels that drift as templates wear out
    (:class:`~streams.core.policies.recent_levels.RecentLevels`), and two that forget slowly and
    fast. Probabilities are the mixture of theirs.

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
    """

    name: ClassVar[str] = "adaptive-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        DRAWS,
        FLOOR_SHARE,
        replace(EXPLORATION, default=0.1),
        MAIN_PRECISION,
        INTERACTION_PRECISION,
        ADAPT,
        BASE_REWARD,
        NOISE_VARIANCE,
        SLOW,
        FAST,
    )

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
        return MixedMemory([lasting, levels, slow, fast], PRIOR)
