"""Triggered sends in a user shard: who is decided for when an event comes, and with what."""

from dataclasses import replace

import pytest

from schemas.campaign import Campaign
from schemas.checks import LAST_TIME_MS
from schemas.hashing import decision_id
from schemas.ids import NO_SEND
from schemas.learning import LearningUpdate, Tally
from schemas.records import Decision, UserEvent
from schemas.topics import LEARNING_UPDATES, SEND_DECISIONS
from streams.agents.close import CloseDue
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.parts import TellGathered
from streams.agents.profile import FoldProfiles
from streams.agents.running_waves import load_wave, pinned_key
from streams.agents.state import ledger_key, rest_key, wave_key
from streams.agents.triggers import Triggers
from streams.core.ledger import Ledger
from streams.core.profiles import event_key
from tests.unit.agents.shard import (
    DAY_MS,
    INTERVAL_MS,
    NOON,
    SHARDS,
    FakeKnown,
    MemoryShard,
    add_people,
    campaign,
    clock,
    frozen,
    raw,
    sent,
    users_of,
    wave_start,
)

HOUR_MS = 3_600_000
CART = campaign(trigger_event="cart-abandoned")
USERS = users_of(0, 12)


class Shop:
    """A shard with people in it, and a campaign that waits for their events."""

    def __init__(
        self, of: Campaign = CART, users=USERS, wall_ms: int | None = NOON, **start
    ) -> None:
        self.shard = MemoryShard()
        add_people(self.shard, users)
        self.known = FakeKnown()
        self.triggers = Triggers(self.known, 5, clock(wall_ms))
        self.fold = FoldProfiles(SHARDS, 65_536, clock(wall_ms), self.triggers)
        self.begin(of, **start)

    def begin(self, of: Campaign, wave: int = 0, *, arrived: bool = True, **start) -> None:
        self.known.campaigns[of.campaign_id] = of
        if arrived:
            self.arrive(of, wave)
        begun = wave_start(of, 0, wave, policy_version=wave, deadline_ms=LAST_TIME_MS, **start)
        self.shard.apply(
            StartWaves(), [replace(begun, share_from=0.0, share_until=1.0)], "wave-starts"
        )

    def arrive(self, of: Campaign, wave: int) -> None:
        self.known.snapshots[of.campaign_id, wave] = frozen(of, wave, version=wave)

    def events(self, *events: UserEvent) -> list[Decision]:
        return sent(self.shard.apply(self.fold, events, "user-events"), SEND_DECISIONS)

    def tend(self) -> list[Decision]:
        return sent(self.shard.run(self.triggers), SEND_DECISIONS)

    def told(self) -> list[Tally]:
        updates = sent(self.shard.outputs, LEARNING_UPDATES)
        return [tally for update in updates for tally in update.tallies]


def cart(user: str, at_ms: int = NOON, number: int = 0, **given) -> UserEvent:
    usual = {"type": "cart-abandoned", "event_id": f"{user}/{number}"}
    return UserEvent(user_id=user, occurred_at_ms=at_ms, **{**usual, **given})


def test_an_event_is_answered_in_the_transaction_that_folds_it():
    shop = Shop()
    (decision,) = shop.events(cart(USERS[3]))
    assert (decision.user_id, decision.reason, decision.wave) == (USERS[3], "policy", 0)
    assert decision.decision_id == decision_id("spring", 0, USERS[3], event_key(cart(USERS[3])))
    assert decision.decided_at_ms == NOON
    assert 0 < decision.propensity <= 1
    (entry,) = shop.shard.load(ledger_key(USERS[3]), Ledger).entries
    assert (entry.decision_id, entry.action) == (decision.decision_id, decision.action)
    running = load_wave(shop.shard.begin(), wave_key("spring", 0))
    assert (running.decided, running.open, running.held) == (1, 1, 1)


def test_only_its_own_type_of_event_starts_a_decision():
    shop = Shop()
    assert shop.events(cart(USERS[0], type="app_open")) == []
    assert (
        len(shop.events(cart(USERS[0], type="app_open", number=1), cart(USERS[0], number=2))) == 1
    )


def test_an_event_that_comes_again_is_not_answered_again():
    shop = Shop()
    assert len(shop.events(cart(USERS[0]), cart(USERS[0]))) == 1
    assert shop.events(cart(USERS[0])) == []


def test_a_transaction_that_is_tried_again_decides_the_same():
    one, other = Shop(), Shop()
    batch = [cart(user) for user in USERS]
    assert raw(one.shard.apply(one.fold, batch, "user-events")) == raw(
        other.shard.apply(other.fold, batch, "user-events")
    )


def test_two_events_of_a_user_are_two_decisions_each_with_the_profile_of_its_moment():
    shop = Shop(campaign(trigger_event="cart-abandoned", audience_segment="age < 30"))
    first = cart(USERS[0], attributes={"age": 20})
    second = cart(USERS[0], NOON + 1, 1, attributes={"age": 40})
    third = cart(USERS[0], NOON + 2, 2, attributes={"age": 25})
    decisions = shop.events(first, second, third)
    events = (event_key(first), event_key(third))
    assert [d.decision_id for d in decisions] == [
        decision_id("spring", 0, USERS[0], event) for event in events
    ]


def test_rules_of_the_campaign_hold_as_for_waves():
    shop = Shop(replace(CART, cap_sends=1, holdout=0.3, baseline_action="ping", baseline_share=0.3))
    first = shop.events(*(cart(user) for user in USERS))
    assert {d.reason for d in first} == {"policy", "holdout", "baseline"}
    assert all(d.action == "ping" for d in first if d.reason == "baseline")
    again = shop.events(*(cart(user, NOON + 1, 1) for user in USERS))
    assert {d.reason for d in again} == {"holdout", "capped"}
    assert {d.action for d in again} == {NO_SEND}


def test_a_list_says_who_can_be_triggered():
    shop = Shop()
    shop.begin(CART, 1, users=[USERS[1]])
    assert [d.user_id for d in shop.events(cart(USERS[0]), cart(USERS[1]))] == [USERS[1]]


@pytest.mark.parametrize(
    ("after_ms", "answered"), [(HOUR_MS - 1, False), (HOUR_MS, True), (-HOUR_MS, False)]
)
def test_a_user_rests_after_a_decision_for_as_long_as_the_campaign_says(after_ms, answered):
    shop = Shop(replace(CART, trigger_every_ms=HOUR_MS, expires_after_ms=DAY_MS))
    assert len(shop.events(cart(USERS[0]))) == 1
    assert len(shop.events(cart(USERS[0], NOON + after_ms, 1))) == answered


def test_a_rest_is_forgotten_when_it_is_over_and_a_later_one_is_not():
    shop = Shop(
        replace(
            CART,
            trigger_every_ms=50_000,
            attribution_window_ms=DAY_MS,
            correction_horizon_ms=2 * DAY_MS,
        )
    )
    shop.events(cart(USERS[0]))
    shop.shard.now_ms = NOON + 50_000
    shop.triggers = Triggers(shop.known, 5, clock(NOON + 50_000))
    shop.fold = FoldProfiles(SHARDS, 65_536, clock(NOON + 50_000), shop.triggers)
    shop.events(cart(USERS[0], NOON + 50_000, 1))
    shop.shard.run(CloseDue(clock()))
    assert shop.shard.store.get(rest_key(USERS[0], "spring")) == b"%d" % (NOON + 100_000)
    shop.shard.now_ms = NOON + 100_000
    shop.shard.run(CloseDue(clock()))
    assert shop.shard.store.get(rest_key(USERS[0], "spring")) is None


def test_what_a_cap_kept_from_a_user_does_not_make_the_user_rest():
    rested = replace(CART, trigger_every_ms=HOUR_MS)
    shop = Shop(replace(rested, quiet_from_minute=0, quiet_until_minute=1439))
    assert [d.reason for d in shop.events(cart(USERS[0]))] == ["quiet-hours"]
    shop.begin(replace(rested, version=2), 1)
    assert [d.reason for d in shop.events(cart(USERS[0], NOON, 1))] == ["policy"]


def test_an_event_that_comes_when_nobody_waits_any_more_is_not_answered():
    shop = Shop()
    assert len(shop.events(cart(USERS[0], NOON - 60_000))) == 1
    assert shop.events(cart(USERS[0], NOON - 60_001, 1)) == []


def test_in_a_replay_a_decision_is_as_late_as_its_event():
    shop = Shop(wall_ms=None)
    shop.shard.now_ms = NOON - DAY_MS
    times = [NOON, NOON, NOON + 10_000]
    decisions = shop.events(*(cart(user, at_ms) for user, at_ms in zip(USERS, times, strict=False)))
    assert [d.decided_at_ms for d in decisions] == times


def test_events_wait_for_a_policy_that_has_not_arrived():
    shop = Shop(arrived=False)
    assert shop.events(cart(USERS[0]), cart(USERS[1], NOON + 1), cart(USERS[0], NOON + 2, 1)) == []
    assert shop.tend() == []
    shop.arrive(CART, 0)
    assert [d.user_id for d in shop.tend()] == [USERS[0], USERS[1], USERS[0]]
    assert shop.tend() == []


def test_the_last_wave_decides_until_the_next_ones_policy_has_arrived():
    shop = Shop()
    shop.begin(CART, 1, arrived=False)
    assert [(d.wave, d.policy_version) for d in shop.events(cart(USERS[0]))] == [(0, 0)]
    shop.arrive(CART, 1)
    assert [(d.wave, d.policy_version) for d in shop.events(cart(USERS[1]))] == [(1, 1)]
    shop.tend()
    *_, over = [u for u in sent(shop.shard.outputs, LEARNING_UPDATES) if u.wave == 0]
    assert (over.deciding, over.decided, over.open) == (False, 1, 1)
    assert load_wave(shop.shard.begin(), wave_key("spring", 0)).held == 1


def test_a_wave_that_nobody_was_decided_in_leaves_nothing_behind():
    shop = Shop()
    shop.begin(CART, 1)
    shop.begin(CART, 2)
    shop.tend()
    assert shop.shard.keys(b"w") == [wave_key("spring", 2)]
    assert shop.shard.keys(b"k") == [pinned_key("spring", 2)]
    assert shop.shard.keys(b"d") == []
    shop.begin(CART, 1)  # an old start that comes again
    assert shop.shard.keys(b"w") == [wave_key("spring", 2)]


def test_what_a_paused_campaign_is_asked_is_not_answered_later():
    shop = Shop()
    shop.known.campaigns["spring"] = replace(CART, status="paused")
    assert shop.events(cart(USERS[0])) == []
    shop.known.campaigns["spring"] = CART
    assert shop.tend() == []
    assert len(shop.events(cart(USERS[0], number=1))) == 1


def test_a_stopped_campaign_ends_its_waves_and_forgets_what_waits():
    shop = Shop()
    shop.begin(CART, 1, arrived=False)
    shop.events(cart(USERS[0]))
    shop.known.campaigns["spring"] = replace(CART, status="stopped")
    shop.tend()
    ended = {u.wave for u in sent(shop.shard.outputs, LEARNING_UPDATES) if not u.deciding}
    assert ended == {0, 1}
    assert shop.shard.keys(b"g") == shop.shard.keys(b"q") == []
    assert shop.events(cart(USERS[1])) == []


def test_a_template_paused_since_is_not_sent():
    shop = Shop()
    paused = [replace(t, status="paused" if t.id != "ping" else "active") for t in CART.templates]
    shop.known.campaigns["spring"] = replace(CART, version=2, templates=paused)
    assert {d.action for d in shop.events(*(cart(user) for user in USERS))} == {"ping"}


def test_the_learner_is_told_of_all_decisions_but_not_of_each():
    shop = Shop()
    shop.events(cart(USERS[0]))
    assert sum(tally.decisions for tally in shop.told()) == 1
    for number, user in enumerate(USERS, 1):
        shop.events(cart(user, number=number))
        shop.tend()
    assert sum(tally.decisions for tally in shop.told()) == 1
    shop.shard.now_ms = NOON + 1000
    shop.triggers = Triggers(shop.known, 5, clock(NOON + 1000))
    shop.tend()
    assert sum(tally.decisions for tally in shop.told()) == len(USERS) + 1


def test_two_campaigns_that_wait_for_the_same_event_keep_to_the_cap_together():
    shop = Shop(replace(CART, cap_sends=1))
    shop.begin(replace(CART, campaign_id="summer", cap_sends=1))
    decisions = shop.events(cart(USERS[0]))
    assert [(d.campaign_id, d.reason) for d in decisions] == [
        ("spring", "policy"),
        ("summer", "capped"),
    ]


def test_a_schedule_beside_it_goes_on_as_it_did():
    shop = Shop()
    letter = campaign(campaign_id="letter")
    shop.known.campaigns["letter"] = letter
    shop.known.snapshots["letter", 0] = frozen(letter)
    shop.shard.apply(StartWaves(), [wave_start(letter)], "wave-starts")
    decisions = sent(shop.shard.run(DecideChunk(shop.known, 5, clock())), SEND_DECISIONS)
    assert {d.campaign_id for d in decisions} == {"letter"}
    assert len(decisions) == len(USERS)
    assert [d.campaign_id for d in shop.events(cart(USERS[0]))] == ["spring"]


def test_a_triggered_wave_is_told_in_parts_at_its_pace_and_with_its_end():
    shop = Shop(half_lives_ms=[0.0])
    for user in USERS[:3]:
        shop.events(cart(user))

    def at(now_ms: int) -> list[LearningUpdate]:
        shop.shard.now_ms = now_ms
        shop.shard.outputs = []
        for step in (CloseDue(clock(now_ms)), TellGathered(clock(now_ms), INTERVAL_MS)):
            shop.shard.run(step)
        updates = sent(shop.shard.outputs, LEARNING_UPDATES)
        return [update for update in updates if update.sums or update.rewards]

    closes_ms = NOON + CART.closes_after_ms
    assert at(closes_ms) == []
    assert at(closes_ms + INTERVAL_MS - 1) == []
    (told,) = at(closes_ms + INTERVAL_MS)
    assert len(told.rewards) == 3 * 8  # so few that they take less room than their sums
    assert (told.open, told.deciding) == (0, True)
