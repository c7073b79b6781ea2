"""`make chaos`: a worker with a stable name comes back before the group has missed it."""

import json
import time
from collections import defaultdict
from pathlib import Path

import pytest

from schemas.topics import SHARD_CHANGELOG
from tests.chaos.driver import Harm, run
from tests.chaos.feeder import Feeder
from tests.chaos.report import at_most, seen
from tests.kafka.harness import Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(900)]

SESSION_S = 60
TIMES = 3


def users_of(deployed: Deployment, worker: int) -> set[int]:
    """The user shards that a worker opened last."""
    lines = deployed.log(worker).read_text().splitlines()
    opened = [json.loads(line) for line in lines if '"event": "shards_opened"' in line]
    return {
        int(shard.removeprefix("users/"))
        for shard in opened[-1]["shards"]
        if shard.startswith("users/")
    }


def longest_pause_s(deployed: Deployment, shards: set[int], since: float, until: float) -> float:
    """The longest time without a commit of any of these shards, by the records' timestamps."""
    times: dict[int, list[float]] = defaultdict(list)
    for message in deployed.read(SHARD_CHANGELOG):
        at = message.timestamp()[1] / 1000
        if message.partition() in shards and since <= at <= until:
            times[message.partition()].append(at)
    assert times.keys() == shards, "the others have committed nothing"
    return max(
        later - earlier
        for at in times.values()
        for earlier, later in zip([since, *sorted(at)], [*sorted(at), until], strict=True)
    )


def hand_overs(deployed: Deployment) -> int:
    """How often worker 1 has opened or closed shards."""
    return deployed.count(1, "shards_closed") + deployed.count(1, "shards_opened")


def comes_back(deployed: Deployment, *, kill: bool) -> Harm:
    """End worker 0 and start it again, some times; look at what the other one commits.

    A killed worker leaves transactions open. What its ingest had written into the others' inputs,
    and all that stands behind it, is not read before they are aborted: when the worker is back, or
    at `transaction_timeout_s`. So their pause is then as long as its absence, whoever is a member.
    """
    time.sleep(5)
    others = users_of(deployed, 1)
    before = hand_overs(deployed)  # whoever joined first has given some away
    pauses, away = [], []
    usual = longest_pause_s(deployed, others, time.time() - 4, time.time() - 0.5)
    for _ in range(TIMES):
        opened = deployed.count(0, "shards_opened")
        began = time.time()
        if kill:
            deployed.kill(0)
        else:
            assert deployed.terminate(0) == 0
        deployed.start(0)
        deployed.wait_open(0, times=opened + 1)
        away.append(time.time() - began)
        time.sleep(5)
        pauses.append(longest_pause_s(deployed, others, began, time.time() - 0.5))
    moved = hand_overs(deployed) - before
    pause = "longest pause of the others"
    return Harm(
        TIMES,
        [
            seen(pause, max(pauses), "s") if kill else at_most(pause, max(pauses), "s", 1),
            at_most("shards of the others that moved", moved, "", 0),
            seen("longest pause of the others before", usual, "s"),
            at_most("longest absence", max(away), "s", SESSION_S),
        ],
    )


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_the_others_do_not_pause_when_a_worker_comes_back_within_its_session(
    how, kafka, namespace, tmp_path: Path
):
    settings = {"GROUNDSWELL_SESSION_TIMEOUT_S": str(SESSION_S)}

    def fault(deployed: Deployment, _feeder: Feeder) -> Harm:
        return comes_back(deployed, kill=how == "killed")

    with deployment(kafka, namespace, tmp_path, static=True, settings=settings) as deployed:
        name = f"a worker, {how}, comes back within its session timeout (static membership)"
        row = run(deployed, name, fault, waves=4, window_s=8)
    row.keep()
