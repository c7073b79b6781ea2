"""How often each action is the best, over draws of a linear model's weights."""

from collections.abc import Iterable, Iterator

import numpy as np

from streams.core.policies.data import BoolArray, FloatArray

__all__ = ["WEIGHTS", "best_shares", "shares_of_plans"]

CELLS = 1 << 18  # float32 scores held at once: 1 MiB, so that they stay in the cache
WEIGHTS = 1 << 22  # projected weights held at once: 16 MiB


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
    n_draws, n_actions = len(weights), len(actions)
    width = contexts.shape[1] + 1
    acts = actions - actions.mean(axis=0)  # (n_actions, d_action)
    theta = weights.reshape(n_draws, width, -1)[:, :, 1:]  # (n_draws, 1 + d_user, d_action)
    by_draw = max(1, min(n_draws, WEIGHTS // (width * n_actions)))

    def plans() -> Iterator[FloatArray]:
        for first in range(0, n_draws, by_draw):
            part = theta[first : first + by_draw]
            yield np.einsum("ak,mpk->apm", acts, part, optimize=True)

    return shares_of_plans(contexts, eligible, plans(), handicap)


def shares_of_plans(
    contexts: FloatArray,
    eligible: BoolArray,
    plans: Iterable[FloatArray],
    handicap: FloatArray | None = None,
) -> FloatArray:
    """Count how often each action scores highest, over draws of a weight vector for each.

    Each draw may be scaled freely. Then float32 is exact enough, whatever the features' sizes.

    Parameters
    ----------
    contexts
        x, (n, d_user).
    eligible
        (n, n_actions).
    plans
        Parts of the draws, each (n_actions, 1 + d_user, m), less what all actions share.
    handicap
        What is taken off the scores, (n, n_actions).
    """
    n, n_actions = eligible.shape
    users = np.hstack([np.ones((n, 1)), contexts]).astype(np.float32)  # (n, 1 + d_user)
    shut = np.where(eligible, np.float32(0.0), np.float32(-np.inf)).T  # (n_actions, n)
    all_open = bool(eligible.all())
    wins = np.zeros((n_actions, n))
    for projected in plans:
        largest = np.abs(projected).max(axis=(0, 1))  # (m,)
        if handicap is not None:
            largest = np.maximum(largest, np.abs(handicap).max())
        largest = np.where(largest > 0.0, largest, 1.0)
        plan = (projected / largest).astype(np.float32)  # (n_actions, 1 + d_user, m)
        rows = max(1, CELLS // (n_actions * plan.shape[2]))
        for start in range(0, n, rows):
            block = slice(start, start + rows)
            scores = users[block] @ plan  # (n_actions, rows, m)
            if handicap is not None:
                scores -= (handicap[block].T[:, :, None] / largest).astype(np.float32)
            if not all_open:
                scores += shut[:, block, None]
            best = scores == scores.max(axis=0)
            wins[:, block] += best.sum(axis=2, dtype=np.int32)
    won = wins.T * eligible  # (n, n_actions)
    shares: FloatArray = won / np.maximum(won.sum(axis=1, keepdims=True), 1.0)
    return shares
