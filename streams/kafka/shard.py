"""A shard: one partition number, with its state, kept exactly once by Kafka transactions.

A transaction carries the outputs, the changed state (to the changelog) and the input offsets
that the state now contains, as part of that state. RocksDB is written after the commit; a new
owner fences the old one, then reads the changelog from where its RocksDB ends up to a marker
that it has committed itself.

Where records are only sent on (`ShardKind.forwards`) that goes ahead of the transaction, which then
says how far it has come: twice a second, and ahead of what it puts aside.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from schemas.errors import GroundswellError, ShardError
from schemas.topics import Topic
from schemas.wire import Codec
from streams.kafka.changelog import Changelog
from streams.kafka.cluster import Cluster
from streams.kafka.forwarder import Forwarder
from streams.kafka.metrics import APPLIED, COMMIT_SECONDS, EMITTED
from streams.kafka.origin import Marks, origin_headers
from streams.kafka.producer import TransactionalProducer
from streams.kafka.store import Store, StoreOptions
from streams.kafka.transaction import Incoming, Output, Transaction
from streams.kafka.turn import NO_TURN, Turn

__all__ = ["Handler", "Shard", "ShardConfig", "ShardKind", "Step"]

log = structlog.get_logger()

META = b"!meta"
MARKER = b"!marker"
ASIDE = b"!aside"  # offsets by input that are in the dead letters, of what may be read again
FEW = 50  # records: work on no more of them is done soon
PROGRESS_S = 0.5  # so often it is kept how far records were sent on
FLUSH_S = 600.0  # a store in which little is written is written to its files so often

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
    forwards: bool = False  # records are sent on: nothing but dead letters needs the transaction


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


class Shard:
    """The state of one partition number. Blocking: used from a worker thread, one at a time."""

    def __init__(self, kind: ShardKind, number: int, config: ShardConfig) -> None:
        self.kind = kind
        self.number = number
        self._config = config
        self._changelog = config.prefix + kind.changelog.name
        self._turn = config.turn if kind.takes_turns else NO_TURN
        self._name = f"{kind.name}/{number}"
        self._producer = TransactionalProducer(
            cluster=config.cluster,
            shard=self._name,
            transactional_id=f"{config.app}-{kind.name}-{number}",
            changelog=self._changelog,
            number=number,
            prefix=config.prefix,
            timeout_s=config.transaction_timeout_s,
        )
        self._forwarder = (
            Forwarder(config.cluster, self._name, config.prefix) if kind.forwards else None
        )
        self._sent_on_at: float | None = None  # since when it is not kept how far that has come
        self._using = threading.Lock()
        self._producer.fence()
        self._flushed_at = time.monotonic()
        self._store = Store(config.directory / kind.name / str(number), config.store_options)
        self._kept = Changelog(
            config.cluster,
            self._changelog,
            config.topic_ids.get(self._changelog, ""),
            number,
            kind.changelog.delete_retention_ms,
            self._name,
            self._store,
        )
        try:
            # A record of our own: the restore reads up to it.
            self._kept.restore(self._producer.commit((), {MARKER: str(time.time()).encode()}))
            self.meta = self._read_meta()
            self._marks = Marks(self._store.get)
            self._aside: dict[str, set[int]] = self._read_aside()
        except BaseException:
            self._store.close()
            raise
        self.idle_ms: dict[str, int] = {}
        self.read_to: dict[str, int] = dict(self.meta.read)

    def _read_meta(self) -> Meta:
        raw = self._store.get(META)
        meta = msgspec.msgpack.decode(raw, type=Meta) if raw is not None else Meta()
        for topic in self.kind.inputs:
            known, now = meta.topic_ids.get(topic), self._config.topic_ids.get(topic, "")
            if known is not None and known != now:
                raise ShardError(
                    f"topic {topic} was deleted and made again (id {known} is now {now}): shard "
                    f"{self._name} contains offsets of the old one. Delete "
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
            if self._forwarder is None:
                self._take(topic, fresh, handler)
            else:
                self._send_on(self._forwarder, topic, fresh, handler)
        APPLIED.labels(topic).inc(len(fresh))
        return True

    def _take(self, topic: str, fresh: Sequence[Incoming], handler: Handler) -> None:
        if self.kind.takes_turns and len(fresh) <= FEW:
            self._producer.begin(MARKER)
        with self._turn_for(len(fresh)) as turn:
            tx = self._begin(turn)
            new, moved = self._marks.sift(fresh)
            if new:
                handler(tx, new)
            tx.changes.update(self._marks.changes(moved))
        self._commit_all(tx, applied={topic: fresh[-1].offset})
        self._marks.keep(moved)

    def _send_on(
        self, forwarder: Forwarder, topic: str, fresh: Sequence[Incoming], handler: Handler
    ) -> None:
        """Send records on; what is put aside is committed first, and is not judged again.

        A record that is refused now, and would not be after a kill, would be missing behind those
        that were sent on past it.
        """
        aside = self._aside.get(topic, ())
        tx = self._begin(NO_TURN)
        handler(tx, [record for record in fresh if record.offset not in aside])
        times, tx.times = tx.times, {}  # come to once all are sent on
        if not tx.empty:
            put = {
                name: {offset for offset in known if offset > self.applied(name)}
                for name, known in {**self._aside, topic: {*aside, *tx.put_aside}}.items()
            }
            tx.put(ASIDE, msgspec.msgpack.encode(put))
            self._commit_all(tx, applied={})
            self._aside = put
        source = self._config.topic_ids[topic]
        forwarder.send(
            [
                Output(
                    target,
                    key,
                    record.value,
                    None,
                    origin_headers(source, self.number, record.offset),
                )
                for target, key, record in tx.forwards
            ]
        )
        for name, number in Counter(target.name for target, _, _ in tx.forwards).items():
            EMITTED.labels(name).inc(number)
        self.meta = msgspec.structs.replace(
            self.meta,
            applied={**self.meta.applied, topic: fresh[-1].offset},
            times={**self.meta.times, **_later(times, self.meta.times)},
        )
        if self._sent_on_at is None:
            self._sent_on_at = time.monotonic()

    def _read_aside(self) -> dict[str, set[int]]:
        raw = self._store.get(ASIDE)
        return {} if raw is None else msgspec.msgpack.decode(raw, type=dict[str, set[int]])

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
            if self._sent_on_at is not None and time.monotonic() > self._sent_on_at + PROGRESS_S:
                self._commit_all(self._begin(NO_TURN), applied={})
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
        if tx.forwards and self._forwarder is None:
            raise ShardError(f"shard {self._name} sends records on, and its kind does not say so")
        with COMMIT_SECONDS.time():
            turn = self._turn_for(len(tx.outputs) + len(tx.changes))
            last_offset = self._producer.commit(tx.outputs, tx.changes, turn)
        for name, number in Counter(out.topic.name for out in tx.outputs).items():
            EMITTED.labels(name).inc(number)
        with turn:
            self._kept.write(tx.changes, last_offset + 1, time.time())
        self.meta = meta
        self._sent_on_at = None

    def _check_sizes(self, tx: Transaction) -> None:
        limit = self.kind.changelog.max_bytes
        for key, value in tx.changes.items():
            size = len(key) + len(value or b"")
            if size > limit:
                raise ShardError(
                    f"state of {size} bytes under a key of {key[:1]!r} in {self._changelog} "
                    f"exceeds its limit of {limit}: nothing was committed"
                )

    def close(self) -> None:
        """Wait for the work under way, keep how far it has come, then let go of the files."""
        with self._using:
            try:
                if self._sent_on_at is not None:
                    self._commit_all(self._begin(NO_TURN), applied={})
            except GroundswellError as error:
                # Fenced, or no broker is there: the next owner sends on again, from further back.
                log.warning("progress_not_kept", shard=self._name, why=str(error))
            finally:
                self._store.close()


def _later(new: Mapping[str, int], known: Mapping[str, int]) -> dict[str, int]:
    """Times by input that lie behind those known: an input's time does not go back."""
    return {topic: at_ms for topic, at_ms in new.items() if at_ms > known.get(topic, -1)}
