"""Draw actions from logged probabilities, and keep every eligible action possible."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PropensityError
from streams.core.policies.data import BoolArray, FloatArray, IntArray

__all__ = ["FLOOR", "draw", "floored", "uniform_dist"]

FLOOR = 0.02
TOLERANCE = 1e-9


def uniform_dist(eligible: NDArray[Any]) -> FloatArray:
    """Give each eligible action the same probability.

    Parameters
    ----------
    eligible
        Which actions each user may get, (n, n_actions).

    Returns
    -------
    FloatArray
        p, (n, n_actions); a row with nothing eligible is all 0.
    """
    may: BoolArray = np.asarray(eligible, dtype=np.bool_)
    dist: FloatArray = may / np.maximum(may.sum(axis=1, keepdims=True), 1)
    return dist


def floored(dist: FloatArray, eligible: NDArray[Any], floor: float = FLOOR) -> FloatArray:
    """Mix with uniform over the eligible actions: ``(1 - floor) p + floor / n_eligible``.

    So that every eligible action has a propensity of at least ``floor / n_eligible``, and weights
    of off-policy estimates are bounded.

    Parameters
    ----------
    dist
        p, (n, n_actions), each row summing to 1 over eligible actions, or all 0.
    eligible
        Which actions each user may get, (n, n_actions).
    floor
        The total mass of the uniform part, in [0, 1].

    Raises
    ------
    PropensityError
        If the floor is no share.

    >>> floored(np.array([[1.0, 0.0, 0.0]]), np.array([[True, True, False]]), floor=0.02)
    array([[0.99, 0.01, 0.  ]])
    """
    if not 0.0 <= floor <= 1.0:
        raise PropensityError(
            f"floor must lie in [0, 1], got {floor}: give the share of decisions to explore with"
        )
    return (1.0 - floor) * dist + floor * uniform_dist(eligible)


def draw(dist: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw one action a row by inverting the cumulative distribution.

    Parameters
    ----------
    dist
        p, (n, n_actions): rows that sum to 1, or are all 0.
    rng
        The random stream of this chunk; one uniform number a row is taken.

    Returns
    -------
    IntArray
        Indices of actions, (n,); -1 where the row is all 0.

    Raises
    ------
    PropensityError
        If a row is neither a distribution nor all 0.

    >>> draw(np.array([[0.0, 1.0], [0.0, 0.0]]), np.random.default_rng(0))
    array([ 1, -1])
    """
    if not np.all(dist >= 0.0):  # nan fails too
        worst = dist[~(dist >= 0.0)].flat[0]
        raise PropensityError(
            f"a probability must lie in [0, 1], got {worst}: draw from what action_dist returned"
        )
    cumulative = np.cumsum(dist, axis=1)  # (n, n_actions)
    total = cumulative[:, -1] if dist.shape[1] else np.zeros(len(dist))
    wrong = (np.abs(total - 1.0) > TOLERANCE) & (total != 0.0)
    if wrong.any():
        raise PropensityError(
            f"a row of probabilities must sum to 1 or be all 0, got {total[wrong][0]!r}: "
            "draw from what action_dist returned"
        )
    # u < 1, so the threshold stays below the total and the action found has p > 0
    threshold = rng.random(len(dist)) * total
    index = (cumulative <= threshold[:, None]).sum(axis=1)
    return np.where(total > 0.0, index, -1).astype(np.int64)
