"""`make chaos`: a restore that lasts longer than a member's session."""

import json
import secrets
import time
from pathlib import Path

import pytest

from schemas.topics import SHARD_CHANGELOG
from tests.chaos.changelog import Changelog
from tests.chaos.feeder import TICK, Feeder
from tests.chaos.report import Row, at_least, at_most, seen
from tests.kafka.harness import Deployment, deployment, wait_until

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(900)]

SESSION_S = 6  # the least that a broker grants
RECORDS = 3_000_000
USERS = 1000
LOST = "member_id was not recognized"


def write_changelog(deployed: Deployment) -> None:
    """State that nobody asks for; each key once, or compaction would make it short."""
    rest = secrets.token_bytes(200)
    name = deployed.prefix + SHARD_CHANGELOG.name
    producer = deployed.producer(**{"linger.ms": 20, "queue.buffering.max.messages": 200_000})
    for number in range(RECORDS):
        while True:
            try:
                producer.produce(name, rest, b"x%09d" % number, partition=number % deployed.users)
            except BufferError:
                producer.poll(0.1)
            else:
                break
    assert producer.flush(60) == 0


def test_a_worker_that_restores_for_longer_than_its_session_stays_a_member(
    kafka, namespace, tmp_path: Path
):
    row = Row(fault="a restore longer than the session timeout", injected=1)
    settings = {"GROUNDSWELL_SESSION_TIMEOUT_S": str(SESSION_S)}
    with deployment(kafka, namespace, tmp_path, settings=settings) as deployed:
        write_changelog(deployed)
        started = time.monotonic()
        deployed.start(0)
        deployed.wait_open(0, timeout_s=400)
        ready = time.monotonic() - started
        feeder = Feeder(deployed, [f"user-{number}" for number in range(USERS)], 300)
        feeder.start()
        time.sleep(10)
        feeder.stop()
        changelog = Changelog(deployed)
        wait_until(lambda: _applied(changelog) >= feeder.total, 120, "all events are applied")
        ticks = {user: p.event_count(TICK) for user, p in changelog.profiles().items()}
        changelog.close()
        deployed.assert_alive()
        log = deployed.log(0).read_text()
    opened = [line for line in log.splitlines() if '"event": "shards_opened"' in line]
    row.events = feeder.total
    row.compare_each("events of", dict(feeder.truth), {u: n for u, n in ticks.items() if n})
    row.figures = [
        at_least("restore of all shards", json.loads(opened[0])["seconds"], "s", SESSION_S),
        at_most("times that the group gave it up", log.count(LOST), "", 0),
        at_most("times that its shards were opened again", len(opened) - 1, "", 0),
        seen("from start to open", ready, "s"),
    ]
    row.keep()


def _applied(changelog: Changelog) -> int:
    return sum(profile.event_count(TICK) for profile in changelog.profiles().values())
