import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.hashing import decision_id, share_of
from schemas.ids import NO_SEND
from schemas.records import UserEvent
from schemas.topics import LEARNING_UPDATES, SEND_DECISIONS
from streams.agents.clock import Clock
from streams.agents.decide import LOOKED_AT, DecideChunk, StartWaves
from streams.agents.profile import FoldProfiles
from streams.agents.running_waves import RunningWave, load_wave
from streams.agents.state import CLOSE, Timer, ledger_key, profile_key, read_timers, wave_key
from streams.core.ledger import Ledger
from streams.core.profiles import Profile
from streams.core.waves import Wave
from tests.unit.agents.shard import (
    NOON,
    SHARDS,
    FakeKnown,
    MemoryShard,
    add_people,
    campaign,
    clock,
    decided,
    frozen,
    raw,
    refusals,
    sent,
    users_of,
    wave_start,
)

SPRING = campaign()
USERS = users_of(0, 40)


def known_of(*campaigns: Campaign, wave: int = 0) -> FakeKnown:
    return FakeKnown(
        {c.campaign_id: c for c in campaigns},
        {(c.campaign_id, wave): frozen(c, wave) for c in campaigns},
    )


def peopled(users=USERS) -> MemoryShard:
    shard = MemoryShard()
    add_people(shard, users)
    return shard


def timers(shard: MemoryShard) -> list[Timer]:
    return [timer for pair in shard.store.scan(b"t") for timer in read_timers(*pair)]


def running(shard: MemoryShard, wave: int = 0) -> RunningWave:
    return load_wave(shard.begin(), wave_key("spring", wave))


# ---- a wave


def test_everybody_of_the_audience_gets_one_decision():
    shard = peopled()
    decisions = decided(shard, SPRING, chunk=7)
    assert sorted(d.user_id for d in decisions) == sorted(USERS)
    assert {d.reason for d in decisions} == {"policy"}
    assert {d.decision_id for d in decisions} == {decision_id("spring", 0, u) for u in USERS}
    assert all(d.decided_at_ms == NOON for d in decisions)
    assert all(d.expires_at_ms == NOON + 60_000 for d in decisions)
    assert all(0 < d.propensity <= 1 for d in decisions)
    contacts = {"email": "{}@example.com", "push": "token-{}"}
    assert all(d.contact == contacts[d.channel].format(d.user_id) for d in decisions)


def test_waves_share_the_audience_out_without_a_rest():
    three = campaign(waves=3)
    shard = peopled()
    parts = [{d.user_id for d in decided(shard, three, wave, chunk=5)} for wave in range(3)]
    assert set.union(*parts) == set(USERS)
    assert sum(map(len, parts)) == len(USERS)
    assert all(parts)


def test_a_listed_audience_is_taken_in_its_order_whether_or_not_there_are_profiles():
    shard = peopled(USERS[:3])
    listed = [USERS[2], USERS[7], USERS[0]]
    decisions = decided(shard, SPRING, chunk=2, users=listed)
    assert [d.user_id for d in decisions] == listed
    assert [d.reason for d in decisions] == ["policy", "unreachable", "policy"]
    assert shard.load(profile_key(USERS[7]), Profile) is None


def test_a_decision_opens_an_entry_a_timer_and_a_send():
    shard = peopled(USERS[:1])
    (decision,) = decided(shard, SPRING)
    (entry,) = shard.load(ledger_key(USERS[0]), Ledger).entries
    assert (entry.decision_id, entry.action) == (decision.decision_id, decision.action)
    assert entry.probabilities[entry.actions.index(entry.action)] == decision.propensity
    assert sum(entry.probabilities) == pytest.approx(1.0)
    (timer,) = timers(shard)
    assert timer.due_ms == NOON + 110_000
    assert (timer.what, timer.user) == (CLOSE, USERS[0])
    assert shard.load(ledger_key(USERS[0]), Ledger).sends == [NOON]
    assert shard.load(profile_key(USERS[0]), Profile).sends == []


def told(shard: MemoryShard, step: DecideChunk) -> list[tuple[int, bool, int]]:
    """By update of one step: decided so far, whether it goes on, and decisions that it counts."""
    return [
        (update.decided, update.deciding, sum(tally.decisions for tally in update.tallies))
        for update in sent(shard.step(step), LEARNING_UPDATES)
    ]


def test_the_learner_is_told_of_the_first_chunk_then_every_second_and_of_the_end():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    now_ms = [NOON]
    moving = Clock(wall_ms=lambda: now_ms[0], ahead_ms=0, impossible_ms=0)
    step = DecideChunk(known_of(SPRING), 6, moving)
    assert told(shard, step) == [(6, True, 6)]
    assert told(shard, step) == []
    now_ms[0] += 999
    assert told(shard, step) == []
    now_ms[0] += 1
    assert told(shard, step) == [(24, True, 18)]
    assert told(shard, step) == told(shard, step) == []
    assert told(shard, step) == [(40, False, 16)]
    assert shard.keys(b"a") == []


def test_all_that_was_decided_before_a_pause_is_told():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    known = known_of(SPRING)
    step = DecideChunk(known, 10, clock())
    assert told(shard, step) == [(10, True, 10)]
    assert told(shard, step) == []
    known.campaigns["spring"] = campaign(version=2, status="paused")
    assert told(shard, step) == [(20, True, 10)]
    assert told(shard, step) == []


def test_a_decision_is_a_cloud_event_in_its_own_shard():
    shard = peopled(USERS[:1])
    decided(shard, SPRING)
    (output,) = [o for o in shard.outputs if o.topic is SEND_DECISIONS]
    assert output.partition == 0
    assert output.key == USERS[0].encode()
    assert dict(output.headers)["ce_id"].decode() == decision_id("spring", 0, USERS[0])


# ---- again


def test_each_chunk_has_draws_of_its_own():
    alike = campaign(policy="uniform", policy_params={})
    actions = [d.action for d in decided(peopled(), alike, chunk=20)]
    assert actions[:20] != actions[20:]


def test_deciding_a_chunk_twice_from_the_same_state_gives_equal_records():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    state = dict(shard.store.pairs)
    runs = []
    for _ in range(2):
        shard.store.pairs = dict(state)
        outputs = shard.run(DecideChunk(known_of(SPRING), 9, clock()))
        runs.append((raw(outputs), shard.store.pairs))
    assert runs[0] == runs[1]


@given(st.integers(1, 45))
@settings(deadline=None, max_examples=8)
def test_a_worker_that_dies_between_chunks_is_continued_with_the_same_actions(chunk):
    whole, broken = peopled(), peopled()
    expected = decided(whole, SPRING, chunk=chunk)
    broken.apply(StartWaves(), [wave_start(SPRING)])
    found, more = [], True
    while more:
        found += sent(broken.step(DecideChunk(known_of(SPRING), chunk, clock())), SEND_DECISIONS)
        more = broken.more
    assert found == expected
    assert broken.store.pairs == whole.store.pairs


def test_a_wave_that_was_started_is_not_started_again():
    shard = peopled()
    decisions = decided(shard, SPRING)
    assert len(decisions) == len(USERS)
    assert decided(shard, SPRING) == []
    shard = MemoryShard()  # nobody to decide for: nothing of the wave is left at once
    assert decided(shard, SPRING) == []
    assert [key[:1] for key in shard.keys(b"")] == [b"d"]
    add_people(shard, USERS)
    assert decided(shard, SPRING) == []


@pytest.mark.parametrize("given", [{"shard": 1}, {"shard": -1}, {"wave": -1}, {"wave": 2**40}])
def test_a_start_for_another_shard_or_an_impossible_wave_is_refused(given):
    shard = MemoryShard()
    start = replace(wave_start(SPRING), **given)
    assert len(refusals(shard.apply(StartWaves(), [start, b"garbage"]))) == 2
    assert shard.store.pairs == {}


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "new\nline"])
def test_a_campaign_may_ask_for_attributes_of_any_name(name):
    context = [ContextFeature(attribute=name), ContextFeature(attribute="age")]
    assert len(decided(peopled(), campaign(context=context))) == len(USERS)
    odd = campaign(audience_segment=f"not is_set({name!r}) or attribute('\\ud800') == 1")
    assert len(decided(peopled(), odd)) == len(USERS)


def test_what_takes_long_is_decided_beside_other_shards(monkeypatch):
    usual = decided(peopled(), SPRING, chunk=10)
    shard, held, decide = peopled(), [], Wave.decide

    def watched(*given: object):
        held.append(shard.turn._lock.locked())
        return decide(*given)

    monkeypatch.setattr(Wave, "decide", watched)
    limits = {"streams.agents.beside.LONG_S": 0.0, "streams.agents.beside.LONG_EACH_S": 0.0}
    for name, limit in limits.items():
        monkeypatch.setattr(name, limit)
    assert decided(shard, SPRING, chunk=10) == usual
    assert held == [True, False, False, False, False]  # from the first on that took long


def test_what_takes_long_no_more_is_decided_within_its_turn_again(monkeypatch):
    decided(peopled(), SPRING)  # what is done once is done
    shard, held, decide = peopled(), [], Wave.decide

    def watched(*given: object):
        held.append(shard.turn._lock.locked())
        until = time.thread_time() + (0.03 if len(held) == 2 else 0.0)
        while time.thread_time() < until:
            pass
        return decide(*given)

    monkeypatch.setattr(Wave, "decide", watched)
    decided(shard, SPRING, chunk=10)
    assert held == [True, True, False, True, True]


# ---- stopped, paused, too late


def test_a_stopped_campaign_ends_its_wave_where_it_is():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    known = known_of(SPRING)
    step = DecideChunk(known, 10, clock())
    shard.step(step)
    known.campaigns["spring"] = campaign(version=2, status="stopped")
    outputs = shard.run(step)
    assert sent(outputs, SEND_DECISIONS) == []
    (update,) = sent(outputs, LEARNING_UPDATES)
    assert (update.decided, update.open, update.deciding) == (10, 10, False)
    assert shard.run(step) == []


def test_a_paused_campaign_waits_and_goes_on_where_it_was():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    known = known_of(SPRING)
    step = DecideChunk(known, 10, clock())
    first = sent(shard.step(step), SEND_DECISIONS)
    known.campaigns["spring"] = campaign(version=2, status="paused")
    assert shard.run(step) == []
    known.campaigns["spring"] = campaign(version=3)
    rest = sent(shard.run(step), SEND_DECISIONS)
    assert sorted(d.user_id for d in first + rest) == sorted(USERS)


def test_a_paused_campaign_does_not_keep_others_waiting():
    shard = peopled()
    autumn = campaign(campaign_id="autumn", status="paused")
    shard.apply(StartWaves(), [wave_start(autumn), wave_start(SPRING)])
    outputs = shard.run(DecideChunk(known_of(autumn, SPRING), 100, clock()))
    assert {d.campaign_id for d in sent(outputs, SEND_DECISIONS)} == {"spring"}


def test_nobody_is_decided_for_from_the_deadline_on():
    for late, count in ((-1, 40), (0, 0)):
        shard = peopled()
        shard.apply(StartWaves(), [wave_start(SPRING)])
        step = DecideChunk(known_of(SPRING), 100, clock(NOON + 3_600_000 + late))
        outputs = shard.run(step)
        assert len(sent(outputs, SEND_DECISIONS)) == count
        assert sent(outputs, LEARNING_UPDATES)[-1].deciding is False


def test_a_template_that_is_paused_while_its_wave_runs_is_chosen_no_more():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING)])
    known = known_of(SPRING)
    step = DecideChunk(known, 20, clock())
    before = {d.action for d in sent(shard.step(step), SEND_DECISIONS)}
    assert before == {"hello", "offer", "ping"}
    hurts = [replace(t, status="paused" if t.id != "ping" else "active") for t in SPRING.templates]
    known.campaigns["spring"] = campaign(version=2, templates=hurts)
    after = sent(shard.run(step), SEND_DECISIONS)
    assert {(d.action, d.propensity) for d in after} == {("ping", 1.0)}


def test_where_every_template_is_paused_nobody_is_eligible():
    silent = campaign(templates=[replace(t, status="paused") for t in SPRING.templates])
    assert {d.reason for d in decided(peopled(), silent)} == {"ineligible"}


def test_a_wave_waits_for_the_policy_that_it_is_pinned_to():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING, policy_version=3)])
    known = FakeKnown({"spring": SPRING}, {("spring", 0): frozen(SPRING, version=2)})
    step = DecideChunk(known, 100, clock())
    assert shard.run(step) == []
    known.snapshots["spring", 0] = frozen(SPRING, version=3)
    decisions = sent(shard.run(step), SEND_DECISIONS)
    assert {d.policy_version for d in decisions} == {3}


# ---- rules


def test_caps_count_the_sends_of_all_campaigns():
    shard = peopled()
    decided(shard, SPRING)
    capped = campaign(campaign_id="autumn", cap_sends=1)
    assert {d.reason for d in decided(shard, capped)} == {"capped"}
    twice = campaign(campaign_id="winter", cap_sends=2)
    assert {d.reason for d in decided(shard, twice)} == {"policy"}


def test_of_two_campaigns_of_one_moment_the_second_keeps_to_the_cap():
    shard = peopled()
    both = [campaign(campaign_id=name, cap_sends=1) for name in ("autumn", "spring")]
    shard.apply(StartWaves(), [wave_start(each) for each in both])
    outputs = shard.run(DecideChunk(known_of(*both), 7, clock()))
    reasons = [(d.campaign_id, d.reason) for d in sent(outputs, SEND_DECISIONS)]
    assert set(reasons) == {("autumn", "policy"), ("spring", "capped")}


def test_holdout_and_baseline_are_the_same_people_in_every_wave_and_get_no_policy():
    shares = {"holdout": 0.2, "baseline_share": 0.3, "baseline_action": "hello"}
    decisions = decided(peopled(), campaign(**shares))
    for decision in decisions:
        place = share_of("spring/group", decision.user_id)
        expected = "holdout" if place < 0.2 else "baseline" if place < 0.5 else "policy"
        assert decision.reason == expected
        if expected == "holdout":
            assert (decision.action, decision.contact) == (NO_SEND, None)
        if expected == "baseline":
            assert (decision.action, decision.propensity) == ("hello", None)


def test_who_got_nothing_has_no_entry_no_timer_and_no_send():
    shard = peopled()
    decided(shard, campaign(holdout=1.0))
    assert {key[:1] for key in shard.keys(b"")} == {b"p", b"d"}


def test_a_chunk_is_of_so_many_users_whether_or_not_the_segment_holds_for_them():
    decided(shard := peopled(), campaign(audience_segment='plan == "plus"'), chunk=10)
    assert sent(shard.outputs, LEARNING_UPDATES)[-1].decided == len(USERS) / 2
    assert running(shard).chunk == len(USERS) / 10 + 1  # the last finds the end


def test_decisions_are_due_by_the_clock_that_they_were_made_by():
    shard = peopled(USERS[:1])
    known = known_of(SPRING)
    shard.apply(StartWaves(), [wave_start(SPRING)], "wave-starts")
    (decision,) = sent(shard.run(DecideChunk(known, 500, clock(NOON + 7))), SEND_DECISIONS)
    (timer,) = timers(shard)
    assert decision.decided_at_ms == NOON + 7
    assert timer.due_ms == NOON + 7 + SPRING.closes_after_ms


def test_only_those_for_whom_the_segment_holds_are_decided_for():
    decisions = decided(peopled(), campaign(audience_segment='plan == "plus"'))
    assert sorted(d.user_id for d in decisions) == sorted(USERS[1::2])
    assert decided(peopled(), campaign(audience_segment="False")) == []


def test_user_ids_of_any_writing_are_decided_for():
    odd = ["a/b", "p", "ü-ß-漢", "x" * 256, "..", "a b"]
    shard = MemoryShard()
    events = [
        UserEvent(user_id=u, type="t", occurred_at_ms=1, contacts={"email": "e"}) for u in odd
    ]
    for number in range(SHARDS):
        shard.number = number
        shard.apply(FoldProfiles(SHARDS, 65_536, clock()), events)
    shard.number = 0
    email = [Template(id="hello", channel="email", features={})]
    decisions = decided(shard, campaign(templates=email))
    assert sorted(d.user_id for d in decisions) == sorted(odd)
    assert sorted(timer.user for timer in timers(shard)) == sorted(odd)


# ---- state


def test_a_small_instalment_of_many_users_is_found_in_bounded_steps():
    users = users_of(0, 3 * LOOKED_AT * 2)
    shard = peopled(users)
    shard.apply(StartWaves(), [wave_start(SPRING, share_from=0.0, share_until=0.05)])
    step = DecideChunk(known_of(SPRING), 2, clock())
    steps = 1
    found = sent(shard.step(step), SEND_DECISIONS)
    while shard.more:
        found += sent(shard.step(step), SEND_DECISIONS)
        steps += 1
    assert sorted(d.user_id for d in found) == sorted(
        user for user in users if share_of("spring/wave", user) < 0.05
    )
    assert steps >= 4


def test_the_list_of_users_goes_when_all_are_decided_for():
    shard = peopled()
    shard.apply(StartWaves(), [wave_start(SPRING, users=USERS)])
    step = DecideChunk(known_of(SPRING), 30, clock())
    shard.step(step)
    assert shard.keys(b"m") != []
    shard.run(step)
    assert shard.keys(b"m") == []
    assert running(shard).held == 40


def test_a_worker_keeps_no_policy_of_a_wave_that_is_decided():
    shard = peopled()
    step = DecideChunk(known_of(SPRING), 30, clock())
    shard.apply(StartWaves(), [wave_start(SPRING)])
    shard.step(step)
    assert len(step._pinned) == 1
    shard.run(step)
    assert len(step._pinned) == 0
