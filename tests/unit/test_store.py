"""A shard's store: bounded in memory, whole after a full disk."""

import os
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


def test_a_full_disk_is_told_and_what_was_taken_is_there_when_it_has_room_again(tmp_path: Path):
    with small_disk(tmp_path / "disk", 24) as disk:
        store = Store(disk / "users" / "0", StoreOptions(1))
        store.write(batch(999_999))
        fill(disk, 512)
        taken: list[int] = []
        with pytest.raises(ShardError, match=r"refuses to write: .*No space left.*Free space"):
            fill_store(store, taken)
        assert taken
        store.close()
        (disk / "filler").unlink()
        again = Store(disk / "users" / "0", StoreOptions(1))
        held = dict(again.scan(b""))
        again.close()
    whole = {key: value for number in [*taken, 999_999] for key, value in batch(number).items()}
    assert held == whole


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
