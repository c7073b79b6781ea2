"""One logistic model shared by all users and actions, for the probability of a click."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import plans_of
from streams.core.policies.data import ActionSet, Examples, FloatArray
from streams.core.policies.gaussian import Gaussian
from streams.core.policies.linear_statistics import ROWS, Statistics, crossed
from streams.core.policies.logistic_mode import Labelled, find_mode
from streams.core.policies.prior_scale import groups_of
from streams.core.policies.reward_model import BayesianModel, shared_dimension
from streams.core.policies.shared_linear import with_constant

__all__ = ["SharedLogistic"]


class SharedLogistic(BayesianModel):
    """A click has probability ``sigma(w' phi(x, a))`` with ``phi = (1, x) ⊗ (1, a)``.

    The posterior of the weights is kept normal: for each chunk the mode under the belief so far is
    found by Newton's method, and the curvature of the chunk's likelihood there is added to the
    precision (online Laplace, an assumed density) [1]_ [2]_. Rewards are clipped to [0, 1]; one
    between counts as that share of a click.

    What is not exact: the normal shape; the curvature of a chunk, which stays where it was found
    while the mode moves on, so that other chunks of the same examples leave another (close)
    posterior; a correction, which moves the mode by its true gradient ``(r - r') phi`` but leaves
    the curvature of all others as it is. Where corrections turn a tenth more of the sends into
    clicks, rates come out right to about a hundredth; where they double the clicks, rates
    overshoot by a third (e / 2), until new examples mend it.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    beliefs
        Before any example: ``base_reward`` is the probability; precisions count examples as in
        the linear model; ``adapt`` and ``noise_variance`` have no meaning here.

    References
    ----------
    .. [1] Chapelle & Li 2011, An Empirical Evaluation of Thompson Sampling, Alg. 3 (with a
       diagonal precision; here it is full).
    .. [2] Spiegelhalter & Lauritzen 1990, Sequential updating of conditional probabilities.
    .. [3] MacKay 1992, The evidence framework applied to classification networks.
    """

    CHUNKS_MATTER: ClassVar[bool] = True

    def __init__(self, d_user: int, d_action: int, beliefs: Beliefs) -> None:
        self.d = shared_dimension(d_user, d_action)
        self._d_user = d_user
        self._half_life_ms = beliefs.half_life_ms
        rate = beliefs.base_reward
        self._mean0 = np.zeros(self.d)
        self._mean0[0] = np.log(rate / (1.0 - rate))
        # an example at the base rate tells rate (1 - rate), the curvature there
        self._precision0 = np.ones(self.d)  # the constant's is worth one example
        for mask, examples in zip(
            groups_of(d_user, d_action),
            (beliefs.main_precision, beliefs.main_precision, beliefs.interaction_precision),
            strict=True,
        ):
            self._precision0[mask] = examples
        self._precision0 *= rate * (1.0 - rate)
        self.sums = Statistics.empty(self.d)
        self._posterior: Gaussian | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned yet."""
        return not self.sums.weight

    @property
    def posterior(self) -> Gaussian:
        """What is believed of the weights now."""
        if self._posterior is None:
            self._posterior = self._believed(self.sums)
        return self._posterior

    def learn(self, examples: Examples) -> None:
        """Learn examples in blocks of at most 4,096."""
        for start in range(0, len(examples), ROWS):
            self._learn_block(examples.taking(np.arange(start, min(start + ROWS, len(examples)))))

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the probability of a click, the weights integrated out, (n, n_actions)."""
        users, acts = with_constant(contexts), with_constant(actions.features)
        means = users @ self.posterior.mean.reshape(1 + self._d_user, -1) @ acts.T
        # MacKay 1992, eq. 10: the sigmoid as a probit, whose integral is known
        shrink = np.sqrt(1.0 + np.pi / 8.0 * self.posterior.variances(users, acts))
        expected: FloatArray = expit(means / shrink)
        return expected

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the standard deviation of the probability, to first order, (n, n_actions)."""
        users, acts = with_constant(contexts), with_constant(actions.features)
        means = users @ self.posterior.mean.reshape(1 + self._d_user, -1) @ acts.T
        slope = expit(means) * expit(-means)
        spread: FloatArray = slope * np.sqrt(self.posterior.variances(users, acts))
        return spread

    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], BayesianModel]]:
        """Draw the shared weights: the action with the largest ``w' phi`` is the best."""
        weights = self.posterior.mean + widen * self.posterior.normals(draws, rng)
        yield 1.0, plans_of(weights, actions.features), self

    def on_scores(
        self, contexts: FloatArray, actions: ActionSet, handicap: FloatArray
    ) -> FloatArray:
        """Carry over a handicap in units of probability to ``w' phi``, to first order."""
        rate = np.clip(self.expected(contexts, actions), 1e-6, 1.0 - 1e-6)
        carried: FloatArray = handicap / (rate * (1.0 - rate))
        return carried

    def learned(self) -> dict[str, object]:
        """Give the curvature and the information of the examples."""
        return self.sums.state()

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the curvature and the information."""
        self.sums = Statistics.from_state(learned, self.d)
        self._posterior = None

    def _add(self, source: "SharedLogistic", discount: float) -> None:
        self.sums = self.sums.plus(source.sums.discounted(discount), self._half_life_ms)
        self._posterior = None

    def _learn_block(self, examples: Examples) -> None:
        # with z = w' phi + (r - p) / (p (1 - p)) the sums are those of a linear model that is
        # weighted by p (1 - p): they add up, fade and are kept as those do
        newest = int(examples.at_ms.max())
        before = self.sums.aged(newest, self._half_life_ms)
        assert before.at_ms is not None
        fade = np.ones(len(examples))
        if self._half_life_ms:
            fade = np.exp2((examples.at_ms - before.at_ms) / self._half_life_ms)
        new = examples.is_new
        rewards = np.clip(examples.rewards, 0.0, 1.0)
        told = np.where(new, 0.0, np.clip(examples.previous, 0.0, 1.0))
        phi = crossed(examples.contexts, examples.action_features)
        push = (fade * (rewards - told))[~new] @ phi[~new]  # (d,), linear in the weights
        chunk = Labelled(phi=phi[new], labels=rewards[new], weights=fade[new], push=push)
        belief = before.gram + np.diag(self._precision0)
        mode, curvature = find_mode(self._believed(before), belief, chunk)
        gram = before.gram + curvature
        information = (gram + np.diag(self._precision0)) @ mode
        self.sums = replace(
            before,
            gram=gram,
            moment=information - self._precision0 * self._mean0,
            power=before.power + float(fade @ (rewards**2 - told**2)),
            weight=before.weight + float(fade[new].sum()),
            n=before.n + int(new.sum()),
        )
        self._posterior = None

    def _believed(self, sums: Statistics) -> Gaussian:
        return Gaussian.solved(
            sums.gram + np.diag(self._precision0), sums.moment + self._precision0 * self._mean0
        )
