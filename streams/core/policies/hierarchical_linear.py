"""A linear model of what actions share by their features, and of what each has of its own."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from schemas.errors import PolicyError
from schemas.hashing import id_hash
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import WEIGHTS
from streams.core.policies.data import ActionSet, Examples, FloatArray, IntArray
from streams.core.policies.hierarchical_posterior import (
    GROUPS,
    Alone,
    Hierarchy,
    Precisions,
    fitted_precisions,
)
from streams.core.policies.kept_sums import KeptSums, Stack
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.plans import PlanModel
from streams.core.policies.reward_model import shared_dimension
from streams.core.policies.shared_linear import with_constant
from streams.core.policies.sum_keys import action_keys

__all__ = ["HierarchicalLinear"]

# makes of an action's key, drawn weights (m, p), spread (m, 1) and stream: weights (m, p)
Finish = Callable[[str, FloatArray, FloatArray, np.random.Generator], FloatArray]

REFIT = 0.1  # of the weight must be new before precisions are chosen again


class HierarchicalLinear(PlanModel):
    """The reward of action a is ``(1, x) (Theta (1, a)' + v_a)`` plus noise.

    Theta is shared by all actions and scores one never sent by its features; v_a is what the
    features do not tell of a, held near nil until its sends say otherwise. How large each kind of
    effect is comes from the data (empirical Bayes), so that actions with nothing in common come
    to learn apart, and actions told by their features together [1]_.

    What is kept is additive, a sum for each action and the features that it was sent with
    (:class:`~streams.core.policies.kept_sums.KeptSums`), and a function of it: the choice of
    the precisions, which is made anew when enough is new.

    An action that is retired loses v_a, and Theta keeps what its examples said: its sums go on
    without a name, and what is expected of all others is as before. Of more than
    :data:`~streams.core.policies.kept_sums.MOST_RETIRED` those that were sent the longest ago are
    folded into one sum over Theta, their v_a integrated out under the precisions of that time (a
    Schur complement). That is exact until precisions are chosen anew: it then still counts for
    those of Theta, and no longer for those of v_a. Forgetting and a warm start's discount scale
    it as a whole. To fold each when it is retired would be shorter, and count outcomes that come
    later as another action's, or not at all; to add up the sums as they are takes what was an
    action's own for what its features are worth, and cost up to a tenth of what could be earned.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action; (1 + d_user)(1 + d_action) is at most 512, and
        actions times (1 + d_user) at most 8,192.
    beliefs
        What is believed before any example.

    References
    ----------
    .. [1] Gelman & Hill 2007, Data Analysis Using Regression and Multilevel Models, chapter 13.
    """

    def __init__(self, d_user: int, d_action: int, beliefs: Beliefs) -> None:
        self.d = shared_dimension(d_user, d_action)
        self.p, self.q = 1 + d_user, 1 + d_action
        self._beliefs = beliefs
        self.kept = KeptSums(d_user, d_action, beliefs.half_life_ms)
        self._factors = (1.0,) * GROUPS  # on the believed precisions
        self._since = 0  # examples learned since these were chosen
        self._hierarchy: Hierarchy | None = None

    # ---- learning

    def learn_rows(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Learn examples whose rows were sorted by action."""
        self.kept.learn(examples, self.kept.laid_aside(rows, examples))
        self._since += int(examples.is_new.sum())
        self._hierarchy = None

    def fit_scales(self) -> None:
        """Choose each group's precision by the evidence, where enough is new since the last time.

        It is for whoever learns to ask.
        """
        if not self._is_fit_due():
            return
        self._since = 0
        stack = self.kept.stack()
        self._factors, self._hierarchy = fitted_precisions(
            stack, self.p, self.q, self._beliefs, self._factors
        )

    def _is_fit_due(self) -> bool:
        """Whether enough is new since sizes of effects were fitted last."""
        enough = self._since >= REFIT * self.kept.stack().weight
        return bool(self._beliefs.adapt and len(self.kept) and enough)

    # ---- what is believed

    def _prior(self) -> Precisions:
        return Precisions.of(self.p, self.q, self._beliefs, self._factors)

    @property
    def hierarchy(self) -> Hierarchy:
        """What is believed now; worked out when it is asked for after learning, then kept."""
        if self._hierarchy is None:
            self._hierarchy = Hierarchy.of(
                self.kept.stack(), self._prior(), self._beliefs.noise_variance
            )
        return self._hierarchy

    @property
    def noise_variance(self) -> float:
        """The noise that is believed in."""
        return self.hierarchy.noise_variance

    def plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights."""
        return self.hierarchy.plan(key, features)

    def drawn_plans(
        self,
        actions: ActionSet,
        rng: np.random.Generator,
        draws: int,
        widen: float,
        finish: Finish | None = None,
    ) -> Iterator[FloatArray]:
        """Draw weights, in parts (n_actions, p, m), from one random stream for each action.

        Parameters
        ----------
        widen
            A factor on the spread about the mean.
        finish
            What a model that builds on this one makes of drawn weights.
        """
        hierarchy, p = self.hierarchy, self.p
        chunk = int(rng.integers(1 << 62))
        streams = [np.random.default_rng((chunk, id_hash(name))) for name in actions.ids]
        by_draw = max(1, min(draws, WEIGHTS // (p * len(actions))))
        acts, keys = with_constant(actions.features), list(action_keys(actions))
        for first in range(0, draws, by_draw):
            m = min(by_draw, draws - first)
            noise = np.sqrt(hierarchy.rate / rng.standard_gamma(hierarchy.shape, m))  # s, (m,)
            spread: FloatArray = widen * noise[:, None]
            drawn = hierarchy.theta.mean + spread * hierarchy.theta.normals(m, rng)
            theta = drawn.reshape(m, p, -1)
            plan = np.empty((len(keys), p, m))
            for index, (key, act) in enumerate(zip(keys, acts, strict=True)):
                told = theta @ act  # (m, p)
                mean, root = hierarchy.own_of(key, told)
                white = streams[index].standard_normal((m, p))
                weights = told + mean + spread * (white @ root.T)  # (m, p)
                if finish is not None:
                    weights = finish(key, weights, spread, streams[index])
                plan[index] = weights.T
            yield plan

    # ---- state

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.kept.rescale(factor)
        self._hierarchy = None

    def retire(self, actions: Collection[str]) -> None:
        """Drop what is these actions' own; what they taught of the shared weights stays.

        Corrections of theirs that still come are exact, but of those that were folded: these are
        left out. New outcomes count as another action's until it is retired again.
        """
        self.kept.set_aside(actions)
        self._fold_retired()
        self._hierarchy = None

    def _fold_retired(self) -> None:
        """Fold the sums of the oldest retired actions, where there are too many."""
        keys = self.kept.to_fold()
        if keys:
            self.kept.teach(keys, self._taught_by(self.kept.stack_of(keys)))

    def _taught_by(self, stack: Stack) -> Statistics:
        """Integrate out what is each action's own."""
        return Alone.of(stack, self._prior().own).taught(stack, self.kept.at_ms)

    def learned(self) -> dict[str, object]:
        """Give the sums of each action, and the precisions that were chosen."""
        return {
            **self.kept.state(),
            "factors": np.array(self._factors),
            "since": self._since,
        }

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the sums of each action."""
        factors, self._since = np.array(learned["factors"]), int(learned["since"])
        if factors.shape != (GROUPS,) or not (factors > 0.0).all():
            raise PolicyError(
                f"precisions must have {GROUPS} positive factors, got {factors}: "
                "take another snapshot"
            )
        self._factors = tuple(factors.tolist())
        self.kept.restore(learned)
        self._hierarchy = None

    def _add(self, source: "HierarchicalLinear", discount: float) -> None:
        if not len(self.kept):
            self._factors = source._factors  # noqa: SLF001 - one of its own kind
        self.kept.fold(source.kept.discounted(discount))
        self._fold_retired()
        self._hierarchy = None
