"""A campaign learned in parts on a real Kafka: the serial result, through a kill."""

from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Message

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.learning import LearningExample, LearningUpdate, PolicySnapshot
from schemas.topics import (
    LEARNING_EXAMPLES,
    LEARNING_UPDATES,
    POLICY_SNAPSHOTS,
    SEND_DECISIONS,
)
from schemas.wire import Codec
from streams.core.encoding import ContextEncoder, action_set
from streams.core.learning import fold_updates
from streams.core.policies import Examples, Policy, create, from_bytes
from streams.core.snapshots import SnapshotParts
from tests.kafka.harness import Deployment, Sender, campaign, deployment, wait_until
from tests.kafka.test_loop import assert_exact, wait_for_waves
from tests.unit.policies.test_action_parts import close as same_state

USERS = [f"user-{number:05d}" for number in range(6000)]
# An example counts half after some seconds: what is weighed wrongly shows.
FADING = {"half_life_days": 10.0 / 86_400, "draws": 64}
# As workers read it: numbers that are whole here are none there.
PARTED = Codec().decode(
    Codec().encode("", campaign(learning="parts", policy_params=FADING)), Campaign
)


def fresh() -> Policy:
    columns = ContextEncoder(PARTED.context).d_user
    actions = action_set(PARTED)
    return create(PARTED.policy, PARTED.policy_params, columns, actions.d_action)


def learned_one_by_one(log: list[LearningExample]) -> Policy:
    """The policy that the log makes, in its own order."""
    actions, policy = action_set(PARTED), fresh()
    rows = [actions.ids.index(example.action) for example in log]
    previous = [example.previous_reward for example in log]
    policy.learn_many(
        Examples(
            contexts=np.array([np.frombuffer(e.context, dtype="<f4") for e in log]),
            actions=tuple(example.action for example in log),
            action_features=actions.features[rows],
            rewards=np.array([example.reward for example in log]),
            previous=np.array([np.nan if r is None else r for r in previous]),
            at_ms=np.array([example.decided_at_ms for example in log]),
        )
    )
    return policy


@pytest.mark.timeout(300)
def test_parts_of_two_workers_leave_the_serial_policy_through_a_kill(
    kafka, namespace, tmp_path: Path
):
    settings = {"GROUNDSWELL_CHUNK_SIZE": "100", "GROUNDSWELL_SNAPSHOT_INTERVAL_S": "3"}
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        for worker in range(2):
            loop.start(worker)
        for worker in range(2):
            loop.wait_open(worker)
        loop.import_people(USERS)
        loop.wait_profiles(len(USERS))
        with Sender(loop) as sender:
            loop.apply(PARTED)
            wait_until(lambda: len(loop.read(SEND_DECISIONS)) > 1500, 60, "the wave runs")
            loop.kill(1)
            loop.start(1)
            wait_for_waves(loop, 2, 150)
        assert_exact(loop, sender, USERS)
        wait_until(
            lambda: not any(key[1][:1] in b"ors" for key in loop.state()), 60, "all sums are told"
        )
        log = loop.records(LEARNING_EXAMPLES)
        serial = learned_one_by_one(log)
        wait_until(
            lambda: loop.snapshot().reward_sum == pytest.approx(sum_of(log), abs=1e-9),
            60,
            "the corrections are learned",
        )
        snapshot = loop.snapshot()
        same_state(from_bytes(snapshot.state).state(), serial.state())

        # The offsets of a snapshot are those of the updates that it contains.
        (number,) = snapshot.offsets
        updates: list[LearningUpdate] = [
            loop.codec.decode(message.value(), LearningUpdate)
            for message in loop.read(LEARNING_UPDATES)
            if message.partition() == int(number) and message.offset() <= snapshot.offsets[number]
        ]
        assert any(update.sums for update in updates)
        assert not any(update.rewards for update in updates)
        again = fresh()
        assert fold_updates(again, updates, PARTED) == snapshot.examples == serial.n_learned
        same_state(again.state(), serial.state())


def sum_of(log: list[LearningExample]) -> float:
    return sum(example.reward - (example.previous_reward or 0.0) for example in log)


@pytest.mark.timeout(300)
def test_a_policy_that_exceeds_a_message_reaches_every_worker_whole(
    kafka, namespace, tmp_path: Path
):
    """Its parts are of one transaction; a wave is decided by all of them, after a restart too."""
    templates = [Template(id=f"t{rank}", channel="email", features={}) for rank in range(16)]
    wide = [
        ContextFeature(attribute="age", buckets=256),
        ContextFeature(attribute="b", buckets=255),
    ]
    given = {"policy": "disjoint-linear-thompson", "policy_params": {"draws": 16}}
    of = campaign(templates=templates, context=wide, baseline_action="t0", **given)
    with deployment(kafka, namespace, tmp_path) as loop:
        loop.start(0)
        loop.wait_open(0)
        loop.import_people(USERS[:1200])
        loop.wait_profiles(1200)
        with Sender(loop) as sender:
            loop.apply(of)
            wait_for_waves(loop, 1, 150)
            loop.kill(0)
            loop.start(
                0
            )  # its follower reads the parts from the topic, its shard from the changelog
            wait_for_waves(loop, 2, 150)
        parts = SnapshotParts()
        whole = [
            found
            for message in loop.read(POLICY_SNAPSHOTS)
            if message.value() is not None and b"/" not in message.key()
            for found in [parts.put(message.key().decode(), snapshot_of(loop, message))]
            if found is not None
        ]
        assert len(whole[-1].state) > 2 * POLICY_SNAPSHOTS.max_bytes
        sent = sum(decision.action != "no-send" for decision in loop.decisions())
        wait_until(lambda: sender.total("click") > 0, 1, "something was clicked")
        assert from_bytes(whole[-1].state).n_learned == whole[-1].examples == sent
        assert {decision.policy_version for decision in loop.decisions()} == {0, 1}


def snapshot_of(loop: Deployment, message: Message) -> PolicySnapshot:
    return loop.codec.decode(message.value(), PolicySnapshot)
