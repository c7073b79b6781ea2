"""Faust's aiokafka transport for shards: cheap delivery and acknowledgement, its own assignment.

What differs from Faust's own, and why:

- Delivery. Faust makes a message of each record, and four futures of each message, to be able to
  break off when the flow is suspended. Here what was fetched of a partition is delivered as one
  chunk, undecoded (`streams/kafka/conductor.py`): at once if nothing blocks; a delivery that
  blocks (a full queue, a suspended flow) goes on along Faust's own path.
- Backpressure. A partition of which many records wait is not fetched from until half of them are
  done, and then at once: Faust looks again after a second.
- Acknowledgement. A partition's chunks are done in order: its last offset says it all.
- Fetching. `streams/kafka/fetching.py`.
- Assignment. `streams/kafka/assignor.py`.
"""

import asyncio
import contextlib
import types
from collections.abc import Coroutine, Generator, Iterator, Mapping
from typing import Any

import faust
import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.protocol.fetch import FetchRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.auth import CredentialsT
from mode.services import WaitResults
from yarl import URL

from schemas.errors import BusError
from streams.kafka.assignor import CoPartitionedAssignor
from streams.kafka.cluster import Cluster
from streams.kafka.conductor import Chunk, Conductor
from streams.kafka.fetch_sessions import fits_aiokafka
from streams.kafka.fetching import ConsumerThread, Fetched, Progress
from streams.kafka.read import no_right_to

__all__ = ["Transport", "broker_urls", "check_overrides", "credentials_of", "refusal_of"]

NO_ROOM_S = 1.0  # without any partition to fetch from it is looked again after this


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

    def group_failure(self) -> Exception | None:
        """Why this member does nothing more in its group, if it does not."""
        return self._thread.group_failure()

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


def broker_urls(cluster: Cluster) -> list[URL]:
    """Kafka's addresses, joined by commas, as Faust wants them: one URL each."""
    return [URL(f"groundswell://{address.strip()}") for address in cluster.bootstrap.split(",")]


def credentials_of(cluster: Cluster) -> CredentialsT | None:
    """What Faust's consumer shows; None where nothing is asked for."""
    context = cluster.tls() if cluster.encrypted else None
    if cluster.authenticated:
        return faust.SASLCredentials(
            username=cluster.username,
            password=cluster.password,
            mechanism=cluster.mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context=context)


def refusal_of(error: BaseException | None) -> BusError | None:
    """What ended the consumer, where Kafka refused it something; None for anything else."""
    if isinstance(error, TopicAuthorizationFailedError):
        return no_right_to(", ".join(map(str, error.args)) or "an input")
    if isinstance(error, GroupAuthorizationFailedError):
        group = ", ".join(map(str, error.args))
        return BusError(f"group {group} may not be joined: grant this user READ on the group")
    return None


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
        (GroupCoordinator, ("_push_error_to_user", "_start_heartbeat_task")),
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
