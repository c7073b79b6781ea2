"""A learned policy, valued on the decisions of a log that it has not learned from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from streams.core.policies.model_policy import ModelPolicy

__all__ = [
    "HeldOut",
    "Valuation",
    "contexts_of",
    "foreseen_rewards",
    "in_order",
    "value_held_out",
]

AT_ONCE = 4096  # contexts that a policy is asked about together
WEAKEST_FIRST = ("unknown", "estimated", "given", "drawn")  # what is known of propensities


def _not_learned(example: LearningExample) -> bool:
    return not example.learn


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
        drawn, given, estimated or unknown; the weakest of them where they differ.
    waves : (n,) int or None
        The version of the log's own policy that decided; None where that is not known of all.
    logging_dist : (n, n_actions) or None
        Probabilities of all actions, 0 for those that were not eligible; None with `waves`.
    """

    actions: np.ndarray
    rewards: FloatArray
    propensities: FloatArray | None
    contexts: FloatArray
    propensity_kind: str
    waves: np.ndarray | None = None
    logging_dist: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def of(
        cls,
        examples: Iterable[LearningExample],
        actions: ActionSet,
        held: Callable[[LearningExample], bool] = _not_learned,
    ) -> "HeldOut":
        """Take the held-out outcomes out of examples; the last of a decision's is its outcome.

        Parameters
        ----------
        held
            Which they are: those with `learn=False`, unless told otherwise.

        Raises
        ------
        EvaluationError
            If there is none, or one has an action that the policy does not know.
        """
        index = {name: row for row, name in enumerate(actions.ids)}
        found: dict[str, LearningExample] = {}
        for example in examples:
            if not held(example):
                continue
            for name in (example.action, *example.actions[: len(example.probabilities)]):
                if name not in index:
                    raise EvaluationError(
                        f"action {name!r} is none of the policy's {len(index)}: "
                        "value it on a log of its own templates"
                    )
            found[example.decision_id] = example
        if not found:
            raise EvaluationError(
                "no decision of the log is held out, at least 2 are needed: lower its split"
            )
        ordered = in_order(found.values())
        known = [one.propensity for one in ordered if one.propensity is not None]
        kinds = {one.propensity_kind for one in ordered}
        if len(known) < len(ordered):
            kinds.add("unknown")
        weakest = next(kind for kind in WEAKEST_FIRST if kind in kinds)
        unknown = weakest == "unknown"
        by_wave = not unknown and all(
            one.probabilities and one.policy_version >= 0 for one in ordered
        )
        return cls(
            actions=np.array([index[one.action] for one in ordered], dtype=np.int64),
            rewards=np.array([one.reward for one in ordered], dtype=np.float64),
            propensities=None if unknown else np.array(known, dtype=np.float64),
            contexts=contexts_of(ordered),
            propensity_kind=weakest,
            waves=np.array([one.policy_version for one in ordered]) if by_wave else None,
            logging_dist=_dist_of(ordered, index) if by_wave else None,
        )


def in_order(examples: Iterable[LearningExample]) -> list[LearningExample]:
    """Sort outcomes by the time of their decisions."""
    return sorted(examples, key=lambda one: (one.decided_at_ms, one.decision_id))


def contexts_of(examples: Sequence[LearningExample]) -> FloatArray:
    """Give what the log's policy saw of each user, (n, d_user)."""
    raw = np.frombuffer(b"".join(one.context for one in examples), dtype="<f4")
    return raw.reshape(len(examples), -1).astype(np.float64)


def _dist_of(examples: Sequence[LearningExample], index: Mapping[str, int]) -> FloatArray:
    dist = np.zeros((len(examples), len(index)))
    for row, example in enumerate(examples):
        dist[row, [index[name] for name in example.actions]] = example.probabilities
    return dist


@dataclass(frozen=True, slots=True, kw_only=True)
class Valuation:
    """What a policy would have earned, next to what the log's own policy did.

    Attributes
    ----------
    logging
        The mean of the held-out rewards, by Student's t.
    adaptive
        By `estimate_adaptive_dr`, where the log tells who decided and all probabilities: the one
        to believe then, and the one that the diagnosis is of.
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
    adaptive: Estimate | None = None
    diagnosis: Diagnosis | None = None
    refusal: str | None = None


def value_held_out(
    policy: Policy,
    actions: ActionSet,
    held_out: HeldOut,
    rng: np.random.Generator,
    *,
    foreseen: FloatArray | None = None,
    confidence: float = 0.95,
) -> Valuation:
    """Value a policy by IPS and SNIPS, and say whether the log can tell it from its own.

    Where the log tells all probabilities and which version decided, it is valued over the actions
    that could be taken, and by `estimate_adaptive_dr` too.

    Parameters
    ----------
    rng
        For policies that estimate their probabilities by simulation.
    foreseen : (n, n_actions), optional
        Rewards that were expected before each wave; without them `foreseen_rewards` of the policy.
        None of the held-out rewards may be known to it.

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
    can = np.ones((n, len(actions)), dtype=np.bool_)
    if held_out.logging_dist is not None:
        can = held_out.logging_dist > 0.0
    dist = np.concatenate(
        [
            policy.action_dist(held_out.contexts[rows], actions, can[rows], rng)
            for rows in (slice(start, start + AT_ONCE) for start in range(0, n, AT_ONCE))
        ]
    )  # (n, n_actions)
    if not dist[np.arange(n), held_out.actions].any():
        return refused(
            f"The policy cannot be valued: it takes none of the {n:,} actions that were logged."
        )
    learned_meanwhile = held_out.waves is not None
    if learned_meanwhile and foreseen is None:
        foreseen = foreseen_rewards(policy, held_out.contexts, actions)
    diagnosis = diagnose(
        log,
        dist,
        foreseen if learned_meanwhile else None,
        waves=held_out.waves,
        logging_dist=held_out.logging_dist,
        confidence=confidence,
    )
    return Valuation(
        n=n,
        rewarded=rewarded,
        propensity_kind=kind,
        logging=logging,
        ips=estimate_ips(log, dist, confidence=confidence),
        snips=estimate_snips(log, dist, confidence=confidence),
        adaptive=diagnosis.estimate if learned_meanwhile else None,
        diagnosis=diagnosis,
    )


def foreseen_rewards(policy: Policy, contexts: FloatArray, actions: ActionSet) -> FloatArray:
    """Give the rewards that a policy expects, (n, n_actions); 0 where it has no model of them."""
    if not isinstance(policy, ModelPolicy):
        return np.zeros((len(contexts), len(actions)))
    return policy.reward_model.expected(contexts, actions)
