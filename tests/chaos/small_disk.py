"""A file system of a few megabytes, to be filled."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[Path]:
    """Mount a file system of its own on a new directory; skip where that is not permitted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command: a full disk cannot be made")
    if done.returncode:
        pytest.skip(f"a small disk may not be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, room_kb: int) -> None:
    """Write into a filler until so little space is left; delete `filler` to make room."""
    with (disk / "filler").open("ab") as file:
        while (left := _left_kb(disk)) > room_kb:
            file.write(bytes((left - room_kb) * 1024))
            file.flush()


def _left_kb(disk: Path) -> int:
    usage = subprocess.run(
        ["df", "--output=avail", str(disk)], capture_output=True, text=True, check=True
    )
    return int(usage.stdout.split()[1])
