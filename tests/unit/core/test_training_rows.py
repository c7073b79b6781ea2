"""Training rows: each decision with the profile as it was then, and what came of it."""

from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.records import UserEvent
from streams.core.training_rows import newest_outcomes, training_rows

AT_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


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


def rows(examples, events):
    by_user = {}
    for each in events:
        by_user.setdefault(each.user_id, []).append(each)
    return list(training_rows(newest_outcomes(examples), by_user))


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
