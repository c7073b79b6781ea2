"""Faust's aiokafka transport for shards: cheap delivery, read-committed, holes vouched for.

What differs from Faust's own, and why:

- Delivery. Faust wraps the delivery of each message in four futures, to be able to break off
  when the flow is suspended. Here a delivery that does not block is done at once; one that
  blocks (a full queue, a suspended flow) goes on along Faust's own path.
  What is delivered is the message itself, undecoded (`streams/kafka/conductor.py`).
- Isolation. Faust reads uncommitted unless its own transactions are on.
- Assignment. `streams/kafka/assignor.py`.
- Holes. In a rebalance Faust drops records that it has fetched. In a topic that is written by
  transactions, or compacted, offsets jump all the same. The fetcher knows the difference: each
  message carries the offset that it follows, so that a shard can tell a hole from a loss.
- Ends. For each partition the position, the end of the log and the moment at which they were
  seen together are kept, so that a shard knows when it has read an input to its end.
"""

import asyncio
import types
from collections.abc import Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.services import WaitResults

from schemas.errors import BusError
from streams.kafka.assignor import CoPartitionedAssignor
from streams.kafka.conductor import Conductor

__all__ = ["Message", "Progress", "Transport", "check_overrides"]

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


class Message(ConsumerMessage):
    """A Faust message that knows which offset came before it in the log."""

    follows: int  # no record lies between this offset and the message's own


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches in a thread of its own, and notes holes and ends as it does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: dict[TP, Progress] = {}
        self.holes: dict[tuple[TP, int], int] = {}
        self._chains: dict[TP, tuple[int, int]] = {}  # position after the last fetch, last record

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - read when it starts
        consumer._partition_assignment_strategy = [transport.assignor]  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        return consumer

    async def leave(self) -> None:
        """Stop the client; without static membership the group hears of it at once."""
        if self._consumer is not None:
            await self._consumer.stop()

    def forget(self) -> None:
        """Drop what was noted: partitions have been assigned anew."""
        self.progress.clear()
        self.holes.clear()
        self._chains.clear()

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
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
                done, _ = await asyncio.wait([waiter], timeout=timeout)
                if done and not fetcher._closed:  # noqa: SLF001
                    waiter.result()  # raises where the client may not read
                    records = await self._drain(fetcher, active_partitions, max_records)
                elif not done:
                    waiter.cancel()
            return records

    async def _drain(
        self,
        fetcher: aiokafka_fetcher.Fetcher,
        partitions: set[TP],
        max_records: int | None,
    ) -> Mapping[TP, list[Any]]:
        """Take what has been fetched. Does not suspend: no seek can come in between."""
        subscriptions = fetcher._subscriptions  # noqa: SLF001
        assignment = subscriptions.subscription and subscriptions.subscription.assignment
        if subscriptions.reassignment_in_progress or not assignment or not assignment.active:
            await asyncio.sleep(0.02)
            return {}
        states = {TP(*tp): assignment.state_value(tp) for tp in assignment.tps}
        starts = {tp: state._position for tp, state in states.items()}  # noqa: SLF001
        drained: Mapping[TP, list[Any]] = await fetcher.fetched_records(
            partitions, timeout=0, max_records=max_records
        )
        drained = {TP(*tp): records for tp, records in drained.items()}
        for tp, state in states.items():
            if not state.has_valid_position:
                continue
            position, start = state._position, starts[tp]  # noqa: SLF001
            self._note_holes(tp, start, position, drained.get(tp, ()))
            end = state.lso if state.lso is not None else state.highwater
            if end is not None and state.timestamp is not None:
                last = self._chains[tp][1]
                # As late as the broker's last answer: without one nothing is known of the end.
                self.progress[tp] = Progress(position, end, last, state.timestamp)
        return drained

    def _note_holes(self, tp: TP, start: int | None, position: int, records: Iterable[Any]) -> None:
        """Note the offset that a record follows, where it is not the one just below it."""
        after, last = self._chains.get(tp, (None, -1))
        base = start if start is not None else position
        if after != base:  # the first fetch, or somebody sought: nothing is known below
            last = base - 1
        for record in records:
            if record.offset != last + 1:
                self.holes[tp, record.offset] = last
            last = record.offset
        self._chains[tp] = (position, last)


class Consumer(driver.Consumer):
    """Delivers without futures where nothing blocks."""

    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

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
        await super().on_partitions_assigned(assigned, generation_id)

    def _to_message(self, tp: TP, record: Any) -> Message:
        message = Message(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp / 1000.0,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            record.checksum,
            record.serialized_key_size,
            record.serialized_value_size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        holes = self._thread.holes
        hole = holes.pop((tp, record.offset), None) if holes else None
        message.follows = record.offset - 1 if hole is None else hole
        return message

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
            ("_create_worker_consumer", "_fetch_records", "__post_init__"),
        ),
        (driver.Consumer, ("_to_message", "_new_consumer_thread", "wait_first", "perform_seek")),
        (driver.Transport, ("Conductor", "create_conductor")),
        (Conductor, ("_build_handler", "_update_callback_map")),
        (aiokafka_fetcher.Fetcher, ("fetched_records", "_create_fetch_waiter")),
    )
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in expected
        for name in names
        if not hasattr(owner, name)
    ]
    if missing:
        raise BusError(
            f"this faust-streaming or aiokafka lacks {', '.join(missing)}: "
            "install the versions that groundswell pins"
        )
