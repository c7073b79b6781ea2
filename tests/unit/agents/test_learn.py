import math
from dataclasses import replace

import numpy as np
import pytest

from schemas.learning import LearningUpdate, Tally
from streams.agents.learn import KeepUpdates
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.agents.state import campaign_key
from streams.core.schedule import CampaignState
from tests.unit.agents.shard import (
    CODEC,
    INTERVAL_MS,
    NO_PAIRS,
    SHARDS,
    FakeKnown,
    MemoryShard,
    campaign,
    clock,
    refusals,
    update,
)


def led() -> MemoryShard:
    """A campaign shard whose first wave runs."""
    shard = MemoryShard()
    shard.apply(TakeUpCampaigns(1), [campaign()], "campaigns")
    shard.step(LeadCampaigns(SHARDS, clock(), FakeKnown(), NO_PAIRS, INTERVAL_MS))
    return shard


def told(shard: MemoryShard, *updates: object) -> list[str]:
    return refusals(shard.apply(KeepUpdates(SHARDS, clock()), updates, "learning-updates"))


def state(shard: MemoryShard) -> CampaignState:
    return shard.load(campaign_key("spring"), CampaignState)


def test_updates_are_kept_in_the_order_of_wave_shard_and_offset():
    shard = led()
    order = [(3, 1.0), (0, 2.0), (3, 3.0), (0, 4.0)]
    assert told(shard, *(update([reward], shard=number) for number, reward in order)) == []
    found = [CODEC.decode(raw, LearningUpdate) for _, raw in shard.store.scan(b"u")]
    rewards = [np.frombuffer(each.rewards, dtype="<f8")[0] for each in found]
    assert rewards == [2.0, 4.0, 1.0, 3.0]
    assert state(shard).kept == 4


def test_progress_alone_is_noted_and_not_kept():
    shard = led()
    assert told(shard, update([], shard=2, decided=7, open=5)) == []
    assert shard.keys(b"u") == []
    assert state(shard).kept == 0
    progress = state(shard).waves[0].shards[2]
    assert (progress.decided, progress.open, progress.deciding) == (7, 5, False)


NAN, INF = math.nan, math.inf
TALLY = Tally(reason="policy", action="hello", closed=1)


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage",
        None,
        update([1.0], campaign_id="autumn"),
        update([1.0], campaign_id="spring\0"),
        update([1.0], campaign_id=""),
        update([1.0], wave=1),
        update([1.0], wave=-1),
        update([1.0], wave=2**40),
        update([1.0], shard=-1),
        update([1.0], shard=SHARDS),
        update([1.0], shard=2**40),
        update([NAN]),
        update([INF]),
        update([1e10]),
        update([1.0], previous=[INF]),
        update([1.0], contexts=np.full(4, NAN, dtype="<f4").tobytes()),
        update([1.0], contexts=np.zeros(5, dtype="<f4").tobytes()),
        update([1.0], contexts=b"\0"),
        update([1.0], action_index=np.array([1], dtype="<i4").tobytes()),
        update([1.0], action_index=np.array([-1], dtype="<i4").tobytes()),
        update([1.0], action_index=b""),
        update([1.0], actions=["nothing"]),
        update([1.0], actions=[]),
        replace(update([1.0]), rewards=b"\0" * 7),
        replace(update([1.0]), previous=b""),
        update([1.0], decided_at_ms=b""),
        update([1.0], tallies=[replace(TALLY, reward_sum=NAN)]),
        update([1.0], tallies=[replace(TALLY, reward_square_sum=INF)]),
    ],
)
def test_an_update_that_does_not_fit_is_refused_and_changes_nothing(bad):
    shard = led()
    before = dict(shard.store.pairs)
    assert len(told(shard, bad)) == 1
    assert shard.store.pairs == before


def test_a_bad_update_stops_none_beside_it():
    shard = led()
    assert len(told(shard, update([1.0]), b"garbage", update([2.0], shard=1))) == 1
    assert len(shard.keys(b"u")) == 2


def test_a_campaign_without_a_context_learns():
    shard = MemoryShard()
    shard.apply(TakeUpCampaigns(1), [campaign(context=[])], "campaigns")
    shard.step(LeadCampaigns(SHARDS, clock(), FakeKnown(), NO_PAIRS, INTERVAL_MS))
    assert told(shard, update([1.0, 0.0], contexts=b"")) == []
