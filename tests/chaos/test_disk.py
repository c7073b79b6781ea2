"""`make chaos`: the disk under a worker's stores is full, and has space again later."""

import time
from pathlib import Path

import pytest

from tests.bench.figures import Figure
from tests.chaos.driver import Harm, run
from tests.chaos.refusals import EXIT_STATE, Ended, wait_end
from tests.chaos.report import at_least, at_most, seen
from tests.chaos.small_disk import fill, small_disk
from tests.chaos.stores import astray, copy_stores, newest
from tests.kafka.harness import Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(600)]

SIZE_MB = 64
ROOM_KB = 512  # what is left when the disk is filled
CLEAR = "No space left on device"
STORE_MB = 4  # of which half waits to be written to files: soon full under this load


def ended(what: str, how: Ended) -> list[Figure]:
    """It ends by itself, with a code and an error that tell."""
    return [
        at_most(f"{what}: exit code other than {EXIT_STATE}", abs(how.code - EXIT_STATE), "", 0),
        at_least(f"{what}: clear errors", how.said.count(CLEAR), "", 1),
        seen(f"{what}: ended after", how.seconds, "s"),
    ]


def damage(deployed: Deployment, disk: Path) -> Harm:
    """Fill the disk, start the worker again while it is full, then make room."""
    time.sleep(5)
    fill(disk, ROOM_KB)
    when_full = wait_end(deployed, 0, 120)
    copies = copy_stores(deployed, 0, "copy")
    records = newest(deployed)
    fill(disk, ROOM_KB)
    deployed.start(0)
    started_full = wait_end(deployed, 0, 120)
    deployed.assert_alive()
    (disk / "filler").unlink()
    opened = deployed.count(0, "shards_opened")
    deployed.start(0)
    deployed.wait_open(0, times=opened + 1)
    wrong = sum(astray(copy, records[number]) for number, copy in copies.items())
    return Harm(
        2,
        [
            *ended("full", when_full),
            *ended("started full", started_full),
            at_most("keys in the stores that are not in the changelog", wrong, "", 0),
        ],
    )


def test_a_full_disk_ends_a_worker_and_nothing_is_lost(kafka, namespace, tmp_path: Path):
    with (
        small_disk(tmp_path / "worker-0", SIZE_MB) as disk,
        deployment(
            kafka, namespace, tmp_path, settings={"GROUNDSWELL_STORE_CACHE_MB": str(STORE_MB)}
        ) as deployed,
    ):
        row = run(
            deployed,
            "disk full in the store's directory",
            lambda deployed, _: damage(deployed, disk),
            waves=6,
            window_s=5,
        )
    row.keep()
