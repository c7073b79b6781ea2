"""A shard's local state: RocksDB as a cache of the changelog.

It keeps no log of its own: what a killed process had not yet written to files is read again from
the changelog. That is a prefix of all batches, in their order, so where the changelog is to be
read from is found beside the state that belongs to it.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from schemas.errors import ShardError

__all__ = ["Store", "StoreOptions"]

log = structlog.get_logger()

# What was written lately is written again soon: only what has come to rest is worth compressing.
# A wave's decision took 7 % less CPU than with all levels compressed.
YOUNG_LEVELS, LEVELS = 2, 7
BUFFER = 4 * 1024 * 1024  # of what is not in files yet, of each store
# RocksDB lets a write wait for files under way, and for ever where the disk is full by then: it is
# told not to, and what comes of that is seen here.
STALLED = "Write stall"
STALL_S = 0.002
MOST_FILES = 36  # that wait to be merged; writes are not slowed down before, but stopped there


class StoreOptions:
    """What all stores of a worker share: one cache bounds their memory together.

    What has not been written to files yet is charged to the cache, and has at most half of it: a
    worker's memory does not grow with the number of its shards.
    """

    def __init__(self, cache_mb: int) -> None:
        self._cache_mb = cache_mb
        self._cache = Cache(cache_mb * 1024 * 1024)
        self._unwritten = WriteBufferManager.new_write_buffer_manager_with_cache(
            cache_mb * 1024 * 1024 // 2, False, self._cache
        )

    @property
    def left_mb(self) -> int:
        """Memory that the stores may still take."""
        used: int = self._cache.get_usage()
        return max(self._cache_mb - used // (1024 * 1024), 0)

    def make(self) -> Options:
        """Options of one store."""
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(64)
        options.set_write_buffer_size(BUFFER)
        options.set_max_write_buffer_number(2)
        options.set_level_zero_slowdown_writes_trigger(MOST_FILES)
        options.set_level_zero_stop_writes_trigger(MOST_FILES)
        options.set_write_buffer_manager(self._unwritten)
        options.set_keep_log_file_num(2)
        options.set_max_background_jobs(2)
        options.set_compression_per_level(
            [DBCompressionType.none()] * YOUNG_LEVELS
            + [DBCompressionType.lz4()] * (LEVELS - YOUNG_LEVELS)
        )
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10.0, False)
        table.set_cache_index_and_filter_blocks(True)
        options.set_block_based_table_factory(table)
        return options


class Store:
    """Bytes by key, in key order; writes come in batches that are whole or not at all."""

    def __init__(self, path: Path, options: StoreOptions) -> None:
        self._path = path
        self._options = options
        self._db = self._open()

    def _open(self) -> Rdict:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            db = Rdict(str(self._path), self._options.make(), access_type=AccessType.read_write())
        except Exception as error:
            raise ShardError(
                f"the store in {self._path} does not open: {error}. If another process holds it, "
                "stop that one; if the disk is full, free some; if it is damaged, delete it: the "
                "changelog restores it"
            ) from error
        db.set_write_options(_how_to_write())
        return db

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        value: bytes | None = self._db.get(key)
        return value

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Apply changes as one; None deletes. They are in files some megabytes later.

        Raises
        ------
        ShardError
            If the disk refused what came before, for instance because it is full. Nothing may be
            written behind that: this batch is not in the store, and the next one may be.
        """
        with self._told():
            while not self._written(changes):
                if self._failures:
                    raise OSError(f"{self._failures} files could not be written: {self._room()}")
                time.sleep(STALL_S)

    def _written(self, changes: Mapping[bytes, bytes | None]) -> bool:
        """Write unless that would have to wait: for files that are still being written."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        try:
            self._db.write(batch)
        except Exception as error:
            if STALLED in str(error):
                return False
            raise
        return True

    @property
    def _failures(self) -> int:
        return self._db.property_int_value("rocksdb.background-errors") or 0

    def _room(self) -> str:
        free = shutil.disk_usage(self._path).free
        return "No space left on device" if free < BUFFER else "see its LOG"

    def flush(self) -> None:
        """Write all that was applied to files.

        Raises
        ------
        ShardError
            If the disk refuses.
        """
        with self._told():
            self._db.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ShardError(
                f"the store in {self._path} refuses to write: {error}. Free space on its disk and "
                "start again: the changelog has what is missing"
            ) from error

    def scan(self, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs whose key starts with a prefix, in key order, behind a key."""
        end = _next_prefix(prefix)
        read = ReadOptions()
        read.fill_cache(False)  # read once: profiles are what comes again
        if end is not None:
            read.set_iterate_upper_bound(end)
        for key, value in self._db.items(from_key=after or prefix, read_opt=read):
            if not key.startswith(prefix):
                return
            if key != after:
                yield key, value

    def wipe(self) -> None:
        """Forget everything."""
        self.close()
        shutil.rmtree(self._path)
        self._db = self._open()

    def close(self) -> None:
        """Close the files; what a full disk did not take stands in the changelog."""
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001 - rocksdict raises nothing more special
            log.warning("store_not_flushed", path=str(self._path), why=str(error))


def _how_to_write() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True
    options.no_slowdown = True
    return options


def _next_prefix(prefix: bytes) -> bytes | None:
    """The least key that is greater than all that start with the prefix."""
    for end in range(len(prefix), 0, -1):
        if prefix[end - 1] < 0xFF:
            return prefix[: end - 1] + bytes([prefix[end - 1] + 1])
    return None
