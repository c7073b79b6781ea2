"""Triggered sends on a real Kafka: each event once, learned in periods, through kills."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.hashing import decision_id
from schemas.records import UserEvent
from schemas.topics import DEAD_LETTERS, LEARNING_EXAMPLES, POLICY_SNAPSHOTS, WAVE_REPORTS
from streams.core.ledger import Ledger
from streams.core.policies import from_bytes
from streams.core.profiles import event_key
from tests.kafka.harness import EVENTS, Deployment, Sender, campaign, deployment, wait_until

USERS = [f"user-{number:05d}" for number in range(600)]
TRIGGERED = campaign(
    waves=1,
    trigger_event="cart-abandoned",
    learn_every_ms=3000,
    trigger_every_ms=3_600_000,
    learn_at="decision",
)


@pytest.fixture
def loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as made:
        yield made


def abandon(loop: Deployment, users: list[str], number: int = 0) -> list[UserEvent]:
    """Each user abandons a cart; told twice, as buses do."""
    now_ms = int(time.time() * 1000)
    events = [
        UserEvent(
            user_id=user,
            type="cart-abandoned",
            occurred_at_ms=now_ms,
            event_id=f"cart-{user}-{number}",
        )
        for user in users
    ]
    producer = loop.producer()
    for event in [*events, *events]:
        value = loop.codec.encode("", event)
        producer.produce(loop.prefix + EVENTS, key=event.user_id, value=value)
    producer.flush()
    return events


def import_everybody(loop: Deployment) -> None:
    loop.import_people(USERS)
    loop.wait_profiles(len(USERS), 40)


def test_events_are_answered_once_and_learned_from_while_a_worker_is_killed(loop):
    for worker in range(2):
        loop.start(worker)
    for worker in range(2):
        loop.wait_open(worker)
    import_everybody(loop)
    with Sender(loop) as sender:
        loop.apply(TRIGGERED)
        wait_until(lambda: bool(loop.reports()), 30, "the first wave has begun")
        events = abandon(loop, USERS[:200])
        wait_until(lambda: len(loop.decisions()) >= 200, 30, "the first are decided")
        wait_until(lambda: len(loop.reports()) > 1, 30, "the second wave has begun")
        loop.kill(1)
        events += abandon(loop, USERS[200:400])
        loop.start(1)
        abandon(loop, USERS[:200], number=1)  # they rest
        events += abandon(loop, USERS[400:])
        wait_until(lambda: len(loop.decisions()) >= len(USERS), 60, "all are decided")
        wait_until(lambda: learned(loop, sender), 90, "all outcomes are learned")
        loop.apply(replace(TRIGGERED, status="stopped", version=2))
        wait_until(
            lambda: all(r.ended_at_ms and not r.open for r in loop.reports().values()),
            60,
            "the waves have ended",
        )
    decisions = loop.decisions()
    assert Counter(d.user_id for d in decisions) == Counter(USERS)
    of_user = {event.user_id: event_key(event) for event in events}
    for decision in decisions:
        user = decision.user_id
        assert decision.decision_id == decision_id("spring", decision.wave, user, of_user[user])
    for wave in {decision.wave for decision in decisions}:
        assert len({d.policy_version for d in decisions if d.wave == wave}) == 1
    assert len({d.policy_version for d in decisions}) > 1
    reports = loop.reports().values()
    assert sum(report.decided for report in reports) == len(USERS)
    assert sum(t.decisions for report in reports for t in report.tallies) == len(USERS)
    assert loop.read(DEAD_LETTERS) == []


def test_a_triggered_send_does_not_wait_for_the_commit_interval(kafka, namespace, tmp_path: Path):
    settings = {"GROUNDSWELL_COMMIT_INTERVAL_S": "8"}
    with deployment(kafka, namespace, tmp_path, settings=settings, source_partitions=1) as loop:
        loop.start(0)
        loop.wait_open(0)
        import_everybody(loop)
        loop.apply(TRIGGERED)
        wait_until(lambda: len(loop.reports()) == 1, 30, "the first wave has begun")
        abandon(loop, USERS[:50])
        wait_until(lambda: len(loop.decisions()) >= 50, 30, "all is warm")
        waited = []
        for number in range(50, 53):
            # Others come first: they wait for the interval, and what is urgent takes them along.
            loop.import_people(USERS[100:300])
            time.sleep(0.3)
            asked_at = time.monotonic()
            abandon(loop, USERS[number : number + 1])
            wait_until(lambda n=number: len(loop.decisions()) > n, 30, "the answer")
            waited.append(time.monotonic() - asked_at)
    assert min(waited) < 4, waited  # twice the interval, for its own topic and for ours, is 16 s


def test_a_campaign_with_no_send_fatigue_and_clipped_rewards_begins_with_what_another_learned(loop):
    loop.start(0)
    loop.wait_open(0)
    import_everybody(loop)
    choosing = campaign(
        campaign_id="summer",
        no_send=True,
        fatigue_size=0.5,
        clip_rewards=0.9,
        warm_start_campaign="spring",
        warm_start_discount=0.5,
        holdout=0.0,
        baseline_action=None,
        baseline_share=0.0,
    )
    loop.apply(choosing)  # it waits for the other's policy, which has no-send too
    with Sender(loop):
        loop.apply(replace(choosing, campaign_id="spring", warm_start_campaign=None))
        wait_until(
            lambda: closed_waves(loop) == {(n, w) for n in ("spring", "summer") for w in (0, 1)},
            90,
            "both campaigns have run",
        )
    decisions = loop.decisions()
    assert Counter((d.campaign_id, d.user_id) for d in decisions) == Counter(
        (name, user) for name in ("spring", "summer") for user in USERS
    )
    quiet = {d.decision_id for d in decisions if d.action == "no-send"}
    assert quiet
    assert all(d.reason == "policy" and d.propensity for d in decisions)
    outcomes = {e.decision_id: e for e in loop.records(LEARNING_EXAMPLES)}
    assert set(outcomes) == {d.decision_id for d in decisions}
    assert {outcomes[name].reward for name in quiet} == {0.0}
    assert loop.read(DEAD_LETTERS) == []
    last: dict[tuple[str, str], int] = {}
    for d in decisions:
        if d.action != "no-send":
            last[d.user_id, f"{d.campaign_id}/{d.action}"] = d.decided_at_ms
    kept = {
        (key[1:].decode(), name): ms
        for (_, key), raw in loop.state().items()
        if key.startswith(b"l")
        for name, ms in msgspec.msgpack.decode(raw, type=Ledger).sent_at.items()
    }
    assert kept == last
    first = next(
        from_bytes(s.state)
        for s in loop.records(POLICY_SNAPSHOTS)
        if s.campaign_id == "summer" and s.version == 0
    )
    assert first.n_learned == 0
    assert not np.array_equal(first.reward_model.learned()["moment"], 0)


def closed_waves(loop: Deployment) -> set[tuple[str, int]]:
    newest = {(r.campaign_id, r.wave): r.status for r in loop.records(WAVE_REPORTS)}
    return {wave for wave, status in newest.items() if status == "closed"}


def learned(loop: Deployment, sender: Sender) -> bool:
    """Whether the newest snapshot has every outcome and all feedback, none of it twice."""
    sends = sum(decision.action != "no-send" for decision in loop.decisions())
    told = loop.snapshot()
    assert told.examples <= sends
    feedback = {kind: sender.total(kind) for kind in ("click", "purchase")}
    assert all(told.feedback.get(kind, 0) <= feedback[kind] for kind in feedback)
    return told.examples == sends and told.feedback == feedback
