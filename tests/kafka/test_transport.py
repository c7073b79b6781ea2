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
from streams.kafka.shards import batches
from streams.kafka.transport import ConsumerThread, Transport, check_overrides

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def app_with_transport() -> faust.App:
    app = faust.App("t", broker="groundswell://127.0.0.1:1", store="memory://", web_enabled=False)
    app.transport = Transport([URL("groundswell://127.0.0.1:1")], app)
    return app


def notes() -> ConsumerThread:
    thread = ConsumerThread.__new__(ConsumerThread)
    thread.progress, thread.holes, thread._chains = {}, {}, {}
    return thread


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


PARTITION = TP("t", 0)


def test_offsets_that_follow_each_other_leave_no_holes():
    thread = notes()
    thread._note_holes(PARTITION, 0, 3, records(0, 1, 2))
    thread._note_holes(PARTITION, 3, 5, records(3, 4))
    assert thread.holes == {}


def test_a_hole_within_a_fetch_is_vouched_for_by_the_record_before_it():
    thread = notes()
    thread._note_holes(PARTITION, 0, 6, records(0, 1, 4, 5))  # 2 and 3 are markers
    assert thread.holes == {(PARTITION, 4): 1}


def test_a_hole_between_two_fetches_is_vouched_for_by_the_last_record_before_them():
    thread = notes()
    thread._note_holes(PARTITION, 0, 4, records(0, 1))  # 2 and 3 are markers, read past
    thread._note_holes(PARTITION, 4, 6, records(5))
    assert thread.holes == {(PARTITION, 5): 1}


def test_a_fetch_of_markers_alone_keeps_the_chain():
    thread = notes()
    thread._note_holes(PARTITION, 0, 2, records(0, 1))
    thread._note_holes(PARTITION, 2, 7, records())
    thread._note_holes(PARTITION, 7, 8, records(7))
    assert thread.holes == {(PARTITION, 7): 1}


def test_nothing_below_the_place_that_was_sought_is_vouched_for():
    thread = notes()
    thread._note_holes(PARTITION, 0, 2, records(0, 1))
    thread._note_holes(PARTITION, 50, 53, records(52))  # somebody sought 50
    assert thread.holes == {(PARTITION, 52): 49}


def test_a_first_fetch_vouches_from_where_it_started():
    thread = notes()
    thread._note_holes(PARTITION, 10, 13, records(12))
    assert thread.holes == {(PARTITION, 12): 9}


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


def test_batches_gather_what_has_come_and_never_more_than_the_most():
    async def run() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        for number in range(7):
            queue.put_nowait(number)
        stream = SimpleNamespace(channel=SimpleNamespace(queue=queue, get=queue.get))
        got = []
        async for batch in batches(stream, 0.0, 3):  # type: ignore[arg-type]
            got.append(batch)
            if queue.empty():
                break
        assert got == [[0, 1, 2], [3, 4, 5], [6]]

    asyncio.run(run())


def test_faust_as_pinned_has_what_is_overridden():
    check_overrides()


def test_another_faust_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(module.driver, "Consumer", type("Consumer", (), {"wait_first": None}))
    with pytest.raises(BusError, match=r"lacks Consumer\._to_message"):
        check_overrides()
