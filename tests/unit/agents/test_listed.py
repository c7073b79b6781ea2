"""Listed audiences: kept apart, so that a chunk costs what it decides."""

from schemas.topics import SEND_DECISIONS
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.running_waves import load_wave, pinned_key
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.agents.state import campaign_key, wave_key
from tests.unit.agents.shard import (
    INTERVAL_MS,
    NO_PAIRS,
    SHARDS,
    FakeKnown,
    MemoryShard,
    campaign,
    clock,
    frozen,
    refusals,
    sent,
    users_of,
    wave_start,
)

SPRING = campaign()
MANY = users_of(0, 2_500)


def begun() -> tuple[MemoryShard, DecideChunk]:
    shard = MemoryShard()
    known = FakeKnown({"spring": SPRING}, {("spring", 0): frozen(SPRING)})
    shard.apply(StartWaves(), [wave_start(SPRING, users=MANY)], "wave-starts")
    return shard, DecideChunk(known, 100, clock())


def test_everybody_on_a_list_is_decided_for_once_and_nothing_is_left_of_it():
    shard, decide = begun()
    decisions = sent(shard.run(decide), SEND_DECISIONS)
    assert [decision.user_id for decision in decisions] == MANY
    assert shard.keys(b"m") == []


def test_a_chunk_writes_neither_the_list_nor_what_grows_with_it():
    shard, decide = begun()
    listed = {key: shard.store.pairs[key] for key in shard.keys(b"m")}
    assert sum(map(len, listed.values())) > 20_000
    tx = shard.begin()
    decide(tx)
    assert not set(tx.changes) & set(listed)
    assert pinned_key("spring", 0) not in tx.changes
    assert len(shard.store.pairs[pinned_key("spring", 0)]) < 2_000
    shard.commit(tx)
    assert load_wave(shard.begin(), wave_key("spring", 0)).cursor == b"100"


def test_a_worker_that_dies_within_a_list_is_continued_behind_its_last_chunk():
    shard, decide = begun()
    for _ in range(13):
        shard.step(decide)
    again = FakeKnown({"spring": SPRING}, {("spring", 0): frozen(SPRING)})
    outputs = shard.run(DecideChunk(again, 100, clock()))
    assert [d.user_id for d in sent(outputs, SEND_DECISIONS)] == MANY[1_300:]


def test_a_campaigns_state_does_not_hold_its_list():
    users = [f"user-{rank:06d}" for rank in range(100_000)]
    shard, known = MemoryShard(), FakeKnown()
    listed = campaign(audience_users=users)
    assert refusals(shard.apply(TakeUpCampaigns(1), [listed], "campaigns")) == []
    assert len(shard.store.pairs[campaign_key("spring")]) < 2_000
    shard.run(LeadCampaigns(SHARDS, clock(), known, NO_PAIRS, INTERVAL_MS))
    assert len(shard.store.pairs[campaign_key("spring")]) < 4_000
    fewer = campaign(version=2, audience_segment="age > 3")
    assert refusals(shard.apply(TakeUpCampaigns(1), [fewer], "campaigns")) == []
    assert shard.keys(b"y") == []
