"""Waves of a campaign with an encoder: decided under the release that they are pinned to."""

import numpy as np
import pytest

from schemas.features import FeatureBatch
from schemas.topics import SEND_DECISIONS
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.state import ledger_key
from streams.core.encoding import ContextEncoder, release_label
from streams.core.ledger import Ledger
from streams.releases.offered import Standing
from tests.unit.agents.shard import (
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
