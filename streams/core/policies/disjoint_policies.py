"""Thompson sampling and an upper confidence bound with a linear model for each action."""

from typing import ClassVar

from streams.core.policies.bayesian_policies import ThompsonPolicy, UpperBoundPolicy
from streams.core.policies.beliefs import (
    BASE_REWARD,
    HALF_LIFE,
    INTERACTION_PRECISION,
    MAIN_PRECISION,
    NOISE_VARIANCE,
)
from streams.core.policies.disjoint_linear import DisjointLinear
from streams.core.policies.parameters import Parameter

__all__ = ["DisjointLinearThompson", "DisjointLinearUcb"]

DISJOINT_BELIEFS: tuple[Parameter, ...] = (
    MAIN_PRECISION,
    INTERACTION_PRECISION,
    BASE_REWARD,
    NOISE_VARIANCE,
    HALF_LIFE,
)


class DisjointLinearThompson(ThompsonPolicy):
    """Thompson sampling over :class:`~streams.core.policies.disjoint_linear.DisjointLinear`.

    For actions that have nothing in common: their features are ignored, and each learns from its
    own sends alone. Weights of different actions are drawn independently.

    Parameters
    ----------
    d_user, d_action
        Features of a context, and of an action (ignored); actions times (1 + d_user) is at most
        8,192.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Examples
    --------
    >>> policy = DisjointLinearThompson(d_user=0, d_action=0, seed=2)
    >>> for _ in range(300):
    ...     policy.update("news", {}, 0.0)
    ...     policy.update("offer", {}, 0.1)
    >>> policy.pull(["news", "offer"], {})
    'offer'
    """

    name: ClassVar[str] = "disjoint-linear-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (*ThompsonPolicy.PARAMETERS, *DISJOINT_BELIEFS)

    def _make_model(self) -> DisjointLinear:
        return DisjointLinear(self.d_user, self.beliefs)


class DisjointLinearUcb(UpperBoundPolicy):
    """LinUCB with disjoint models (Li et al. 2010, Alg. 1), its noise learned.

    Parameters
    ----------
    d_user, d_action
        Features of a context, and of an action (ignored); actions times (1 + d_user) is at most
        8,192.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.
    """

    name: ClassVar[str] = "disjoint-linear-ucb"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (*UpperBoundPolicy.PARAMETERS, *DISJOINT_BELIEFS)

    def _make_model(self) -> DisjointLinear:
        return DisjointLinear(self.d_user, self.beliefs)
