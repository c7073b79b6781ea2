"""`make chaos`: what a worker must put aside, refuse, or end at, with an error that tells why."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.topics import CAMPAIGNS, REWARDS, USER_EVENTS
from tests.chaos import refusals
from tests.chaos.report import Row
from tests.kafka.harness import EVENTS, Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(300)]

FAULTS: dict[str, Callable[[Deployment], Row]] = {
    "oversized": refusals.oversized,
    "refused changelog": refusals.refused_changelog,
    "source starts beyond": lambda d: refusals.log_starts_beyond(d, EVENTS),
    "user-events starts beyond": lambda d: refusals.log_starts_beyond(d, USER_EVENTS.name),
    "user-events made again": lambda d: refusals.made_again(d, USER_EVENTS.name),
    "source made again": lambda d: refusals.made_again(d, EVENTS),
    "rewards has more partitions": lambda d: refusals.other_partition_count(
        d, REWARDS.name, 6, r"rewards has 6 partitions, but must have 4: set GROUNDSWELL_USER_PART"
    ),
    "campaigns has more partitions": lambda d: refusals.other_partition_count(
        d, CAMPAIGNS.name, 3, r"campaigns has 3 partitions, but must have 2: set GROUNDSWELL_CAMP"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_worker_says_what_is_wrong_and_commits_nothing_wrong(
    name, kafka, namespace, tmp_path: Path
):
    with deployment(kafka, namespace, tmp_path) as deployed:
        row = FAULTS[name](deployed)
    row.keep()
