"""Waves of a campaign with an encoder: decided under the release that they are pinned to."""

import dataclasses

import numpy as np
import pytest

from schemas.features import FeatureBatch
from schemas.topics import LEARNING_EXAMPLES, LEARNING_UPDATES, SEND_DECISIONS
from streams.agents.close import CloseDue
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.state import ledger_key
from streams.core.encoding import ContextEncoder, release_label
from streams.core.learning import examples_in
from streams.core.ledger import Ledger
from streams.releases.offered import Standing
from tests.unit.agents.shard import (
    NOON,
    FakeKnown,
    FakeReleases,
    MemoryShard,
    add_people,
    campaign,
    clock,
    frozen,
    sent,
    wave_start,
)

OLD, NEW = "people@1.0.0", "people@2.0.0"
SIZES = {OLD: 3, NEW: 5}
SPRING = campaign(encoder="people", holdout=0.0)
USERS = [f"user-{number}" for number in range(400)]


@pytest.fixture
def releases():
    releases = FakeReleases()
    releases.have(SIZES, live=OLD, shadow=NEW)
    return releases


@pytest.fixture
def shard():
    shard = MemoryShard()
    add_people(shard, [user for user in USERS if shard.holds(user)])
    return shard


def pinned(releases, label):
    encoder = ContextEncoder(SPRING.context, releases.loaded[label])
    start = wave_start(SPRING, encoder_version=encoder.version)
    return encoder, start, frozen(SPRING, encoder=encoder)


def test_contexts_end_with_z_and_entries_keep_what_another_release_needs(shard, releases):
    encoder, start, snapshot = pinned(releases, NEW)
    known = FakeKnown({"spring": SPRING}, {("spring", 0): snapshot}, releases=releases)
    shard.apply(StartWaves(), [start], "wave-starts")
    decisions = sent(shard.run(DecideChunk(known, 100, clock())), SEND_DECISIONS)
    assert len(decisions) > 50
    assert {release_label(decision.encoder_version) for decision in decisions} == {NEW}
    for decision in decisions:
        entry = shard.load(ledger_key(decision.user_id), Ledger).entries[0]
        context = np.frombuffer(entry.context, "<f4").astype(np.float64)
        assert len(context) == encoder.d_user
        again = encoder.encode_again(context[None, :-5], [entry.features])
        assert np.array_equal(again[0], context)
        assert len(FeatureBatch.from_bytes([entry.features])) == 1


def test_a_wave_waits_for_its_release_and_for_no_other(shard, releases):
    _, start, snapshot = pinned(releases, NEW)
    known = FakeKnown({"spring": SPRING}, {("spring", 0): snapshot}, releases=releases)
    loaded = releases.loaded.pop(NEW)
    shard.apply(StartWaves(), [start], "wave-starts")
    decide = DecideChunk(known, 100, clock())
    assert shard.run(decide) == []
    releases.loaded[NEW] = loaded
    assert sent(shard.run(decide), SEND_DECISIONS) != []


def test_no_wave_mixes_versions_when_another_release_is_made_live_meanwhile(shard, releases):
    _, start, snapshot = pinned(releases, OLD)
    known = FakeKnown({"spring": SPRING}, {("spring", 0): snapshot}, releases=releases)
    shard.apply(StartWaves(), [start], "wave-starts")
    decide = DecideChunk(known, 20, clock())
    decisions = sent(shard.step(decide), SEND_DECISIONS)
    releases.roles = Standing(live=NEW, previous=OLD)
    decisions += sent(shard.run(decide), SEND_DECISIONS)
    assert len(decisions) > 50
    assert {release_label(decision.encoder_version) for decision in decisions} == {OLD}


def refusing(releases, *, pair: bool = True) -> FakeKnown:
    """What a worker knows that refuses NEW, which the wave is pinned to, and has OLD."""
    _, _, snapshot = pinned(releases, NEW)
    _, _, old = pinned(releases, OLD)
    releases.refused[NEW] = "a golden profile is encoded otherwise"
    del releases.loaded[NEW]
    releases.roles = Standing(live=OLD)
    found = {("spring", 0): snapshot}
    if pair:
        found["spring@" + OLD, None] = dataclasses.replace(old, version=7, wave=None)
    return FakeKnown({"spring": SPRING}, found, releases=releases)


def test_a_worker_that_refuses_a_waves_release_decides_with_the_last_good_pair(shard, releases):
    encoder, _, _ = pinned(releases, OLD)
    _, start, _ = pinned(releases, NEW)
    shard.apply(StartWaves(), [start], "wave-starts")
    decide = DecideChunk(refusing(releases), 20, clock())
    decisions = sent(shard.run(decide), SEND_DECISIONS)
    assert len(decisions) > 50
    assert {release_label(decision.encoder_version) for decision in decisions} == {OLD}
    assert {decision.policy_version for decision in decisions} == {7}
    for decision in decisions:
        entry = shard.load(ledger_key(decision.user_id), Ledger).entries[0]
        assert (entry.encoder_version, entry.policy_version) == (encoder.version, 7)
        assert len(entry.context) == 4 * encoder.d_user


def test_without_a_policy_of_its_own_the_last_good_release_decides_nothing(shard, releases):
    _, start, _ = pinned(releases, NEW)
    shard.apply(StartWaves(), [start], "wave-starts")
    known = refusing(releases, pair=False)
    known.snapshots["spring", None] = known.snapshots["spring", 0]  # the leading one is NEW's
    assert shard.run(DecideChunk(known, 20, clock())) == []


def test_a_wave_that_another_worker_goes_on_with_under_the_last_good_release_is_learned_whole(
    shard, releases
):
    new, start, snapshot = pinned(releases, NEW)
    old, _, _ = pinned(releases, OLD)
    known = FakeKnown({"spring": SPRING}, {("spring", 0): snapshot}, releases=releases)
    shard.apply(StartWaves(), [start], "wave-starts")
    decisions = sent(shard.step(DecideChunk(known, 30, clock())), SEND_DECISIONS)
    known = refusing(releases)
    decisions += sent(shard.run(DecideChunk(known, 30, clock())), SEND_DECISIONS)
    assert {release_label(d.encoder_version) for d in decisions} == {OLD, NEW}
    shard.now_ms = NOON + SPRING.closes_after_ms
    outputs = shard.run(CloseDue(clock(shard.now_ms)))
    updates = [update for update in sent(outputs, LEARNING_UPDATES) if update.rewards]
    widths = {old.version: old.d_user, new.version: new.d_user}
    for update in updates:
        n = len(update.rewards) // 8
        assert len(update.contexts) == 4 * n * widths[update.encoder_version]
    learned = [examples_in(update, SPRING, old) for update in updates]
    assert sum(len(each) for each in learned) == len(decisions)
    # In the order of the log, and each as the old release encodes that person.
    logged = sent(outputs, LEARNING_EXAMPLES)
    again = np.vstack([each.contexts for each in learned])
    assert [name for each in learned for name in each.actions] == [e.action for e in logged]
    for row, example in zip(again, logged, strict=True):
        named = np.frombuffer(example.context, "<f4").astype(np.float64)[None, :]
        assert np.array_equal(old.encode_again(named, [example.features])[0], row)
    assert updates[-1].open == 0
