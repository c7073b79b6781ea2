"""User events folded into profiles."""

from collections.abc import Sequence

from schemas.hashing import partition_of
from schemas.ids import TIME_MARKER
from schemas.records import UserEvent
from schemas.topics import USER_EVENTS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.state import load, profile_key, store
from streams.agents.triggers import TriggeredBatch, Triggers
from streams.core.profiles import Profile, fold_event
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["FoldProfiles", "wrong_shard"]


class FoldProfiles:
    """Folds each user event into its user's profile.

    Parameters
    ----------
    shards
        Number of user shards.
    most_bytes
        A profile may become so large; an event that would make it larger is a dead letter.
    triggers
        Decides for users whose events a campaign waits for.
    """

    def __init__(
        self, shards: int, most_bytes: int, clock: Clock, triggers: Triggers | None = None
    ) -> None:
        self._shards = shards
        self._most_bytes = most_bytes
        self._clock = clock
        self._triggers = triggers

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Fold a batch; what cannot be read or does not fit goes to the dead letters."""
        ahead_of_ms = self._clock.ahead_of_ms()
        asked = None if self._triggers is None else self._triggers.batch(tx)
        for record in batch:
            event = tx.codec.try_decode(record.value, UserEvent)
            if isinstance(event, Unreadable):
                tx.dead_letter(record, event.reason)
                continue
            refusal = self._clock.refusal(event.occurred_at_ms)
            if refusal is not None:
                tx.dead_letter(record, refusal)
                continue
            tx.saw(record.topic, event.occurred_at_ms, ahead_of_ms)
            if event.type == TIME_MARKER:
                continue
            if asked is not None:
                asked.before(event)
            reason = self._fold(tx, event, asked)
            if reason is not None:
                tx.dead_letter(record, reason)
        if asked is not None:
            asked.decide()

    def _fold(self, tx: Transaction, event: UserEvent, asked: TriggeredBatch | None) -> str | None:
        key = profile_key(event.user_id)
        profile = load(tx, key, Profile)
        if profile is None:
            reason = wrong_shard(event.user_id, tx.number, self._shards, USER_EVENTS.name)
            if reason is not None:
                return reason
            profile = Profile()
        if not fold_event(profile, event):
            return None
        before = tx.get(key)
        store(tx, key, profile)
        size = len(tx.get(key) or b"")
        if size > max(self._most_bytes, len(before or b"")):  # one that is too large may shrink
            if before is None:
                tx.changes.pop(key)
            else:
                tx.put(key, before)
            return (
                f"the profile would have {size} bytes, at most {self._most_bytes} are kept: send "
                "fewer or shorter attributes"
            )
        if asked is not None:
            asked.folded(event)
        return None


def wrong_shard(user_id: str, number: int, shards: int, topic: str) -> str | None:
    """Why a record does not belong into this shard; None if it does."""
    right = partition_of(user_id, shards)
    if right == number:
        return None
    return (
        f"user belongs into partition {right} of {topic}, the record came in {number}: send it to "
        "the company's own topic, ingest re-keys it"
    )
