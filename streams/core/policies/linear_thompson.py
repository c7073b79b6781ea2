"""Thompson sampling with one linear model shared by all users and actions: the default policy."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PolicyError
from streams.core.policies.base import ActionSet, BoolArray, Examples, FloatArray, Policy
from streams.core.policies.best_shares import best_shares
from streams.core.policies.data import checked_contexts
from streams.core.policies.draws import FLOOR, floored
from streams.core.policies.linear_statistics import Statistics, statistics_of
from streams.core.policies.parameters import Parameter
from streams.core.policies.posterior import Posterior, Prior
from streams.core.policies.prior_scale import ScaledPrior, fit_scales, groups_of

__all__ = ["LARGEST_DIMENSION", "LinearThompson"]

LARGEST_DIMENSION = 512
DAY_MS = 86_400_000.0
NOISE_WEIGHT = 2.0  # examples that the prior of the noise is worth


class LinearThompson(Policy):
    """Choose each action as often as it is believed to be the best one for this user.

    The expected reward is ``w' phi(x, a)`` with ``phi = (1, x) ⊗ (1, a)``, so that a template
    never sent before is scored by its features. Weights and noise have a normal, inverse gamma
    posterior: the data's own noise sets how much is explored. How large effects of users, of
    actions and of both together are is learned from the data too (empirical Bayes).

    Features should be of about unit scale; the constant column carries the level of the reward.
    Probabilities are the shares of posterior draws in which an action wins, mixed with a floor.
    The draws are shared by a chunk, and the draw of an action is from the very probabilities that
    are returned: they are exact propensities, not estimates of them.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512.
    draws
        Posterior draws a chunk.
    floor
        Share of decisions that are uniform over the eligible actions.
    exploration
        Factor on the posterior's spread: 1 is Thompson sampling to the letter, 0 is greedy. Less
        than 1 earns more within few waves [2]_.
    main_precision, interaction_precision
        How many examples the belief that an effect is nil is worth: for effects of the user or
        the action alone, and for those of both together.
    adapt
        Whether these two are adapted to the data.
    base_reward
        The reward expected before any example.
    noise_variance
        The noise expected before any example.
    half_life_days
        The age at which an example counts half, in days; 0 forgets nothing.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.

    Raises
    ------
    PolicyError
        If the dimension or a parameter is out of bounds.

    Examples
    --------
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
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="draws",
            kind="int",
            default=512,
            low=16,
            high=16_384,
            doc="posterior draws that probabilities are estimated from",
        ),
        Parameter(
            name="floor",
            kind="float",
            default=FLOOR,
            low=0.0,
            high=1.0,
            doc="share of decisions that are uniform over the eligible actions",
        ),
        Parameter(
            name="exploration",
            kind="float",
            default=0.5,
            low=0.0,
            high=10.0,
            doc="factor on the posterior's spread; 1 is Thompson sampling, 0 is greedy",
        ),
        Parameter(
            name="main_precision",
            kind="float",
            default=100.0,
            low=1e-3,
            high=1e6,
            doc="examples that the belief in no effect of a user or an action is worth",
        ),
        Parameter(
            name="interaction_precision",
            kind="float",
            default=300.0,
            low=1e-3,
            high=1e6,
            doc="examples that the belief in no effect of both together is worth",
        ),
        Parameter(
            name="adapt",
            kind="bool",
            default=True,
            doc="adapt both precisions to the data",
        ),
        Parameter(
            name="base_reward",
            kind="float",
            default=0.03,
            low=-1e6,
            high=1e6,
            doc="reward expected before any example",
        ),
        Parameter(
            name="noise_variance",
            kind="float",
            default=0.03,
            low=1e-9,
            high=1e12,
            doc="variance of a reward expected before any example",
        ),
        Parameter(
            name="half_life_days",
            kind="float",
            default=0.0,
            low=0.0,
            high=3650.0,
            doc="age in days at which an example counts half; 0 forgets nothing",
        ),
    )

    def __init__(
        self,
        d_user: int,
        d_action: int,
        *,
        draws: int = 512,
        floor: float = FLOOR,
        exploration: float = 0.5,
        main_precision: float = 100.0,
        interaction_precision: float = 300.0,
        adapt: bool = True,
        base_reward: float = 0.03,
        noise_variance: float = 0.03,
        half_life_days: float = 0.0,
        actions: ActionSet | None = None,
        columns: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(d_user, d_action, actions=actions, columns=columns, seed=seed)
        self.draws = draws
        self.floor = floor
        self.exploration = exploration
        self.main_precision = main_precision
        self.interaction_precision = interaction_precision
        self.adapt = adapt
        self.base_reward = base_reward
        self.noise_variance = noise_variance
        self.half_life_days = half_life_days
        self.parameters()
        d = (1 + d_user) * (1 + d_action)
        if d > LARGEST_DIMENSION:
            raise PolicyError(
                f"(1 + d_user)(1 + d_action) must be at most {LARGEST_DIMENSION}, "
                f"got (1 + {d_user})(1 + {d_action}) = {d}: project the user's features first"
            )
        self.d = d
        self._sums = Statistics.empty(d)
        self._posterior: Posterior | None = None

    # ---- learning, in parts or at once

    def statistics(self, examples: Examples) -> Statistics:
        """Sum up examples, for :meth:`fold` here or in another process.

        Raises
        ------
        PolicyError
            If the examples' dimensions are not the policy's.
        """
        self._check(examples)
        return statistics_of(examples, self._half_life_ms)

    def fold(self, statistics: Statistics) -> None:
        """Learn examples that were summed up; parts may come in any order.

        Raises
        ------
        PolicyError
            If the statistics' dimension is not the policy's.
        """
        self._sums = self._sums.plus(statistics, self._half_life_ms)
        self.n_learned += statistics.n
        self._posterior = None

    def _learn(self, examples: Examples) -> None:
        self.fold(self.statistics(examples))

    # ---- deciding

    @property
    def posterior(self) -> Posterior:
        """What is believed now; worked out when it is asked for after learning, then kept."""
        if self._posterior is None:
            scaled = self._scaled_prior()
            self._posterior = (
                fit_scales(self._sums, scaled)
                if self.adapt
                else Posterior.of(self._sums, scaled.prior((1.0, 1.0, 1.0)))
            )
        return self._posterior

    def expected(self, contexts: NDArray[Any], actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions), for contexts (n, d_user)."""
        x = checked_contexts(contexts, self.d_user)
        users = np.hstack([np.ones((len(x), 1)), x])
        acts = np.hstack([np.ones((len(actions), 1)), actions.features])
        means: FloatArray = users @ self.posterior.mean.reshape(1 + self.d_user, -1) @ acts.T
        return means

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        weights = self.posterior.draws(self.draws, rng, self.exploration)  # (draws, d)
        shares = best_shares(contexts, actions.features, eligible, weights)
        return floored(shares, eligible, self.floor)

    # ---- state

    def _learned(self) -> dict[str, object]:
        return self._sums.state()

    def _restore(self, learned: Mapping[str, Any]) -> None:
        self._sums = Statistics.from_state(learned, self.d)
        self._posterior = None

    @property
    def _half_life_ms(self) -> float:
        return self.half_life_days * DAY_MS

    def _scaled_prior(self) -> ScaledPrior:
        mean = np.zeros(self.d)
        mean[0] = self.base_reward
        return ScaledPrior(
            base=Prior(
                mean=mean,
                precision=np.ones(self.d),  # the constant's is worth one example
                shape=NOISE_WEIGHT / 2.0,
                rate=self.noise_variance * NOISE_WEIGHT / 2.0,
            ),
            groups=groups_of(self.d_user, self.d_action),
            precisions=(self.main_precision, self.main_precision, self.interaction_precision),
        )
