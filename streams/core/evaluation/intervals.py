"""Intervals around an off-policy estimate, and the estimate itself.

All of them take decisions as independent. Many decisions of few users are fewer than they look.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from schemas.errors import EvaluationError
from streams.core.evaluation.logged import FloatArray

__all__ = [
    "Estimate",
    "Interval",
    "checked_confidence",
    "effective_sample_size",
    "empirical_bernstein",
    "standard_error",
    "student_t",
    "t_quantile",
]

Interval = Callable[[FloatArray, float], tuple[float, float]]
"""`(terms, confidence) -> (low, high)` for the mean of independent `terms` (n,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The value of an evaluation policy, and how far to trust it.

    Parameters
    ----------
    value, low, high : float
        The estimate and its two-sided interval, in units of reward a decision.
    confidence : float in (0, 1)
        Share of logs whose interval holds the true value.
    n : int
        Logged decisions.
    effective_sample_size : float
        How many on-policy decisions the weighted ones are worth.
    max_weight : float
        The largest importance weight: what a single decision can do.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    effective_sample_size: float
    max_weight: float

    def __post_init__(self) -> None:
        checked_confidence(self.confidence)
        if not self.low <= self.value <= self.high:  # NaN included
            raise EvaluationError(
                f"an estimate must lie in its interval, got {self.value} in "
                f"[{self.low}, {self.high}]: look for values that overflow in the log"
            )

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        return (self.high - self.low) / 2.0


def effective_sample_size(weights: FloatArray) -> float:
    """`(sum_i w_i)^2 / sum_i w_i^2`, and 0 where every weight is 0.

    Kong 1992, "A note on importance sampling using standardized weights".
    """
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


def student_t(terms: FloatArray, confidence: float) -> tuple[float, float]:
    """`mean ± t_{n-1} s / sqrt(n)`: right on average for large n, too narrow for few clicks.

    Student 1908, "The probable error of a mean".
    """
    half = t_quantile(len(terms), confidence) * standard_error(terms)
    mean = float(terms.mean())
    return mean - half, mean + half


def empirical_bernstein(low: float, high: float) -> Interval:
    """Make an interval that holds at any n, for terms known to lie in [low, high].

    Each side is `sqrt(2 V ln(2/d) / n) + 7 (high - low) ln(2/d) / (3 (n - 1))` away from the
    mean, with `V` the sample variance and `d = (1 - confidence) / 2`: Maurer & Pontil 2009,
    "Empirical Bernstein Bounds and Sample-Variance Penalization", Theorem 4.

    Parameters
    ----------
    low, high : float
        Bounds that hold for every term that could have been logged, not only for those that
        were. For IPS with rewards in [0, 1]: 0 and the largest weight there can be, which is
        one over the smallest propensity, or the clip.

    Returns
    -------
    Interval
        Raises EvaluationError for a term outside the bounds.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise EvaluationError(
            f"bounds must be finite and in order, got [{low}, {high}]: "
            "clip the weights where there is no bound"
        )

    def interval(terms: FloatArray, confidence: float) -> tuple[float, float]:
        n = _at_least_two(len(terms))
        least, most = float(terms.min()), float(terms.max())
        if not (low <= least and most <= high):
            raise EvaluationError(
                f"weighted rewards reach [{least:g}, {most:g}], the bounds are "
                f"[{low:g}, {high:g}]: widen them, or clip the weights"
            )
        tail = (1.0 - checked_confidence(confidence)) / 2.0
        log_term = math.log(2.0 / tail)
        variance = float(terms.var(ddof=1))
        half = math.sqrt(2.0 * variance * log_term / n)
        half += 7.0 * (high - low) * log_term / (3.0 * (n - 1))
        mean = float(terms.mean())
        return mean - half, mean + half

    return interval


def standard_error(terms: FloatArray) -> float:
    """`s / sqrt(n)` of the mean of `terms` (n,), with `s` over n - 1 degrees of freedom."""
    n = _at_least_two(len(terms))
    return float(terms.std(ddof=1)) / math.sqrt(n)


def t_quantile(n: int, confidence: float) -> float:
    """Two-sided quantile of Student's t with n - 1 degrees of freedom."""
    tail = (1.0 - checked_confidence(confidence)) / 2.0
    return float(stats.t.ppf(1.0 - tail, _at_least_two(n) - 1))


def checked_confidence(confidence: float) -> float:
    """`confidence`, if it lies in (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise EvaluationError(f"confidence must lie in (0, 1), got {confidence}: 0.95 is usual")
    return confidence


def _at_least_two(n: int) -> int:
    if n < 2:
        raise EvaluationError(
            f"an interval needs at least 2 decisions, got {n}: widen the period or the campaigns"
        )
    return n
