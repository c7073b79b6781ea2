"""The company's own records, checked, and sent on under their users."""

from collections.abc import Mapping, Sequence

from schemas.ids import TIME_MARKER
from schemas.records import Reward, UserEvent
from schemas.topics import REWARDS, USER_EVENTS, Topic
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.kafka.followers import VOUCHED
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["Ingest", "Vouch"]

VOUCH_MS = 500  # between two of its transactions: windows close so much later


class Ingest:
    """Reads the company's topics, whatever partitioner wrote them.

    Parameters
    ----------
    sources
        Topic name to "event" or "reward".
    """

    def __init__(self, sources: Mapping[str, str], clock: Clock) -> None:
        self._sources = sources
        self._clock = clock

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Send each good record on under its user; the others to the dead letters."""
        ahead_of_ms = self._clock.ahead_of_ms()
        for record in batch:
            kind: type[UserEvent | Reward]
            target: Topic
            if self._sources[record.topic] == "event":
                kind, target = UserEvent, USER_EVENTS
            else:
                kind, target = Reward, REWARDS
            read = tx.codec.try_decode(record.value, kind)
            if isinstance(read, Unreadable):
                tx.dead_letter(record, read.reason)
                continue
            refusal = (
                self._clock.refusal(read.occurred_at_ms)
                or _reserved(read)
                or _oversized(record, target)
            )
            if refusal is not None:
                tx.dead_letter(record, refusal)
            else:
                tx.saw(record.topic, read.occurred_at_ms, ahead_of_ms)
                tx.forward(target, record, read.user_id)


class Vouch:
    """Says up to when the company's topics have been ingested, for the clock of the windows.

    A shard's inputs may be read to their end while feedback still waits in front of ingest: after
    a stop of the workers, windows would close without it. What is committed here comes behind the
    records that it vouches for.
    """

    def __call__(self, tx: Transaction) -> bool:
        """Say it, where it is later than what was said; never more to do."""
        said_ms = int(tx.get(VOUCHED) or b"0")
        if tx.now_ms >= said_ms + VOUCH_MS:
            tx.put(VOUCHED, str(tx.now_ms).encode())
        return False


def _oversized(record: Incoming, target: Topic) -> str | None:
    size = len(record.value or b"")
    if size > target.max_bytes:
        return (
            f"the record has {size} bytes, {target.name} takes at most {target.max_bytes}: send "
            "fewer or shorter attributes"
        )
    return None


def _reserved(read: UserEvent | Reward) -> str | None:
    name = read.type if isinstance(read, UserEvent) else read.kind
    if name == TIME_MARKER:
        return f"{TIME_MARKER} is reserved for replayed logs: name the event otherwise"
    return None
