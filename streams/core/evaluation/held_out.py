"""A learned policy, valued on the decisions of a log that it has not learned from."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.errors import EvaluationError
from schemas.learning import LearningExample
from streams.core.evaluation.diagnosis import Diagnosis, diagnose
from streams.core.evaluation.intervals import Estimate, effective_sample_size, student_t
from streams.core.evaluation.ips import estimate_ips
from streams.core.evaluation.logged import FloatArray, LoggedDecisions
from streams.core.evaluation.snips import estimate_snips
from streams.core.policies import ActionSet, Policy

__all__ = ["HeldOut", "Valuation", "value_held_out"]

AT_ONCE = 4096  # contexts that a policy is asked about together


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Held-out outcomes in order of time, one a decision.

    Parameters
    ----------
    actions : (n,) int
        Index of the action that was taken.
    rewards : (n,) float
        The reward as it stood last: corrections are in it.
    propensities : (n,) float or None
        None where the log does not know all of them.
    contexts : (n, d_user) float
    propensity_kind : str
        given, estimated or unknown; the weakest of them where they differ.
    """

    actions: np.ndarray
    rewards: FloatArray
    propensities: FloatArray | None
    contexts: FloatArray
    propensity_kind: str

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def of(cls, examples: Iterable[LearningExample], actions: ActionSet) -> "HeldOut":
        """Take the held-out outcomes, those with `learn=False`, out of examples.

        Raises
        ------
        EvaluationError
            If there is none, or one has an action that the policy does not know.
        """
        index = {name: row for row, name in enumerate(actions.ids)}
        rows: dict[str, tuple[int, int, float, float | None, bytes, str]] = {}
        for example in examples:
            if example.learn:
                continue
            action = index.get(example.action)
            if action is None:
                raise EvaluationError(
                    f"action {example.action!r} is none of the policy's {len(index)}: "
                    "value it on a log of its own templates"
                )
            rows[example.decision_id] = (
                example.decided_at_ms,
                action,
                example.reward,
                example.propensity,
                example.context,
                example.propensity_kind,
            )
        if not rows:
            raise EvaluationError(
                "no decision of the log is held out, at least 2 are needed: lower its split"
            )
        ordered = [rows[key] for key in sorted(rows, key=lambda key: (rows[key][0], key))]
        kinds = {row[5] for row in ordered}
        known = [row[3] for row in ordered if row[3] is not None]
        unknown = "unknown" in kinds or len(known) < len(ordered)
        weakest = "unknown" if unknown else "estimated" if "estimated" in kinds else "given"
        return cls(
            actions=np.array([row[1] for row in ordered], dtype=np.int64),
            rewards=np.array([row[2] for row in ordered], dtype=np.float64),
            propensities=None if unknown else np.array(known, dtype=np.float64),
            contexts=np.frombuffer(b"".join(row[4] for row in ordered), dtype="<f4")
            .reshape(len(ordered), -1)
            .astype(np.float64),
            propensity_kind=weakest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Valuation:
    """What a policy would have earned, next to what the log's own policy did.

    Attributes
    ----------
    logging
        The mean of the held-out rewards, by Student's t.
    ips, snips, diagnosis
        None where there is a `refusal`.
    refusal
        Why the policy cannot be valued on this log.
    """

    n: int
    rewarded: int
    propensity_kind: str
    logging: Estimate
    ips: Estimate | None = None
    snips: Estimate | None = None
    diagnosis: Diagnosis | None = None
    refusal: str | None = None


def value_held_out(
    policy: Policy,
    actions: ActionSet,
    held_out: HeldOut,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
) -> Valuation:
    """Value a policy by IPS and SNIPS, and say whether the log can tell it from its own.

    Parameters
    ----------
    rng
        For policies that estimate their probabilities by simulation.

    Raises
    ------
    EvaluationError
        There are fewer than two decisions, or contexts that are not the policy's.
    """
    low, high = student_t(held_out.rewards, confidence)
    n, rewarded = len(held_out), int(np.count_nonzero(held_out.rewards))
    kind = held_out.propensity_kind
    logging = Estimate(
        value=float(held_out.rewards.mean()),
        low=low,
        high=high,
        confidence=confidence,
        n=n,
        effective_sample_size=effective_sample_size(np.ones(n)),
        max_weight=1.0,
    )

    def refused(why: str) -> Valuation:
        return Valuation(n=n, rewarded=rewarded, propensity_kind=kind, logging=logging, refusal=why)

    if held_out.propensities is None:
        return refused(
            "The policy cannot be valued: the propensities of the log are unknown, and IPS and "
            "SNIPS weigh each reward by one over its propensity. Map the column that holds them, "
            "or have them estimated if the log's system told apart nothing but a few columns."
        )
    log = LoggedDecisions(
        actions=held_out.actions, rewards=held_out.rewards, propensities=held_out.propensities
    )
    everyone = np.ones((AT_ONCE, len(actions)), dtype=np.bool_)
    dist = np.concatenate(
        [
            policy.action_dist(block, actions, everyone[: len(block)], rng)
            for block in (
                held_out.contexts[start : start + AT_ONCE] for start in range(0, n, AT_ONCE)
            )
        ]
    )  # (n, n_actions)
    if not dist[np.arange(n), held_out.actions].any():
        return refused(
            f"The policy cannot be valued: it takes none of the {n:,} actions that were logged."
        )
    return Valuation(
        n=n,
        rewarded=rewarded,
        propensity_kind=kind,
        logging=logging,
        ips=estimate_ips(log, dist, confidence=confidence),
        snips=estimate_snips(log, dist, confidence=confidence),
        diagnosis=diagnose(log, dist, confidence=confidence),
    )
