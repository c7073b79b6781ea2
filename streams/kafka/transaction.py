"""One transaction of a shard: what a handler reads, changes and emits before it is committed."""

import heapq
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from schemas.errors import ShardError
from schemas.topics import DEAD_LETTERS, Topic
from schemas.wire import Codec
from streams.kafka.store import Store
from streams.kafka.turn import Turn

__all__ = ["ORIGIN", "Headers", "Incoming", "Output", "Transaction"]

Headers = list[tuple[str, bytes]]
ORIGIN = "groundswell-origin"  # where a record that ingest sent on came from


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """A record as it came from a topic, undecoded."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Output(msgspec.Struct, frozen=True, gc=False):
    """A record on its way to a topic."""

    topic: Topic
    key: bytes | None
    value: bytes | None
    partition: int | None
    headers: Headers | None


class Transaction:
    """Reads through to the store; changes and outputs are gathered until the commit.

    Parameters
    ----------
    number
        The shard's partition number.
    now_ms
        The shard's event time.
    applied
        The last offset by input topic that the state contained when this began.
    turn
        Of the shard: what takes long without Python's lock is done beside it.
    """

    def __init__(
        self,
        number: int,
        store: Store,
        codec: Codec,
        prefix: str,
        now_ms: int,
        applied: Mapping[str, int],
        turn: Turn,
    ) -> None:
        self.number = number
        self.now_ms = now_ms
        self.codec = codec
        self.applied = applied
        self.turn = turn
        self._prefix = prefix
        self.changes: dict[bytes, bytes | None] = {}
        self.outputs: list[Output] = []
        self.forwards: list[tuple[Topic, bytes, Incoming]] = []
        self.put_aside: list[int] = []
        self.times: dict[str, int] = {}
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        """The value of a state key, as this transaction sees it."""
        if key in self.changes:
            return self.changes[key]
        return self._store.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a state key; what exceeds the changelog's limit fails at the commit."""
        self.changes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a state key."""
        self.changes[key] = None

    def scan(self, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """State keys with a prefix in their order, this transaction's changes included."""
        mine = sorted(
            (key, value)
            for key, value in self.changes.items()
            if key.startswith(prefix) and (after is None or key > after)
        )
        stored = (pair for pair in self._store.scan(prefix, after) if pair[0] not in self.changes)
        if not mine:
            yield from stored
            return
        for key, value in heapq.merge(stored, mine):
            if value is not None:
                yield key, value

    def encode(self, topic: Topic, record: object) -> bytes:
        """The bytes of a record as it would stand in a topic."""
        return self.codec.encode(self._prefix + topic.name, record)

    def emit(
        self,
        topic: Topic,
        record: object,
        *,
        key: str,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        """Send a record with the transaction."""
        value = self.encode(topic, record)
        if len(value) > topic.max_bytes:
            raise ShardError(
                f"a record of {len(value)} bytes for {topic.name} exceeds its limit of "
                f"{topic.max_bytes}: bound what goes into it"
            )
        self.outputs.append(Output(topic, key.encode(), value, partition, headers))

    def forward(self, topic: Topic, record: Incoming, key: str) -> None:
        """Send a record's bytes on as they are, under a key: ahead of the next commit.

        Of shards that `ShardKind.forwards`. A repetition of it is told by where it came from.
        """
        self.forwards.append((topic, key.encode(), record))

    def dead_letter(self, record: Incoming, reason: str) -> None:
        """Put a record that cannot be processed aside, as it came, with origin and reason.

        Put back once that is mended it is no repetition, so it does not say that it was sent on.
        """
        headers: Headers = [
            *(header for header in record.headers if header[0] != ORIGIN),
            ("kafka_dlt-original-topic", record.topic.encode()),
            ("kafka_dlt-original-partition", str(record.partition).encode()),
            ("kafka_dlt-original-offset", str(record.offset).encode()),
            ("kafka_dlt-original-timestamp", str(record.timestamp_ms).encode()),
            ("kafka_dlt-exception-message", reason.encode()),
        ]
        self.outputs.append(Output(DEAD_LETTERS, record.key, record.value, None, headers))
        self.put_aside.append(record.offset)

    def saw(self, topic: str, at_ms: int, ahead_of_ms: int) -> None:
        """An input has come to this event time; one that lies ahead of the bound does not count."""
        if at_ms <= ahead_of_ms and at_ms > self.times.get(topic, -1):
            self.times[topic] = at_ms

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.changes and not self.outputs
