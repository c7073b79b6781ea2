"""`make chaos`: a shard's state after a lost disk, and after a long absence."""

import shutil
import time
from pathlib import Path

import msgspec
import pytest

from schemas.ids import NO_SEND, POLICY
from schemas.topics import SHARD_CHANGELOG
from tests.chaos.driver import Harm, run
from tests.chaos.feeder import Feeder
from tests.chaos.report import Row, at_least, at_most, seen
from tests.chaos.stores import (
    Copy,
    Last,
    change_position,
    copy_stores,
    differences,
    newest,
    read_stores,
    wrong,
)
from tests.kafka.harness import Deployment, Sender, campaign, deployment, wait_until
from tests.kafka.topic_settings import set_topic

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(900)]

DAY_MS = SHARD_CHANGELOG.delete_retention_ms


def test_a_wiped_disk_is_rebuilt_equal_to_a_copy_that_was_taken_before(
    kafka, namespace, tmp_path: Path
):
    copies: dict[int, Copy] = {}

    def wipe(deployed: Deployment, _feeder: Feeder) -> Harm:
        time.sleep(5)
        opened = deployed.count(0, "shards_opened")
        assert deployed.terminate(0) == 0  # which writes all that the store holds to its files
        deployed.start(0)
        deployed.wait_open(0, times=opened + 1)
        time.sleep(5)
        deployed.kill(0)
        copies.update(copy_stores(deployed, 0, "copy"))
        shutil.rmtree(deployed.directory / "worker-0")
        deployed.start(0)
        return Harm(1)

    with deployment(kafka, namespace, tmp_path) as deployed:
        row = run(deployed, "disk of a worker wiped after a kill", wipe, waves=4, window_s=5)
        rebuilt = _held_at_the_end(deployed)
        records = newest(deployed)
    assert copies
    both = [number for number in copies if number in rebuilt]
    differ = sum(differences(copies[n], rebuilt[n].state, records[n]) for n in both)
    astray = sum(wrong(held.state, records[n]) for n, held in rebuilt.items())
    row.figures += [
        at_least("shards of the copy that were rebuilt", len(both), "", len(copies)),
        at_least("keys in the copy", sum(len(copies[n].state) for n in both), "keys", 500),
        at_most("keys that differ from the copy", differ, "keys", 0),
        at_most("keys that differ from the changelog", astray, "keys", 0),
    ]
    row.keep()


def _held_at_the_end(deployed: Deployment) -> dict[int, Copy]:
    """What worker 0's stores hold when it alone is left, with everything applied and closed."""
    opened = deployed.count(0, "shards_opened")
    assert deployed.terminate(1) == 0
    deployed.wait_open(0, times=opened + 1)
    time.sleep(3)
    assert deployed.terminate(0) == 0
    return read_stores(deployed.directory / "worker-0")


def test_what_was_deleted_while_a_worker_was_away_for_long_does_not_come_back(
    kafka, namespace, tmp_path: Path
):
    """The worker's absence is made long by moving the time in its store's own note of it."""
    people = [f"user-{number}" for number in range(600)]
    with deployment(kafka, namespace, tmp_path) as deployed:
        deployed.start(0)
        deployed.wait_open(0)
        deployed.import_people(people)
        deployed.wait_profiles(len(people), 60)
        with Sender(deployed) as sender:
            # Beyond the horizon timers are deleted, and the ledgers of those who got nothing.
            deployed.apply(
                campaign(
                    waves=1,
                    no_send=True,
                    attribution_window_ms=20_000,
                    correction_horizon_ms=90_000,
                )
            )
            wait_until(lambda: len(deployed.decisions()) == len(people), 60, "all are decided")
            assert deployed.terminate(0) == 0
            away = copy_stores(deployed, 0, "copy")
            deployed.start(1)
            deployed.wait_open(1)
            wait_until(lambda: deployed.reports()[0].status == "closed", 120, "the wave closes")
            wait_until(lambda: not _timers(deployed), 180, "the decisions are forgotten")
            snapshot = deployed.settled_snapshot(sender)
        assert deployed.terminate(1) == 0
        gone = _compact_tombstones_away(deployed, away)
        for number in away:
            change_position(
                deployed.directory / "worker-0",
                number,
                lambda position: msgspec.structs.replace(
                    position, written_at_s=position.written_at_s - 0.51 * DAY_MS / 1000
                ),
            )
        opened = deployed.count(0, "shards_opened")
        deployed.start(0)
        deployed.wait_open(0, times=opened + 1)
        time.sleep(5)
        again = deployed.snapshot()
        assert deployed.terminate(0) == 0
        held = read_stores(deployed.directory / "worker-0")
        records = newest(deployed)
        wiped = deployed.count(0, "store_wiped")
        decisions = deployed.decisions()
        quiet = sum(one.action == NO_SEND and one.reason == POLICY for one in decisions)
    row = Row(
        fault="a worker away for longer than tombstones are kept",
        injected=1,
        events=len(people),
        decisions=len(decisions),
        rewards=sender.total("click") + sender.total("purchase"),
    )
    row.compare("decisions", len(people), len(decisions))
    row.compare("examples learned", snapshot.examples, again.examples)
    for kind in ("click", "purchase"):
        row.compare(f"{kind}s learned", sender.total(kind), again.feedback.get(kind, 0))
    back = sum(
        key in held[n].state and _is_gone(key, records[n]) for n in away for key in away[n].state
    )
    row.figures = [
        at_least("deleted keys without a tombstone", gone, "keys", max(quiet, 50)),
        at_most("keys that came back", back, "keys", 0),
        at_most(
            "keys that differ from the changelog",
            sum(wrong(copy.state, records[n]) for n, copy in held.items()),
            "keys",
            0,
        ),
        seen("stores wiped", wiped, "stores"),
    ]
    row.keep()


def _timers(deployed: Deployment) -> bool:
    return any(key.startswith(b"t") for _, key in deployed.state())


def _is_gone(key: bytes, records: dict[bytes, Last]) -> bool:
    """Whether a key was deleted, and nothing tells so any more."""
    return key not in records


def _compact_tombstones_away(deployed: Deployment, away: dict[int, Copy]) -> int:
    """Let the broker compact until no tombstone is left of what the absent worker still holds."""
    name = deployed.prefix + SHARD_CHANGELOG.name
    aside = {"delete_retention_ms": 0, "segment_ms": 500, "min_cleanable_dirty_ratio": 0.0001}
    set_topic(deployed.admin, name, **aside, max_compaction_lag_ms=500, min_compaction_lag_ms=0)
    producer = deployed.producer()

    def gone() -> int:
        for number in range(deployed.users):  # a segment is compacted once another one is begun
            producer.produce(name, partition=number, key=b"!roll", value=b"")
        producer.flush()
        records = newest(deployed)
        held = [(n, key) for n in away for key in away[n].state]
        deleted = [(n, k) for n, k in held if k not in records[n] or records[n][k].value is None]
        left = [(n, key) for n, key in deleted if key in records[n]]
        return 0 if left else len(deleted)

    deadline = time.monotonic() + 240
    while not (number := gone()):
        assert time.monotonic() < deadline, "the broker keeps tombstones"
        time.sleep(3)
    set_topic(deployed.admin, name, delete_retention_ms=DAY_MS, segment_ms=7 * DAY_MS)
    return number
