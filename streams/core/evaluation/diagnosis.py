"""Whether a log can tell a policy from the one that made it, in one sentence."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from schemas.errors import EvaluationError
from streams.core.evaluation.adaptive import adaptive_dr
from streams.core.evaluation.doubly_robust import doubly_robust_terms, estimate_dr
from streams.core.evaluation.intervals import (
    Estimate,
    effective_sample_size,
    standard_error,
    t_quantile,
)
from streams.core.evaluation.logged import FloatArray, LoggedDecisions, importance_weights
from streams.core.evaluation.snips import estimate_snips, snips_influence

__all__ = ["Diagnosis", "Verdict", "diagnose"]

Verdict = Literal["better", "worse", "alike", "too-small", "misfit"]

MISFIT_ERRORS = 4.0  # a mean weight this many standard errors from 1 is no accident


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a log says about a policy, and whether it says anything.

    Parameters
    ----------
    verdict : Verdict
        The evaluation policy against the logging policy; `too-small`: the log cannot tell;
        `misfit`: propensities, actions and policy contradict each other.
    sentence : str
        The same for a reader, with the numbers.
    estimate : Estimate
        The evaluation policy's value: adaptive DR where the log's own policy learned meanwhile,
        DR where rewards were predicted, else SNIPS.
    logging_value : float
        Mean reward in the log.
    lift, lift_low, lift_high : float
        `estimate.value - logging_value` and the interval of that difference. Both come from
        the same decisions, so it is not the difference of two intervals.
    rewarded : int
        Logged decisions whose reward is not 0 and that the evaluation policy may take.
    effective_rewarded : float
        Effective sample size of those.
    mean_weight : float
        Near 1 where the log fits the policy.
    more_decisions : int or None
        About how many more decisions are needed if the numbers stay as they are; 0 where none
        are, None where the log does not even say that.
    """

    verdict: Verdict
    sentence: str
    estimate: Estimate
    logging_value: float
    lift: float
    lift_low: float
    lift_high: float
    rewarded: int
    effective_rewarded: float
    mean_weight: float
    more_decisions: int | None

    @property
    def conclusive(self) -> bool:
        """Whether the log answers the question."""
        return self.verdict in ("better", "worse", "alike")


def diagnose(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike | None = None,
    *,
    waves: npt.ArrayLike | None = None,
    logging_dist: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    min_effective_sample_size: float = 200.0,
    min_effective_rewarded: float = 30.0,
    relevant_difference: float = 0.1,
) -> Diagnosis:
    """Value a policy and say whether the log is large enough to believe it.

    The log is too small if the weighted decisions are worth fewer than
    `min_effective_sample_size`, if those that earned something are worth fewer than
    `min_effective_rewarded` (intervals are too narrow then), or if the difference from the
    logging policy may be chance and may also matter.

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions of the logging policy.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        The evaluation policy's probabilities in the logged contexts.
    predicted_rewards : (n, n_actions) or (n, n_actions, n_positions), optional
        A reward model's predictions, for DR; without them SNIPS.
    waves, logging_dist
        As `estimate_adaptive_dr` takes them, for a log whose own policy learned meanwhile; both
        or neither. Rewards are then predicted as it asks for.
    confidence : float in (0, 1)
        Of the intervals.
    min_effective_sample_size, min_effective_rewarded : float
        Bounds below which no interval is believed.
    relevant_difference : float
        Share of the logging policy's value below which a difference does not matter.

    Raises
    ------
    EvaluationError
        The log and the policy do not fit, there are fewer than two decisions, or the policy
        takes none of the logged actions.
    """
    if not relevant_difference >= 0.0:
        raise EvaluationError(
            f"relevant_difference must be 0 or more, got {relevant_difference}: 0.1 is ten percent"
        )
    weights = importance_weights(log, action_dist)
    estimate, influence = _valued(
        log, action_dist, predicted_rewards, weights, waves, logging_dist, confidence
    )
    lift = estimate.value - log.value
    # V - mean(r) varies as the mean of phi_i - (r_i - mean(r)): the two share their decisions
    half = t_quantile(len(log), confidence) * standard_error(influence - (log.rewards - log.value))
    rewarded: FloatArray = weights[(log.rewards != 0.0) & (weights > 0.0)]
    effective_rewarded = effective_sample_size(rewarded)
    relevant = relevant_difference * abs(log.value)

    needs = _unmet_needs(
        (estimate.effective_sample_size, min_effective_sample_size),
        (effective_rewarded, min_effective_rewarded),
    )
    verdict: Verdict
    if needs:
        verdict = "too-small"
    elif _misfit(weights):
        verdict = "misfit"
    elif lift - half > 0.0:
        verdict = "better"
    elif lift + half < 0.0:
        verdict = "worse"
    elif abs(lift) + half <= relevant:
        verdict = "alike"
    else:
        verdict = "too-small"
    if abs(lift) <= half and abs(lift) + half > relevant:
        # an interval shrinks with sqrt(n): until it leaves 0, or until what is left is irrelevant
        target = max(abs(lift), relevant - abs(lift))
        needs.append((half / target) ** 2 if target > 0.0 else math.inf)
    more: int | None = 0
    if verdict == "too-small":
        factor = max(needs)
        more = max(1, math.ceil(len(log) * (factor - 1.0))) if math.isfinite(factor) else None

    numbers = _Numbers(
        estimate=estimate,
        log=log,
        lift=lift,
        half=half,
        rewarded=len(rewarded),
        effective_rewarded=effective_rewarded,
        mean_weight=float(weights.mean()),
        more=more,
    )
    return Diagnosis(
        verdict=verdict,
        sentence=_sentence(verdict, numbers),
        estimate=estimate,
        logging_value=log.value,
        lift=lift,
        lift_low=lift - half,
        lift_high=lift + half,
        rewarded=len(rewarded),
        effective_rewarded=effective_rewarded,
        mean_weight=numbers.mean_weight,
        more_decisions=more,
    )


def _valued(
    log: LoggedDecisions,
    action_dist: npt.ArrayLike,
    predicted_rewards: npt.ArrayLike | None,
    weights: FloatArray,
    waves: npt.ArrayLike | None,
    logging_dist: npt.ArrayLike | None,
    confidence: float,
) -> tuple[Estimate, FloatArray]:
    """The value of the policy, and what it varies as the mean of, (n,)."""
    # first, because it refuses a policy that takes none of the logged actions
    by_snips = estimate_snips(log, action_dist, confidence=confidence)
    if (waves is None) != (logging_dist is None):
        raise EvaluationError(
            "waves and logging_dist belong together, got only one of them: give both for a log "
            "whose own policy learned meanwhile"
        )
    if waves is None or logging_dist is None:
        if predicted_rewards is None:
            return by_snips, snips_influence(log, weights)[1]
        by_dr = estimate_dr(log, action_dist, predicted_rewards, confidence=confidence)
        terms = doubly_robust_terms(log, action_dist, predicted_rewards, weights)
        return by_dr, terms - by_dr.value
    if predicted_rewards is None:
        predicted_rewards = np.zeros(np.shape(logging_dist))
    return adaptive_dr(
        log,
        action_dist,
        predicted_rewards,
        waves=waves,
        logging_dist=logging_dist,
        confidence=confidence,
    )


def _unmet_needs(*bounds: tuple[float, float]) -> list[float]:
    """By which factor the log must grow, for each quantity below its bound."""
    return [
        bound / quantity if quantity > 0.0 else math.inf
        for quantity, bound in bounds
        if quantity < bound
    ]


def _misfit(weights: FloatArray) -> bool:
    """Whether the mean weight is not 1: `E[pi(a|x) / p] = 1` if `p` is positive where `pi` is."""
    return bool(
        abs(float(weights.mean()) - 1.0) > MISFIT_ERRORS * standard_error(weights) + 1e-9
    ) and not np.allclose(weights, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    estimate: Estimate
    log: LoggedDecisions
    lift: float
    half: float
    rewarded: int
    effective_rewarded: float
    mean_weight: float
    more: int | None


def _sentence(verdict: Verdict, numbers: _Numbers) -> str:
    estimate, value = numbers.estimate, numbers.log.value
    # two figures of the uncertainty, and no figure of anything beyond them
    digits = 4 if numbers.half <= 0.0 else min(12, max(0, 1 - math.floor(math.log10(numbers.half))))
    against = (
        f"the policy is valued at {estimate.value:.{digits}f} a decision against "
        f"{value:.{digits}f} logged, a difference of {numbers.lift:+.{digits}f} "
        f"({estimate.confidence * 100:g}% interval {numbers.lift - numbers.half:+.{digits}f} "
        f"to {numbers.lift + numbers.half:+.{digits}f})"
    )
    basis = (
        f"{estimate.n:,} decisions worth {estimate.effective_sample_size:,.0f}, "
        f"{numbers.rewarded:,} with a reward worth {numbers.effective_rewarded:,.0f}"
    )
    match verdict:
        case "misfit":
            return (
                f"The log and the policy contradict each other: the weights average "
                f"{numbers.mean_weight:.3g} where 1 is expected, so check that the propensities "
                f"are the logged draw's and that the log could take every action the policy "
                f"takes ({basis})."
            )
        case "too-small":
            more = (
                "how many more decisions are needed cannot be said without a reward or a difference"
                if numbers.more is None
                else f"about {float(f'{numbers.more:.2g}'):,.0f} more decisions are needed"
            )
            return f"The log is too small to tell: {against}, from {basis}; {more}."
        case "better":
            return f"The policy earns more: {against}, from {basis}."
        case "worse":
            return f"The policy earns less: {against}, from {basis}."
        case "alike":
            return f"The two earn the same for all that matters: {against}, from {basis}."
