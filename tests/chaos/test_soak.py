"""`make chaos`: a steady load for a quarter of an hour, then a burst."""

import statistics
import time
from pathlib import Path

import pytest

from tests.chaos.changelog import Changelog
from tests.chaos.driver import Harm, run
from tests.chaos.feeder import TICK, Feeder
from tests.chaos.report import at_most, seen
from tests.kafka.harness import Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(2400)]

RATE = 1500
STEADY_S = 900
BURST_S = 30
TIMES = 3
FIRST_S = 60  # memory is compared with what it was then


def resident_mb(deployed: Deployment) -> dict[int, float]:
    """The resident memory of each worker."""
    return {
        worker: int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 1e6
        for worker, process in deployed.workers.items()
    }


def soak(deployed: Deployment, feeder: Feeder) -> Harm:
    """Watch memory under the steady load; then the burst, and how long its lag lasts."""
    started = time.monotonic()
    samples: list[tuple[float, dict[int, float]]] = []
    changelog = Changelog(deployed)
    try:
        while (now := time.monotonic() - started) < STEADY_S:
            deployed.assert_alive()
            samples.append((now, resident_mb(deployed)))
            changelog.read()  # so that it need not be read in the burst
            time.sleep(5)
        gone_s = burst(changelog, feeder)
    finally:
        changelog.close()
    deployed.assert_alive()
    figures = [at_most("lag gone after the burst's end", gone_s, "s", 120)]
    for worker in deployed.workers:
        first = statistics.median(mb[worker] for at, mb in samples if FIRST_S <= at < FIRST_S + 30)
        last = statistics.median(mb[worker] for at, mb in samples if at > STEADY_S - 60)
        growth = 100 * (last - first) / first
        figures += [
            at_most(f"worker {worker}: resident memory grew by", growth, "%", 5),
            seen(f"worker {worker}: resident memory after a minute", first, "MB"),
        ]
    return Harm(1, figures)


def burst(changelog: Changelog, feeder: Feeder) -> float:
    """Send the burst beside the steady load; seconds from its end until there is no lag."""
    began = time.monotonic()
    more = (TIMES - 1) * RATE
    for second in range(BURST_S):
        feeder.burst(more)
        time.sleep(max(began + second + 1 - time.monotonic(), 0))
    ended = time.monotonic()
    assert ended - began < 1.1 * BURST_S, "the burst could not be sent in time"
    sent = feeder.total
    while _applied(changelog) < sent:
        assert time.monotonic() - ended < 300, "the lag does not go"
        time.sleep(1)
    return time.monotonic() - ended


def _applied(changelog: Changelog) -> int:
    return sum(profile.event_count(TICK) for profile in changelog.profiles().values())


def test_a_burst_is_worked_off_and_memory_does_not_grow(kafka, namespace, tmp_path: Path):
    settings = {"GROUNDSWELL_SESSION_TIMEOUT_S": "10"}  # the default
    with deployment(kafka, namespace, tmp_path, settings=settings) as deployed:
        name = "1,500 events/s for 15 min, then three times that for 30 s"
        row = run(deployed, name, soak, users=5000, rate=RATE, waves=10, window_s=60)
    row.keep()
