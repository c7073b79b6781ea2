"""Mostly the action that is expected to earn the most, now and then any."""

from typing import ClassVar

from streams.core.policies.base import BoolArray, FloatArray
from streams.core.policies.closed_form import ClosedFormPolicy
from streams.core.policies.exploration import epsilon_greedy_dist
from streams.core.policies.parameters import Parameter

__all__ = ["EPSILON", "EpsilonGreedy"]

EPSILON = Parameter(
    name="epsilon",
    kind="float",
    default=0.1,
    low=0.0,
    high=1.0,
    doc="share of decisions that are uniform over the eligible actions",
)


class EpsilonGreedy(ClosedFormPolicy):
    """Explore by :func:`~streams.core.policies.exploration.epsilon_greedy_dist`.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Examples
    --------
    >>> import numpy as np
    >>> from streams.core.policies import ActionSet
    >>> policy = EpsilonGreedy(d_user=0, d_action=0, model="disjoint-linear", epsilon=0.2)
    >>> policy.update("offer", {}, 0.5)
    >>> both = ActionSet(ids=("news", "offer"), features=np.zeros((2, 0)))
    >>> policy.action_dist(np.zeros((1, 0)), both, np.array([[True, True]]), np.random)
    array([[0.1, 0.9]])
    """

    name: ClassVar[str] = "epsilon-greedy"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (EPSILON, *ClosedFormPolicy.PARAMETERS)

    epsilon: float

    def _choice(self, scores: FloatArray, eligible: BoolArray) -> FloatArray:
        return epsilon_greedy_dist(scores, eligible, self.epsilon)
