"""`make chaos` in short: kills, a stop, a freeze and a lost disk under load, all in one run."""

from pathlib import Path

import pytest

from tests.chaos import faults, refusals
from tests.chaos.driver import Harm, run
from tests.chaos.feeder import Feeder
from tests.kafka.harness import EVENTS, Deployment, deployment

pytestmark = pytest.mark.timeout(900)  # of a busy machine; two minutes on a quiet one


def damage(deployed: Deployment, feeder: Feeder) -> Harm:
    harms = [
        faults.rolling_restarts(deployed, 2, 1),
        faults.freeze(deployed, feeder, 6.0, 5000),
        faults.kills(deployed, 8, (3, 6)),
        faults.lost_disk(deployed),
    ]
    figures = [figure for harm in harms for figure in harm.figures]
    return Harm(sum(harm.injected for harm in harms), figures)


def test_kills_stops_a_freeze_and_a_lost_disk_under_load_lose_and_double_nothing(
    kafka, namespace, tmp_path: Path
):
    with deployment(kafka, namespace, tmp_path) as deployed:
        row = run(
            deployed,
            "all together",
            damage,
            users=1000,
            rate=200,
            garbage=0.05,
            waves=4,
            window_s=5,
        )
    assert row.injected >= 6
    assert row.events > 5000
    row.check()


def test_a_changelog_record_that_the_broker_refuses_ends_the_worker_at_once(
    kafka, namespace, tmp_path: Path
):
    with deployment(kafka, namespace, tmp_path) as deployed:
        row = refusals.refused_changelog(deployed)
    assert row.events > 500
    row.check()


def test_a_log_that_starts_beyond_what_a_shard_contains_is_refused(
    kafka, namespace, tmp_path: Path
):
    with deployment(kafka, namespace, tmp_path) as deployed:
        row = refusals.log_starts_beyond(deployed, EVENTS)
    row.check()
