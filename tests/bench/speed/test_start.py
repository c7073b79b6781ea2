"""Start-up of a worker that has a million profiles on its disk."""

import os
import socket
import statistics
import time
import urllib.error
import urllib.request

import pytest

from tests.bench.figures import Figure
from tests.bench.speed import ours
from tests.bench.speed.stage import rss_mb
from tests.bench.speed.test_events import write

pytestmark = [pytest.mark.bench, pytest.mark.kafka, pytest.mark.timeout(3_600)]

PROFILES = int(os.environ.get("GROUNDSWELL_BENCH_PROFILES", "1000000"))
ROUNDS = 3
LONGEST_S, MOST_MB = 15.0, 1000.0


def test_a_worker_with_a_million_profiles_is_ready_soon_and_small(stages, events):
    port = free_port()
    with stages(commit_interval_s=0.2, health_port=port) as stage:
        ours.fold_events(stage, one_each(PROFILES, events))
        seconds, resident = [], []
        for _ in range(ROUNDS):
            assert stage.at.terminate(0) == 0
            began = time.monotonic()
            worker = stage.at.start(0)
            wait_ready(port)
            seconds.append(time.monotonic() - began)
            time.sleep(3.0)  # what is left to load is loaded
            resident.append(rss_mb(worker.pid))
    write(
        "speed-start",
        [
            Figure(
                name=f"{PROFILES:,} profiles: started to ready",
                value=statistics.median(seconds),
                unit=f"s, {min(seconds):.1f} to {max(seconds):.1f}",
                bar=f"<= {LONGEST_S:g}",
                holds=statistics.median(seconds) <= LONGEST_S,
            ),
            Figure(
                name=f"{PROFILES:,} profiles: resident memory",
                value=max(resident),
                unit="MB",
                bar=f"< {MOST_MB:g}",
                holds=max(resident) < MOST_MB,
            ),
        ],
    )


def one_each(count: int, events) -> list[tuple[str, bytes]]:
    """One event for each of so many users."""
    template = events(1, 1)[0][1]
    users = (f"user-{number:07d}" for number in range(count))
    return [(user, template.replace(b"user-0000000", user.encode())) for user in users]


def wait_ready(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the worker is not ready"
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
