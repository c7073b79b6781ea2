"""How a worker's C libraries get their memory."""

import ctypes
from contextlib import suppress

__all__ = ["share_one_heap", "take_memory"]

# malloc.h of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
CHUNK = 64 * 1024  # what is larger than MAPPED has pages of its own, and gives them back
MAPPED = 128 * 1024
MB = 1024 * 1024


def share_one_heap(kept_mb: int) -> None:
    """Let all threads share one heap, where malloc is glibc's; elsewhere it does nothing.

    glibc gives nearly each thread a heap of its own, and what was freed in one is of no use to the
    others: of a worker's 450 MB after a quarter of an hour, 200 stood in such heaps. To be called
    before there are threads.

    Parameters
    ----------
    kept_mb
        So much that is free is not given back to the system.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED)
        libc.mallopt(M_TRIM_THRESHOLD, kept_mb * MB)


def take_memory(mb: int) -> None:
    """Take so much for the heap now, so that what a worker will need is seen when it starts.

    RocksDB's cache fills over hours.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        taken = [libc.malloc(CHUNK) for _ in range(mb * MB // CHUNK)]
        for place in filter(None, taken):
            ctypes.memset(place, 0, CHUNK)
        for place in taken:
            libc.free(place)
