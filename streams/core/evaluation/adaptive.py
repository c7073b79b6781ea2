"""The doubly robust estimator for a log whose own policy learned while it was made."""

import numpy as np
import numpy.typing as npt

from schemas.errors import EvaluationError
from streams.core.evaluation.doubly_robust import doubly_robust_terms
from streams.core.evaluation.intervals import Estimate, effective_sample_size, t_quantile
from streams.core.evaluation.logged import (
    FloatArray,
    IntArray,
    LoggedDecisions,
    checked_action_dist,
    importance_weights,
)

__all__ = ["adaptive_dr", "estimate_adaptive_dr"]


def estimate_adaptive_dr(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike,
    *,
    waves: npt.ArrayLike,
    logging_dist: npt.ArrayLike,
    confidence: float = 0.95,
) -> Estimate:
    """Value a policy on waves that were decided by ever newer snapshots of another.

    `V = sum_i h_i G_i / sum_i h_i`, with `G_i` the doubly robust term of decision i and
    `h_i = 1 / sqrt(l_t)` the same for its whole wave t, `l_t` the mean over its contexts of
    `sum_a pi(a | x)^2 / p_t(a | x)`: what a wave adds to the variance, known before any of its
    rewards. The interval is that of `sum_i h_i^2 (G_i - V)^2 / (sum_i h_i)^2`.

    A policy that learns gives an action up after bad luck and not after good; plain means over
    such a log are then neither normal nor as sure as they look. Weights that even out what each
    wave adds to the variance bring the normal distribution back: Hadad, Hirshberg, Zhan, Wager &
    Athey 2021, "Confidence intervals for policy evaluation in adaptive experiments", and for
    contexts Zhan, Hadad, Hirshberg & Athey 2021, "Off-policy evaluation via adaptive weighting
    with data from contextual bandits" (its StableVar weights, by wave).

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts. It must not come from this
        log's rewards.
    predicted_rewards : (n, n_actions) or (n, n_actions, n_positions)
        `q(x_i, a)` from what was known before wave t, such as the snapshot that decided it, or
        from other decisions of the same wave too; anything else makes the interval wrong.
    waves : (n,) int
        Which decisions were made by the same snapshot.
    logging_dist : (n, n_actions) or (n, n_actions, n_positions)
        Probabilities of all actions that were drawn from; the log's propensities are among them.
    confidence : float in (0, 1)
        Of the two-sided interval.

    Raises
    ------
    EvaluationError
        The log, the policy and the predictions do not fit, the evaluation policy takes an action
        that the log could not, or there are fewer than two decisions.
    """
    return adaptive_dr(
        log,
        action_dist,
        predicted_rewards,
        waves=waves,
        logging_dist=logging_dist,
        confidence=confidence,
    )[0]


def adaptive_dr(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike,
    *,
    waves: npt.ArrayLike,
    logging_dist: npt.ArrayLike,
    confidence: float,
) -> tuple[Estimate, FloatArray]:
    """`estimate_adaptive_dr`, and `n h_i (G_i - V) / sum_i h_i`, (n,).

    The value varies as the mean of the second, which is 0.
    """
    weights = importance_weights(log, action_dist)
    terms = doubly_robust_terms(log, action_dist, predicted_rewards, weights)
    h = _wave_weights(log, action_dist, logging_dist, _checked_waves(log, waves))
    total = float(h.sum())
    value = float(h @ terms) / total
    influence: FloatArray = len(log) / total * h * (terms - value)
    error = float(np.sqrt(np.square(influence).sum())) / len(log)
    half = t_quantile(len(log), confidence) * error
    estimate = Estimate(
        value=value,
        low=value - half,
        high=value + half,
        confidence=confidence,
        n=len(log),
        effective_sample_size=effective_sample_size(h * weights),
        max_weight=float(weights.max()),
    )
    return estimate, influence


def _wave_weights(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    logging_dist: npt.ArrayLike,
    waves: IntArray,
) -> FloatArray:
    """`1 / sqrt(l_t)` of each decision's wave, (n,)."""
    mine, theirs = checked_action_dist(log, action_dist), checked_action_dist(log, logging_dist)
    if mine.shape != theirs.shape:
        raise EvaluationError(
            f"action_dist has {mine.shape[1]} actions, logging_dist {theirs.shape[1]}: "
            "give both the same actions in the same order"
        )
    logged = theirs[np.arange(len(log)), log.actions]
    if not np.allclose(logged, log.propensities, rtol=1e-6, atol=0.0):
        row = int(np.abs(logged / log.propensities - 1.0).argmax())
        raise EvaluationError(
            f"logging_dist gives the action of row {row} {logged[row]:.6g}, its propensity is "
            f"{log.propensities[row]:.6g}: pass the probabilities that were drawn from"
        )
    if ((mine > 0.0) & (theirs <= 0.0)).any():
        row = int(((mine > 0.0) & (theirs <= 0.0)).any(axis=1).argmax())
        raise EvaluationError(
            f"the evaluation policy takes an action in row {row} that the log could not: "
            "value a policy over the actions that were eligible, on a log with a floor"
        )
    ratio = np.divide(mine**2, theirs, out=np.zeros_like(mine), where=theirs > 0.0).sum(axis=1)
    _, place = np.unique(waves, return_inverse=True)
    spread = np.bincount(place, weights=ratio) / np.bincount(place)  # l_t, at least 1
    weights: FloatArray = 1.0 / np.sqrt(spread[place])
    return weights


def _checked_waves(log: LoggedDecisions, waves: npt.ArrayLike) -> IntArray:
    array = np.asarray(waves)
    if array.shape != (len(log),) or array.dtype.kind not in "iu":
        raise EvaluationError(
            f"waves must be ({len(log)},) of integers, got {array.shape} of {array.dtype}: "
            "give the wave, or the policy version, of each decision"
        )
    return array.astype(np.int64)
