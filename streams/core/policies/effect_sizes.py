"""How large effects are: of the user, of the action, of both, by feature, and of each alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.linalg import solve_triangular

from schemas.errors import PolicyError
from streams.core.policies.data import FloatArray
from streams.core.policies.hierarchical_posterior import Hierarchy, Precisions

__all__ = ["EffectSizes"]

STEPS = 10  # of expectation maximisation each time
SURE = 0.5  # weights that what was believed before counts for, in a group's variance
ALIKE = 3.0  # weights that the belief in features that matter alike counts for
PAIRED = 0.1  # weights that the belief in products that matter alike counts for
SMALLEST, LARGEST = 1e-6, 1e2
MOST_PAIRED = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSizes:
    """Variances of weights about nil, over the variance of the noise.

    A weight of user feature i and action feature j has
    ``both * by_user[i] * by_action[j] * by_pair[i, j]``: of all that is known of people little
    decides what they like, and which it is, shows in every action; of the products that are left
    most decide nothing either, and each is let go by what its own weight says [1]_. What is an
    action's own in user feature i has ``own * by_user[i]``.

    Attributes
    ----------
    user, action, both, level, own
        Variances of effects of the user alone, of the action's features alone, of products, of
        an action's own level, and of its own effects of the user.
    by_user, by_action
        Factors on these, (p - 1,) and (q - 1,).
    by_pair
        Factors on products alone, (p - 1, q - 1).

    References
    ----------
    .. [1] MacKay 1995, Probable networks and plausible predictions, section 6.4 (automatic
       relevance determination).
    """

    user: float
    action: float
    both: float
    level: float
    own: float
    by_user: FloatArray
    by_action: FloatArray
    by_pair: FloatArray

    @classmethod
    def alike(cls, p: int, q: int, variance: float) -> Self:
        """Believe all effects to be of one size."""
        return cls(
            user=variance,
            action=variance,
            both=variance,
            level=variance,
            own=variance,
            by_user=np.ones(p - 1),
            by_action=np.ones(q - 1),
            by_pair=np.ones((p - 1, q - 1)),
        )

    def precisions(self, mean: float) -> Precisions:
        """Give the prior, with a constant about a mean that is worth one example."""
        p, q = 1 + len(self.by_user), 1 + len(self.by_action)
        shared = np.ones((p, q))
        shared[1:, 0] = 1.0 / self.user
        shared[0, 1:] = 1.0 / self.action
        factors = np.outer(self.by_user, self.by_action) * self.by_pair
        shared[1:, 1:] = 1.0 / (self.both * factors)
        own = np.concatenate([[1.0 / self.level], 1.0 / (self.own * self.by_user)])
        middle = np.zeros((p, q))
        middle[0, 0] = mean
        return Precisions(mean=middle, shared=shared, own=own)

    def fitted(self, hierarchy: Hierarchy, before: Self) -> Self:
        """Take a step of expectation maximisation from what the weights were found to be.

        Dempster, Laird & Rubin 1977, with variances as parameters, each drawn to what was
        believed before by an inverse gamma prior.

        Parameters
        ----------
        hierarchy
            The posterior under these sizes.
        before
            What was believed before any example.
        """
        shared, own = _squares(hierarchy)
        squares, alone = shared[1:, 1:], own[:, 1:]  # (p - 1, q - 1), (K, p - 1)
        products = squares / self.by_pair
        by_user, by_action, both = self.by_user, self.by_action, self.both
        if products.size:
            both = _drawn(products / np.outer(by_user, by_action), before.both)
            by_action = _drawn_each(products / (both * by_user[:, None]), axis=0)
        each = [products / (both * by_action), alone.T / self.own]
        by_user = _drawn_each(np.hstack(each), axis=1)
        by_pair = squares / (both * np.outer(by_user, by_action))
        return type(self)(
            user=_drawn(shared[1:, 0], before.user),
            action=_drawn(shared[0, 1:], before.action),
            both=both,
            level=_drawn(own[:, 0], before.level),
            own=_drawn(alone / by_user, before.own),
            by_user=by_user,
            by_action=by_action,
            by_pair=np.minimum((by_pair + PAIRED) / (1.0 + PAIRED), MOST_PAIRED),
        )

    def state(self) -> dict[str, object]:
        """Give it as arrays."""
        groups = [self.user, self.action, self.both, self.level, self.own]
        return {
            "groups": np.array(groups),
            "by_user": self.by_user,
            "by_action": self.by_action,
            "by_pair": self.by_pair,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], p: int, q: int) -> Self:
        """Take up what :meth:`state` gave.

        Raises
        ------
        PolicyError
            If the shapes are others, or a variance is not positive.
        """
        parts = [np.array(state[name]) for name in ("groups", "by_user", "by_action", "by_pair")]
        shapes = tuple(part.shape for part in parts)
        values = np.concatenate([part.ravel() for part in parts])
        if shapes != ((5,), (p - 1,), (q - 1,), (p - 1, q - 1)) or not (values > 0.0).all():
            least = values.min() if values.size else None
            raise PolicyError(
                f"sizes of effects must be positive, of shapes (5,), ({p - 1},), ({q - 1},) and "
                f"({p - 1}, {q - 1}), got {least} as the smallest and {shapes}: "
                "take another snapshot"
            )
        groups, by_user, by_action, by_pair = parts
        user, action, both, level, own = groups.tolist()
        return cls(
            user=user,
            action=action,
            both=both,
            level=level,
            own=own,
            by_user=by_user,
            by_action=by_action,
            by_pair=by_pair,
        )


def _drawn(squares: FloatArray, believed: float) -> float:
    """Give the mean square, where the belief counts for some more."""
    mean = (float(squares.sum()) + SURE * believed) / (squares.size + SURE)
    return float(np.clip(mean, SMALLEST, LARGEST))


def _drawn_each(squares: FloatArray, axis: int) -> FloatArray:
    sizes: FloatArray = (squares.sum(axis=axis) + ALIKE) / (squares.shape[axis] + ALIKE)
    if not sizes.size:
        return sizes
    # their common factor belongs to the group
    factors: FloatArray = np.clip(sizes / np.exp(np.log(sizes).mean()), 1e-3, 1e3)
    return factors


def _squares(hierarchy: Hierarchy) -> tuple[FloatArray, FloatArray]:
    """Expect the square of each weight over s²: of Theta, (p, q), and of what is own, (K, p)."""
    theta, stack = hierarchy.theta, hierarchy.stack
    p, q = len(hierarchy.own), stack.acts.shape[1]
    d = p * q
    # C^-1 S: its columns' squares sum to the variances
    root = solve_triangular(theta.factor, np.diag(theta.scale), lower=True, check_finite=False)
    mean = theta.mean.reshape(p, q)
    noise = hierarchy.noise_variance
    shared = (np.square(root).sum(axis=0) + theta.mean**2 / noise).reshape(p, q)
    told = stack.acts @ mean.T  # (K, p)
    gap = stack.moments - np.einsum("kp,kpr->kr", told, stack.grams)
    centre = np.einsum("kp,kpr->kr", gap, hierarchy.inverse)  # (K, p)
    own = np.diagonal(hierarchy.inverse, axis1=1, axis2=2) + centre**2 / noise
    by_user = root.reshape(d, p, q)
    for index, act in enumerate(stack.acts):
        moved = (by_user @ act) @ (stack.grams[index] @ hierarchy.inverse[index])  # (d, p)
        own[index] += np.square(moved).sum(axis=0)
    return shared, own
