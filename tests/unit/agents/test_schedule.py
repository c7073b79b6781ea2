import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.checks import LAST_TIME_MS
from schemas.errors import CampaignError
from schemas.hashing import partition_of
from schemas.learning import LearningUpdate, PolicySnapshot, Tally
from schemas.topics import POLICY_SNAPSHOTS, SHARD_CHANGELOG, WAVE_REPORTS, WAVE_STARTS
from streams.agents.definition import check_size
from streams.agents.learn import KeepUpdates
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns, check_runnable
from streams.agents.state import campaign_key, ended_key
from streams.core.encoding import ContextEncoder
from streams.core.learning import fold_updates
from streams.core.ledger import OTHER
from streams.core.policies import from_bytes, to_bytes
from streams.core.schedule import CampaignState, start_wave
from streams.core.snapshots import PART_BYTES
from streams.core.warm_start import check_warm_start, first_policy
from streams.kafka.transaction import Incoming
from tests.unit.agents.shard import (
    INTERVAL_MS,
    NO_PAIRS,
    NOON,
    SHARDS,
    FakeKnown,
    MemoryShard,
    campaign,
    clock,
    frozen,
    incoming,
    raw,
    refusals,
    sent,
    update,
)

SPRING = campaign(waves=3)
HELLO = SPRING.templates[0]
MANY = [Template(id=f"template-{rank}", channel="email", features={}) for rank in range(200)]


class Leader:
    """A campaign shard, and the user shards' side of the conversation."""

    def __init__(self, of: Campaign = SPRING) -> None:
        self.shard = MemoryShard()
        self.known = FakeKnown()
        assert self.take_up(of) == []

    def take_up(self, of: Campaign) -> list[str]:
        return refusals(self.shard.apply(TakeUpCampaigns(1), [of], "campaigns"))

    def lead(self, now_ms: int | None = None):
        self.shard.now_ms = now_ms or self.shard.now_ms
        outputs = self.shard.run(
            LeadCampaigns(SHARDS, clock(self.shard.now_ms), self.known, NO_PAIRS, INTERVAL_MS)
        )
        self.known.follow(outputs)
        return outputs

    def tell(self, *updates: LearningUpdate) -> list[str]:
        return refusals(self.shard.apply(KeepUpdates(SHARDS, clock()), updates, "learning-updates"))

    def finish(self, wave: int, rewards: dict[int, list[float]] | None = None) -> None:
        """Every shard has decided, and its outcomes are in."""
        for number in range(SHARDS):
            given = (rewards or {}).get(number, [0.0])
            assert self.tell(update(given, shard=number, wave=wave)) == []

    @property
    def state(self) -> CampaignState:
        return self.shard.load(campaign_key("spring"), CampaignState)


# ---- taking up


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"policy": "nonsense"}, "no policy"),
        ({"policy_params": {"nonsense": 1}}, "no parameter"),
        ({"policy": "fixed", "policy_params": {"action": "helo"}}, "did you mean 'hello'"),
        ({"templates": [Template(id="a", channel="email", features={"x": 1e10})]}, "1e\\+09"),
        ({"audience_segment": "age >"}, "column"),
        ({"context": [ContextFeature(attribute=f"a{i}") for i in range(400)]}, "at most 512"),
        (
            {
                "policy": "uniform",
                "policy_params": {},
                "context": [ContextFeature(attribute=a, buckets=256) for a in "ab"],
            },
            "at most 511",
        ),
        ({"wave_deadline_ms": 2**62}, "ten years"),
        ({"expires_after_ms": 2**62}, "ten years"),
        ({"attribution_window_ms": 2**62, "correction_horizon_ms": 2**62 + 10_000}, "ten years"),
        ({"correction_horizon_ms": 2**62}, "ten years"),
        (
            {
                "templates": [
                    Template(id="a", channel="email", features={}, variables={"t": "x" * 600_000})
                ]
            },
            "bytes",
        ),
        ({"audience_users": [f"{rank:0200}" for rank in range(38_000)]}, "segment"),
        ({"waves": 1000, "templates": MANY}, "fewer waves or templates"),
    ],
)
def test_a_definition_that_would_stop_a_worker_is_refused(given, why):
    shard = MemoryShard()
    (told,) = refusals(shard.apply(TakeUpCampaigns(1), [campaign(**given)]))
    assert "campaign spring" in told
    assert re.search(why, told), told
    assert shard.store.pairs == {}


def test_what_can_run_is_not_refused():
    for policy, params in (("uniform", {}), ("fixed", {"order": ["offer", "hello"]})):
        check_runnable(campaign(policy=policy, policy_params=params))
    check_runnable(campaign(context=[], audience_segment='plan == "plus"'))


def test_unreadable_and_misplaced_definitions_are_refused_and_deletions_passed_over():
    shard = MemoryShard()
    misplaced = Incoming("campaigns", 0, 1, 1, b"autumn", incoming(SPRING).value)
    tx = shard.begin()
    TakeUpCampaigns(1)(tx, [incoming(b"garbage"), misplaced, incoming(None)])
    assert len(refusals(shard.commit(tx))) == 2
    assert shard.store.pairs == {}


def test_a_definition_in_another_shards_partition_is_refused():
    shards = 5
    right = partition_of("spring", shards)
    for number in range(shards):
        shard = MemoryShard(number)
        why = refusals(shard.apply(TakeUpCampaigns(shards), [SPRING]))
        assert [f"partition {right}" in reason for reason in why] == [True] * (number != right)
        assert bool(shard.store.pairs) == (number == right)


def test_a_deleted_campaign_stops_and_goes_on_when_it_is_made_again_from_version_1():
    leader = Leader(campaign(version=7, waves=3))
    leader.lead()
    leader.shard.apply(TakeUpCampaigns(1), [Incoming("campaigns", 0, 5, 1, b"spring", None)])
    leader.finish(0)
    assert sent(leader.lead(), WAVE_STARTS) == []
    assert leader.take_up(campaign(version=1, waves=3)) == []
    assert {start.wave for start in sent(leader.lead(), WAVE_STARTS)} == {1}
    assert leader.known.snapshot("spring").examples == SHARDS
    assert leader.take_up(campaign(version=1, waves=9)) == []  # known by now
    assert leader.state.campaign.waves == 3


def test_a_deleted_campaign_cannot_come_back_as_another_one():
    leader = Leader(campaign(version=7, waves=3))
    leader.lead()
    gone = [Incoming("campaigns", 0, 5, 1, name, None) for name in (b"spring", b"autumn", None)]
    leader.shard.apply(TakeUpCampaigns(1), gone)
    (why,) = leader.take_up(campaign(version=1, policy="uniform", policy_params={}))
    assert "has started" in why


def test_an_older_definition_changes_nothing():
    leader = Leader()
    assert leader.take_up(campaign(version=3, waves=9)) == []
    assert leader.take_up(campaign(version=2, waves=7)) == []
    assert leader.state.campaign.waves == 9


@pytest.mark.parametrize(
    "given",
    [
        {"templates": SPRING.templates[:2]},
        {
            "templates": [
                replace(SPRING.templates[0], features={"warm": 2.0}),
                *SPRING.templates[1:],
            ]
        },
        {"context": SPRING.context[:1]},
        {"policy": "uniform", "policy_params": {}},
        {"status": "logged"},
    ],
)
def test_once_a_wave_has_started_what_it_learns_from_stays(given):
    changed = campaign(version=2, waves=3, **given)
    leader = Leader()
    assert leader.take_up(changed) == []  # nothing has started
    leader = Leader()
    leader.lead()
    assert len(leader.take_up(changed)) == 1
    assert leader.state.campaign == Leader().state.campaign


def test_templates_may_be_added_and_paused_while_a_wave_runs():
    leader = Leader()
    leader.lead()
    more = [replace(HELLO, status="paused"), *SPRING.templates[1:]]
    more.append(Template(id="fresh", channel="email", features={"price": 1.0}))
    assert leader.take_up(campaign(version=2, waves=3, templates=more)) == []
    leader.finish(0)
    leader.lead()
    assert leader.state.version == 1


def test_a_retired_template_is_forgotten_with_each_snapshot_and_cannot_come_back():
    of = {"waves": 4, "policy": "disjoint-linear-thompson", "policy_params": {"draws": 16}}
    leader = Leader(campaign(**of))
    leader.lead()
    leader.finish(0)
    leader.lead()

    def remembered() -> bool:
        return "hello" in str(from_bytes(leader.known.snapshot("spring").state).state())

    assert remembered()
    paused = [replace(HELLO, status="paused"), *SPRING.templates[1:]]
    assert leader.take_up(campaign(version=2, **of, templates=paused)) == []
    leader.finish(1)
    leader.lead()
    assert remembered()
    retired = [replace(HELLO, status="retired"), *SPRING.templates[1:]]
    assert leader.take_up(campaign(version=3, **of, templates=retired)) == []
    leader.finish(2)  # outcomes of its last sends
    leader.lead()
    assert leader.known.snapshot("spring").version == 3
    assert not remembered()
    (why,) = leader.take_up(campaign(version=4, **of))
    assert "has retired the templates hello, and forgotten" in why
    assert "give what comes back a new id" in why


def test_the_longest_course_that_is_taken_up_fits_the_state():
    given = {"templates": MANY, "baseline_share": 0.5, "baseline_action": MANY[0].id}
    waves = next(n for n in range(1000, 0, -1) if _fits(campaign(**given, waves=n)))
    assert waves >= 50
    kinds = {"click": 2**40, "purchase": 2**40, "dismiss": 2**40, "unsubscribe": 2**40}
    tallies = [
        Tally(
            reason=reason,
            action=template.id,
            decisions=2**40,
            closed=2**40,
            undelivered=2**40,
            feedback={**kinds, OTHER: 2**40},
            reward_sum=0.1,
            reward_square_sum=0.1,
        )
        for reason in ("policy", "baseline")
        for template in MANY
    ]
    state = CampaignState(campaign(**given, waves=waves))
    for _ in range(waves):
        start_wave(state, 64, "e" * 20, NOON).tallies = tallies
    assert len(msgspec.msgpack.encode(state)) < SHARD_CHANGELOG.max_bytes


def _fits(of: Campaign) -> bool:
    try:
        check_size(of)
    except CampaignError:
        return False
    return True


# ---- leading


def test_a_wave_starts_in_every_shard_pinned_to_its_policy():
    leader = Leader()
    outputs = leader.lead()
    starts = sent(outputs, WAVE_STARTS)
    assert [start.shard for start in starts] == list(range(SHARDS))
    assert {(s.share_from, s.share_until) for s in starts} == {(0.0, 1 / 3)}
    assert {s.deadline_ms for s in starts} == {NOON + 3_600_000}
    newest, of_wave = leader.known.snapshot("spring"), leader.known.snapshot("spring", 0)
    assert (newest.version, of_wave.version, of_wave.wave) == (0, 0, 0)
    assert newest.state == of_wave.state
    partitions = {o.partition for o in outputs if o.topic is POLICY_SNAPSHOTS}
    assert partitions == {leader.shard.number}


def test_a_listed_audience_is_given_out_once_to_the_shards_of_its_users():
    users = [f"user-{rank}" for rank in range(50)]
    leader = Leader(campaign(audience_users=[*users, *users[:10]]))
    starts = sent(leader.lead(), WAVE_STARTS)
    assert sorted(user for start in starts for user in start.users) == sorted(users)
    for start in starts:
        assert all(partition_of(user, SHARDS) == start.shard for user in start.users)
        assert start.campaign.audience_users is None


def test_a_campaign_waits_for_its_start_and_does_nothing_while_paused_or_stopped():
    leader = Leader(campaign(starts_at_ms=NOON + 5000))
    assert leader.lead(NOON + 4999) == []
    assert len(sent(leader.lead(NOON + 5000), WAVE_STARTS)) == SHARDS
    for status in ("paused", "stopped", "logged"):
        assert Leader(campaign(status=status)).lead() == []


def test_the_next_wave_starts_when_all_outcomes_are_in_with_what_they_taught():
    leader = Leader()
    leader.lead()
    for number in range(SHARDS - 1):
        leader.tell(update([1.0], shard=number))
        assert sent(leader.lead(), WAVE_STARTS) == []
    leader.tell(update([1.0, 0.0], shard=SHARDS - 1))
    starts = sent(leader.lead(), WAVE_STARTS)
    assert {(start.wave, start.policy_version) for start in starts} == {(1, 1)}
    snapshot = leader.known.snapshot("spring")
    assert (snapshot.version, snapshot.examples, snapshot.reward_sum) == (1, 5, 4.0)
    assert snapshot.feedback == {"click": 5}
    assert leader.known.snapshot("spring", 1).state == snapshot.state
    assert leader.shard.keys(b"u") == []
    assert leader.state.kept == 0


@pytest.mark.parametrize("unfinished", [{"deciding": True}, {"open": 1}])
def test_a_wave_waits_for_each_shard_until_its_deadline(unfinished):
    leader = Leader()
    leader.lead()
    leader.finish(0)
    leader.tell(update([1.0], shard=2, **unfinished))
    assert sent(leader.lead(NOON + 3_599_999), WAVE_STARTS) == []
    outputs = leader.lead(NOON + 3_600_000)
    assert {start.wave for start in sent(outputs, WAVE_STARTS)} == {1}
    assert [(r.wave, r.status) for r in sent(outputs, WAVE_REPORTS)] == [
        (0, "overdue"),
        (1, "deciding"),
    ]


def test_a_stopped_campaign_ends_when_no_shard_decides_any_more():
    leader = Leader()
    leader.lead()
    leader.take_up(campaign(version=2, waves=3, status="stopped"))
    assert leader.lead() == []
    for number in range(SHARDS):
        leader.tell(update([1.0], shard=number, open=3))
    (report,) = sent(leader.lead(), WAVE_REPORTS)
    assert (report.status, report.open, report.decided) == ("stopped", 12, 4)
    assert leader.known.snapshot("spring").examples == 4


def test_the_policy_of_a_wave_is_dropped_from_its_topic_when_the_wave_ends():
    leader = Leader()
    for wave in range(3):
        leader.lead()
        assert leader.known.snapshot("spring", wave) is not None
        leader.finish(wave)
    leader.lead()
    assert sorted(key for key in leader.known.snapshots) == [("spring", None)]


def test_after_the_last_wave_none_starts_and_what_still_comes_in_is_learned():
    leader = Leader(campaign(waves=1))
    leader.lead()
    leader.lead(NOON + 3_600_000)  # overdue: nothing has come back
    assert leader.known.snapshot("spring").examples == 0
    leader.finish(0)
    assert sent(leader.lead(NOON + 3_600_001), POLICY_SNAPSHOTS) == []
    outputs = leader.lead(NOON + 3_600_000 + INTERVAL_MS)
    assert sent(outputs, WAVE_STARTS) == []
    snapshot = leader.known.snapshot("spring")
    assert (snapshot.version, snapshot.examples) == (2, 4)
    assert leader.shard.keys(b"u") == []
    assert leader.lead(NOON + 10**9) == []


def test_corrections_after_the_end_are_in_the_next_snapshot_exactly():
    late, at_once = Leader(campaign(waves=2)), Leader(campaign(waves=2))
    for leader, reward in ((late, 0.0), (at_once, 1.0)):
        leader.lead()
        leader.finish(0, {0: [reward]})
        leader.lead()
    assert late.tell(update([1.0], previous=[0.0], shard=0)) == []
    for leader in (late, at_once):
        leader.finish(1)
        leader.lead()
    snapshots = [leader.known.snapshot("spring") for leader in (late, at_once)]
    assert snapshots[0].examples == snapshots[1].examples == 8
    assert snapshots[0].reward_sum == snapshots[1].reward_sum


def test_a_report_follows_every_change_and_only_those():
    leader = Leader()
    leader.lead()
    assert leader.lead() == []
    leader.tell(update([1.0], deciding=True))
    (report,) = sent(leader.lead(), WAVE_REPORTS)
    assert (report.status, report.decided, report.shards, report.shards_done) == (
        "deciding",
        1,
        4,
        0,
    )


@given(st.permutations(range(8)), st.booleans())
@settings(deadline=None, max_examples=15)
def test_the_snapshot_does_not_depend_on_how_the_shards_were_mixed(order, split):
    snapshots = []
    for arrangement in (sorted(order), order):
        leader = Leader(campaign(waves=1, policy_params={"draws": 16, "half_life_days": 1.0}))
        leader.lead()
        queues = {n: [[0.5 * n, 1.0], [n - 1.0]] for n in range(SHARDS)}
        for rank in arrangement:  # each shard's own order stays
            number = rank % SHARDS
            part = queues[number].pop(0)
            if queues[number] or not split:
                leader.tell(update(part, shard=number, deciding=bool(queues[number])))
            else:
                leader.tell(update([], shard=number, deciding=True))
                leader.tell(update(part, shard=number))
        leader.lead()
        snapshots.append(leader.known.snapshot("spring"))
    assert snapshots[0].version == snapshots[1].version == 1
    assert snapshots[0].state == snapshots[1].state


def test_leading_again_from_the_same_state_gives_equal_records():
    leader = Leader()
    leader.lead()
    leader.finish(0)
    state = dict(leader.shard.store.pairs)
    runs = []
    for _ in range(2):
        leader.shard.store.pairs = dict(state)
        runs.append((raw(leader.lead()), leader.shard.store.pairs))
    assert runs[0] == runs[1]


# ---- a log


def test_the_waves_of_a_log_start_with_what_comes_of_them_and_end_in_their_order():
    leader = Leader(campaign(status="logged"))
    for wave in (1, 0):
        for number in range(SHARDS - 1):
            leader.tell(update([1.0], shard=number, wave=wave))
    assert sent(leader.lead(), POLICY_SNAPSHOTS) == []  # one shard has not ended either
    leader.tell(update([1.0], shard=SHARDS - 1, wave=1))
    assert sent(leader.lead(), POLICY_SNAPSHOTS) == []
    leader.tell(update([1.0], shard=SHARDS - 1, wave=0))
    examples = [(s.version, s.examples) for s in sent(leader.lead(), POLICY_SNAPSHOTS)]
    assert examples == [(0, 0), (1, 4), (2, 8)]


# ---- a triggered campaign


CART = campaign(trigger_event="cart-abandoned", learn_every_ms=5000)


def kept(leader: Leader, wave: int, rewards=(1.0,), **given) -> None:
    told = update(rewards, wave=wave, deciding=True, **given)
    assert leader.tell(told) == []


def test_a_triggered_wave_has_no_end_of_its_own_and_the_next_has_learned_what_closed():
    leader = Leader(CART)
    starts = sent(leader.lead(), WAVE_STARTS)
    assert {s.deadline_ms for s in starts} == {LAST_TIME_MS}
    assert {(s.share_from, s.share_until) for s in starts} == {(0.0, 1.0)}
    kept(leader, 0, open=3)  # what is still open is not waited for
    assert sent(leader.lead(NOON + 4999), WAVE_STARTS) == []
    starts = sent(leader.lead(NOON + 5000), WAVE_STARTS)
    assert {(s.wave, s.policy_version) for s in starts} == {(1, 1)}
    assert leader.known.snapshot("spring", 1).examples == 1
    assert leader.known.snapshot("spring", 0) is None


def test_outcomes_that_close_later_are_in_a_later_snapshot_once():
    leader = Leader(CART)
    leader.lead()
    kept(leader, 0, [1.0, 0.0], open=2)
    leader.lead(NOON + 5000)
    kept(leader, 0, [1.0], open=1)
    kept(leader, 1, [0.0], open=1)
    leader.lead(NOON + 10_000)
    newest = leader.known.snapshot("spring")
    assert (newest.examples, newest.reward_sum, newest.feedback) == (4, 2.0, {"click": 4})
    assert leader.shard.keys(b"u") == []


def test_a_snapshot_does_not_depend_on_how_updates_of_waves_were_mixed():
    states = []
    for order in ([0, 1, 2], [2, 0, 1]):
        leader = Leader(CART)
        leader.lead()
        kept(leader, 0)
        leader.lead(NOON + 5000)
        told = [update([1.0], wave=0), update([0.0, 1.0], wave=1), update([1.0], shard=2, wave=0)]
        leader.tell(*(told[rank] for rank in order))
        leader.lead(NOON + 10_000)
        states.append(leader.known.snapshot("spring").state)
    assert states[0] == states[1]


def test_the_course_of_a_triggered_campaign_does_not_grow_with_its_waves():
    leader = Leader(CART)
    leader.lead()
    sizes = []
    for wave in range(20):
        kept(leader, wave)
        leader.lead(NOON + 5000 * (wave + 1))
        sizes.append(len(leader.shard.store.get(campaign_key("spring"))))
    assert max(sizes) < sizes[0] + 20
    assert len(leader.shard.keys(b"v")) == 20
    leader.lead(NOON + 10_000_000)
    kept(leader, 20)
    leader.lead(NOON + 20_000_000)  # all of them are beyond their correction horizon
    assert leader.shard.keys(b"v") == [ended_key("spring", 20)]


def test_the_report_of_an_ended_triggered_wave_goes_on_until_all_is_closed():
    leader = Leader(CART)
    leader.lead()
    kept(leader, 0, open=1)
    reports = sent(leader.lead(NOON + 5000), WAVE_REPORTS)
    assert [(r.wave, r.status) for r in reports] == [(0, "open"), (1, "deciding")]
    for shard in range(SHARDS):
        leader.tell(update([1.0], shard=shard, wave=0))
    (report,) = sent(leader.lead(), WAVE_REPORTS)
    assert (report.wave, report.status, report.shards_done) == (0, "closed", SHARDS)
    assert sum(tally.closed for tally in report.tallies) == 1 + SHARDS


def test_a_change_of_a_triggered_campaign_is_pinned_to_in_a_new_wave():
    leader = Leader(CART)
    leader.lead()
    longer = [*CART.templates, Template(id="more", channel="push", features={"warm": 1.0})]
    leader.take_up(replace(CART, version=2, templates=longer))
    starts = sent(leader.lead(), WAVE_STARTS)
    assert {(s.wave, s.policy_version, len(s.campaign.templates)) for s in starts} == {(1, 0, 4)}


def test_a_triggered_campaign_does_not_turn_into_a_scheduled_one():
    leader = Leader(CART)
    leader.lead()
    (refusal,) = leader.take_up(campaign(version=2))
    assert refusal.startswith("campaign spring has started and has trigger")


# ---- a warm start


OLD = campaign(campaign_id="old", policy_params={"draws": 16, "adapt": False})
YOUNG = replace(OLD, campaign_id="spring", warm_start_campaign="old", warm_start_discount=0.25)


def learned(of: Campaign, rewards=(1.0, 0.0, 1.0)) -> PolicySnapshot:
    policy = first_policy(of, ContextEncoder(of.context))
    fold_updates(policy, [update(rewards, campaign_id=of.campaign_id)], of)
    return replace(frozen(of), wave=None, state=to_bytes(policy), version=3)


def test_a_campaign_begins_with_what_another_one_has_learned():
    leader = Leader(YOUNG)
    leader.known.campaigns["old"] = OLD
    leader.known.snapshots["old", None] = learned(OLD)
    starts = sent(leader.lead(), WAVE_STARTS)
    assert {start.policy_version for start in starts} == {0}
    theirs = from_bytes(leader.known.snapshot("old").state).reward_model.sums
    mine = from_bytes(leader.known.snapshot("spring", 0).state).reward_model.sums
    assert mine.weight == 0.25 * theirs.weight > 0
    np.testing.assert_allclose(mine.moment, 0.25 * theirs.moment)
    assert leader.known.snapshot("spring").examples == 0


def test_a_warm_start_waits_until_there_is_something_to_begin_with():
    leader = Leader(YOUNG)
    assert sent(leader.lead(), WAVE_STARTS) == []
    leader.known.campaigns["old"] = OLD
    assert sent(leader.lead(), WAVE_STARTS) == []
    leader.known.snapshots["old", None] = learned(OLD)
    assert len(sent(leader.lead(), WAVE_STARTS)) == SHARDS


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"context": OLD.context[:1]}, "its context is another (age)"),
        ({"templates": [HELLO]}, "its templates have the features warm, these price, warm"),
        ({"no_send": True}, "its templates have the features price, warm, (no-send), these"),
        ({"policy": "uniform", "policy_params": {}}, "has no model to start from"),
        ({"policy": "logistic-thompson", "policy_params": {}}, "a warm start needs a model of"),
    ],
)
def test_a_campaign_does_not_begin_with_what_does_not_fit_it(changes, says):
    source = replace(OLD, **changes)
    with pytest.raises(CampaignError, match="campaign spring, warm_start") as error:
        check_warm_start(YOUNG, source)
    assert says in str(error.value)
    leader = Leader(YOUNG)
    leader.known.campaigns["old"] = source
    leader.known.snapshots["old", None] = learned(source, ())
    assert sent(leader.lead(), WAVE_STARTS) == []  # and the worker goes on


def test_a_policy_without_a_model_of_its_own_cannot_be_warm_started():
    with pytest.raises(CampaignError, match="'uniform' cannot be warm-started"):
        check_warm_start(replace(YOUNG, policy="uniform", policy_params={}), OLD)


@pytest.mark.parametrize("change", [{"no_send": True}, {"warm_start_campaign": "old"}])
def test_what_a_started_campaign_began_with_stays(change):
    leader = Leader()
    leader.lead()
    (refusal,) = leader.take_up(replace(SPRING, version=2, **change))
    (field,) = change
    assert refusal.startswith("campaign spring has started, and learns from what it began with")
    assert field.split("_")[0] in refusal


# ---- snapshots that exceed a message


def test_a_policy_that_exceeds_a_message_is_published_in_parts_and_learned_on():
    many = [Template(id=f"t{rank}", channel="email", features={}) for rank in range(16)]
    wide = [ContextFeature(attribute="a", buckets=256), ContextFeature(attribute="b", buckets=255)]
    of = campaign(
        waves=3,
        templates=many,
        context=wide,
        policy="disjoint-linear-thompson",
        policy_params={"draws": 16},
        learning="examples",
    )
    leader = Leader(of)
    leader.lead()
    whole = update(
        [1.0] * 16,
        actions=sorted(template.id for template in many),
        action_index=np.arange(16, dtype="<i4").tobytes(),
        contexts=np.full((16, 511), 0.5, dtype="<f4").tobytes(),
        tallies=[],
    )
    for wave in range(2):
        assert leader.tell(*(replace(whole, shard=n, wave=wave) for n in range(SHARDS))) == []
        outputs = leader.lead()
        snapshot, frozen = (
            leader.known.snapshot("spring"),
            leader.known.snapshot("spring", wave + 1),
        )
        assert len(snapshot.state) > POLICY_SNAPSHOTS.max_bytes
        assert frozen.state == snapshot.state
        assert from_bytes(snapshot.state).n_learned == 16 * SHARDS * (wave + 1)
        keys = [o.key for o in outputs if o.topic is POLICY_SNAPSHOTS and o.value is not None]
        assert len(keys) == len(set(keys)) == 2 * snapshot_parts(snapshot)
    gone = [o.key for o in outputs if o.topic is POLICY_SNAPSHOTS and o.value is None]
    assert len(gone) == snapshot_parts(snapshot)  # those of the wave that ended
    assert leader.known.snapshot("spring", 1) is None


def snapshot_parts(snapshot) -> int:
    return -(-len(snapshot.state) // PART_BYTES)
