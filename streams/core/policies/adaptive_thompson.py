"""Thompson sampling that finds out what actions share, and how long the past is worth keeping."""

from dataclasses import replace
from typing import ClassVar

from streams.core.policies.bayesian_policies import ThompsonPolicy
from streams.core.policies.beliefs import (
    ADAPT,
    BASE_REWARD,
    INTERACTION_PRECISION,
    MAIN_PRECISION,
    NOISE_VARIANCE,
)
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.mixed_memory import MixedMemory
from streams.core.policies.parameters import Parameter

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


PRIOR = (0.9, 0.05, 0.05)  # most tastes last longer than a campaign


class AdaptiveThompson(ThompsonPolicy):
    """Thompson sampling over three memories of one hierarchical model.

    :class:`~streams.core.policies.hierarchical_linear.HierarchicalLinear` weighs what actions
    share by their features against what each has of its own, by the evidence. Three of them, one
    that forgets nothing and two that forget slowly and fast, are weighed against each other by
    the likelihood of what came (:class:`~streams.core.policies.mixed_memory.MixedMemory`).
    Probabilities are the mixture of the three's.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512, and
        actions times (1 + d_user) at most 8,192.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.
    """

    name: ClassVar[str] = "adaptive-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        *ThompsonPolicy.PARAMETERS,
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
        return MixedMemory(
            [
                HierarchicalLinear(
                    self.d_user, self.d_action, replace(self.beliefs, half_life_days=days)
                )
                for days in (0.0, self.slow_half_life_days, self.fast_half_life_days)
            ],
            PRIOR,
        )
