"""Inverse propensity scoring (IPS)."""

import numpy.typing as npt

from streams.core.evaluation.intervals import (
    Estimate,
    Interval,
    effective_sample_size,
    student_t,
)
from streams.core.evaluation.logged import LoggedDecisions, importance_weights

__all__ = ["estimate_ips"]


def estimate_ips(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    *,
    clip: float | None = None,
    interval: Interval = student_t,
    confidence: float = 0.95,
) -> Estimate:
    """Value a policy by reweighting what was logged; unbiased if the propensities are right.

    `V = (1/n) sum_i w_i r_i` with `w_i = pi(a_i | x_i) / p_i`: Horvitz & Thompson 1952; for
    bandits Precup, Sutton & Singh 2000, "Eligibility Traces for Off-Policy Policy Evaluation".

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions of the logging policy.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts.
    clip : float, optional
        The largest weight; makes the variance bounded and the estimate biased toward zero.
    interval : Interval
        `student_t`, or `empirical_bernstein(low, high)` which holds for few clicks too.
    confidence : float in (0, 1)
        Of the two-sided interval.

    Raises
    ------
    EvaluationError
        The log and the policy do not fit, or there are fewer than two decisions.
    """
    weights = importance_weights(log, action_dist, clip=clip)
    terms = weights * log.rewards  # (n,)
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
