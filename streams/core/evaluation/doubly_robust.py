"""The doubly robust estimator (DR)."""

import numpy as np
import numpy.typing as npt

from streams.core.evaluation.direct import direct_terms
from streams.core.evaluation.intervals import (
    Estimate,
    Interval,
    effective_sample_size,
    student_t,
)
from streams.core.evaluation.logged import (
    FloatArray,
    LoggedDecisions,
    checked_predictions,
    importance_weights,
)

__all__ = ["doubly_robust_terms", "estimate_dr"]


def estimate_dr(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike,
    *,
    clip: float | None = None,
    interval: Interval = student_t,
    confidence: float = 0.95,
) -> Estimate:
    """Value a policy by a reward model, corrected by what was logged.

    `V = (1/n) sum_i [sum_a pi(a | x_i) q(x_i, a) + w_i (r_i - q(x_i, a_i))]`: Dudik, Langford &
    Li 2011, "Doubly Robust Policy Evaluation and Learning". Unbiased if either the propensities
    or the model is right; the better the model, the narrower.

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions of the logging policy.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts.
    predicted_rewards : (n, n_actions) or (n, n_actions, n_positions)
        `q(x_i, a)`, from a model that was fitted on other decisions (or by cross-fitting).
    clip : float, optional
        The largest weight of a correction.
    interval : Interval
        `student_t`, or `empirical_bernstein(low, high)` with bounds of one decision's term.
    confidence : float in (0, 1)
        Of the two-sided interval.

    Raises
    ------
    EvaluationError
        The log, the policy and the predictions do not fit, or there are fewer than two decisions.
    """
    weights = importance_weights(log, action_dist, clip=clip)
    terms = doubly_robust_terms(log, action_dist, predicted_rewards, weights)
    low, high = interval(terms, confidence)
    return Estimate(
        value=float(terms.mean()),
        low=low,
        high=high,
        confidence=confidence,
        n=len(log),
        effective_sample_size=effective_sample_size(weights),
        max_weight=float(weights.max()),
    )


def doubly_robust_terms(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike,
    weights: FloatArray,
) -> FloatArray:
    """`sum_a pi(a | x_i) q(x_i, a) + w_i (r_i - q(x_i, a_i))` of each decision; shape (n,)."""
    predictions = checked_predictions(log, predicted_rewards)  # (n, n_actions)
    taken = predictions[np.arange(len(log)), log.actions]  # (n,)
    return direct_terms(log, action_dist, predicted_rewards) + weights * (log.rewards - taken)
