"""`make chaos`: processes that end, freeze, come, go and lose their disk, at full length."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.driver import Fault, run
from tests.kafka.harness import deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(2400)]

SESSION_S = 10  # the default: the harness of the other tests is quicker to give up
TEN_MINUTES: Mapping[str, float] = {"rate": 1000, "users": 5000, "waves": 10, "window_s": 20}

FAULTS: dict[str, tuple[Fault, Mapping[str, float]]] = {
    "kill -9 of one of two workers every 20 to 40 s for 10 min": (
        lambda deployed, _: faults.kills(deployed, 600, (20, 40)),
        TEN_MINUTES,
    ),
    "20 rolling SIGTERM restarts": (
        lambda deployed, _: faults.rolling_restarts(deployed, 20, 20),
        TEN_MINUTES,
    ),
    "frozen for two session timeouts under a backlog of 50,000, three times": (
        lambda deployed, feeder: faults.freeze(
            deployed, feeder, SESSION_S, 50_000, times=3, least_fenced=1
        ),
        {"waves": 6, "window_s": 12},
    ),
    "workers 1, 2, 3, 1, ten times": (
        lambda deployed, _: faults.come_and_go(deployed, 10, 4),
        {**TEN_MINUTES, "workers": 1},
    ),
    "disk of a worker lost under load": (
        lambda deployed, _: faults.lost_disk(deployed),
        {"waves": 4, "window_s": 5},
    ),
    "10 % garbage": (
        lambda deployed, _: faults.nothing(deployed, 60),
        {"rate": 1000, "waves": 6, "window_s": 8, "garbage": 0.1},
    ),
    "kill -9 of one of two workers every 5 to 10 s under 10 % garbage": (
        lambda deployed, _: faults.kills(deployed, 120, (5, 10)),
        {"rate": 1000, "waves": 4, "window_s": 20, "garbage": 0.1},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_doubled_under(name, kafka, namespace, tmp_path: Path):
    fault, options = FAULTS[name]
    settings = {"GROUNDSWELL_SESSION_TIMEOUT_S": str(SESSION_S)}
    with deployment(kafka, namespace, tmp_path, settings=settings) as deployed:
        row = run(deployed, name, fault, **options)
    row.keep()
