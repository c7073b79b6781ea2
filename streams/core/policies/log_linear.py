"""Rewards that mostly do not come: how often they do, by effects that multiply, and how large."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.centred import middle_of, solved, taught_by
from streams.core.policies.data import ActionSet, Examples, FloatArray, IntArray
from streams.core.policies.effect_sizes import STEPS, EffectSizes
from streams.core.policies.hierarchical_linear import Finish, HierarchicalLinear
from streams.core.policies.hierarchical_posterior import Hierarchy, Precisions
from streams.core.policies.kept_sums import KeptSums, Stack
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.shared_linear import with_constant
from streams.core.policies.sum_keys import action_keys, retired_key

__all__ = ["LogLinear"]

NEWTON = 8  # steps at most to the mode of a part
CLOSE = 1e-3  # of the logarithm of a rate: near enough to the mode
FAR = 2.0  # the largest step of a logarithm of a rate
LOWEST, HIGHEST = -12.0, 1.0  # of the logarithm of a rate
LIKE = 30.0  # rewards that came, which the belief in sizes alike is worth
WIDEST = 1.0  # variance of a logarithm of a rate, where the mean is taken
EFFECT = 0.18  # of a feature on the logarithm of a rate: believed standard deviation
TINY = 1e-12
MOST = 1.0 - 1e-9  # of an expected reward, that a handicap takes
BASE = (1e-4, 0.5)  # a rate is believed to lie between these before any example
FOLDED = ""  # in place of a key: all whose sums were folded


class LogLinear(HierarchicalLinear):
    """An action earns ``exp((1, x) w_a)`` rewards a send, each of its own mean size.

    ``w_a = Theta (1, a)' + v_a`` as in :class:`HierarchicalLinear`, but of the logarithm of how
    often there is a reward at all: who is twice as ready to click is so with every template. With
    clicks of some per cent that is nearer to the truth than sums, and weighs what is seldom
    clicked by its smaller noise (quasi-likelihood with a variance in proportion to the mean
    [1]_). Sizes are averages by action, held near the average of all: a purchase in a hundred
    sends says little of who buys.

    Effects are believed to be small about the mean of those who answer, so that it is no matter
    where a campaign has put the zero of a feature.

    The posterior is kept normal: each chunk's likelihood is expanded about the mode under what
    came before (online Laplace), which makes of it sums as the linear model's: they add up, and a
    correction moves the mode by its gradient, but leaves the curvature.

    It knows no negative reward: after the first, :attr:`applies` is False for good.

    Parameters
    ----------
    d_user, d_action
        As for :class:`HierarchicalLinear`.
    beliefs
        ``base_reward`` is the rate of rewards before any example; precisions count examples at
        that rate.

    References
    ----------
    .. [1] McCullagh & Nelder 1989, Generalized Linear Models, chapter 9.
    """

    COUNTS: ClassVar[bool] = True

    def __init__(self, d_user: int, d_action: int, beliefs: Beliefs) -> None:
        super().__init__(d_user, d_action, beliefs)
        self._rate = float(np.clip(beliefs.base_reward, *BASE))
        self._believed = EffectSizes.alike(self.p, self.q, EFFECT**2)
        self.sizes = self._believed
        self.applies = True
        # by key: rewards that came, and their sum
        self.came: dict[str, tuple[float, float]] = {}

    # ---- learning

    def learn_rows(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Learn examples whose rows were sorted by action."""
        rows = self.kept.laid_aside(rows, examples)
        self.kept.bounded_with(rows)
        told = np.where(examples.is_new, 0.0, examples.previous)
        if min(examples.rewards.min(), told.min()) < 0.0:
            self.applies = False
        if not self.applies:
            return
        for key, mine in rows.items():
            came = (examples.rewards[mine] > 0.0).sum() - (told[mine] > 0.0).sum()
            self._count(key, float(came), float((examples.rewards[mine] - told[mine]).sum()))
        self.kept, self._hierarchy = self._expanded(examples, rows)
        self._since += int(examples.is_new.sum())

    def _count(self, key: str, came: float, total: float) -> None:
        """Count rewards that came, and their sum."""
        count, before = self.came.get(key, (0.0, 0.0))
        self.came[key] = (count + came, before + total)

    def _expanded(
        self, examples: Examples, rows: Mapping[str, IntArray]
    ) -> tuple[KeptSums, Hierarchy]:
        """Expand the likelihood of examples about the mode, by Newton's method."""
        users = with_constant(examples.contexts)
        new = examples.is_new
        came = (examples.rewards > 0.0).astype(np.float64)
        told = np.where(new, 0.0, np.where(examples.previous > 0.0, 1.0, 0.0))
        newest = int(examples.at_ms.max())
        prior = self._prior()
        features = {key: examples.action_features[mine[0]] for key, mine in rows.items()}
        if self.is_new:
            logs = np.full(len(users), np.log((came.sum() + self._rate) / (len(users) + 1.0)))
        else:
            logs = self._logs(self.kept, self.hierarchy, users, rows, features)
        for _ in range(NEWTON):
            means = np.exp(logs)  # (n,)
            sums = {}
            for key, mine in rows.items():
                u, w, fresh = users[mine], means[mine], new[mine]
                # the working response z with w z = w log(w) + (r - w)
                # (McCullagh & Nelder 1989, 2.5); a correction adds the difference of two
                drive = np.where(fresh, w * logs[mine] - w, 0.0) + came[mine] - told[mine]
                half = u[fresh] * np.sqrt(w[fresh])[:, None]
                sums[key] = Statistics(
                    gram=half.T @ half,
                    moment=drive @ u,
                    power=0.0,  # of no use where the noise is known
                    weight=float(fresh.sum()),
                    n=int(fresh.sum()),
                    at_ms=newest,
                )
            kept = self.kept.with_sums(features, sums)
            hierarchy = solved(kept.stack(), prior)
            step = self._logs(kept, hierarchy, users, rows, features) - logs
            largest = float(np.abs(step[new]).max(initial=0.0))
            if largest < CLOSE:
                break
            logs = np.clip(logs + step * min(1.0, FAR / largest), LOWEST, HIGHEST)
        return kept, hierarchy

    def _logs(
        self,
        kept: KeptSums,
        hierarchy: Hierarchy,
        users: FloatArray,
        rows: Mapping[str, IntArray],
        features: Mapping[str, FloatArray],
    ) -> FloatArray:
        """Give the logarithm of each example's rate, (n,)."""
        theta = hierarchy.theta.mean.reshape(self.p, self.q)
        logs, middle = np.zeros(len(users)), middle_of(kept.stack())
        for key, mine in rows.items():
            told = theta @ np.concatenate([[1.0], features[key]])
            weights = told + hierarchy.own_of(key, told[None, :])[0][0]
            logs[mine] = users[mine] @ weights - middle @ weights[1:]
        return np.clip(logs, LOWEST, HIGHEST)

    def fit_scales(self) -> None:
        """Fit the sizes of effects, where enough is new since the last time."""
        if not self._is_fit_due():
            return
        self._since = 0
        stack = self.kept.stack()
        for _ in range(STEPS):
            self.sizes = self.sizes.fitted(self.hierarchy, self._believed)
            self._hierarchy = solved(stack, self._prior())

    # ---- what is believed

    def _prior(self) -> Precisions:
        return self.sizes.precisions(float(np.log(self._rate)))

    @property
    def hierarchy(self) -> Hierarchy:
        """What is believed of logarithms now, as weights of features less their mean."""
        if self._hierarchy is None:
            self._hierarchy = solved(self.kept.stack(), self._prior())
        return self._hierarchy

    def _log_size(self, key: str) -> float:
        """Give the logarithm of an action's mean reward, where there is one."""
        count = sum(one for one, _ in self.came.values())
        total = sum(one for _, one in self.came.values())
        middle = total / count if count > 0.0 and total > 0.0 else 1.0
        mine, sum_of_mine = self.came.get(key, (0.0, 0.0))
        size = (sum_of_mine + LIKE * middle) / (mine + LIKE)
        return float(np.log(max(size, 1e-9 * middle)))

    def plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights of the logarithm."""
        mean, cover = self.hierarchy.plan(key, features)
        back = np.eye(self.p)
        back[0, 1:] = -middle_of(self.kept.stack())
        mean = back @ mean
        mean[0] += self._log_size(key)
        return mean, back @ cover @ back.T

    def drawn_plans(
        self,
        actions: ActionSet,
        rng: np.random.Generator,
        draws: int,
        widen: float,
        finish: Finish | None = None,
    ) -> Iterator[FloatArray]:
        """Draw weights of the logarithm, in parts (n_actions, p, m); sizes are not drawn."""
        middle = middle_of(self.kept.stack())

        def sized(
            key: str, weights: FloatArray, spread: FloatArray, stream: np.random.Generator
        ) -> FloatArray:
            weights[:, 0] += self._log_size(key) - weights[:, 1:] @ middle
            return weights if finish is None else finish(key, weights, spread, stream)

        return super().drawn_plans(actions, rng, draws, widen, sized)

    def _means(
        self, users: FloatArray, key: str, features: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Give the mean reward of each user, (n,), and the variance of its logarithm, (n,)."""
        mean, cover = self.plan(key, features)
        variance = self.noise_variance * np.maximum(((users @ cover) * users).sum(axis=1), 0.0)
        variance = np.minimum(variance, WIDEST)
        logs = np.clip(users @ mean, LOWEST + self._log_size(key), HIGHEST + self._log_size(key))
        return np.exp(logs + variance / 2.0), variance  # the mean of a log-normal

    def foreseen(
        self, examples: Examples, rows: Mapping[str, IntArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Give errors of the expected rewards, (n,), and variances over s² of the rewards, (n,).

        What the rate is not known by is a few per cent of a reward's variance: it is left out.
        """
        error = np.empty(len(examples))
        everyone = with_constant(examples.contexts)
        for key, mine in rows.items():
            means, _ = self._means(everyone[mine], key, examples.action_features[mine[0]])
            error[mine] = examples.rewards[mine] - means
        return error, np.ones(len(examples))

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions)."""
        return self._columns(contexts, actions)[0]

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the standard deviation of each expected reward, to first order, (n, n_actions)."""
        means, variances = self._columns(contexts, actions)
        spread: FloatArray = means * np.sqrt(variances)
        return spread

    def _columns(self, contexts: FloatArray, actions: ActionSet) -> tuple[FloatArray, FloatArray]:
        users = with_constant(contexts)
        columns = [
            self._means(users, key, features)
            for key, features in zip(action_keys(actions), actions.features, strict=True)
        ]
        means, variances = (np.stack([one[i] for one in columns], axis=1) for i in range(2))
        return means, variances

    def on_scores(
        self, contexts: FloatArray, actions: ActionSet, handicap: FloatArray
    ) -> FloatArray:
        """Say what a handicap in units of reward takes off the expected reward's logarithm."""
        share = handicap / np.maximum(self.expected(contexts, actions), TINY)
        carried: FloatArray = -np.log1p(-np.minimum(share, MOST))
        return carried

    # ---- state

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.came = {key: (n, factor * total) for key, (n, total) in self.came.items()}

    def _fold_retired(self) -> None:
        """Fold the sums of the oldest retired actions; rewards are counted where sums are."""
        super()._fold_retired()
        moved = sorted(self.came.keys() - self.kept.sums.keys() - {FOLDED})
        for key in moved:
            aside = retired_key(key)
            self._count(aside if aside in self.kept.sums else FOLDED, *self.came.pop(key))
        if moved:
            self.came = dict(sorted(self.came.items()))  # as a snapshot that is read back has it

    def _taught_by(self, stack: Stack) -> Statistics:
        """Integrate out what is each action's own."""
        middle = middle_of(self.kept.stack())
        return taught_by(stack, self._prior().own, middle, self.kept.at_ms)

    def learned(self) -> dict[str, object]:
        """Give the sums of each action, the sizes of rewards and of effects."""
        return {
            **self.kept.state(),
            "since": self._since,
            "applies": self.applies,
            "came": {key: list(self.came[key]) for key in sorted(self.came)},
            "sizes": self.sizes.state(),
        }

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up what :meth:`learned` gave.

        Raises
        ------
        PolicyError
            If the parts do not hang together.
        """
        self._since, self.applies = int(learned["since"]), bool(learned["applies"])
        self.sizes = EffectSizes.from_state(learned["sizes"], self.p, self.q)
        self.kept.restore(learned)
        came = {key: (float(n), float(total)) for key, (n, total) in learned["came"].items()}
        if (
            came.keys() - {FOLDED} != self.kept.sums.keys()
            or not np.isfinite(list(came.values())).all()
        ):
            raise PolicyError(
                f"rewards must be counted for the {len(self.kept)} actions that were sent, "
                f"got {len(came)}: take another snapshot"
            )
        self.came = came
        self._hierarchy = None

    def _add(self, source: HierarchicalLinear, discount: float) -> None:
        assert isinstance(source, LogLinear)  # warm_start refuses another kind
        if not len(self.kept):
            self.sizes = source.sizes
        self.applies = self.applies and source.applies
        self.kept.fold(source.kept.discounted(discount))
        for key, (count, total) in source.came.items():
            self._count(key, discount * count, discount * total)
        self._fold_retired()
        self._hierarchy = None
