"""Self-normalised inverse propensity scoring (SNIPS)."""

import numpy.typing as npt

from schemas.errors import EvaluationError
from streams.core.evaluation.intervals import (
    Estimate,
    effective_sample_size,
    standard_error,
    t_quantile,
)
from streams.core.evaluation.logged import FloatArray, LoggedDecisions, importance_weights

__all__ = ["estimate_snips", "snips_influence"]


def estimate_snips(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    *,
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Value a policy by the weighted mean of the logged rewards.

    `V = sum_i w_i r_i / sum_i w_i`: Swaminathan & Joachims 2015, "The Self-Normalized Estimator
    for Counterfactual Learning". A little biased, never outside the rewards' range, and mostly
    of less variance than IPS. The interval is the delta method's for a ratio of means.

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions of the logging policy.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts.
    clip : float, optional
        The largest weight.
    confidence : float in (0, 1)
        Of the two-sided interval.

    Raises
    ------
    EvaluationError
        The log and the policy do not fit, there are fewer than two decisions, or the policy
        takes none of the logged actions.
    """
    weights = importance_weights(log, action_dist, clip=clip)
    value, influence = snips_influence(log, weights)
    half = t_quantile(len(log), confidence) * standard_error(influence)
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        confidence=confidence,
        n=len(log),
        effective_sample_size=effective_sample_size(weights),
        max_weight=float(weights.max()),
    )


def snips_influence(log: LoggedDecisions, weights: FloatArray) -> tuple[float, FloatArray]:
    """Value `V`, and what each decision adds to its error.

    `phi_i = w_i (r_i - V) / mean(w)`, so that `V - E[V]` is about `mean(phi)`: the delta method
    for a ratio; Owen 2013, "Monte Carlo theory, methods and examples", section 9.2.

    Returns
    -------
    value : float
    influence : (n,) float, of mean 0
    """
    total = float(weights.sum())
    if not total > 0.0:
        raise EvaluationError(
            f"the policy takes none of the {len(log)} logged actions (the weights sum to {total}): "
            "nothing in this log can value it"
        )
    value = float((weights * log.rewards).sum()) / total
    return value, weights * (log.rewards - value) * (len(log) / total)
