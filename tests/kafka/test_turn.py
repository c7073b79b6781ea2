"""Shards of one worker take turns at what needs Python's lock, and at nothing else."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams.kafka.shard import FEW, Shard
from streams.kafka.transaction import Incoming
from streams.kafka.turn import Turn
from tests.kafka.shard_bench import Bench


@pytest.fixture
def two(kafka, namespace, tmp_path):
    """Two shards that share their turns."""
    turn = Turn()
    benches = [Bench(kafka, f"{namespace}{name}-", tmp_path / name, turn) for name in "ab"]
    shards = [bench.open() for bench in benches]
    yield shards
    for shard in shards:
        shard.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as made:
        yield made


def apply(shard: Shard, handler, count: int = FEW + 1) -> bool:
    topic = shard.kind.inputs[0]
    first = shard.applied(topic) + 1
    batch = [Incoming(topic, 0, first + rank, 0, b"user", b"") for rank in range(count)]
    return shard.apply(topic, batch, handler)


def put(tx, batch) -> None:
    for record in batch:
        tx.put(b"key%d" % record.offset, b"value")


def test_of_two_shards_one_at_a_time_works(two, pool):
    inside, most = [], []

    def slow(tx, batch) -> None:
        inside.append(tx.number)
        time.sleep(0.2)
        most.append(len(inside))
        inside.pop()
        put(tx, batch)

    applied = [pool.submit(apply, shard, slow) for shard in two]
    assert all(one.result(20) for one in applied)
    worked = [pool.submit(shard.work_on, [step(slow)], 0) for shard in two]
    assert all(one.result(20) for one in worked)
    assert most == [1, 1, 1, 1]


def step(handler):
    def work(tx) -> bool:
        handler(tx, [])
        return False

    return work


def test_who_waits_for_the_broker_keeps_nobody_waiting(two, pool, monkeypatch):
    first, second = two
    waits, answer = threading.Event(), threading.Event()
    end = first._producer._end

    def slow_broker() -> None:
        waits.set()
        assert answer.wait(20)
        end()

    monkeypatch.setattr(first._producer, "_end", slow_broker)
    applied = pool.submit(apply, first, put)
    assert waits.wait(20)
    assert apply(second, put)
    assert not applied.done()
    answer.set()
    assert applied.result(20)


def test_who_waits_for_room_keeps_nobody_waiting(two, pool, monkeypatch):
    first, second = two
    room = threading.Event()
    full = first._producer._producer

    class Full:
        """A producer whose queue is full until there is room."""

        def __getattr__(self, name: str) -> object:
            return getattr(full, name)

        def produce(self, *message: object) -> None:
            if not room.is_set():
                raise BufferError
            full.produce(*message)

    monkeypatch.setattr(first._producer, "_producer", Full())
    applied = pool.submit(apply, first, put)
    assert apply(second, put)
    assert not applied.done()
    room.set()
    assert applied.result(20)
    assert first._store.get(b"key%d" % FEW) == second._store.get(b"key%d" % FEW) == b"value"


def test_a_few_records_wait_for_nobody(two, pool):
    inside, go_on = threading.Event(), threading.Event()

    def slow(tx, batch) -> None:
        inside.set()
        assert go_on.wait(20)
        put(tx, batch)

    applied = pool.submit(apply, two[0], slow)
    assert inside.wait(20)
    assert apply(two[1], put, FEW // 2)
    assert not applied.done()
    go_on.set()
    assert applied.result(20)


def test_a_turn_that_ends_in_an_error_is_passed_on(two):
    def wrong(tx, batch) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        apply(two[0], wrong)
    with pytest.raises(RuntimeError), two[0]._turn, two[0]._turn.aside():
        raise RuntimeError
    assert apply(two[1], put)
