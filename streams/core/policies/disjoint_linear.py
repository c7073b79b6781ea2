"""A linear model for each action, over the user's features alone."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from schemas.hashing import id_hash
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import WEIGHTS
from streams.core.policies.data import ActionSet, Examples, FloatArray
from streams.core.policies.kept_sums import KeptSums, bounded_actions
from streams.core.policies.posterior import Posterior, Prior
from streams.core.policies.reward_model import BayesianModel, shared_dimension
from streams.core.policies.shared_linear import NOISE_WEIGHT, with_constant
from streams.core.policies.sum_keys import keys_of

__all__ = ["DisjointLinear"]


class DisjointLinear(BayesianModel):
    """The reward of action a is ``w_a' (1, x)`` plus noise; actions teach each other nothing.

    A new action starts from the prior, whatever its features; one that is paused keeps what was
    learned. Each has the posterior of :class:`~streams.core.policies.posterior.Posterior`, its
    noise included.

    Parameters
    ----------
    d_user
        Features of a context.
    beliefs
        Before any example: ``main_precision`` is for an action's level, ``interaction_precision``
        for its effects of the user's features; ``adapt`` has no meaning here.

    References
    ----------
    .. [1] Li, Chu, Langford & Schapire 2010, A Contextual-Bandit Approach to Personalized News
       Article Recommendation, Alg. 1.
    """

    RESCALES: ClassVar[bool] = True

    def __init__(self, d_user: int, beliefs: Beliefs) -> None:
        self.d = shared_dimension(d_user, 0)
        self._beliefs = beliefs
        self.kept = KeptSums(d_user, 0, beliefs.half_life_ms)
        self._posteriors: dict[str, Posterior] = {}

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned yet."""
        return not len(self.kept)

    @property
    def tells_apart(self) -> bool:
        """Each action has a model of its own."""
        return True

    def learn(self, examples: Examples) -> None:
        """Learn examples, corrections exactly.

        Raises
        ------
        PolicyError
            If actions times features are more than 8,192.
        """
        alone = replace(examples, action_features=np.zeros((len(examples), 0)))
        self.kept.learn(alone, keys_of(alone))
        self._posteriors = {}

    @property
    def half_lives_ms(self) -> tuple[float, ...]:
        """The one half-life that its sums fade with."""
        return (self._beliefs.half_life_ms,)

    def learn_sums(self, parts: Sequence[ActionPart]) -> None:
        """Learn examples that were summed up; parts may come in any order.

        Raises
        ------
        PolicyError
            If actions times features are more than 8,192.
        """
        self.kept.learn_sums([replace(part, features=np.zeros(0)) for part in parts])
        self._posteriors = {}

    def posterior(self, action: str) -> Posterior:
        """What is believed of an action now; worked out when it is asked for, then kept."""
        if action not in self._posteriors:
            self._posteriors[action] = Posterior.of(self.kept.of(action), self._prior())
        return self._posteriors[action]

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give ``m_a' (1, x)``, (n, n_actions)."""
        means = np.stack([self.posterior(name).mean for name in actions.ids])  # (n_actions, d)
        expected: FloatArray = with_constant(contexts) @ means.T
        return expected

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give ``sqrt(s_a² (1, x)' L_a^-1 (1, x))``, (n, n_actions)."""
        users, one = with_constant(contexts), np.ones((1, 1))
        columns = []
        for name in actions.ids:
            posterior = self.posterior(name)
            columns.append(posterior.noise_variance * posterior.variances(users, one)[:, 0])
        spread: FloatArray = np.sqrt(np.stack(columns, axis=1))
        return spread

    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], BayesianModel]]:
        """Draw each action's weights, every action from its own random stream."""
        bounded_actions(len(actions), self.d)
        chunk = int(rng.integers(1 << 62))
        beliefs = [
            (self.posterior(name), np.random.default_rng((chunk, id_hash(name))))
            for name in actions.ids
        ]
        by_draw = max(1, min(draws, WEIGHTS // (self.d * len(actions))))

        def plans() -> Iterator[FloatArray]:
            for first in range(0, draws, by_draw):
                part = min(by_draw, draws - first)
                plan = np.stack([belief.draws(part, own, widen) for belief, own in beliefs])
                # (n_actions, draws, 1 + d_user), less what all share, the draws last
                yield (plan - plan.mean(axis=0)).transpose(0, 2, 1)

        yield 1.0, plans(), self

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.kept.rescale(factor)
        self._posteriors = {}

    def retire(self, actions: Collection[str]) -> None:
        """Forget these actions; should one come back, it starts from the prior."""
        self.kept.retire(actions)
        self._posteriors = {}

    def learned(self) -> dict[str, object]:
        """Give the sums of each action."""
        return self.kept.state()

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the sums of each action."""
        self.kept.restore(learned)
        self._posteriors = {}

    def _add(self, source: "DisjointLinear", discount: float) -> None:
        self.kept.fold(source.kept.discounted(discount))
        self._posteriors = {}

    def _prior(self) -> Prior:
        beliefs = self._beliefs
        mean, precision = np.zeros(self.d), np.full(self.d, beliefs.interaction_precision)
        mean[0], precision[0] = beliefs.base_reward, beliefs.main_precision
        return Prior(
            mean=mean,
            precision=precision,
            shape=NOISE_WEIGHT / 2.0,
            rate=beliefs.noise_variance * NOISE_WEIGHT / 2.0,
        )
