"""Training rows: each decision with the profile as it was then, and what came of it."""

import pytest

from schemas.features import PlainProfile
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.records import Reward, UserEvent
from schemas.topics import LEARNING_EXAMPLES
from streams.agents.attribute import Attribute
from streams.agents.close import CloseDue
from streams.agents.profile import FoldProfiles
from streams.agents.state import profile_key
from streams.core.profiles import EVERYWHERE, Profile
from streams.core.training_rows import newest_outcomes, training_rows
from tests.unit.agents.shard import (
    NOON,
    SHARDS,
    MemoryShard,
    add_people,
    campaign,
    clock,
    decided,
    sent,
    users_of,
)

AT_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SPRING = campaign(holdout=0.0)
(USER,) = users_of(0, 1)


def example(decision_id="d1", user_id="u1", hours=0, **changes) -> LearningExample:
    given = {
        "decision_id": decision_id,
        "campaign_id": "c",
        "campaign_version": 1,
        "wave": 0,
        "user_id": user_id,
        "reason": "policy",
        "action": "letter",
        "propensity_kind": "drawn",
        "actions": ["letter"],
        "probabilities": [1.0],
        "context": b"",
        "reward": 0.0,
        "policy_version": 1,
        "encoder_version": "x",
        "decided_at_ms": AT_MS + hours * HOUR_MS,
        "closed_at_ms": AT_MS + (hours + 24) * HOUR_MS,
    }
    return LearningExample(**(given | changes))


def event(hours, kind="open", user_id="u1", **attributes) -> UserEvent:
    return UserEvent(
        user_id=user_id,
        type=kind,
        occurred_at_ms=AT_MS + hours * HOUR_MS,
        event_id=f"{kind}-{hours}",
        attributes=attributes,
        contacts={"email": "someone@example.org"},
    )


def reward(hours, kind="click", decision_id="d1", **changes) -> Reward:
    given = {"user_id": "u1", "kind": kind, "occurred_at_ms": AT_MS + hours * HOUR_MS}
    return Reward(**(given | {"decision_id": decision_id} | changes))


def rows(examples, told, channels=None):
    by_user = {}
    for each in told:
        by_user.setdefault(each.user_id, []).append(each)
    return list(training_rows(newest_outcomes(examples), by_user, channels or {}))


def test_the_profile_is_the_one_at_the_decision_and_not_later():
    events = [event(5, plan="pro"), event(-2, plan="free"), event(-1, "view")]
    (row,) = rows([example()], events)
    assert row.profile.attributes == {"plan": "free"}
    assert row.profile.counts == {
        "open": (1, AT_MS - 2 * HOUR_MS),
        "view": (1, AT_MS - HOUR_MS),
    }
    assert row.next_event == "open"


def test_no_contact_reference_is_in_a_row():
    (row,) = rows([example()], [event(-1)])
    assert row.profile.contacts == ("email",)
    assert "example.org" not in repr(row)


def test_earlier_decisions_are_contact_history_of_later_ones():
    first, second = rows([example("d2", hours=10), example("d1")], [])
    assert first.profile.sends == ()
    assert second.profile.sends == (AT_MS,)


def test_a_correction_takes_the_place_of_what_it_corrects():
    late = example(feedback={"click": 1, "purchase": 1}, previous_reward=0.0)
    (row,) = rows([example(), late], [])
    assert (row.clicked, row.purchased, row.unsubscribed) == (1.0, 1.0, 0.0)


def test_a_decision_to_send_nothing_is_no_row():
    assert rows([example(action=NO_SEND)], []) == []


def test_an_event_after_the_decision_closed_is_not_the_next_one():
    (row,) = rows([example()], [event(25)])
    assert row.next_event == ""


def test_users_are_kept_apart():
    found = rows(
        [example("d1", "u1"), example("d2", "u2")],
        [event(-1, user_id="u1", plan="a"), event(-1, user_id="u2", plan="b")],
    )
    assert [row.profile.attributes for row in found] == [{"plan": "a"}, {"plan": "b"}]


def test_feedback_before_a_decision_is_in_its_profile_once_and_never_its_own():
    first, second = example("d1"), example("d2", hours=10)
    click = reward(2)
    at_first, at_second = rows([first, second], [click, click, reward(11, decision_id="d2")])
    assert at_first.profile.counts == {}
    assert at_second.profile.counts == {"click": (1, AT_MS + 2 * HOUR_MS)}
    assert at_first.next_event == ""  # a click is no event of the user's own


@pytest.mark.parametrize(
    ("named", "channels", "left"),
    [
        ("push", {}, "push"),
        (None, {("c", "letter"): "email"}, "email"),
        (None, {}, EVERYWHERE),  # the campaign was deleted since
    ],
)
def test_who_unsubscribed_has_left_the_channel_that_workers_know_of(named, channels, left):
    gone = reward(2, "unsubscribe", channel=named)
    _, second = rows([example("d1"), example("d2", hours=10)], [gone], channels)
    assert second.profile.left == {left: AT_MS + 2 * HOUR_MS}


def test_the_event_that_triggered_a_decision_at_its_own_time_is_in_the_profile():
    (row,) = rows([example()], [event(0, "cart-abandoned"), event(1)])
    assert row.profile.counts == {"cart-abandoned": (1, AT_MS)}
    assert row.next_event == "open"


def test_a_row_has_the_profile_that_the_workers_had_whatever_order_events_came_in():
    """Through the handlers themselves: what is decided with is what is trained on."""
    shard = MemoryShard()
    add_people(shard, [USER])
    shard_events = [
        UserEvent(user_id=USER, type="view", occurred_at_ms=NOON - late, attributes={"size": late})
        for late in (5_000, 9_000, 7_000)
    ]
    shard.apply(FoldProfiles(SHARDS, 65_536, clock()), shard_events, "user-events")
    before = reward(0, "dismiss", None, user_id=USER, occurred_at_ms=NOON - 2_000)
    shard.apply(Attribute(SHARDS, clock()), [before, before], "rewards")
    (decision,) = decided(shard, SPRING)
    shard.now_ms = NOON + SPRING.closes_after_ms
    logged = sent(shard.run(CloseDue(clock(shard.now_ms))), LEARNING_EXAMPLES)
    imported = UserEvent(
        user_id=USER,
        type="profile",
        occurred_at_ms=NOON - 86_400_000,
        attributes={"age": 20, "plan": "free"},
        contacts={"email": f"{USER}@example.com", "push": f"token-{USER}"},
    )
    (row,) = rows(logged, [imported, *shard_events, before, before])
    now = shard.load(profile_key(USER), Profile)
    assert (row.at_ms, row.profile) == (decision.decided_at_ms, PlainProfile.of(now))
