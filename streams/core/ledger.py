"""A user's decisions from the moment they are made until nothing can correct them any more."""

import math
from collections.abc import Callable
from enum import StrEnum

import msgspec

from schemas.campaign import Campaign
from schemas.hashing import fallback_id, id_hash
from schemas.records import Reward
from streams.core.policies.data import LARGEST
from streams.core.profiles import MOST_IDS, remember

__all__ = [
    "MOST_FEEDBACK",
    "OTHER",
    "RECEIPTS",
    "STANDARD",
    "Credit",
    "Entry",
    "Ledger",
    "Verdict",
    "close_entry",
    "counted_as",
    "credit",
    "find_entry",
    "is_full",
    "is_repeated",
    "last_sent_ms",
    "prune",
    "reward_of",
]

DELIVERED, FAILED = "delivered", "failed"
RECEIPTS = (DELIVERED, FAILED)
STANDARD = ("click", "purchase", "dismiss", "unsubscribe")
OTHER = "(other)"  # every kind that is neither standard nor named by the campaign
MOST_FEEDBACK = 4096  # ids of a user's feedback: 80 KB
SKEW_MS = 300_000  # a reward that names its decision may lie so far before it: clocks differ


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One decision and what came back for it.

    Attributes
    ----------
    probabilities
        Of the eligible `actions`, in their order; empty where unknown.
    context
        Little-endian float32.
    features
        Hashed raw features of the user, for a campaign with an encoder.
    counts, values
        Occurrences, and summed values, by kind of feedback within the window (`counted_as`).
    delivered, receipt_at_ms
        What the newest receipt says, and when it was made; None, -1 without one.
    closed
        Whether its window is over.
    learned
        The reward that the learner was told last.
    told
        Whether it was told of the decision before its window was over.
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
    receipt_at_ms: int = -1
    features: bytes = b""
    told: bool = False


class Ledger(msgspec.Struct, array_like=True, gc=False):
    """What a user was sent, and what came back. State of a shard, as MessagePack.

    Attributes
    ----------
    entries
        Decisions that are open or can be corrected.
    seen
        Ids of feedback that they contain, with their times.
    sends, sent_at
        As in `Profile`.
    """

    entries: list[Entry] = []
    seen: dict[int, int] = {}
    sends: list[int] = []
    sent_at: dict[str, int] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be kept."""
        return not (self.entries or self.sends or self.sent_at)


class Verdict(StrEnum):
    """What became of a piece of feedback that answers a decision."""

    CREDITED = "credited"  # to an open decision
    CORRECTED = "corrected"  # a decision that was closed: its reward has changed
    RECEIPT = "receipt"  # of the sender: nothing new
    UNDELIVERED = "undelivered"  # it did not arrive
    DELIVERED = "delivered"  # it did arrive, after it was taken for undelivered
    TOO_LARGE = "too-large"  # its reward could not be learned; it was not counted
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


def counted_as(kind: str, campaign: Campaign) -> str:
    """The kind that feedback is counted under.

    Senders choose kinds freely; a decision, a report and a snapshot hold those that the campaign
    names and the standard ones, so that none of them grows with what senders make up.
    """
    known = kind in campaign.reward_weights or kind in campaign.value_weights or kind in STANDARD
    return kind if known else OTHER


def find_entry(
    ledger: Ledger, reward: Reward, campaign_of: Callable[[Entry], Campaign]
) -> Entry | None:
    """The decision that feedback answers: the one that it names, or the last one before it.

    Without a name it is the last of those that were open when the feedback occurred, whenever it
    comes: in the same channel and campaign, where it gives them.
    """
    if reward.decision_id is not None:
        return next((e for e in ledger.entries if e.decision_id == reward.decision_id), None)
    open_then = [
        entry
        for entry in ledger.entries
        if reward.campaign_id in (None, entry.campaign_id)
        and reward.channel in (None, entry.channel)
        and 0
        <= reward.occurred_at_ms - entry.decided_at_ms
        <= campaign_of(entry).attribution_window_ms
    ]
    return max(open_then, key=lambda entry: entry.decided_at_ms, default=None)


def reward_key(reward: Reward) -> int:
    """What tells feedback apart: its id, or user, decision or kind, and time."""
    return id_hash(
        reward.reward_id
        or fallback_id(reward.user_id, reward.decision_id or "", reward.kind, reward.occurred_at_ms)
    )


def is_repeated(ledger: Ledger, reward: Reward) -> bool:
    """Whether this feedback is contained already; notes it if not.

    Ids are kept as long as a decision can be corrected that they may answer (`prune`).
    """
    most = MOST_FEEDBACK if ledger.entries else MOST_IDS
    return not remember(ledger.seen, reward_key(reward), reward.occurred_at_ms, most)


def is_full(ledger: Ledger) -> bool:
    """Whether the next id drops the oldest, whose repetition would be credited again."""
    return bool(ledger.entries) and len(ledger.seen) >= MOST_FEEDBACK


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
    counts, values = entry.counts, entry.values
    kind = counted_as(reward.kind, campaign)
    entry.counts = {**counts, kind: counts.get(kind, 0) + 1}
    if reward.value is not None and kind != OTHER:
        entry.values = {**values, kind: values.get(kind, 0.0) + reward.value}
    if not _learnable(entry, campaign):
        entry.counts, entry.values = counts, values
        return Credit(Verdict.TOO_LARGE)
    if not entry.closed:
        return Credit(Verdict.CREDITED)
    previous, entry.learned = entry.learned, reward_of(entry, campaign)
    return Credit(Verdict.CORRECTED, previous, entry.learned)


def _learnable(entry: Entry, campaign: Campaign) -> bool:
    """Whether the reward is one that policies take: larger ones would stop the learner."""
    try:
        return abs(reward_of(entry, campaign)) <= LARGEST
    except (OverflowError, ValueError):  # fsum of what is infinite
        return False


def _receipt(entry: Entry, reward: Reward) -> Credit:
    """Take a receipt; of two the newer counts, of two at the same time the better."""
    if entry.closed:
        return Credit(Verdict.TOO_LATE)
    arrived, was_undelivered = reward.kind == DELIVERED, entry.delivered is False
    rank = (reward.occurred_at_ms, arrived)
    if rank < (entry.receipt_at_ms, entry.delivered is True):
        return Credit(Verdict.RECEIPT)
    entry.delivered, entry.receipt_at_ms = arrived, reward.occurred_at_ms
    if arrived:
        return Credit(Verdict.DELIVERED if was_undelivered else Verdict.RECEIPT)
    return Credit(Verdict.RECEIPT if was_undelivered else Verdict.UNDELIVERED)


def close_entry(entry: Entry, campaign: Campaign) -> bool:
    """Close a decision whose window is over; False where it was not delivered: not learned."""
    entry.closed = True
    if entry.delivered is False:
        return False
    entry.learned = reward_of(entry, campaign)
    return True


def last_sent_ms(ledger: Ledger, undelivered: Entry) -> int | None:
    """When an undelivered decision's template was sent last, as far as the ledger goes back."""
    sends = (
        entry.decided_at_ms
        for entry in ledger.entries
        if (entry.campaign_id, entry.action) == (undelivered.campaign_id, undelivered.action)
        and entry.delivered is not False
    )
    return max(sends, default=None)


def prune(ledger: Ledger, decision_id: str) -> None:
    """Forget a decision that nothing can correct any more, and ids older than those left."""
    ledger.entries = [entry for entry in ledger.entries if entry.decision_id != decision_id]
    if not ledger.entries:
        ledger.seen = {}
        return
    first_ms = min(entry.decided_at_ms for entry in ledger.entries) - SKEW_MS
    ledger.seen = {key: at_ms for key, at_ms in ledger.seen.items() if at_ms >= first_ms}
