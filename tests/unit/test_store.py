"""A shard's store: bounded in memory, a prefix of what was written after a kill or a full disk."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from schemas.errors import ShardError
from streams.kafka.store import Store, StoreOptions
from tests.chaos.small_disk import fill, small_disk


def batch(number: int) -> dict[bytes, bytes | None]:
    return {b"%06d-%d" % (number, key): bytes(1000) for key in range(10)}


def fill_store(store: Store, taken: list[int]) -> None:
    """Write batches until the disk refuses; notes those that were taken."""
    while True:
        store.write(batch(len(taken)))
        taken.append(len(taken))


def whole(n: int) -> dict[bytes, bytes | None]:
    """What the first n batches leave."""
    return {key: value for number in range(n) for key, value in batch(number).items()}


def held_in(path: Path) -> dict[bytes, bytes]:
    store = Store(path, StoreOptions(1))
    try:
        return dict(store.scan(b""))
    finally:
        store.close()


def test_a_full_disk_is_told_and_what_it_had_room_for_is_there_later(tmp_path: Path):
    with small_disk(tmp_path / "disk", 24) as disk:
        path = disk / "users" / "0"
        store = Store(path, StoreOptions(1))
        taken: list[int] = []
        for _ in range(700):  # more than a file's worth
            store.write(batch(len(taken)))
            taken.append(len(taken))
        store.flush()
        fill(disk, 512)
        with pytest.raises(ShardError, match=r"refuses to write: .*No space left.*Free space"):
            fill_store(store, taken)
        with pytest.raises(ShardError, match=r"refuses to write: .*Free space"):
            store.flush()
        store.close()
        (disk / "filler").unlink()
        held = held_in(path)
    n = len(held) // 10
    assert 700 <= n < len(taken)
    assert held == whole(n)


def test_a_write_waits_for_files_that_are_being_written_and_not_for_a_disk_that_failed(
    tmp_path: Path, monkeypatch
):
    store = Store(tmp_path / "0", StoreOptions(1))
    real, stalls = store._written, [False, False]
    monkeypatch.setattr(store, "_written", lambda it: stalls.pop() if stalls else real(it))
    store.write({b"a": b"1"})
    assert (store.get(b"a"), stalls) == (b"1", [])
    stalls.append(False)
    monkeypatch.setattr(Store, "_failures", 1)
    with pytest.raises(ShardError, match=r"refuses to write: 1 files could not be .* its LOG"):
        store.write({b"a": b"2"})
    assert store.get(b"a") == b"1"
    store.close()


def test_more_is_written_at_once_than_memory_has_room_for(tmp_path: Path):
    store = Store(tmp_path / "0", StoreOptions(1))
    for number in range(4_000):  # 40 MB: some of it has to wait
        store.write(batch(number))
    held = dict(store.scan(b""))
    store.close()
    assert held == whole(4_000)


def written_and_killed(path: Path, *, flushed: bool) -> None:
    store = Store(path, StoreOptions(1))
    for number in range(1_000):
        store.write(batch(number))
    if flushed:
        store.flush()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("flushed", [False, True])
def test_a_killed_process_leaves_the_first_of_its_batches_in_their_order(
    tmp_path: Path, flushed: bool
):
    process = multiprocessing.get_context("spawn").Process(
        target=written_and_killed, args=(tmp_path / "0",), kwargs={"flushed": flushed}
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    held = held_in(tmp_path / "0")
    n = len(held) // 10
    assert held == whole(n)
    assert n == 1_000 if flushed else 0 < n < 1_000


def test_a_batch_is_whole_or_not_there_and_none_deletes(tmp_path: Path):
    store = Store(tmp_path / "0", StoreOptions(1))
    store.write({b"a": b"1", b"b": b"2"})
    store.write({b"a": None, b"c": b""})
    assert list(store.scan(b"")) == [(b"b", b"2"), (b"c", b"")]
    store.wipe()
    assert list(store.scan(b"")) == []
    store.close()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells memory on Linux alone")
def test_the_memory_of_stores_is_bounded_whatever_they_hold(tmp_path: Path):
    options = StoreOptions(16)
    stores = [Store(tmp_path / str(number), options) for number in range(8)]
    before = resident_mb()
    for number in range(100):
        for store in stores:
            store.write({b"%02d%04d" % (number, key): os.urandom(5000) for key in range(25)})
    for store in stores:
        assert sum(1 for _ in store.scan(b"")) == 2500
    grown = resident_mb() - before
    for store in stores:
        store.close()
    assert grown < 50, "100 MB are held, 16 of cache may be used for them"
