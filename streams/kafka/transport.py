"""Faust's aiokafka transport for shards: cheap delivery, read-committed, holes vouched for.

What differs from Faust's own, and why:

- Delivery. Faust makes a message of each record, and four futures of each message, to be able to
  break off when the flow is suspended. Here what was fetched of a partition is delivered as one
  chunk, undecoded (`streams/kafka/conductor.py`): at once if nothing blocks; a delivery that
  blocks (a full queue, a suspended flow) goes on along Faust's own path.
- Backpressure. A partition of which many records wait is not fetched from until half of them are
  done, and then at once: Faust looks again after a second.
- Acknowledgement. A partition's chunks are done in order: its last offset says it all.
- Fetching. In sessions (`streams/kafka/fetch_sessions.py`): a fetch names what changed.
- Isolation. Faust reads uncommitted unless its own transactions are on.
- Assignment. `streams/kafka/assignor.py`.
- Holes. In a rebalance Faust drops records that it has fetched. In a topic that is written by
  transactions, or compacted, offsets jump all the same. The fetcher knows the difference: a
  chunk carries the jumps that it vouches for, so that a shard can tell a hole from a loss.
- Heartbeats. They go on while shards are opened: a restore may be longer than a session.
- Ends. For each partition the position, the end of the log and the moment at which they were
  seen together are kept, so that a shard knows when it has read an input to its end.
"""

import asyncio
import contextlib
import types
from collections.abc import Coroutine, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.fetch import FetchRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import WaitResults
from yarl import URL

from schemas.errors import BusError
from streams.kafka.assignor import CoPartitionedAssignor
from streams.kafka.conductor import Chunk, Conductor
from streams.kafka.fetch_sessions import FetchSessions, fits_aiokafka
from streams.kafka.transaction import Incoming

__all__ = ["Fetched", "Progress", "Transport", "broker_urls", "check_overrides"]

NO_ROOM_S = 1.0  # without any partition to fetch from it is looked again after this
FETCH_WAIT_MS = 100  # one fetch is in flight to a broker: this bounds how long others wait for it


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a partition stood at one moment."""

    position: int  # the next offset that would be fetched
    end: int  # the last stable offset: what there is to read
    last: int  # the last record handed out; -1 for none since the assignment
    at_ms: int  # wall clock

    @property
    def ended(self) -> bool:
        """Whether everything has been handed out."""
        return self.position >= self.end


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched of a partition, and after which offset a record comes where it jumps."""

    records: list[Incoming]
    jumps: dict[int, int]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches in a thread of its own, and notes holes and ends as it does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: dict[TP, Progress] = {}
        self._woken: asyncio.Future[None] | None = None
        self._chains: dict[TP, tuple[int, int]] = {}  # position after the last fetch, last record

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - read when it starts
        consumer._partition_assignment_strategy = [transport.assignor]  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        FetchSessions(consumer._client)  # noqa: SLF001
        return consumer

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take over, and keep on telling the group that this member lives.

        aiokafka begins to when this returns; a restore may take longer than a session lasts.
        """
        self._ensure_consumer()._coordinator._start_heartbeat_task()  # noqa: SLF001
        await super().on_partitions_assigned(assigned, generation_id)

    async def leave(self) -> None:
        """Stop the client; without static membership the group hears of it at once."""
        if self._consumer is not None:
            await self._consumer.stop()

    def forget(self) -> None:
        """Drop what was noted: partitions have been assigned anew."""
        self.progress.clear()
        self._chains.clear()

    def wake(self) -> None:
        """Let a fetch that waits return: there is room for more partitions. From any thread."""
        self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, Fetched]:
        if not self.consumer.flow_active or self.app.rebalancing:
            # What is fetched before Faust has settled is dropped, and would be read again.
            await asyncio.sleep(0.02)
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise driver.ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            records = await self._drain(fetcher, active_partitions, max_records)
            if not records and timeout:
                waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
                self._woken = asyncio.get_running_loop().create_future()
                await asyncio.wait(
                    (waiter, self._woken), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if not waiter.done():
                    waiter.cancel()
                elif not fetcher._closed:  # noqa: SLF001
                    waiter.result()  # raises where the client may not read
                    records = await self._drain(fetcher, active_partitions, max_records)
            return records

    async def _drain(
        self,
        fetcher: aiokafka_fetcher.Fetcher,
        partitions: set[TP],
        max_records: int | None,
    ) -> Mapping[TP, Fetched]:
        """Take what has been fetched. Does not suspend: no seek can come in between."""
        subscriptions = fetcher._subscriptions  # noqa: SLF001
        assignment = subscriptions.subscription and subscriptions.subscription.assignment
        if subscriptions.reassignment_in_progress or not assignment or not assignment.active:
            await asyncio.sleep(0.02)
            return {}
        states = {TP(*tp): assignment.state_value(tp) for tp in assignment.tps}
        starts = {tp: state._position for tp, state in states.items()}  # noqa: SLF001
        for waiting in fetcher._records.values():  # noqa: SLF001
            unpacking = getattr(waiting, "_partition_records", None)
            if unpacking is not None:  # not an error
                unpacking._consumer_record = _incoming  # noqa: SLF001 - one object a record, not three
        drained: dict[TP, list[Incoming]] = await fetcher.fetched_records(
            partitions, timeout=0, max_records=max_records
        )
        drained = {TP(*tp): records for tp, records in drained.items()}
        fetched: dict[TP, Fetched] = {}
        for tp, state in states.items():
            if not state.has_valid_position:
                continue
            position, start = state._position, starts[tp]  # noqa: SLF001
            records = drained.get(tp, [])
            jumps = self._note_jumps(tp, start, position, records)
            if records:
                fetched[tp] = Fetched(records, jumps)
            end = state.lso if state.lso is not None else state.highwater
            if end is not None and state.timestamp is not None:
                last = self._chains[tp][1]
                # As late as the broker's last answer: without one nothing is known of the end.
                self.progress[tp] = Progress(position, end, last, state.timestamp)
        return fetched

    def _note_jumps(
        self, tp: TP, start: int | None, position: int, records: Sequence[Incoming]
    ) -> dict[int, int]:
        """By offset the one that a record follows, where it is not the one just below it."""
        after, last = self._chains.get(tp, (None, -1))
        base = start if start is not None else position
        if after != base:  # the first fetch, or somebody sought: nothing is known below
            last = base - 1
        jumps: dict[int, int] = {}
        if records and records[-1].offset - last != len(records):
            for record in records:
                if record.offset != last + 1:
                    jumps[record.offset] = last
                last = record.offset
        self._chains[tp] = (position, records[-1].offset if records else last)
        return jumps


def _incoming(tp: TP, record: Any) -> Incoming:
    return Incoming(
        tp.topic,
        tp.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )


class Consumer(driver.Consumer):
    """Delivers chunks, without futures where nothing blocks."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[TP, int] = {}  # the last offset that is done
        # Records delivered and not yet taken, by partition and the generation that fetched them:
        # Faust empties the agents' queues in a rebalance.
        self._waiting: dict[tuple[TP, int], int] = {}
        self._most_waiting = self.app.conf.stream_buffer_maxsize
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(
            self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop()
        )

    async def leave(self) -> None:
        """Commit what was acknowledged and leave the group, for a worker that ends.

        Faust's own shutdown waits for tasks that never end; a worker that has closed its shards
        need not.
        """
        await self.commit()
        await self._thread.call_thread(self._thread.leave)

    def progress(self, tp: TP) -> Progress | None:
        """Where a partition stood when it was last looked at."""
        return self._thread.progress.get(tp)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Forget the notes about the partitions of the generation before."""
        self._thread.forget()
        self._done.clear()
        self._waiting.clear()
        self._buffered_partitions.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    # ---- chunks: fetched, delivered, taken, done

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until the fetcher is stopped (Faust's loop, chunk by chunk)."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):  # noqa: SLF001
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)
                active = set(self._get_active_partitions())
                if active:
                    await self._fetch_once(active)
                else:
                    self._room.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._room.wait(), NO_ROOM_S)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.transport.app.should_stop:
                raise

    async def _fetch_once(self, active: set[TP]) -> None:
        generation = self.app.consumer_generation_id
        fetched: Mapping[TP, Fetched] = await self._getmany(active, 1.0)
        for tp, part in fetched.items():
            # In a rebalance what was fetched is dropped: shards see what they lack (`Shards`).
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return
            self._count_waiting(tp, generation, len(part.records))
            chunk = Chunk(tp, generation, part.records, part.jumps, self)
            await self.wait_first(self.callback(chunk), self.suspend_flow.wait())

    def taken(self, tp: TP, generation: int, count: int) -> None:
        """So many records of a partition wait no longer."""
        if (tp, generation) in self._waiting:
            self._count_waiting(tp, generation, -count)

    def _count_waiting(self, tp: TP, generation: int, change: int) -> None:
        key = (tp, generation)
        waiting = self._waiting[key] = self._waiting.get(key, 0) + change
        if change > 0 and waiting >= self._most_waiting:
            self.on_buffer_full(tp)
        elif change < 0 and tp in self._buffered_partitions and 2 * waiting <= self._most_waiting:
            self.on_buffer_drop(tp)
            self._room.set()
            self._thread.wake()

    def done(self, tp: TP, offset: int) -> None:
        """All records of a partition up to this one are done: its offset may be committed."""
        self._done[tp] = max(offset, self._done.get(tp, -1))

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self._done if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._done[tp] + 1

    async def wait_first(
        self,
        *coros: Any,
        timeout: Any = None,  # noqa: ASYNC109 - Faust's signature
    ) -> WaitResults:
        """Deliver a message: at once if nothing blocks, else as Faust does."""
        if len(coros) != 2 or timeout is not None or not asyncio.iscoroutine(coros[0]):
            return await super().wait_first(*coros, timeout=timeout)
        deliver, suspended = coros
        try:
            blocked_on = deliver.send(None)
        except StopIteration:
            suspended.close()
            return WaitResults([deliver], [None], False)
        return await super().wait_first(_resumed(deliver, blocked_on), suspended)


async def _resumed(coro: Coroutine[Any, Any, None], blocked_on: Any) -> None:
    """Go on with a coroutine that has been started and waits for something."""
    await _rest(coro, blocked_on)


@types.coroutine
def _rest(coro: Coroutine[Any, Any, None], blocked_on: Any) -> Generator[Any, Any, None]:
    try:
        while True:
            try:
                sent = yield blocked_on
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as error:  # noqa: BLE001 - handed to whom it is for
                blocked_on = coro.throw(error)
            else:
                blocked_on = coro.send(sent)
    except StopIteration:
        return


class Transport(driver.Transport):
    """The transport of Groundswell's workers. The app sets `assignor` before it starts."""

    Consumer = Consumer
    Conductor = Conductor
    assignor: CoPartitionedAssignor


def broker_urls(bootstrap: str) -> list[URL]:
    """Kafka's addresses, joined by commas, as Faust wants them: one URL each."""
    return [URL(f"groundswell://{address.strip()}") for address in bootstrap.split(",")]


def check_overrides() -> None:
    """Assert that what is overridden in Faust and aiokafka is what this file expects.

    Raises
    ------
    BusError
        If a version differs in a way that would make delivery or assignment wrong.
    """
    expected: tuple[tuple[type, tuple[str, ...]], ...] = (
        (
            driver.AIOKafkaConsumerThread,
            (
                "_create_worker_consumer",
                "_ensure_consumer",
                "_fetch_records",
                "__post_init__",
                "on_partitions_assigned",
            ),
        ),
        (
            driver.Consumer,
            (
                "_drain_messages",
                "_filter_tps_with_pending_acks",
                "_new_consumer_thread",
                "_new_offset",
                "on_buffer_drop",
                "on_buffer_full",
                "wait_first",
            ),
        ),
        (driver.Transport, ("Conductor", "create_conductor")),
        (Conductor, ("_build_handler", "_update_callback_map")),
        (GroupCoordinator, ("_start_heartbeat_task",)),
        (aiokafka_fetcher.Fetcher, ("fetched_records", "_create_fetch_waiter")),
        (aiokafka_fetcher.PartitionRecords, ("_consumer_record",)),
        (AIOKafkaClient, ("send",)),
        (FetchRequest, ("build",)),
    )
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in expected
        for name in names
        if not hasattr(owner, name)
    ]
    if not fits_aiokafka():
        missing.append("FetchRequest._topics")
    if missing:
        raise BusError(
            f"this faust-streaming or aiokafka lacks {', '.join(missing)}: "
            "install the versions that groundswell pins"
        )
