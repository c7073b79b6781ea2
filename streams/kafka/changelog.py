"""A shard's changelog, as its store has it: read to its end when the shard is opened."""

import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog
from confluent_kafka import Message, TopicPartition

from schemas.errors import BusError
from streams.kafka.cluster import Cluster
from streams.kafka.read import groupless_reader, of_no_matter
from streams.kafka.store import Store

__all__ = ["POSITION", "Changelog", "Position"]

log = structlog.get_logger()

STANDSTILL_S = 60.0  # a restore that gets nothing for so long fails
POSITION = b"!position"  # only in RocksDB: how far in the changelog it has come


class Position(msgspec.Struct, array_like=True):
    """How far in the changelog a store has come, and as of when.

    A tombstone behind it stays in the log for a day from then. What a kill leaves in the middle of
    a restore is as old as the last record that was read, or as the restore: what could still be
    read then was not cleaned yet, and the tombstone's day begins with that (KIP-534).
    """

    next_offset: int
    written_at_s: float
    changelog_id: str


class Changelog:
    """Keeps a store as its partition of the changelog says. Blocking.

    Parameters
    ----------
    topic, topic_id
        The changelog's full name, and its id: one that was made again is another.
    tombstones_ms
        How long its deletions can be seen.
    shard
        The shard's name, for messages.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        topic_id: str,
        number: int,
        tombstones_ms: int,
        shard: str,
        store: Store,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._topic_id = topic_id
        self._number = number
        self._tombstones_ms = tombstones_ms
        self._shard = shard
        self._store = store

    def write(
        self, changes: Mapping[bytes, bytes | None], next_offset: int, written_at_s: float
    ) -> None:
        """Write what stands in the changelog in front of an offset, as of a time in seconds."""
        position = Position(next_offset, written_at_s, self._topic_id)
        self._store.write({**changes, POSITION: msgspec.msgpack.encode(position)})

    def restore(self, marker: int) -> None:
        """Write what the changelog holds, up to a record that was just committed.

        Raises
        ------
        BusError
            If it cannot be read, or stands still.
        """
        position, as_of_s = self._usable_position(marker)
        if marker <= position + 1 and position > 0:
            return  # between them lies only the end of the last transaction
        started, restored = time.monotonic(), 0
        reader = groupless_reader(self._cluster, {"fetch.max.bytes": 64 * 1024 * 1024})
        try:
            reader.assign([TopicPartition(self._topic, self._number, position)])
            said = moved = started
            while position <= marker:
                messages = self._records(reader.consume(5000, 0.05))
                if messages:
                    changes = {message.key(): message.value() for message in messages}
                    position = messages[-1].offset() + 1
                    restored += len(messages)
                    read_s = min(messages[-1].timestamp()[1] / 1000, time.time())
                    self.write(changes, position, max(read_s, as_of_s))
                    moved = time.monotonic()
                elif time.monotonic() - moved > STANDSTILL_S:
                    raise BusError(
                        f"the restore of {self._topic} stands still at offset {position} of "
                        f"{marker} for {STANDSTILL_S:g} s: check that its brokers are up"
                    )
                if time.monotonic() - said > 2.0:
                    said = time.monotonic()
                    self._say_restore("restoring", restored, started, marker - position + 1)
        finally:
            reader.close()
        self._say_restore("restored", restored, started, 0)

    def _records(self, messages: Sequence[Message]) -> list[Message]:
        """The records of what was read; an error that matters ends a restore."""
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif not of_no_matter(error):
                raise BusError(f"restore of {self._topic}: {error.str()}")
        return records

    def _say_restore(self, state: str, restored: int, started: float, left: int) -> None:
        log.info(
            "shard_restore",
            state=state,
            shard=self._shard,
            records=restored,
            per_s=round(restored / max(time.monotonic() - started, 1e-6)),
            left=max(left, 0),
        )

    def _usable_position(self, marker: int) -> tuple[int, float]:
        """Where to go on reading the changelog, and how old the store is then.

        Where there is doubt that is 0 and now, with an empty store.
        """
        raw = self._store.get(POSITION)
        if raw is None:
            return 0, time.time()
        position = msgspec.msgpack.decode(raw, type=Position)
        age_s = time.time() - position.written_at_s
        doubt = None
        if position.changelog_id != self._topic_id:
            doubt = "the changelog was made again"
        elif position.next_offset > marker:
            doubt = "the store is ahead of the changelog"
        elif age_s > self._tombstones_ms / 2000:
            doubt = "the store is older than half of the time that tombstones are kept"
        if doubt is None:
            return position.next_offset, position.written_at_s
        log.warning("store_wiped", shard=self._shard, why=doubt)
        self._store.wipe()
        return 0, time.time()
