"""How often each action is the best, over draws of a linear model's weights."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.core.policies.data import BoolArray, FloatArray

__all__ = ["WEIGHTS", "Plan", "best_shares", "plans_of", "scaled", "shares_of_plans"]

CELLS = 1 << 18  # float32 scores held at once: 1 MiB, so that they stay in the cache
WEIGHTS = 1 << 22  # projected weights held at once: 16 MiB
FARTHEST = 1e30  # a handicap in units of the largest weight: float32 has 3e38


@dataclass(frozen=True, slots=True)
class Plan:
    """Draws of a weight vector for each action, each draw scaled: float32 is exact enough then.

    Attributes
    ----------
    weights
        (n_actions, 1 + d_user, m), at most 1.
    largest
        What each draw was divided by, (m,).
    """

    weights: NDArray[np.float32]
    largest: FloatArray


def best_shares(
    contexts: FloatArray,
    actions: FloatArray,
    eligible: BoolArray,
    weights: FloatArray,
    handicap: FloatArray | None = None,
) -> FloatArray:
    """Estimate the probability that an action scores highest among the eligible ones.

    ``s = (1, x) W (1, a)'`` for each draw of weights W. What all actions share cancels, so the
    first column of W is left out and the mean action is subtracted.

    Parameters
    ----------
    contexts
        x, (n, d_user).
    actions
        a, (n_actions, d_action).
    eligible
        (n, n_actions).
    weights
        w, (n_draws, d), d = (1 + d_user)(1 + d_action), as :func:`crossed` lays them out.
    handicap
        What is taken off the scores, (n, n_actions).

    Returns
    -------
    FloatArray
        Shares, (n, n_actions): rows sum to 1 over the eligible, ties shared alike; a row with
        nothing eligible is all 0.
    """
    return shares_of_plans(contexts, eligible, scaled(plans_of(weights, actions)), handicap)


def plans_of(weights: FloatArray, actions: FloatArray) -> Iterator[FloatArray]:
    """Give each action's weights in draws of ``w`` (n_draws, d), less what all actions share.

    In parts, (n_actions, 1 + d_user, m); ``actions`` are as :func:`best_shares` takes them.
    """
    n_draws, (n_actions, d_action) = len(weights), actions.shape
    acts = actions - actions.mean(axis=0)  # (n_actions, d_action)
    theta = weights.reshape(n_draws, -1, 1 + d_action)[:, :, 1:]  # (n_draws, 1 + d_user, d_action)
    by_draw = max(1, min(n_draws, WEIGHTS // (theta.shape[1] * n_actions)))
    for first in range(0, n_draws, by_draw):
        part = theta[first : first + by_draw]
        yield np.einsum("ak,mpk->apm", acts, part, optimize=True)


def scaled(plans: Iterable[FloatArray]) -> Iterator[Plan]:
    """Scale draws (n_actions, 1 + d_user, m), each by its largest weight."""
    for plan in plans:
        largest = np.maximum(plan.max(axis=(0, 1)), -plan.min(axis=(0, 1)))  # (m,)
        largest = np.where(largest > 0.0, largest, 1.0)
        # in order, or the products of all users with it are not BLAS's: five times the cost
        weights = np.empty(plan.shape, dtype=np.float32)
        yield Plan(np.divide(plan, largest, out=weights, casting="same_kind"), largest)


def shares_of_plans(
    contexts: FloatArray,
    eligible: BoolArray,
    plans: Iterable[Plan],
    handicap: FloatArray | None = None,
) -> FloatArray:
    """Count how often each action scores highest, over draws of a weight vector for each.

    Parameters
    ----------
    contexts
        x, (n, d_user).
    eligible
        (n, n_actions).
    plans
        Parts of the draws, less what all actions share.
    handicap
        What is taken off the scores, (n, n_actions).
    """
    n, n_actions = eligible.shape
    users = np.hstack([np.ones((n, 1)), contexts]).astype(np.float32)  # (n, 1 + d_user)
    shut = np.where(eligible, np.float32(0.0), np.float32(-np.inf)).T  # (n_actions, n)
    all_open = bool(eligible.all())
    wins = np.zeros((n_actions, n))
    for plan in plans:
        m = len(plan.largest)
        rows = max(1, min(n, CELLS // (n_actions * m)))
        # memory of this size comes from the system each time: it is asked for once
        room = np.empty((n_actions, rows, m), dtype=np.float32)
        won = np.empty(room.shape, dtype=np.bool_)
        for start in range(0, n, rows):
            block = slice(start, start + rows)
            here = slice(0, min(rows, n - start))
            scores = np.matmul(users[block], plan.weights, out=room[:, here])  # (.., rows, m)
            if handicap is not None:
                less = handicap[block].T[:, :, None] / plan.largest
                scores -= np.clip(less, -FARTHEST, FARTHEST).astype(np.float32)
            if not all_open:
                scores += shut[:, block, None]
            best = np.equal(scores, scores.max(axis=0), out=won[:, here])
            wins[:, block] += best.sum(axis=2, dtype=np.int32)
    counts = wins.T * eligible  # (n, n_actions)
    shares: FloatArray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return shares
