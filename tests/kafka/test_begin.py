"""What is soon done is begun ahead: its transaction is made known while it is worked out."""

import time

import pytest
from confluent_kafka import TopicPartition

from schemas.errors import FencedError
from streams.kafka.cluster import Cluster
from streams.kafka.producer import BACK_TO_BACK_S
from streams.kafka.read import groupless_reader, read_all
from streams.kafka.shard import FEW, MARKER, Shard
from streams.kafka.transaction import Incoming
from tests.kafka.shard_bench import Bench

SENT_S = 5.0  # what is begun is sent within milliseconds


@pytest.fixture
def bench(kafka, namespace, tmp_path):
    return Bench(kafka, namespace, tmp_path)


@pytest.fixture
def end(bench):
    """How far the changelog has come, open transactions included."""
    cluster = Cluster(bench.kafka.bootstrap)
    reader = groupless_reader(cluster, {"isolation.level": "read_uncommitted"})
    place = TopicPartition(bench.changelog, 0)
    yield lambda: reader.get_watermark_offsets(place, timeout=10)[1]
    reader.close()


def committed(bench: Bench) -> dict[bytes, bytes]:
    """What the changelog holds, by key."""
    records = read_all(Cluster(bench.kafka.bootstrap), bench.changelog)
    return {record.key: record.value for record in records}


def apply(shard: Shard, count: int, handler) -> bool:
    topic = shard.kind.inputs[0]
    first = shard.applied(topic) + 1
    batch = [Incoming(topic, 0, first + rank, 0, b"user", b"") for rank in range(count)]
    return shard.apply(topic, batch, handler)


def moved(end, before: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while end() == before and time.monotonic() < deadline:
        time.sleep(0.01)
    return end() != before


@pytest.mark.parametrize(
    ("count", "rest_s", "ahead"),
    [
        pytest.param(1, 0.1, True, id="one"),
        pytest.param(FEW, 0.1, True, id="few"),
        pytest.param(FEW + 1, 0.1, False, id="many"),
        pytest.param(1, 0.0, False, id="back to back"),
    ],
)
def test_a_transaction_on_few_records_begins_while_they_are_worked_on(
    bench, end, monkeypatch, count, rest_s, ahead
):
    seen = []

    def handler(tx, batch) -> None:
        seen.append(moved(end, before, SENT_S if ahead else 0.3))
        tx.put(b"key", b"value")

    shard = bench.open()
    if not rest_s:
        monkeypatch.setattr("streams.kafka.producer.BACK_TO_BACK_S", 60.0)
    time.sleep(max(rest_s, BACK_TO_BACK_S))
    before = end()
    assert apply(shard, count, handler)
    shard.close()
    assert seen == [ahead]
    assert committed(bench)[b"key"] == b"value"


def test_what_was_begun_for_a_handler_that_fails_ends_with_the_next(bench):
    def fails(tx, batch) -> None:
        tx.put(b"lost", b"value")
        raise ValueError("no")

    shard = bench.open()
    time.sleep(0.1)
    with pytest.raises(ValueError, match="no"):
        apply(shard, 1, fails)
    assert apply(shard, 1, lambda tx, batch: tx.put(b"kept", b"value"))
    shard.close()
    found = committed(bench)
    assert b"lost" not in found
    assert found[b"kept"] == b"value"
    assert found[MARKER] == b""  # what was begun


def test_an_owner_that_comes_while_it_is_worked_out_fences_what_was_begun(bench):
    old = bench.open()
    time.sleep(0.1)

    def overtaken(tx, batch) -> None:
        time.sleep(0.1)  # the broker knows of it
        tx.put(b"old", b"value")
        bench.open("other").close()

    with pytest.raises(FencedError, match="another owner"):
        apply(old, 1, overtaken)
    old.close()
    assert b"old" not in committed(bench)
