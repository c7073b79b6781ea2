"""Thompson sampling with one linear model shared by all users and actions."""

from typing import Any, ClassVar

from numpy.typing import NDArray

from streams.core.policies.base import ActionSet, FloatArray
from streams.core.policies.bayesian_policies import ThompsonPolicy
from streams.core.policies.beliefs import BELIEFS
from streams.core.policies.data import checked_contexts
from streams.core.policies.parameters import Parameter
from streams.core.policies.posterior import Posterior
from streams.core.policies.shared_linear import SharedLinear

__all__ = ["LinearThompson"]


class LinearThompson(ThompsonPolicy):
    """Thompson sampling over :class:`~streams.core.policies.shared_linear.SharedLinear`.

    The expected reward is ``w' phi(x, a)`` with ``phi = (1, x) ⊗ (1, a)``, so that a template
    never sent before is scored by its features. The data's own noise sets how much is explored.
    Features should be of about unit scale; the constant column carries the level of the reward.

    ``exploration`` is a factor on the posterior's spread: 1 is Thompson sampling to the letter.
    Less earns more within few waves [2]_.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Raises
    ------
    PolicyError
        If the dimension or a parameter is out of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> policy = LinearThompson(
    ...     d_user=1,
    ...     d_action=2,
    ...     columns=["keen"],
    ...     actions=ActionSet(ids=("news", "offer"), features=np.eye(2)),
    ... )
    >>> for day in range(200):
    ...     keen = float(day % 2)
    ...     arm = policy.pull(["news", "offer"], {"keen": keen})
    ...     policy.update(arm, {"keen": keen}, reward=float((arm == "offer") == (keen == 1.0)))
    >>> [policy.pull(["news", "offer"], {"keen": keen}) for keen in (0.0, 1.0)]
    ['news', 'offer']

    References
    ----------
    .. [1] Agrawal & Goyal 2013, Thompson Sampling for Contextual Bandits with Linear Payoffs.
    .. [2] Chapelle & Li 2011, An Empirical Evaluation of Thompson Sampling, on its parameter alpha.
    .. [3] Riquelme, Tucker & Snoek 2018, Deep Bayesian Bandits Showdown (the noise learned too).
    """

    name: ClassVar[str] = "linear-thompson"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (*ThompsonPolicy.PARAMETERS, *BELIEFS)

    reward_model: SharedLinear

    def _make_model(self) -> SharedLinear:
        return SharedLinear(self.d_user, self.d_action, self.beliefs)

    @property
    def posterior(self) -> Posterior:
        """What is believed now."""
        return self.reward_model.posterior

    def expected(self, contexts: NDArray[Any], actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions), for contexts (n, d_user)."""
        return self.reward_model.expected(checked_contexts(contexts, self.d_user), actions)
