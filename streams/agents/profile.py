"""User events folded into profiles."""

from collections.abc import Sequence

import msgspec

from schemas.hashing import partition_of
from schemas.ids import TIME_MARKER
from schemas.records import UserEvent
from schemas.topics import USER_EVENTS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.state import dumped, loaded, profile_key, store
from streams.agents.triggers import TriggeredBatch, Triggers
from streams.core.profiles import Profile, fold_event
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["FoldProfiles", "wrong_shard"]


# An event of n bytes makes its profile no larger than by n times the one, and the other: what Avro
# writes in a byte (a length, a small number) MessagePack writes in nine at most, names twice.
GROWTH, GROWTH_BASE = 12, 128


class _Held(msgspec.Struct):
    """A profile while a batch is folded."""

    profile: Profile
    room: int  # it may certainly grow by so many bytes
    changed: bool = False


class FoldProfiles:
    """Folds each user event into its user's profile.

    A profile is read and written once a batch, however many of its events there are.

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
        ahead_of_ms, believed_ms = self._clock.ahead_of_ms(), self._clock.believed_ms()
        asked = None if self._triggers is None else self._triggers.batch(tx)
        held: dict[str, _Held] = {}
        latest_ms = -1
        try_decode = tx.codec.try_decode
        for record in batch:
            event = try_decode(record.value, UserEvent)
            if isinstance(event, Unreadable):
                tx.dead_letter(record, event.reason)
                continue
            at_ms = event.occurred_at_ms
            if at_ms > believed_ms and (refusal := self._clock.refusal(at_ms)) is not None:
                tx.dead_letter(record, refusal)
                continue
            if latest_ms < at_ms <= ahead_of_ms:
                latest_ms = at_ms
            if event.type == TIME_MARKER:
                continue
            if asked is not None and asked.asks_for(event.user_id):
                _put_back(tx, held)
                asked.decide()
            reason = self._fold(tx, event, len(record.value or b""), held, asked)
            if reason is not None:
                tx.dead_letter(record, reason)
        if latest_ms >= 0:
            tx.saw(batch[0].topic, latest_ms, ahead_of_ms)
        _put_back(tx, held)
        if asked is not None:
            asked.decide()

    def _fold(
        self,
        tx: Transaction,
        event: UserEvent,
        size: int,
        held: dict[str, _Held],
        asked: TriggeredBatch | None,
    ) -> str | None:
        one = held.get(event.user_id)
        if one is None:
            raw = tx.get(profile_key(event.user_id))
            if raw is None:
                reason = wrong_shard(event.user_id, tx.number, self._shards, USER_EVENTS.name)
                if reason is not None:
                    return reason
            profile = Profile() if raw is None else loaded(raw, Profile)
            one = held[event.user_id] = _Held(profile, self._most_bytes - len(raw or b""))
        one.room -= GROWTH * size + GROWTH_BASE
        if one.room < 0:
            reason, new = self._fold_with_care(one, event)
            if reason is not None:
                return reason
        else:
            new = fold_event(one.profile, event)
        one.changed |= new
        if new and asked is not None:
            asked.folded(event)
        return None

    def _fold_with_care(self, one: _Held, event: UserEvent) -> tuple[str | None, bool]:
        """Fold an event into a profile that may become too large by it: then not."""
        before = dumped(one.profile)
        if not fold_event(one.profile, event):
            return None, False
        size = len(dumped(one.profile))
        if size > max(self._most_bytes, len(before)):  # one that is too large may shrink
            one.profile = loaded(before, Profile)
            return (
                f"the profile would have {size} bytes, at most {self._most_bytes} are kept: send "
                "fewer or shorter attributes"
            ), False
        one.room = self._most_bytes - size
        return None, True


def _put_back(tx: Transaction, held: dict[str, _Held]) -> None:
    """Store the profiles that were changed; they are read again where they are needed again."""
    for user, one in held.items():
        if one.changed:
            store(tx, profile_key(user), one.profile)
    held.clear()


def wrong_shard(user_id: str, number: int, shards: int, topic: str) -> str | None:
    """Why a record does not belong into this shard; None if it does."""
    right = partition_of(user_id, shards)
    if right == number:
        return None
    return (
        f"user belongs into partition {right} of {topic}, the record came in {number}: send it to "
        "the company's own topic, ingest re-keys it"
    )
