"""A shard: one partition number, with its state, kept exactly once by Kafka transactions.

A transaction carries the outputs, the changed state (to the changelog) and the input offsets
that the state now contains, as part of that state. RocksDB is written after the commit; a new
owner fences the old one, then reads the changelog from where its RocksDB ends up to a marker
that it has committed itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from confluent_kafka import Message, TopicPartition

from schemas.errors import BusError, ShardError
from schemas.topics import Topic
from schemas.wire import Codec
from streams.kafka.cluster import Cluster
from streams.kafka.metrics import APPLIED, COMMIT_SECONDS, EMITTED
from streams.kafka.producer import TransactionalProducer
from streams.kafka.read import groupless_reader, of_no_matter
from streams.kafka.store import Store, StoreOptions
from streams.kafka.transaction import Incoming, Transaction
from streams.kafka.turn import NO_TURN, Turn

__all__ = ["Handler", "Shard", "ShardConfig", "ShardKind", "Step"]

log = structlog.get_logger()

META = b"!meta"
MARKER = b"!marker"
STANDSTILL_S = 60.0  # a restore that gets nothing for so long fails
FEW = 50  # records: work on no more of them is done soon
FLUSH_S = 600.0  # a store in which little is written is written to its files so often
POSITION = b"!position"  # only in RocksDB: how far in the changelog it has come

Handler = Callable[[Transaction, Sequence[Incoming]], None]
Step = Callable[[Transaction], bool]  # True: there is more to do


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardKind:
    """What shards of one kind have in common."""

    name: str
    inputs: tuple[str, ...]  # full topic names, co-partitioned
    timed: tuple[str, ...]  # those whose records carry event time
    # those whose time is what others vouch for, whatever their records say
    vouched: tuple[str, ...] = ()
    changelog: Topic
    takes_turns: bool = False  # with the worker's other shards, where no piece of work is long


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """What a worker gives to all of its shards."""

    cluster: Cluster
    app: str
    prefix: str
    directory: Path
    transaction_timeout_s: float
    codec: Codec
    store_options: StoreOptions
    topic_ids: Mapping[str, str]
    partitions: Mapping[str, int] = field(default_factory=dict)  # the company's topics differ
    turn: Turn = field(default_factory=Turn)


class Meta(msgspec.Struct, array_like=True):
    """The part of a shard's state that is about the shard itself."""

    applied: dict[str, int] = {}
    times: dict[str, int] = {}
    topic_ids: dict[str, str] = {}
    now_ms: int = 0
    read: dict[str, int] = {}  # how far inputs were read, ends of transactions included


class Position(msgspec.Struct, array_like=True):
    """How far in the changelog a store has come, and as of when.

    A tombstone behind it stays in the log for a day from then. What a kill leaves in the middle of
    a restore is as old as the last record that was read, or as the restore: what could still be
    read then was not cleaned yet, and the tombstone's day begins with that (KIP-534).
    """

    next_offset: int
    written_at_s: float
    changelog_id: str


class Shard:
    """The state of one partition number. Blocking: used from a worker thread, one at a time."""

    def __init__(self, kind: ShardKind, number: int, config: ShardConfig) -> None:
        self.kind = kind
        self.number = number
        self._config = config
        self._changelog = config.prefix + kind.changelog.name
        self._turn = config.turn if kind.takes_turns else NO_TURN
        self._producer = TransactionalProducer(
            cluster=config.cluster,
            shard=f"{kind.name}/{number}",
            transactional_id=f"{config.app}-{kind.name}-{number}",
            changelog=self._changelog,
            number=number,
            prefix=config.prefix,
            timeout_s=config.transaction_timeout_s,
        )
        self._using = threading.Lock()
        self._producer.fence()
        self._flushed_at = time.monotonic()
        self._store = Store(config.directory / kind.name / str(number), config.store_options)
        try:
            # A record of our own: the restore reads up to it.
            self._restore(self._producer.commit((), {MARKER: str(time.time()).encode()}))
            self.meta = self._read_meta()
        except BaseException:
            self._store.close()
            raise
        self.idle_ms: dict[str, int] = {}
        self.read_to: dict[str, int] = dict(self.meta.read)

    # ---- opening

    def _restore(self, marker: int) -> None:
        position, as_of_s = self._usable_position(marker)
        if marker <= position + 1 and position > 0:
            return  # between them lies only the end of the last transaction
        started, restored = time.monotonic(), 0
        reader = groupless_reader(self._config.cluster, {"fetch.max.bytes": 64 * 1024 * 1024})
        try:
            reader.assign([TopicPartition(self._changelog, self.number, position)])
            said = moved = started
            while position <= marker:
                messages = self._records(reader.consume(5000, 0.05))
                if messages:
                    changes = {message.key(): message.value() for message in messages}
                    position = messages[-1].offset() + 1
                    restored += len(messages)
                    read_s = min(messages[-1].timestamp()[1] / 1000, time.time())
                    self._write(changes, position, max(read_s, as_of_s))
                    moved = time.monotonic()
                elif time.monotonic() - moved > STANDSTILL_S:
                    raise BusError(
                        f"the restore of {self._changelog} stands still at offset {position} of "
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
                raise BusError(f"restore of {self._changelog}: {error.str()}")
        return records

    def _say_restore(self, state: str, restored: int, started: float, left: int) -> None:
        log.info(
            "shard_restore",
            state=state,
            shard=f"{self.kind.name}/{self.number}",
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
        if position.changelog_id != self._config.topic_ids.get(self._changelog, ""):
            doubt = "the changelog was made again"
        elif position.next_offset > marker:
            doubt = "the store is ahead of the changelog"
        elif age_s > self.kind.changelog.delete_retention_ms / 2000:
            doubt = "the store is older than half of the time that tombstones are kept"
        if doubt is None:
            return position.next_offset, position.written_at_s
        log.warning("store_wiped", shard=f"{self.kind.name}/{self.number}", why=doubt)
        self._store.wipe()
        return 0, time.time()

    def _read_meta(self) -> Meta:
        raw = self._store.get(META)
        meta = msgspec.msgpack.decode(raw, type=Meta) if raw is not None else Meta()
        for topic in self.kind.inputs:
            known, now = meta.topic_ids.get(topic), self._config.topic_ids.get(topic, "")
            if known is not None and known != now:
                raise ShardError(
                    f"topic {topic} was deleted and made again (id {known} is now {now}): shard "
                    f"{self.kind.name}/{self.number} contains offsets of the old one. Delete "
                    f"{self._changelog} to start anew, or bring the old topic back"
                )
        return meta

    # ---- time and offsets

    def applied(self, topic: str) -> int:
        """The last offset of an input that the state contains; -1 for none."""
        return self.meta.applied.get(topic, -1)

    @property
    def now_ms(self) -> int:
        """Event time: the least over the inputs; one that was read to its end is as late as now."""
        times = (
            max(self._records_ms(topic), self.idle_ms.get(topic, 0))
            for topic in self.kind.timed
            if self.number < self._config.partitions.get(topic, self.number + 1)
        )
        return max(min(times, default=0), self.meta.now_ms)

    def _records_ms(self, topic: str) -> int:
        return 0 if topic in self.kind.vouched else self.meta.times.get(topic, 0)

    def contains_up_to(self, topic: str) -> int:
        """The first offset of an input that the state does not contain."""
        return max(self.applied(topic) + 1, self.meta.read.get(topic, 0))

    # ---- working

    def apply(self, topic: str, batch: Sequence[Incoming], handler: Handler) -> bool:
        """Apply the records of one input, less those that the state contains; True when done."""
        known = self.applied(topic)
        fresh = [record for record in batch if record.offset > known]
        if not fresh:
            return True
        with self._using:
            if self.kind.takes_turns and len(fresh) <= FEW:
                self._producer.begin(MARKER)
            with self._turn_for(len(fresh)) as turn:
                tx = self._begin(turn)
                handler(tx, fresh)
            self._commit_all(tx, applied={topic: fresh[-1].offset})
        APPLIED.labels(topic).inc(len(fresh))
        return True

    def work_on(self, steps: Sequence[Step], rank: int) -> tuple[int, bool]:
        """Do the first piece of work from this one on that no input asked for.

        Returns
        -------
        tuple[int, bool]
            Where to go on, and whether there is more of what was done.
        """
        with self._using:
            for number in range(rank, len(steps)):
                with self._turn as turn:
                    tx = self._begin(turn)
                    more = steps[number](tx)
                if not tx.empty:
                    self._commit_all(tx, applied={})
                if more or not tx.empty:
                    return number + 1, more
            return len(steps), False

    def remember_read(self) -> None:
        """Commit how far the inputs were read, where that is further than the state says.

        Behind the last record of an input stand the ends of transactions. Once retention has
        emptied the log it starts behind them: they must not be taken for records that are missing.

        Now and then the store is written to its files: where little is written they would be as
        old as the process, and in doubt once it is killed.
        """
        with self._using:
            if self.read_to != self.meta.read:
                self._commit_all(self._begin(NO_TURN), applied={})
            if time.monotonic() - self._flushed_at > FLUSH_S:
                self._store.flush()
                self._flushed_at = time.monotonic()

    def _turn_for(self, records: int) -> Turn:
        """The turn for work on so many records."""
        return self._turn if records > FEW else NO_TURN

    def _begin(self, turn: Turn) -> Transaction:
        return Transaction(
            self.number,
            self._store,
            self._config.codec,
            self._config.prefix,
            self.now_ms,
            self.meta.applied,
            turn,
        )

    def _commit_all(self, tx: Transaction, applied: Mapping[str, int]) -> None:
        meta = Meta(
            applied={**self.meta.applied, **applied},
            times={**self.meta.times, **_later(tx.times, self.meta.times)},
            topic_ids={t: self._config.topic_ids.get(t, "") for t in self.kind.inputs},
            now_ms=tx.now_ms,
            read=dict(self.read_to),
        )
        tx.changes[META] = msgspec.msgpack.encode(meta)
        self._check_sizes(tx)
        with COMMIT_SECONDS.time():
            turn = self._turn_for(len(tx.outputs) + len(tx.changes))
            last_offset = self._producer.commit(tx.outputs, tx.changes, turn)
        for name, number in Counter(out.topic.name for out in tx.outputs).items():
            EMITTED.labels(name).inc(number)
        with turn:
            self._write(tx.changes, last_offset + 1, time.time())
        self.meta = meta

    def _check_sizes(self, tx: Transaction) -> None:
        limit = self.kind.changelog.max_bytes
        for key, value in tx.changes.items():
            size = len(key) + len(value or b"")
            if size > limit:
                raise ShardError(
                    f"state of {size} bytes under a key of {key[:1]!r} in {self._changelog} "
                    f"exceeds its limit of {limit}: nothing was committed"
                )

    def _write(
        self, changes: Mapping[bytes, bytes | None], next_offset: int, written_at_s: float
    ) -> None:
        position = Position(
            next_offset, written_at_s, self._config.topic_ids.get(self._changelog, "")
        )
        self._store.write({**changes, POSITION: msgspec.msgpack.encode(position)})

    def close(self) -> None:
        """Wait for the work under way, then let go of the files."""
        with self._using:
            self._store.close()


def _later(new: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int]:
    """Times by input that lie behind those known: an input's time does not go back."""
    return {topic: at_ms for topic, at_ms in new.items() if at_ms > known.get(topic, -1)}
