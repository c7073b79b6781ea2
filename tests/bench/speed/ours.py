"""The worker as a user runs it, as a contestant."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from schemas.campaign import Campaign
from schemas.hashing import partition_of
from schemas.topics import SEND_DECISIONS, SHARD_CHANGELOG, USER_EVENTS
from schemas.wire import Codec
from streams.kafka.shard import META, Meta
from tests.bench.speed.events import user_events
from tests.bench.speed.stage import Course, Stage
from tests.kafka.harness import wait_until

CHUNK = 500  # the setting's default

__all__ = ["applied", "commit_delays_ms", "decide_wave", "fold_events", "processes", "ready"]


def ready(stage: Stage, workers: int) -> None:
    """Start workers, and wait until each has opened its shards and follows what it must."""
    for worker in range(workers):
        stage.at.start(worker)
        stage.at.wait_open(worker, timeout_s=300)
    for worker in range(workers):
        wait_until(
            lambda worker=worker: stage.at.count(worker, "worker_ready") > 0, 300, "worker is ready"
        )


def applied(last: list[list[Any]], topic: str) -> int:
    """Records of an input that the shards contain, by the last records of their changelog."""
    return sum(_newest(messages).applied.get(topic, -1) + 1 for messages in last)


def _newest(messages: list[Any]) -> Meta:
    for message in reversed(messages):
        if message.key() == META:
            return msgspec.msgpack.decode(message.value(), type=Meta)
    return Meta()


def fold_events(
    stage: Stage,
    records: Sequence[tuple[str, bytes]],
    workers: int = 1,
    watch: Callable[[Mapping[str, int]], None] = lambda _: None,
) -> Course:
    """User events folded into profiles by so many workers; `watch` is given their processes."""
    at = stage.at
    source = at.prefix + USER_EVENTS.name
    ready(stage, workers)
    with stage.filled(USER_EVENTS.name, records) as begin:
        watch(processes(stage))
        course = stage.run(
            begin,
            at.prefix + SHARD_CHANGELOG.name,
            lambda last: applied(last, source) >= len(records),
            processes(stage),
        )
    at.assert_alive()
    return course


def processes(stage: Stage) -> Mapping[str, int]:
    """The workers' processes by name."""
    return {f"worker {number}": p.pid for number, p in stage.at.workers.items()}


def decide_wave(stage: Stage, campaign: Campaign, count: int) -> tuple[float, Course]:
    """Decide a wave for everybody; gives decisions a second, once the first chunk was there."""
    at = stage.at
    name = at.prefix + SEND_DECISIONS.name
    course = stage.run(
        lambda: at.apply(campaign),
        name,
        lambda _: stage.count(name) >= count,
        processes(stage),
    )
    at.assert_alive()
    times_ms = sorted(message.timestamp()[1] for message in at.read(SEND_DECISIONS))
    assert len(times_ms) == count
    first = CHUNK  # of the first transaction, of which it is not known when it was begun
    return (count - first) / (times_ms[-1] - times_ms[first - 1]) * 1000, course


def commit_delays_ms(stage: Stage, per_s: int, seconds: float) -> list[float]:
    """Events at an even pace; gives by event the time from its write to its shard's commit.

    The record with a shard's offsets is the last of its transaction: by its time an event that
    it contains was on its way to be committed.
    """
    at = stage.at
    ready(stage, 1)
    codec, producer = Codec(), at.producer(**{"linger.ms": 0})
    written: dict[int, list[float]] = {number: [] for number in range(at.users)}
    began = time.time()
    for rank, event in enumerate(user_events(int(per_s * seconds), 1000)):
        time.sleep(max(0.0, began + rank / per_s - time.time()))
        partition = partition_of(event.user_id, at.users)
        written[partition].append(time.time() * 1000)
        producer.produce(
            at.prefix + USER_EVENTS.name,
            codec.encode("", event),
            event.user_id,
            partition=partition,
        )
        producer.poll(0)
    producer.flush()
    source = at.prefix + USER_EVENTS.name
    total = sum(map(len, written.values()))
    deadline = time.monotonic() + 60
    while True:
        changes = at.read(SHARD_CHANGELOG)
        delays: list[float] = []
        done = dict.fromkeys(written, 0)
        for message in changes:
            if message.key() != META:
                continue
            meta = msgspec.msgpack.decode(message.value(), type=Meta)
            number, until = message.partition(), meta.applied.get(source, -1) + 1
            committed_ms = message.timestamp()[1]
            delays += [committed_ms - at_ms for at_ms in written[number][done[number] : until]]
            done[number] = max(done[number], until)
        if len(delays) == total:
            return delays
        assert time.monotonic() < deadline
        time.sleep(0.5)
