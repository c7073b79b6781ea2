"""Recency and fatigue: an action that a user was sent lately counts for less, and recovers.

After Yancey & Settles (KDD 2020, A Sleeping, Recovering Bandit Algorithm for Optimizing Recurring
Notifications): ``s* = s - gamma 0.5 ** (d / h)`` with d the time since this user was last sent
this action and h the half-life. Sleeping is what ``eligible`` says.

A wave wires it in front of the choice: it keeps for each user when each template was last sent,
makes ``hours`` of that, and asks

``policy.action_dist(x, actions, eligible, rng, handicap=recovering(hours, size, half_life))``.

The handicap is taken off the scores (of every posterior draw, in Thompson sampling) before
probabilities are made of them. So what is returned is what is drawn from and logged: propensities
are as true with fatigue as without. What is learned does not change; the model goes on learning
what was earned, under fatigue or not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PolicyError
from streams.core.policies.data import FloatArray

__all__ = ["NEVER", "recovering"]

NEVER = np.inf  # hours since an action was sent that the user has not been sent


def recovering(hours: NDArray[Any], size: float, half_life_hours: float) -> FloatArray:
    """Give what is to be taken off each action's score.

    Parameters
    ----------
    hours
        Since the action was last sent to the user, (n, n_actions); :data:`NEVER` where it was not.
    size
        gamma, in units of reward: what an action loses that was sent this moment, at least 0.
        Yancey & Settles measured 0.017, over rewards of about 0.1 to 0.5.
    half_life_hours
        h: after so long, half of the loss is left. Theirs is 15 days.

    Returns
    -------
    FloatArray
        (n, n_actions).

    Raises
    ------
    PolicyError
        If the hours are negative or no numbers, or a parameter is out of bounds.

    >>> recovering(np.array([[0.0, 24.0, NEVER]]), size=0.02, half_life_hours=24.0)
    array([[0.02, 0.01, 0.  ]])
    """
    if not 0.0 <= size < np.inf:
        raise PolicyError(f"size must be at least 0, got {size}: give what a repeat costs")
    if not 0.0 < half_life_hours < np.inf:
        raise PolicyError(
            f"half_life_hours must be above 0, got {half_life_hours}: say when half has recovered"
        )
    since = np.asarray(hours, dtype=np.float64)
    if not np.all(since >= 0.0):  # nan fails too
        worst = since[~(since >= 0.0)].flat[0]
        raise PolicyError(
            f"hours since an action was sent must be at least 0, got {worst}: "
            "give infinity where it was never sent"
        )
    with np.errstate(under="ignore"):
        loss: FloatArray = size * np.exp2(-since / half_life_hours)
    return loss
