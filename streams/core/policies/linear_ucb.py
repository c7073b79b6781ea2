"""An upper confidence bound with one linear model shared by all users and actions."""

from typing import ClassVar

from streams.core.policies.bayesian_policies import UpperBoundPolicy
from streams.core.policies.beliefs import BELIEFS
from streams.core.policies.parameters import Parameter
from streams.core.policies.shared_linear import SharedLinear

__all__ = ["LinearUcb"]


class LinearUcb(UpperBoundPolicy):
    """LinUCB over :class:`~streams.core.policies.shared_linear.SharedLinear`.

    The score is ``m' phi + exploration * sqrt(s² phi' L^-1 phi)`` with phi of the user, the action
    and both. That is LinUCB with a hybrid model, all of its weights shared.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Examples
    --------
    >>> policy = LinearUcb(d_user=0, d_action=0)
    >>> policy.update("news", {}, 0.2)
    >>> policy.n_learned
    1
    """

    name: ClassVar[str] = "linear-ucb"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (*UpperBoundPolicy.PARAMETERS, *BELIEFS)

    def _make_model(self) -> SharedLinear:
        return SharedLinear(self.d_user, self.d_action, self.beliefs)
