"""`make chaos`: a shard is rebuilt from a changelog of a million records."""

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from structlog.testing import capture_logs

from streams.kafka.shard import Shard
from tests.chaos.report import Row, at_least, at_most, seen
from tests.kafka.harness import wait_until
from tests.kafka.shard_bench import Bench
from tests.kafka.topic_settings import set_topic

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(600)]

RECORDS = 1_000_000
BYTES = 200  # of a small profile
LEAST_PER_S = 50_000


@pytest.fixture
def bench(kafka, namespace, tmp_path: Path) -> Bench:
    return Bench(kafka, namespace, tmp_path)


def write_changelog(bench: Bench, records: int, keys: int) -> None:
    """Write so many records; the last of each key holds its number."""
    producer = bench.producer()
    rest = secrets.token_bytes(BYTES)
    for number in range(records):
        key = b"p%09d" % (number % keys)
        while True:
            try:
                producer.produce(bench.changelog, rest + b"%d" % number, key, partition=0)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def opened(bench: Bench, directory: str) -> tuple[Shard, float]:
    """A shard that has been opened, and how long that took, in seconds."""
    started = time.monotonic()
    shard = bench.open(directory)
    return shard, time.monotonic() - started


def right(shard: Shard, records: int, keys: int) -> int:
    """Keys that hold what was written last."""
    held = dict(shard._store.scan(b"p"))
    assert len(held) == keys
    newest = {number % keys: number for number in range(records - keys, records)}
    return sum(held[b"p%09d" % key].endswith(b"%d" % number) for key, number in newest.items())


def tells(lines: Sequence[Mapping[str, Any]]) -> int:
    """Lines of progress: the rate, and fewer records left in each."""
    progress = [line for line in lines if line["event"] == "shard_restore"]
    left = [line["left"] for line in progress]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    return sum(line["per_s"] > 0 for line in progress)


def test_a_million_records_are_restored_at_fifty_thousand_a_second(bench):
    row = Row(fault="restore of a changelog of 1,000,000 records", injected=1, events=RECORDS)
    write_changelog(bench, RECORDS, RECORDS)
    with capture_logs() as lines:
        shard, took = opened(bench, "empty disk")
    row.compare("keys", RECORDS, right(shard, RECORDS, RECORDS))
    shard.close()
    again, took_again = opened(bench, "empty disk")
    again.close()
    row.figures = [
        at_least("restored", RECORDS / took, "records/s", LEAST_PER_S),
        at_most("opened again with its disk", took_again, "s", 5),
        at_least("lines that tell rate and remaining", tells(lines), "", took // 3),
    ]
    row.keep()


def test_a_changelog_that_was_compacted_is_restored_as_fast(bench):
    row = Row(fault="restore after compaction", injected=1, events=RECORDS)
    keys = RECORDS // 4
    set_topic(
        bench.kafka.admin,
        bench.changelog,
        segment_ms=1000,
        min_cleanable_dirty_ratio=0.01,
        max_compaction_lag_ms=1000,
    )
    write_changelog(bench, RECORDS, keys)
    wait_until(lambda: _left(bench) < RECORDS // 2, 180, "the changelog is compacted")
    left = _left(bench)
    shard, took = opened(bench, "empty disk")
    row.compare("keys", keys, right(shard, RECORDS, keys))
    shard.close()
    row.figures = [
        seen("records left by compaction", left, "records"),
        at_least("restored", left / took, "records/s", LEAST_PER_S),
    ]
    row.keep()


def _left(bench: Bench) -> int:
    """Records that compaction has left, after a segment that it may compact has begun."""
    producer = bench.producer()
    producer.produce(bench.changelog, b"", b"!roll", partition=0)
    producer.flush(10)
    time.sleep(5)
    return bench.count(bench.changelog)


def test_an_empty_changelog_is_no_reason_to_wait(bench):
    row = Row(fault="restore of an empty changelog", injected=2)
    shard, new = opened(bench, "new")
    shard.close()
    write_changelog(bench, 1000, 1000)
    end = bench.end(bench.changelog)
    set_topic(bench.kafka.admin, bench.changelog, cleanup_policy="delete")
    where = TopicPartition(bench.changelog, 0, end)
    for deleted in bench.kafka.admin.delete_records([where]).values():
        deleted.result(10)
    shard, emptied = opened(bench, "emptied")
    row.compare("keys", 0, len(dict(shard._store.scan(b"p"))))
    shard.close()
    row.figures = [
        at_most("opened on a new changelog", new, "s", 5),
        at_most("opened on one that was emptied", emptied, "s", 5),
    ]
    row.keep()
