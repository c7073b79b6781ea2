"""Thompson sampling with a logistic model of click probabilities."""

from typing import ClassVar

from streams.core.policies.bayesian_policies import ThompsonPolicy
from streams.core.policies.beliefs import (
    BASE_RATE,
    HALF_LIFE,
    INTERACTION_PRECISION,
    MAIN_PRECISION,
)
from streams.core.policies.logistic import SharedLogistic
from streams.core.policies.parameters import Parameter

__all__ = ["LogisticThompson"]


class LogisticThompson(ThompsonPolicy):
    """Thompson sampling over :class:`~streams.core.policies.logistic.SharedLogistic`.

    For rewards that are clicks or no clicks, above all where rates differ by factors: effects
    multiply odds. Rewards are clipped to [0, 1]. Learning is approximate, corrections too; see
    the model. Propensities are the shares that actions are drawn from, as true as any.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    References
    ----------
    .. [1] Chapelle & Li 2011, An Empirical Evaluation of Thompson Sampling, Alg. 3.
    """

    name: ClassVar[str] = "logistic-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        *ThompsonPolicy.PARAMETERS,
        MAIN_PRECISION,
        INTERACTION_PRECISION,
        BASE_RATE,
        HALF_LIFE,
    )

    def _make_model(self) -> SharedLogistic:
        return SharedLogistic(self.d_user, self.d_action, self.beliefs)
