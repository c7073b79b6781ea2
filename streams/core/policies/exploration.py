"""From scores to probabilities in closed form."""

import numpy as np

from streams.core.policies.data import BoolArray, FloatArray
from streams.core.policies.draws import floored

__all__ = ["epsilon_greedy_dist", "greedy_dist", "inverse_gap_dist", "softmax_dist"]


def greedy_dist(scores: FloatArray, eligible: BoolArray) -> FloatArray:
    """Give the eligible action with the highest score everything; ties share alike.

    Parameters
    ----------
    scores
        s, (n, n_actions).
    eligible
        (n, n_actions).

    Returns
    -------
    FloatArray
        p, (n, n_actions); a row with nothing eligible is all 0.

    >>> greedy_dist(np.array([[1.0, 3.0, 3.0, 9.0]]), np.array([[True, True, True, False]]))
    array([[0. , 0.5, 0.5, 0. ]])
    """
    open_scores = np.where(eligible, scores, -np.inf)
    best = eligible & (open_scores == open_scores.max(axis=1, keepdims=True))
    dist: FloatArray = best / np.maximum(best.sum(axis=1, keepdims=True), 1)
    return dist


def epsilon_greedy_dist(scores: FloatArray, eligible: BoolArray, epsilon: float) -> FloatArray:
    """Give ``1 - epsilon`` to the best and ``epsilon`` to all alike.

    Langford & Zhang 2007, The Epoch-Greedy Algorithm for Contextual Multi-armed Bandits, explores
    by such a share; here it does not change.

    >>> epsilon_greedy_dist(np.array([[1.0, 3.0]]), np.array([[True, True]]), 0.1)
    array([[0.05, 0.95]])
    """
    return floored(greedy_dist(scores, eligible), eligible, epsilon)


def softmax_dist(scores: FloatArray, eligible: BoolArray, temperature: float) -> FloatArray:
    """Give each eligible action a probability in proportion to ``exp(s / temperature)``.

    Sutton & Barto 2018, Reinforcement Learning, section 2.8 (Boltzmann exploration).

    >>> softmax_dist(np.array([[0.0, np.log(3.0)]]), np.array([[True, True]]), 1.0)
    array([[0.25, 0.75]])
    """
    open_scores = np.where(eligible, scores, -np.inf)
    top = open_scores.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(under="ignore"):
        odds = np.exp((open_scores - top) / temperature)
    dist: FloatArray = odds / np.maximum(odds.sum(axis=1, keepdims=True), 1.0)
    return dist


def inverse_gap_dist(scores: FloatArray, eligible: BoolArray, gamma: float) -> FloatArray:
    """Give the others ``1 / (K + gamma gap)``, and the best what is left (inverse gap weighting).

    ``p(a) = 1 / (K + gamma (s(b) - s(a)))`` for a other than the best b, with K eligible actions
    and ``p(b) = 1 - sum``. Foster & Rakhlin 2020, Beyond UCB: Optimal and Efficient Contextual
    Bandits with Regression Oracles, Alg. 1 with mu = K (theirs are losses). Where several are
    best, what is left is shared alike.

    Parameters
    ----------
    scores
        s, expected rewards, (n, n_actions).
    eligible
        (n, n_actions).
    gamma
        At least 0; 0 is uniform, the larger the greedier.

    >>> inverse_gap_dist(np.array([[0.0, 1.0]]), np.array([[True, True]]), 8.0)
    array([[0.1, 0.9]])
    """
    best = greedy_dist(scores, eligible)
    open_scores = np.where(eligible, scores, -np.inf)
    top = open_scores.max(axis=1, keepdims=True)
    gaps = np.where(eligible, np.where(np.isfinite(top), top, 0.0) - scores, 0.0)
    count = np.maximum(eligible.sum(axis=1, keepdims=True), 1)
    others = eligible * (best == 0.0) / (count + gamma * gaps)
    dist: FloatArray = others + (1.0 - others.sum(axis=1, keepdims=True)) * best
    return dist
