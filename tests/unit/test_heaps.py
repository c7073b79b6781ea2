"""Threads of a worker share a heap, which is as large from the start as its stores will need."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps as glibc has them")

# Each thread holds memory of its own; a heap of glibc lies at a multiple of 64 MiB.
COUNT_HEAPS = """
import ctypes, sys, threading
from streams.kafka.heaps import share_one_heap
if sys.argv[1] == "one":
    share_one_heap(8)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
done, all_hold = threading.Event(), threading.Barrier(17)
def hold():
    libc.malloc(50_000)
    all_hold.wait()
    done.wait()
threads = [threading.Thread(target=hold) for _ in range(16)]
for thread in threads:
    thread.start()
all_hold.wait()
starts = [int(line.split("-")[0], 16) for line in open("/proc/self/maps")]
done.set()
print(sum(start % (64 << 20) == 0 for start in starts))
"""
WATCH_MEMORY = """
import ctypes
from streams.kafka.heaps import share_one_heap, take_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
share_one_heap(64)
sizes = [resident()]
take_memory(32)
sizes.append(resident())
for _ in range(24 << 8):
    ctypes.memset(libc.malloc(4_000), 0, 4_000)
sizes.append(resident())
print(*sizes)
"""


def printed(*arguments: str) -> list[int]:
    command = [sys.executable, "-c", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_threads_share_a_heap():
    (one,) = printed(COUNT_HEAPS, "one")
    (many,) = printed(COUNT_HEAPS, "as many as glibc likes")
    assert one <= 1
    assert many > 4


def test_what_stores_will_need_is_taken_at_the_start():
    before, taken, used = printed(WATCH_MEMORY)
    assert taken - before > 30 << 20
    assert used - taken < 2 << 20
