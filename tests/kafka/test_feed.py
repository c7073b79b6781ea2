"""Chunks on their way into a shard: in order, as large as they may be, no oftener than told."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.kafka.conductor import Chunk
from streams.kafka.feed import Feed
from streams.kafka.shards import _chained

PARTITION = TP("t", 0)
URGENT = {1000}


class Room:
    """What the transport is told of."""

    def __init__(self) -> None:
        self.took = 0

    def taken(self, *what: Any) -> None:
        self.took += what[-1]


def chunk(*offsets: int, room: Any = None, jumps: dict[int, int] | None = None) -> Chunk:
    records: Any = [SimpleNamespace(offset=offset) for offset in offsets]
    return Chunk(PARTITION, 1, records, jumps or {}, room or Room())


def feeding(
    applied: list[list[int]], interval_s: float, most: int, work_s: float = 0.0
) -> tuple[Feed, list[float]]:
    began: list[float] = []

    async def apply(part: list[Chunk]) -> None:
        began.append(time.monotonic())
        await asyncio.sleep(work_s)
        applied.append([record.offset for one in part for record in one.records])

    def urgent(records: Sequence[Any]) -> bool:
        return any(record.offset in URGENT for record in records)

    return Feed(apply, interval_s, most, urgent, lambda task: task.result()), began


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_parts_are_applied_in_order_and_none_has_more_than_the_most():
    async def run() -> None:
        applied: list[list[int]] = []
        room = Room()
        feed, _ = feeding(applied, 0.0, 4, work_s=0.01)
        for offsets in ((0, 1, 2), (3, 4, 5), (6,), (7, 8, 9, 10, 11)):
            feed.put(chunk(*offsets, room=room))
        await until(lambda: sum(map(len, applied)) == 12)
        assert applied == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert room.took == 12

    asyncio.run(run())


def test_what_comes_while_nothing_is_under_way_does_not_wait_for_the_interval():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, _ = feeding(applied, 60.0, 100)
        feed.put(chunk(0))
        await until(lambda: applied == [[0]])

    asyncio.run(run())


def test_transactions_begin_no_oftener_than_the_interval_and_gather_what_comes_meanwhile():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, began = feeding(applied, 0.2, 100)
        feed.put(chunk(0))
        await until(lambda: len(applied) == 1)
        feed.put(chunk(1))
        await asyncio.sleep(0.02)
        feed.put(chunk(2))
        await until(lambda: len(applied) == 2)
        assert applied[1] == [1, 2]
        assert began[1] - began[0] >= 0.19

    asyncio.run(run())


def test_enough_records_for_a_transaction_do_not_wait_for_the_interval():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, _ = feeding(applied, 60.0, 3)
        feed.put(chunk(0))
        await until(lambda: len(applied) == 1)
        feed.put(chunk(1))
        feed.put(chunk(2))
        await asyncio.sleep(0.05)
        assert len(applied) == 1
        feed.put(chunk(3))
        await until(lambda: len(applied) == 2)
        assert applied[1] == [1, 2, 3]

    asyncio.run(run())


def test_what_is_urgent_takes_along_what_was_gathered_and_waits_for_nothing():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, _ = feeding(applied, 60.0, 100)
        feed.put(chunk(0))
        await until(lambda: len(applied) == 1)
        feed.put(chunk(1))
        await asyncio.sleep(0.05)
        assert len(applied) == 1
        feed.put(chunk(2, 1000))
        await until(lambda: len(applied) == 2)
        assert applied[1] == [1, 2, 1000]
        feed.put(chunk(1001))  # the hurry is over
        await asyncio.sleep(0.05)
        assert len(applied) == 2

    asyncio.run(run())


def test_what_is_urgent_hurries_what_comes_before_it():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, _ = feeding(applied, 60.0, 2)
        feed.put(chunk(0, 1, 2, 3, 1000))
        await until(lambda: applied == [[0, 1], [2, 3], [1000]])

    asyncio.run(run())


def test_a_failure_is_told_and_not_swallowed():
    async def run() -> None:
        async def apply(part: list[Chunk]) -> None:
            raise ZeroDivisionError

        told: list[BaseException | None] = []
        Feed(apply, 0.0, 5, lambda _: False, lambda task: told.append(task.exception())).put(
            chunk(0)
        )
        await until(lambda: len(told) == 1)
        assert isinstance(told[0], ZeroDivisionError)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("offsets", "jumps", "seen", "expected"),
    [
        ((5, 6, 7), {}, 4, (3, 7, None)),  # what comes next
        ((5, 6, 7), {}, 6, (3, 7, None)),  # read again in part: the shard skips what it has
        ((5, 6, 7), {}, 9, (3, 9, None)),  # read again as a whole
        ((5, 6, 7), {}, 3, (0, 3, 4)),  # 4 is missing
        ((5, 8), {8: 5}, 4, (2, 8, None)),  # 6 and 7 are no records: the fetcher says so
        ((5, 8), {8: 6}, 4, (1, 5, 6)),  # 6 is a record, and is missing
        ((8, 9), {8: 3}, 4, (2, 9, None)),
        ((8, 9), {8: 6}, 4, (0, 4, 5)),
    ],
)
def test_records_are_believed_up_to_the_first_that_does_not_follow(offsets, jumps, seen, expected):
    assert _chained(chunk(*offsets, jumps=jumps), seen) == expected


def test_a_chunk_keeps_its_jumps_when_it_is_split():
    first, second = chunk(1, 5, 9, jumps={5: 1, 9: 5}).split(2)
    assert [record.offset for record in first.records] == [1, 5]
    assert [record.offset for record in second.records] == [9]
    assert _chained(second, 5) == (1, 9, None)


def test_a_feed_is_busy_until_the_last_part_is_applied():
    async def run() -> None:
        applied: list[list[int]] = []
        feed, _ = feeding(applied, 0.0, 4, work_s=0.02)
        assert not feed.busy
        feed.put(chunk(0, 1))
        feed.put(chunk(2, 3, 4, 5))
        while len(applied) < 2:
            assert feed.busy
            await asyncio.sleep(0.005)
        await until(lambda: not feed.busy)

    asyncio.run(run())
