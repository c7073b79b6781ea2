"""Faust's transport, made fit for shards: what must hold whatever Faust does around it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP
from yarl import URL

from schemas.errors import BusError
from streams.kafka import transport as module
from streams.kafka.cluster import Cluster
from streams.kafka.conductor import Chunk
from streams.kafka.fetching import ConsumerThread, Fetched
from streams.kafka.transport import Transport, broker_urls, check_overrides

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def app_with_transport() -> faust.App:
    app = faust.App("t", broker="groundswell://127.0.0.1:1", store="memory://", web_enabled=False)
    app.transport = Transport([URL("groundswell://127.0.0.1:1")], app)
    return app


def notes() -> ConsumerThread:
    thread = ConsumerThread.__new__(ConsumerThread)
    thread.progress, thread._chains = {}, {}
    return thread


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


PARTITION = TP("t", 0)


def test_offsets_that_follow_each_other_are_no_jumps():
    thread = notes()
    assert thread._note_jumps(PARTITION, 0, 3, records(0, 1, 2)) == {}
    assert thread._note_jumps(PARTITION, 3, 5, records(3, 4)) == {}


def test_a_jump_within_a_fetch_is_vouched_for_by_the_record_before_it():
    jumps = notes()._note_jumps(PARTITION, 0, 6, records(0, 1, 4, 5))  # 2 and 3 are markers
    assert jumps == {4: 1}


def test_a_jump_between_two_fetches_is_vouched_for_by_the_last_record_before_them():
    thread = notes()
    thread._note_jumps(PARTITION, 0, 4, records(0, 1))  # 2 and 3 are markers, read past
    assert thread._note_jumps(PARTITION, 4, 6, records(5)) == {5: 1}


def test_a_fetch_of_markers_alone_keeps_the_chain():
    thread = notes()
    thread._note_jumps(PARTITION, 0, 2, records(0, 1))
    thread._note_jumps(PARTITION, 2, 7, records())
    assert thread._note_jumps(PARTITION, 7, 8, records(7)) == {7: 1}


def test_nothing_below_the_place_that_was_sought_is_vouched_for():
    thread = notes()
    thread._note_jumps(PARTITION, 0, 2, records(0, 1))
    jumps = thread._note_jumps(PARTITION, 50, 53, records(52))  # somebody sought 50
    assert jumps == {52: 49}


def test_a_first_fetch_vouches_from_where_it_started():
    assert notes()._note_jumps(PARTITION, 10, 13, records(12)) == {12: 9}


async def deliver(consumer: Any, coro: Any, suspended: asyncio.Event) -> Any:
    return await consumer.wait_first(coro, suspended.wait())


def consumer_of(app: faust.App) -> Any:
    return app.transport.create_consumer(
        callback=None_async, on_partitions_revoked=None_async, on_partitions_assigned=None_async
    )


async def None_async(*_: Any) -> None:  # noqa: N802
    return None


def test_a_delivery_that_does_not_block_is_done_at_once():
    async def run() -> None:
        consumer = consumer_of(app_with_transport())
        done = []

        async def put() -> None:
            done.append(1)

        tasks = len(asyncio.all_tasks())
        result = await deliver(consumer, put(), asyncio.Event())
        assert done == [1]
        assert not result.stopped
        assert len(asyncio.all_tasks()) == tasks

    asyncio.run(run())


def test_a_delivery_into_a_full_queue_waits_for_room_and_is_not_lost():
    async def run() -> None:
        consumer = consumer_of(app_with_transport())
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        queue.put_nowait(1)
        waiting = asyncio.ensure_future(deliver(consumer, queue.put(2), asyncio.Event()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert await queue.get() == 1
        await asyncio.wait_for(waiting, 5)
        assert await queue.get() == 2

    asyncio.run(run())


def test_a_blocked_delivery_is_broken_off_when_the_flow_is_suspended():
    async def run() -> None:
        consumer = consumer_of(app_with_transport())
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        queue.put_nowait(1)
        suspended = asyncio.Event()
        waiting = asyncio.ensure_future(deliver(consumer, queue.put(2), suspended))
        await asyncio.sleep(0.05)
        suspended.set()
        await asyncio.wait_for(waiting, 5)
        assert queue.qsize() == 1

    asyncio.run(run())


def test_an_error_in_a_blocked_delivery_reaches_who_waits_for_it():
    async def run() -> None:
        consumer = consumer_of(app_with_transport())
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def put() -> None:
            await gate
            raise ZeroDivisionError

        waiting = asyncio.ensure_future(deliver(consumer, put(), asyncio.Event()))
        await asyncio.sleep(0.01)
        gate.set_result(None)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def chunk_of(consumer: Any, *offsets: int, generation: int = 1) -> Chunk:
    return Chunk(PARTITION, generation, records(*offsets), {}, consumer)


def test_a_partition_of_which_too_much_waits_is_left_alone_until_half_of_it_is_taken():
    async def run() -> None:
        app = app_with_transport()
        app.conf.stream_buffer_maxsize = 10
        consumer = consumer_of(app)
        consumer._thread.wake = lambda: None
        consumer._active_partitions = {PARTITION}
        consumer._count_waiting(PARTITION, 1, 9)
        assert consumer._get_active_partitions() == {PARTITION}
        consumer._count_waiting(PARTITION, 1, 4)
        assert PARTITION not in consumer._active_partitions
        consumer.taken(PARTITION, 0, 9)  # of a generation that is over
        consumer.taken(PARTITION, 1, 7)
        assert PARTITION not in consumer._active_partitions
        consumer.taken(PARTITION, 1, 1)
        assert consumer._active_partitions == {PARTITION}
        assert consumer._room.is_set()

    asyncio.run(run())


class Fetches:
    """Stands in for the thread that fetches: gives what it was given, once."""

    def __init__(self, *fetched: dict[TP, Fetched]) -> None:
        self.fetched = list(fetched)

    async def __call__(self, *_: Any) -> dict[TP, Fetched]:
        await asyncio.sleep(0)
        return self.fetched.pop(0)


def fetching(app: faust.App, *fetched: dict[TP, Fetched]) -> tuple[Any, list[Chunk]]:
    consumer, came = consumer_of(app), []

    async def keep(chunk: Chunk) -> None:
        came.append(chunk)

    consumer.callback = keep
    consumer._getmany = Fetches(*fetched)
    return consumer, came


def test_what_is_fetched_of_a_partition_comes_as_one_chunk_of_the_generation_that_fetched_it():
    async def run() -> None:
        app = app_with_transport()
        app.consumer_generation_id = 7
        consumer, came = fetching(app, {PARTITION: Fetched(records(4, 6), {6: 4})})
        await consumer._fetch_once({PARTITION})
        (chunk,) = came
        assert [record.offset for record in chunk.records] == [4, 6]
        assert (chunk.generation, chunk.jumps) == (7, {6: 4})
        assert consumer._waiting == {(PARTITION, 7): 2}

    asyncio.run(run())


@pytest.mark.parametrize("event", ["rebalance", "suspension"])
def test_what_was_fetched_before_a_rebalance_or_a_suspension_is_dropped_and_waits_not(event):
    async def run() -> None:
        app = app_with_transport()
        app.consumer_generation_id = 7
        consumer, came = fetching(app, {PARTITION: Fetched(records(4), {})})
        fetch = asyncio.ensure_future(consumer._fetch_once({PARTITION}))
        await asyncio.sleep(0)
        if event == "rebalance":
            app.consumer_generation_id = 8
        else:
            consumer.stop_flow()
        await fetch
        assert came == []
        assert consumer._waiting == {}

    asyncio.run(run())


def test_the_offset_behind_the_last_one_done_is_committed_until_the_next_assignment():
    async def run() -> None:
        consumer = consumer_of(app_with_transport())
        chunk_of(consumer, 3, 4, 9).done(9)
        chunk_of(consumer, 3, 4).done(4)  # read again
        assert consumer._filter_committable_offsets([PARTITION]) == {PARTITION: 10}
        assert list(consumer._filter_tps_with_pending_acks()) == [PARTITION]
        await consumer.on_partitions_assigned(set())
        assert list(consumer._filter_tps_with_pending_acks()) == []

    asyncio.run(run())


def test_faust_as_pinned_has_what_is_overridden():
    check_overrides()


def test_another_faust_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(module.driver, "Consumer", type("Consumer", (), {"wait_first": None}))
    with pytest.raises(BusError, match=r"lacks Consumer\._drain_messages"):
        check_overrides()


def test_a_client_is_given_every_address_of_a_cluster():
    urls = broker_urls(Cluster("one:9092, two:9093,three"))
    assert module.driver.server_list(urls, 9092) == ["one:9092", "two:9093", "three:9092"]


def test_the_group_is_told_that_a_member_lives_while_it_opens_its_shards():
    told: list[str] = []

    async def open_shards(*_: Any) -> None:
        told.append("opens")

    async def run() -> None:
        thread = notes()
        coordinator = SimpleNamespace(_start_heartbeat_task=lambda: told.append("beats"))
        thread._consumer = SimpleNamespace(_coordinator=coordinator)  # type: ignore[assignment]
        thread.consumer = SimpleNamespace(threadsafe_partitions_assigned=open_shards)  # type: ignore[assignment]
        thread.thread_loop = asyncio.get_running_loop()
        await thread.on_partitions_assigned({PARTITION}, 7)

    asyncio.run(run())
    assert told == ["beats", "opens"]
