"""The loop on a real Kafka: hand-overs, kills and growth lose nothing and double nothing."""

from collections import Counter
from pathlib import Path

import pytest

from schemas.hashing import partition_of
from schemas.learning import LearningExample
from schemas.topics import (
    CAMPAIGN_CHANGELOG,
    DEAD_LETTERS,
    LEARNING_EXAMPLES,
    SEND_DECISIONS,
)
from tests.kafka.harness import Deployment, Sender, campaign, deployment, wait_until

USERS = [f"user-{number:05d}" for number in range(2400)]


@pytest.fixture
def loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as made:
        yield made


def wait_for_waves(loop: Deployment, waves: int, timeout_s: float = 120) -> None:
    def closed() -> bool:
        loop.assert_alive()
        return sum(report.status == "closed" for report in loop.reports().values()) >= waves

    wait_until(closed, timeout_s, f"{waves} waves are closed")


def assert_exact(loop: Deployment, sender: Sender, users: list[str]) -> None:
    """Everybody has one decision; every piece of feedback is in the snapshot, once."""
    decisions = loop.decisions()
    per_user = Counter(decision.user_id for decision in decisions)
    assert set(per_user) == set(users)
    assert set(per_user.values()) == {1}
    for wave in {decision.wave for decision in decisions}:
        versions = {d.policy_version for d in decisions if d.wave == wave}
        assert len(versions) == 1, f"wave {wave} was decided by {versions}"
    sent = sum(decision.action != "no-send" for decision in decisions)
    snapshot = loop.settled_snapshot(sender)
    assert snapshot.examples == sent
    assert snapshot.feedback.get("click", 0) == sender.total("click")
    assert snapshot.feedback.get("purchase", 0) == sender.total("purchase")
    truth = sender.total("click") + 2.0 * sender.total("purchase")
    assert snapshot.reward_sum == pytest.approx(truth, abs=1e-6)
    outcomes: dict[str, float] = {}
    for example in loop.records(LEARNING_EXAMPLES):
        assert isinstance(example, LearningExample)
        assert (example.previous_reward is None) == (example.decision_id not in outcomes)
        outcomes[example.decision_id] = example.reward
    assert len(outcomes) == sent
    assert loop.read(DEAD_LETTERS) == []


def test_a_campaign_learns_in_waves_and_a_restart_continues_with_the_same_state(loop):
    loop.start(0)
    loop.wait_open(0)
    loop.import_people(USERS)
    loop.wait_profiles(len(USERS), 30)
    with Sender(loop) as sender:
        loop.apply(campaign())
        wait_for_waves(loop, 2)
    assert_exact(loop, sender, USERS)
    reports = loop.reports()
    assert [reports[wave].policy_version for wave in (0, 1)] == [0, 1]
    assert loop.snapshot().version >= 2

    before = {topic: loop.state(topic) for topic in (CAMPAIGN_CHANGELOG,)}
    people = loop.profiles()
    assert loop.terminate(0) == 0
    loop.start(0)
    loop.wait_open(0, times=2)
    assert {topic: loop.state(topic) for topic in (CAMPAIGN_CHANGELOG,)} == before
    assert loop.profiles() == people
    assert len(loop.decisions()) == len(USERS)


def test_three_workers_own_each_partition_number_of_all_user_topics_together(loop):
    for worker in range(3):
        loop.start(worker)
    for worker in range(3):
        loop.wait_open(worker)
    wait_until(lambda: len(members(loop)) == 3, 30, "three members are in the group")
    owners: dict[int, set[str]] = {}
    share: Counter[str] = Counter()
    user_topics = {loop.prefix + name for name in ("user-events", "rewards", "wave-starts")}
    for member, partitions in members(loop).items():
        numbers = {number for topic, number in partitions if topic in user_topics}
        share[member] = len(numbers)
        for number in numbers:
            assert user_topics <= {topic for topic, n in partitions if n == number}
            owners.setdefault(number, set()).add(member)
    assert {number: len(who) for number, who in owners.items()} == dict.fromkeys(range(4), 1)
    assert sorted(share.values()) == [1, 1, 2]


def members(loop: Deployment) -> dict[str, set[tuple[str, int]]]:
    group = loop.prefix + "groundswell"
    described = loop.admin.describe_consumer_groups([group])[group].result()
    return {
        member.member_id: {(tp.topic, tp.partition) for tp in member.assignment.topic_partitions}
        for member in described.members
        if member.assignment and member.assignment.topic_partitions
    }


def test_a_worker_killed_in_the_middle_of_a_wave_loses_and_doubles_nothing(
    kafka, namespace, tmp_path
):
    settings = {"GROUNDSWELL_CHUNK_SIZE": "4"}
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        for worker in range(3):
            loop.start(worker)
        for worker in range(3):
            loop.wait_open(worker)
        loop.import_people(USERS)
        loop.wait_profiles(len(USERS), 40)
        with Sender(loop) as sender:
            loop.apply(campaign())
            wait_until(lambda: len(loop.read(SEND_DECISIONS)) > 100, 30, "the wave has begun")
            loop.kill(1)
            decided = len(loop.read(SEND_DECISIONS))
            loop.start(1)
            wait_for_waves(loop, 2)
        assert decided < 1200, "the kill came after the wave: it shows nothing"
        assert_exact(loop, sender, USERS)
        committed = {d.decision_id: d.action for d in loop.decisions()}
        for decision in loop.records(SEND_DECISIONS, "read_uncommitted"):
            # Where the kill aborted a chunk, the chunk was decided again: with the same actions.
            assert committed[decision.decision_id] == decision.action


def test_workers_come_and_go_under_load_and_none_exits_that_was_not_asked_to(loop):
    loop.start(0)
    loop.wait_open(0)
    loop.import_people(USERS[:1200])
    loop.wait_profiles(1200, 30)
    with Sender(loop) as sender:
        loop.apply(campaign(waves=6, wave_deadline_ms=300_000, audience_users=USERS))
        for worker in (1, 2):
            loop.start(worker)
            loop.wait_open(worker)
            loop.import_people(USERS[600 * worker + 600 : 600 * worker + 1200])
        for worker in (2, 1):
            assert loop.terminate(worker) == 0
            assert loop.workers[0].poll() is None, loop.log(0).read_text()[-2000:]
        wait_for_waves(loop, 6, 180)
    assert all(process.poll() is None for process in loop.workers.values())
    assert_exact(loop, sender, USERS)
    loop.wait_profiles(len(USERS), 30)


def test_users_stand_in_the_shard_that_murmur2_says_whatever_wrote_them(loop):
    loop.start(0)
    loop.wait_open(0)
    loop.import_people(USERS[:300])  # by CRC32, into three partitions
    loop.wait_profiles(300, 30)
    assert all(number == partition_of(key[1:].decode(), 4) for number, key in loop.profiles())
