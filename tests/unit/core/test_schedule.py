from dataclasses import replace

import msgspec
import pytest

from schemas.learning import Tally
from streams.core.schedule import (
    CampaignState,
    Due,
    complete,
    due,
    note_update,
    report,
    start_wave,
)
from tests.unit.agents.shard import INTERVAL_MS, NOON, campaign, update

SHARDS = 3


def begun(**given) -> CampaignState:
    state = CampaignState(campaign(**{"waves": 2, **given}))
    start_wave(state, SHARDS, "e", NOON)
    return state


def finish(state: CampaignState, wave: int = 0, *shards: int, **given) -> None:
    for number in shards or range(SHARDS):
        assert note_update(state, update([], shard=number, wave=wave, **given), SHARDS)


def end(state: CampaignState, at_ms: int = NOON) -> None:
    state.running().ended_at_ms = at_ms


def test_a_wave_is_pinned_to_the_newest_policy_and_waits_for_every_shard():
    state = CampaignState(campaign(), version=4)
    wave = start_wave(state, SHARDS, "e", NOON)
    assert (wave.wave, wave.policy_version, wave.deadline_ms) == (0, 4, NOON + 3_600_000)
    assert state.changed == [0]
    assert list(wave.shards) == [0, 1, 2]
    assert not complete(wave)


def test_a_wave_is_complete_when_each_shard_has_decided_and_closed():
    state = begun()
    finish(state, 0, 0, 1)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING
    finish(state, 0, 2, open=1)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING
    finish(state, 0, 2)
    assert due(state, NOON, INTERVAL_MS) is Due.END


def test_deciding_is_over_when_no_shard_decides():
    state = begun()
    finish(state, 0, 0, 1, open=2)
    assert state.running().status == "deciding"
    finish(state, 0, 2, open=2)
    assert state.running().status == "open"


@pytest.mark.parametrize(
    ("after_ms", "expected"), [(3_599_999, Due.NOTHING), (3_600_000, Due.OVERDUE)]
)
def test_a_wave_is_overdue_at_its_deadline(after_ms, expected):
    assert due(begun(), NOON + after_ms, INTERVAL_MS) is expected


def test_a_complete_wave_is_closed_even_at_its_deadline():
    state = begun()
    finish(state)
    assert due(state, NOON + 3_600_000, INTERVAL_MS) is Due.END


def test_a_stopped_campaign_waits_only_for_shards_that_decide():
    state = begun()
    state.campaign = campaign(status="stopped")
    finish(state, 0, 0, 1, open=5)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING
    finish(state, 0, 2, open=5)
    assert due(state, NOON, INTERVAL_MS) is Due.STOP
    end(state)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING


@pytest.mark.parametrize("status", ["paused", "stopped", "logged"])
def test_only_an_active_campaign_starts_waves(status):
    assert due(CampaignState(campaign()), NOON, INTERVAL_MS) is Due.START
    assert due(CampaignState(campaign(status=status)), NOON, INTERVAL_MS) is Due.NOTHING


def test_a_campaign_starts_at_its_time():
    state = CampaignState(campaign(starts_at_ms=NOON))
    assert due(state, NOON - 1, INTERVAL_MS) is Due.NOTHING
    assert due(state, NOON, INTERVAL_MS) is Due.START


def test_after_the_last_wave_there_is_nothing_to_do():
    state = begun()
    end(state)
    assert due(state, NOON, INTERVAL_MS) is Due.START
    start_wave(state, SHARDS, "e", NOON)
    end(state)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING


def test_what_comes_late_is_learned_once_in_a_while_when_no_wave_runs():
    state = begun(waves=1)
    state.kept, state.learned_at_ms = 1, NOON
    assert due(state, NOON + INTERVAL_MS, INTERVAL_MS) is Due.NOTHING  # the wave's end will do it
    end(state)
    assert due(state, NOON + INTERVAL_MS - 1, INTERVAL_MS) is Due.NOTHING
    assert due(state, NOON + INTERVAL_MS, INTERVAL_MS) is Due.LEARN
    state.kept = 0
    assert due(state, NOON + INTERVAL_MS, INTERVAL_MS) is Due.NOTHING


def test_an_update_of_a_wave_that_never_started_is_none_of_ours():
    state = begun()
    assert not note_update(state, update([], wave=1), SHARDS)
    assert [wave.wave for wave in state.waves] == [0]


def test_progress_of_a_shard_that_there_is_not_is_not_waited_for():
    state = begun()
    note_update(state, update([], shard=SHARDS, deciding=True), SHARDS)
    finish(state)
    assert due(state, NOON, INTERVAL_MS) is Due.END


def test_late_progress_and_tallies_reach_the_report_of_an_ended_wave():
    state = begun()
    finish(state, 0, 0, 1, 2, open=1)
    end(state)
    state.changed = []
    late = [Tally(reason="policy", action="hello", closed=1, reward_sum=2.0)]
    for _ in range(2):
        note_update(state, update([], shard=1, decided=4, tallies=late), SHARDS)
    assert state.changed == [0]
    told = report(state, state.waves[0], NOON + 9)
    assert (told.open, told.decided, told.shards_done, told.ended_at_ms) == (2, 4, 1, NOON)
    assert (told.tallies[0].closed, told.tallies[0].reward_sum) == (2, 4.0)
    assert told.updated_at_ms == NOON + 9


def test_the_waves_of_a_log_start_with_their_updates_and_the_first_runs_first():
    state = CampaignState(campaign(status="logged"))
    assert note_update(state, update([], shard=1, wave=5), SHARDS)
    assert note_update(state, update([], shard=1, wave=2), SHARDS)
    assert state.running().wave == 2
    assert list(state.running().shards) == [0, 1, 2]
    assert due(state, NOON + 10**12, INTERVAL_MS) is Due.NOTHING
    finish(state, 2)
    assert due(state, NOON, INTERVAL_MS) is Due.END
    end(state)
    assert state.running().wave == 5


# ---- waves of a triggered campaign


def triggered(**given) -> CampaignState:
    usual = {"trigger_event": "cart-abandoned", "waves": 1, "learn_every_ms": 5000}
    return begun(**{**usual, **given})


def test_a_triggered_wave_lasts_until_there_is_something_to_learn():
    state = triggered()
    finish(state)  # that every shard is done, and nothing is open, ends it not
    assert due(state, NOON + 5000, INTERVAL_MS) is Due.NOTHING
    state.kept = 1
    assert due(state, NOON + 4999, INTERVAL_MS) is Due.NOTHING
    assert due(state, NOON + 5000, INTERVAL_MS) is Due.RENEW


def test_a_changed_definition_takes_effect_at_once():
    state = triggered()
    state.campaign = replace(state.campaign, version=2)
    assert due(state, NOON, INTERVAL_MS) is Due.RENEW
    end(state)
    assert start_wave(state, SHARDS, "e", NOON).wave == 1
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING


def test_a_paused_triggered_campaign_learns_what_comes_and_starts_nothing():
    state = triggered(status="paused")
    state.kept = 1
    state.learned_at_ms = NOON
    assert due(state, NOON + 5000, INTERVAL_MS) is Due.NOTHING
    assert due(state, NOON + INTERVAL_MS, INTERVAL_MS) is Due.LEARN


def test_a_stopped_triggered_campaign_ends_when_no_shard_decides_and_can_go_on():
    state = triggered(status="stopped")
    finish(state, 0, 0, 1, open=5)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING
    finish(state, 0, 2, open=5)
    assert due(state, NOON, INTERVAL_MS) is Due.STOP
    end(state)
    assert due(state, NOON, INTERVAL_MS) is Due.NOTHING
    state.campaign = replace(state.campaign, status="active")
    assert due(state, NOON, INTERVAL_MS) is Due.START


def test_a_wave_that_is_kept_apart_is_closed_with_its_last_outcome():
    state = triggered()
    end(state)
    (ended,) = state.waves
    ended.status = "open"
    state.waves = []
    for shard in range(SHARDS):
        assert ended.status == "open"
        assert note_update(state, update([], shard=shard), SHARDS, ended)
    assert ended.status == "closed"
    assert note_update(state, update([1.0]), SHARDS)  # one that is kept no longer is learned
    assert not note_update(state, update([1.0], wave=1), SHARDS)


def test_a_course_survives_its_bytes():
    state = begun()
    finish(state, 0, 1, tallies=[Tally(reason="policy", action="hello", feedback={"click": 1})])
    raw = msgspec.msgpack.encode(state)
    assert msgspec.msgpack.decode(raw, type=CampaignState) == state
