"""One linear model shared by all users and actions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from streams.core.policies.action_parts import ActionPart, crossed_sums, summed
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import plans_of
from streams.core.policies.data import ActionSet, Examples, FloatArray
from streams.core.policies.linear_statistics import Statistics, statistics_of
from streams.core.policies.posterior import Posterior, Prior
from streams.core.policies.prior_scale import ScaledPrior, fit_scales, groups_of
from streams.core.policies.reward_model import BayesianModel, shared_dimension

__all__ = ["NOISE_WEIGHT", "SharedLinear", "with_constant"]

NOISE_WEIGHT = 2.0  # examples that the prior of the noise is worth


class SharedLinear(BayesianModel):
    """The reward is ``w' phi(x, a)`` plus noise, with ``phi = (1, x) ⊗ (1, a)``.

    So a template never sent before is scored by its features. Weights and noise have a normal,
    inverse gamma posterior [1]_; how large effects of users, of actions and of both together are
    is learned from the data too (empirical Bayes).

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    beliefs
        What is believed before any example.

    Raises
    ------
    PolicyError
        If the dimension is out of bounds.

    References
    ----------
    .. [1] Bishop 2006, Pattern Recognition and Machine Learning, section 3.3.
    """

    RESCALES: ClassVar[bool] = True

    def __init__(self, d_user: int, d_action: int, beliefs: Beliefs) -> None:
        self.d = shared_dimension(d_user, d_action)
        self._d_user = d_user
        self._d_action = d_action
        self._beliefs = beliefs
        self.sums = Statistics.empty(self.d)
        self._posterior: Posterior | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned yet."""
        return not self.sums.weight

    def fold(self, statistics: Statistics) -> None:
        """Learn examples that were summed up; parts may come in any order."""
        self.sums = self.sums.plus(statistics, self._beliefs.half_life_ms)
        self._posterior = None

    def learn(self, examples: Examples) -> None:
        """Learn examples, corrections exactly."""
        self.fold(statistics_of(examples, self._beliefs.half_life_ms))

    @property
    def half_lives_ms(self) -> tuple[float, ...]:
        """The one half-life that its sums fade with."""
        return (self._beliefs.half_life_ms,)

    def learn_sums(self, parts: Sequence[ActionPart]) -> None:
        """Learn examples that were summed up elsewhere; parts may come in any order."""
        for part in summed(parts):
            self.fold(crossed_sums(part))

    @property
    def posterior(self) -> Posterior:
        """What is believed now; worked out when it is asked for after learning, then kept."""
        if self._posterior is None:
            scaled = self._scaled_prior()
            self._posterior = (
                fit_scales(self.sums, scaled)
                if self._beliefs.adapt
                else Posterior.of(self.sums, scaled.prior((1.0, 1.0, 1.0)))
            )
        return self._posterior

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give ``m' phi``, (n, n_actions)."""
        weights = self.posterior.mean.reshape(1 + self._d_user, -1)
        means: FloatArray = with_constant(contexts) @ weights @ with_constant(actions.features).T
        return means

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give ``sqrt(s² phi' L^-1 phi)`` with s² the expected noise, (n, n_actions)."""
        variances = self.posterior.variances(
            with_constant(contexts), with_constant(actions.features)
        )
        spread: FloatArray = np.sqrt(self.posterior.noise_variance * variances)
        return spread

    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], BayesianModel]]:
        """Draw the shared weights, (draws, d)."""
        plans = plans_of(self.posterior.draws(draws, rng, widen), actions.features)
        yield 1.0, plans, self

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.sums = self.sums.rescaled(factor)
        self._posterior = None

    def learned(self) -> dict[str, object]:
        """Give the sums."""
        return self.sums.state()

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the sums."""
        self.sums = Statistics.from_state(learned, self.d)
        self._posterior = None

    def _add(self, source: "SharedLinear", discount: float) -> None:
        self.fold(source.sums.discounted(discount))

    def _scaled_prior(self) -> ScaledPrior:
        beliefs = self._beliefs
        mean = np.zeros(self.d)
        mean[0] = beliefs.base_reward
        return ScaledPrior(
            base=Prior(
                mean=mean,
                precision=np.ones(self.d),  # the constant's is worth one example
                shape=NOISE_WEIGHT / 2.0,
                rate=beliefs.noise_variance * NOISE_WEIGHT / 2.0,
            ),
            groups=groups_of(self._d_user, self._d_action),
            precisions=(
                beliefs.main_precision,
                beliefs.main_precision,
                beliefs.interaction_precision,
            ),
        )


def with_constant(features: FloatArray) -> FloatArray:
    """Put a column of ones before features (n, d)."""
    return np.hstack([np.ones((len(features), 1)), features])
