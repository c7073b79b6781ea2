"""What actions earned of late, above or below what a long memory of them says."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from streams.core.policies.data import ActionSet, Examples, FloatArray, IntArray
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.kept_sums import KeptSums
from streams.core.policies.plans import PlanModel

__all__ = ["RecentLevels"]

BELIEF = 100.0  # examples that the belief in no change is worth


class RecentLevels(PlanModel):
    """The weights of a long memory, and a level of each action's own that drifts.

    An action wears out as it is sent, or comes into season, while who likes it stays. So tastes
    are taken from a model that forgets nothing, and only the level
    ``e_a ~ N(0, s² / 100)`` that is added to an action's constant is learned from sums that fade:
    ``e_a | w ~ N((m - g' w) / (n + 100), s² / (n + 100))`` with n, g and m the faded sums of 1, of
    u = (1, x) and of the reward over the action's examples.

    These sums are additive too, and corrections exact.

    Parameters
    ----------
    base
        The long memory; it learns on its own, not from this.
    half_life_ms
        Of what is recent.
    """

    def __init__(self, base: HierarchicalLinear, half_life_ms: float) -> None:
        self._base = base
        self.p = base.p
        self.kept = KeptSums(base.p - 1, base.q - 1, half_life_ms)

    @property
    def noise_variance(self) -> float:
        """The long memory's."""
        return self._base.noise_variance

    def learn_rows(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Learn examples whose rows were sorted by action."""
        self.kept.learn(examples, rows)

    def fit_scales(self) -> None:
        """Leave that to the long memory."""

    def plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights."""
        mean, cover = self._base.plan(key, features)
        weight, gram, moment = self._recent(key)
        lift = np.eye(self.p)
        lift[0] -= gram / weight
        cover = lift @ cover @ lift.T
        cover[0, 0] += 1.0 / weight
        mean = lift @ mean
        mean[0] += moment / weight
        return mean, cover

    def drawn_plans(
        self, actions: ActionSet, rng: np.random.Generator, draws: int, widen: float
    ) -> Iterator[FloatArray]:
        """Draw the long memory's, and a level given each."""

        def lifted(
            key: str, weights: FloatArray, spread: FloatArray, stream: np.random.Generator
        ) -> FloatArray:
            weight, gram, moment = self._recent(key)
            white = stream.standard_normal(len(weights)) / np.sqrt(weight)
            weights[:, 0] += (moment - weights @ gram) / weight + spread[:, 0] * white
            return weights

        return self._base.drawn_plans(actions, rng, draws, widen, lifted)

    def _recent(self, key: str) -> tuple[float, FloatArray, float]:
        """Give n + 100, g (p,) and m of an action."""
        stack = self.kept.stack()
        index = stack.place.get(key)
        if index is None:
            return BELIEF, np.zeros(self.p), 0.0
        gram = stack.grams[index][0]
        return BELIEF + float(gram[0]), gram, float(stack.moments[index][0])

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.kept.rescale(factor)

    def retire(self, actions: Collection[str]) -> None:
        """Forget the examples of these actions."""
        self.kept.retire(actions)

    def learned(self) -> dict[str, object]:
        """Give the recent sums; the long memory gives its own."""
        return self.kept.state()

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the recent sums."""
        self.kept.restore(learned)

    def _add(self, source: "RecentLevels", discount: float) -> None:
        self.kept.fold(source.kept.discounted(discount))
