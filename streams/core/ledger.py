"""A user's decisions from the moment they are made until nothing can correct them any more."""

import math
from enum import StrEnum

import msgspec

from schemas.campaign import Campaign
from schemas.hashing import fallback_id, id_hash
from schemas.records import Reward
from streams.core.profiles import remember

__all__ = [
    "RECEIPTS",
    "Credit",
    "Entry",
    "Ledger",
    "Verdict",
    "close_entry",
    "credit",
    "find_entry",
    "is_repeated",
    "prune",
    "reward_of",
]

DELIVERED, FAILED = "delivered", "failed"
RECEIPTS = (DELIVERED, FAILED)
SKEW_MS = 300_000  # a reward that names its decision may lie so far before it: clocks differ


class Entry(msgspec.Struct, array_like=True):
    """One decision and what came back for it.

    Attributes
    ----------
    probabilities
        Of the eligible `actions`, in their order; empty where unknown.
    context
        Little-endian float32.
    counts, values
        Occurrences, and summed values, by kind of feedback within the window.
    closed
        Whether its window is over.
    learned
        The reward that the learner was told last.
    """

    decision_id: str
    campaign_id: str
    wave: int
    action: str
    reason: str
    propensity: float | None
    propensity_kind: str
    actions: list[str]
    probabilities: list[float]
    context: bytes
    decided_at_ms: int
    policy_version: int
    encoder_version: str
    channel: str | None
    learn: bool = True
    counts: dict[str, int] = {}
    values: dict[str, float] = {}
    delivered: bool | None = None
    closed: bool = False
    learned: float = 0.0


class Ledger(msgspec.Struct, array_like=True):
    """A user's entries, and the ids of feedback that they contain. State, as MessagePack."""

    entries: list[Entry] = []
    seen: dict[int, int] = {}


class Verdict(StrEnum):
    """What became of a piece of feedback that answers a decision."""

    CREDITED = "credited"  # to an open decision
    CORRECTED = "corrected"  # a decision that was closed: its reward has changed
    RECEIPT = "receipt"  # of the sender
    OUTSIDE = "outside"  # not within the decision's window
    TOO_LATE = "too-late"  # a receipt for a decision that is closed


class Credit(msgspec.Struct):
    """A verdict, and for a correction the reward before and now."""

    verdict: Verdict
    previous: float = 0.0
    now: float = 0.0


def reward_of(entry: Entry, campaign: Campaign) -> float:
    """r: the weighted occurrences and values of a decision's feedback."""
    counted = (
        weight * entry.counts.get(kind, 0) for kind, weight in campaign.reward_weights.items()
    )
    valued = (
        weight * entry.values.get(kind, 0.0) for kind, weight in campaign.value_weights.items()
    )
    return math.fsum((*counted, *valued))


def find_entry(ledger: Ledger, reward: Reward) -> Entry | None:
    """The decision that feedback answers: the one that it names, or the last one before it."""
    if reward.decision_id is not None:
        return next((e for e in ledger.entries if e.decision_id == reward.decision_id), None)
    open_before = [
        entry
        for entry in ledger.entries
        if entry.decided_at_ms <= reward.occurred_at_ms
        and not entry.closed
        and entry.channel is not None
        and reward.campaign_id in (None, entry.campaign_id)
    ]
    return max(open_before, key=lambda entry: entry.decided_at_ms, default=None)


def reward_key(reward: Reward) -> int:
    """What tells feedback apart: its id, or user, decision or kind, and time."""
    return id_hash(
        reward.reward_id
        or fallback_id(reward.user_id, reward.decision_id or "", reward.kind, reward.occurred_at_ms)
    )


def is_repeated(ledger: Ledger, reward: Reward) -> bool:
    """Whether this feedback is contained already; notes it if not."""
    return not remember(ledger.seen, reward_key(reward), reward.occurred_at_ms)


def credit(entry: Entry, reward: Reward, campaign: Campaign) -> Credit:
    """Put feedback to the entry that it answers, in place.

    Feedback that occurred within the window counts even where it comes after the close: as a
    correction, up to the correction horizon.
    """
    if reward.kind in RECEIPTS:
        return _receipt(entry, reward)
    since_ms = reward.occurred_at_ms - entry.decided_at_ms
    if not -SKEW_MS <= since_ms <= campaign.attribution_window_ms:
        return Credit(Verdict.OUTSIDE)
    entry.counts[reward.kind] = entry.counts.get(reward.kind, 0) + 1
    if reward.value is not None:
        entry.values[reward.kind] = entry.values.get(reward.kind, 0.0) + reward.value
    if not entry.closed:
        return Credit(Verdict.CREDITED)
    previous, entry.learned = entry.learned, reward_of(entry, campaign)
    return Credit(Verdict.CORRECTED, previous, entry.learned)


def _receipt(entry: Entry, reward: Reward) -> Credit:
    if entry.closed:
        return Credit(Verdict.TOO_LATE)
    entry.delivered = reward.kind == DELIVERED
    return Credit(Verdict.RECEIPT)


def close_entry(entry: Entry, campaign: Campaign) -> bool:
    """Close a decision whose window is over; False where it was not delivered: not learned."""
    entry.closed = True
    if entry.delivered is False:
        return False
    entry.learned = reward_of(entry, campaign)
    return True


def prune(ledger: Ledger, decision_id: str) -> None:
    """Forget a decision that nothing can correct any more, and ids older than what is left."""
    ledger.entries = [entry for entry in ledger.entries if entry.decision_id != decision_id]
    if not ledger.entries:
        ledger.seen = {}
