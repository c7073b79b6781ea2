"""A shard on a real Kafka: what it contains survives kills, lost disks and other owners."""

import shutil
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from schemas.errors import FencedError, ShardError
from schemas.topics import SHARD_CHANGELOG, USER_EVENTS
from streams.kafka.changelog import POSITION, Position
from streams.kafka.log_ends import check_log
from streams.kafka.shard import Shard, ShardKind
from streams.kafka.store import Store, StoreOptions
from streams.kafka.transaction import Incoming, Transaction
from tests.kafka.harness import wait_until
from tests.kafka.shard_bench import Bench


@pytest.fixture
def bench(kafka, namespace, tmp_path: Path):
    return Bench(kafka, namespace, tmp_path)


def records(topic: str, first: int, keys: str) -> list[Incoming]:
    return [Incoming(topic, 0, first + rank, 0, key.encode(), b"") for rank, key in enumerate(keys)]


def count(tx: Transaction, batch: Sequence[Incoming]) -> None:
    for record in batch:
        assert record.key is not None
        if record.key == b"x":
            tx.delete(b"k" + b"a")
            continue
        key = b"k" + record.key
        tx.put(key, struct.pack(">q", struct.unpack(">q", tx.get(key) or bytes(8))[0] + 1))


def counts(shard: Shard) -> dict[str, int]:
    return {
        key[1:].decode(): struct.unpack(">q", value)[0] for key, value in shard._store.scan(b"k")
    }


def test_records_are_applied_once_however_often_they_come(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "aab"), count)
    shard.apply(bench.input, records(bench.input, 1, "ab"), count)
    shard.apply(bench.input, records(bench.input, 2, "bc"), count)
    assert counts(shard) == {"a": 2, "b": 1, "c": 1}
    assert shard.applied(bench.input) == 3


def test_work_that_no_input_asks_for_stops_at_what_was_done(bench):
    shard = bench.open()
    left = [2]

    def idle(_tx: Transaction) -> bool:
        return False

    def busy(tx: Transaction) -> bool:
        left[0] -= 1
        tx.put(b"k" + b"a", struct.pack(">q", left[0]))
        return left[0] > 0

    steps = [idle, busy, idle]
    assert shard.work_on(steps, 0) == (2, True)
    assert counts(shard) == {"a": 1}
    assert shard.work_on(steps, 2) == (3, False)
    assert shard.work_on(steps, 0) == (2, False)
    assert counts(shard) == {"a": 0}
    assert shard.work_on([idle, idle], 0) == (2, False)


def test_a_lost_disk_is_rebuilt_from_the_changelog_deletions_included(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "aabbx"), count)
    shard.apply(bench.input, records(bench.input, 5, "c"), count)
    shard.close()
    before = {k: v for k, v in shard_items(bench.open("a")) if not k.startswith(b"!")}
    other = bench.open("elsewhere")
    assert {k: v for k, v in shard_items(other) if not k.startswith(b"!")} == before
    assert counts(other) == {"b": 2, "c": 1}
    assert other.applied(bench.input) == 5


def shard_items(shard: Shard) -> list[tuple[bytes, bytes]]:
    return list(shard._store.scan(b""))


def test_a_store_that_missed_the_last_commit_catches_up(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "ab"), count)
    shard.close()
    shutil.copytree(bench.directory / "a", bench.directory / "old")
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 2, "ax"), count)
    shard.close()
    late = bench.open("old")
    assert counts(late) == {"b": 1}
    assert late.applied(bench.input) == 3


def test_a_new_owner_fences_the_old_one_and_nothing_of_it_stands(bench):
    old = bench.open("old")
    old.apply(bench.input, records(bench.input, 0, "a"), count)
    new = bench.open("new")
    new.apply(bench.input, records(bench.input, 1, "b"), count)
    with pytest.raises(FencedError, match="another owner"):
        old.apply(bench.input, records(bench.input, 1, "bbbb"), count)
    new.apply(bench.input, records(bench.input, 2, "c"), count)
    assert counts(bench.open("third")) == {"a": 1, "b": 1, "c": 1}


def change_position(shard: Shard, **changes: object) -> None:
    raw = shard._store.get(POSITION)
    assert raw is not None
    position = msgspec.structs.replace(msgspec.msgpack.decode(raw, type=Position), **changes)
    shard._store.write({POSITION: msgspec.msgpack.encode(position), b"kz": bytes(8)})
    shard.close()


@pytest.mark.parametrize(
    "doubt",
    [
        {"next_offset": 10_000},  # ahead of the changelog
        {"written_at_s": time.time() - 86_400 * 0.51},  # a tombstone may be gone
        {"changelog_id": "another"},  # made again
    ],
)
def test_a_store_in_doubt_is_wiped_and_rebuilt(bench, doubt):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "ab"), count)
    change_position(shard, **doubt)
    assert counts(bench.open()) == {"a": 1, "b": 1}  # and no z


def test_a_store_beyond_doubt_is_kept(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "ab"), count)
    change_position(shard)
    assert counts(bench.open()) == {"a": 1, "b": 1, "z": 0}


def write_changelog(bench, at_s: float) -> None:
    producer = bench.producer()
    for number in range(12_000):
        key = b"k%05d" % number
        producer.produce(bench.changelog, bytes(8), key, timestamp=int(at_s * 1000))
    producer.flush()


def cut_short(bench, monkeypatch) -> Position:
    """Where a restore stood that a kill ended."""
    write = Store.write

    def killed_later(store: Store, changes: dict[bytes, bytes | None]) -> None:
        write(store, changes)
        raw = changes[POSITION]
        assert raw is not None
        position = msgspec.msgpack.decode(raw, type=Position)
        if position.next_offset > 1000:
            raise InterruptedError(position)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", killed_later)
        with pytest.raises(InterruptedError) as left:
            bench.open()
    found = left.value.args[0]
    assert isinstance(found, Position)
    assert found.next_offset < 12_000
    return found


@pytest.mark.parametrize("written_s_ago", [100_000.0, -1800.0])
def test_a_restore_that_was_cut_short_is_as_old_as_its_beginning_however_often(
    bench, monkeypatch, written_s_ago
):
    began_s = time.time()
    write_changelog(bench, began_s - written_s_ago)
    first = cut_short(bench, monkeypatch)
    assert began_s <= first.written_at_s <= time.time()
    if written_s_ago > 0:
        time.sleep(0.2)
        again = cut_short(bench, monkeypatch)
        assert again.next_offset > first.next_offset  # it goes on
        assert again.written_at_s == first.written_at_s


def test_a_store_that_a_kill_left_in_the_middle_of_a_restore_is_not_as_new_as_that(
    bench, monkeypatch
):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "a"), count)
    hours_ago_s = time.time() - 36_000
    change_position(shard, written_at_s=hours_ago_s)
    write_changelog(bench, hours_ago_s + 60)
    assert cut_short(bench, monkeypatch).written_at_s == pytest.approx(hours_ago_s + 60, abs=0.01)


def test_what_was_applied_is_in_files_some_minutes_later(bench, monkeypatch):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "ab"), count)

    def left_by_a_kill(name: str) -> set[bytes]:
        shutil.copytree(bench.directory / "a", bench.directory / name)
        store = Store(bench.directory / name / "users" / "0", StoreOptions(8))
        keys = {key for key, _ in store.scan(b"k")}
        store.close()
        return keys

    shard.remember_read()
    assert left_by_a_kill("at once") == set()  # all of it stands in the changelog
    monkeypatch.setattr("streams.kafka.shard.FLUSH_S", 0.0)
    shard.remember_read()
    assert left_by_a_kill("later") == {b"ka", b"kb"}


def test_an_input_topic_that_was_made_again_is_refused(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "a"), count)
    shard.close()
    bench.kafka.admin.delete_topics([bench.input])[bench.input].result()
    wait_until(lambda: not bench.ids([bench.input]), 10, "the topic is gone")
    bench.make(USER_EVENTS.name, {})
    with pytest.raises(ShardError, match="was deleted and made again"):
        bench.open()


def test_a_log_that_starts_beyond_what_the_shard_contains_is_refused(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "abc"), count)
    check_log(shard, bench.input, 0, 3)
    check_log(shard, bench.input, 3, 9)
    with pytest.raises(ShardError, match=r"starts at 7: up to 4 records are missing"):
        check_log(shard, bench.input, 7, 9)
    with pytest.raises(ShardError, match=r"up to offset 2, but its log ends at 2"):
        check_log(shard, bench.input, 0, 2)


def test_the_ends_of_transactions_are_not_taken_for_missing_records(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "abc"), count)
    shard.read_to[bench.input] = 4  # behind the last record stands a marker
    shard.remember_read()
    shard.close()
    again = bench.open()
    check_log(again, bench.input, 4, 4)  # retention has emptied the log
    with pytest.raises(ShardError, match="up to 1 records are missing"):
        check_log(again, bench.input, 5, 5)


def test_an_inputs_time_does_not_go_back(bench):
    shard = bench.open()

    def seen_at(at_ms: int):
        return lambda tx, batch: tx.saw(bench.input, at_ms, 10_000)

    shard.apply(bench.input, records(bench.input, 0, "a"), seen_at(5000))
    shard.apply(bench.input, records(bench.input, 1, "b"), seen_at(3000))
    assert shard.meta.times == {bench.input: 5000}


def test_a_handler_that_fails_changes_nothing(bench):
    shard = bench.open()
    shard.apply(bench.input, records(bench.input, 0, "a"), count)

    def fail(tx: Transaction, batch: Sequence[Incoming]) -> None:
        tx.put(b"ka", bytes(8))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shard.apply(bench.input, records(bench.input, 1, "b"), fail)
    assert counts(shard) == {"a": 1}
    shard.apply(bench.input, records(bench.input, 1, "b"), count)
    assert counts(shard) == {"a": 1, "b": 1}


def test_state_beyond_the_changelogs_limit_is_not_produced(bench):
    shard = bench.open()

    def grow(tx: Transaction, batch: Sequence[Incoming]) -> None:
        tx.put(b"ka", bytes(SHARD_CHANGELOG.max_bytes))

    with pytest.raises(ShardError, match="exceeds its limit of 8388608: nothing was committed"):
        shard.apply(bench.input, records(bench.input, 0, "a"), grow)
    shard.close()
    assert counts(bench.open()) == {}


def test_event_time_is_the_least_over_the_inputs_and_the_wall_clock_only_of_an_ended_one(bench):
    two = ShardKind(
        name="two", inputs=("in", "also"), timed=("in", "also"), changelog=SHARD_CHANGELOG
    )
    bench.kind = two
    shard = bench.open("two")
    assert shard.now_ms == 0
    shard.meta.times.update({"in": 5000})
    assert shard.now_ms == 0  # nothing is known of the other input
    shard.idle_ms["also"] = 9000
    assert shard.now_ms == 5000
    shard.idle_ms["in"] = 8000
    assert shard.now_ms == 8000
