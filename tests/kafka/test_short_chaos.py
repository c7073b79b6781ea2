"""`make chaos` in short: kills, a freeze and a lost disk under load, all in one run."""

from pathlib import Path

from tests.chaos import faults
from tests.chaos.driver import Feeder, run
from tests.kafka.harness import Deployment, deployment


def damage(deployed: Deployment, feeder: Feeder) -> int:
    injected = faults.kills(deployed, 2, (3, 6))
    deployed.wait_open(0, times=2)
    injected += faults.freeze(deployed, feeder, 6.0, 5000)
    injected += faults.lost_disk(deployed)
    return injected


def test_kills_a_freeze_and_a_lost_disk_under_load_lose_and_double_nothing(
    kafka, namespace, tmp_path: Path
):
    with deployment(kafka, namespace, tmp_path) as deployed:
        verdict = run(deployed, "all together", damage, users=1000, rate=200, waves=4)
    assert verdict.injected == 4
    assert verdict.events > 5000
    assert (verdict.lost, verdict.doubled) == (0, 0), verdict.notes[:10]
