"""Threads of a worker share few heaps."""

import platform
import subprocess
import sys

import pytest

# Each thread holds memory of its own; a heap of glibc lies at a multiple of 64 MiB.
COUNT_HEAPS = """
import ctypes, sys, threading
from streams.kafka.heaps import keep_few_heaps
if sys.argv[1] == "few":
    keep_few_heaps()
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


def heaps(how: str) -> int:
    command = [sys.executable, "-c", COUNT_HEAPS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps as glibc has them")
def test_threads_share_few_heaps():
    assert heaps("few") <= 2
    assert heaps("as many as glibc likes") > 4
