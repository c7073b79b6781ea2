"""The direct method (DM): believe a reward model."""

import numpy.typing as npt

from schemas.errors import EvaluationError
from streams.core.evaluation.intervals import Estimate, student_t
from streams.core.evaluation.logged import (
    FloatArray,
    LoggedDecisions,
    checked_action_dist,
    checked_predictions,
)

__all__ = ["direct_terms", "estimate_dm"]


def estimate_dm(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike,
    *,
    confidence: float = 0.95,
) -> Estimate:
    """Value a policy by a model's predictions alone.

    `V = (1/n) sum_i sum_a pi(a | x_i) q(x_i, a)`: Beygelzimer & Langford 2009, "The Offset Tree
    for Learning with Partial Labels". Small variance, and biased by as much as `q` is. The
    interval is about the contexts that were drawn; it knows nothing of the model's error and may
    lie wholly beside the truth. No weights are used: the effective sample size is `n`, the
    largest weight 1.

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions of the logging policy.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts.
    predicted_rewards : (n, n_actions) or (n, n_actions, n_positions)
        `q(x_i, a)`, from a model that was fitted on other decisions (or by cross-fitting).
    confidence : float in (0, 1)
        Of the two-sided interval.

    Raises
    ------
    EvaluationError
        The log, the policy and the predictions do not fit, or there are fewer than two decisions.
    """
    terms = direct_terms(log, action_dist, predicted_rewards)
    low, high = student_t(terms, confidence)
    return Estimate(
        value=float(terms.mean()),
        low=low,
        high=high,
        confidence=confidence,
        n=len(log),
        effective_sample_size=float(len(log)),
        max_weight=1.0,
    )


def direct_terms(
    log: LoggedDecisions, action_dist: npt.ArrayLike, predicted_rewards: npt.ArrayLike
) -> FloatArray:
    """`sum_a pi(a | x_i) q(x_i, a)` of each decision; shape (n,)."""
    dist = checked_action_dist(log, action_dist)  # (n, n_actions)
    predictions = checked_predictions(log, predicted_rewards)  # (n, n_actions)
    if dist.shape != predictions.shape:
        raise EvaluationError(
            f"action_dist has {dist.shape[1]} actions, predicted_rewards {predictions.shape[1]}: "
            "give both the same actions in the same order"
        )
    terms: FloatArray = (dist * predictions).sum(axis=1)
    return terms
