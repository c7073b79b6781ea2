import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import UserEvent
from streams.core.profiles import (
    EVERYWHERE,
    MOST_ACTIONS,
    MOST_CHANNELS,
    MOST_IDS,
    MOST_KINDS,
    MOST_SENDS,
    Profile,
    event_key,
    fold_event,
    leave,
    note_action,
    note_kind,
    note_send,
    remember,
    take_back_send,
)


def event(at_ms: int = 1000, **given) -> UserEvent:
    return UserEvent(**{"user_id": "ann", "type": "app_open", "occurred_at_ms": at_ms, **given})


def folded(events) -> Profile:
    profile = Profile()
    for each in events:
        fold_event(profile, each)
    return profile


def test_of_two_values_the_later_event_time_stays_whatever_came_first():
    old, new = event(1000, attributes={"plan": "free"}), event(2000, attributes={"plan": "plus"})
    assert folded([old, new]).attributes == folded([new, old]).attributes == {"plan": "plus"}


def test_of_two_values_at_the_same_time_the_one_that_came_last_stays():
    first = event(attributes={"plan": "free"}, event_id="a")
    last = event(attributes={"plan": "plus"}, event_id="b")
    assert folded([first, last]).attributes == {"plan": "plus"}
    assert folded([first, last, first]).attributes == {"plan": "plus"}


def test_a_removal_holds_against_older_values_and_yields_to_newer_ones():
    removal = event(2000, attributes={"plan": None}, contacts={"email": None})
    old = event(1000, attributes={"plan": "free"}, contacts={"email": "old@x"})
    new = event(3000, attributes={"plan": "plus"}, contacts={"email": "new@x"})
    gone = folded([removal, old])
    assert (gone.attributes, gone.contacts) == ({}, {})
    assert not gone.reachable("email")
    back = folded([new, removal, old])
    assert (back.attributes, back.contacts) == ({"plan": "plus"}, {"email": "new@x"})


def test_a_repeated_id_is_counted_once_and_a_new_one_again():
    same = event(1000, event_id="a")
    profile = folded([same, same, event(2000, event_id="a"), event(1500, event_id="b")])
    assert profile.event_count("app_open") == 2
    assert profile.last_event_ms("app_open") == 1500


def test_without_ids_user_type_and_time_tell_events_apart():
    keys = {
        event_key(event(1000)),
        event_key(event(1000, attributes={"age": 3})),
        event_key(event(1001)),
        event_key(event(1000, type="viewed")),
        event_key(event(1000, user_id="bob")),
    }
    assert len(keys) == 4


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.sampled_from(["open", "view"]),
            st.sampled_from([None, "free", 3, 2.5, True, ["a", "b"]]),
        ),
        unique_by=lambda each: each[0],
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_any_order_and_duplication_of_events_give_the_same_profile(given_events, random):
    events = [
        event(at_ms, type=kind, attributes={"plan": value}, contacts={"email": f"{at_ms}@x"})
        for at_ms, kind, value in given_events
    ]
    other = [*events, *random.choices(events, k=len(events))] if events else []
    random.shuffle(other)
    assert folded(other) == folded(events)


def test_a_profile_survives_its_bytes():
    profile = folded(
        [event(attributes={"tags": ["a", "b"], "vip": True, "n": -(2**63)}, contacts={"sms": "1"})]
    )
    leave(profile, "push", 5)
    note_send(profile, 7)
    raw = msgspec.msgpack.encode(profile)
    assert msgspec.msgpack.decode(raw, type=Profile) == profile


def test_ids_beyond_the_bound_push_the_oldest_out():
    seen: dict[int, int] = {}
    for key in range(MOST_IDS + 1):
        assert remember(seen, key, at_ms=1000 + key)
    assert len(seen) == MOST_IDS
    assert 0 not in seen
    assert not remember(seen, 1, at_ms=9999)
    assert seen[1] == 1001


def test_kinds_beyond_the_bound_are_not_counted_those_known_still_are():
    profile = Profile()
    for kind in range(MOST_KINDS + 5):
        note_kind(profile, str(kind), 1)
    note_kind(profile, "3", 9)
    assert len(profile.counts) == MOST_KINDS
    assert profile.counts["3"] == (2, 9)


def test_a_kind_that_is_told_of_late_keeps_its_latest_time():
    profile = folded([event(2000), event(1000)])
    assert profile.last_event_ms("app_open") == 2000
    assert profile.last_event_ms("never") is None
    assert profile.event_count("never") == 0


def test_who_left_a_channel_is_not_reached_there_but_elsewhere():
    profile = folded([event(contacts={"email": "a@x", "push": "token"})])
    leave(profile, "email", 5000)
    assert profile.unsubscribed("email")
    assert not profile.reachable("email")
    assert profile.reachable("push")
    assert not profile.reachable("sms")


def test_who_left_everywhere_is_not_reached_by_contacts_that_come_later():
    profile = Profile()
    leave(profile, None, 5000)
    fold_event(profile, event(9000, contacts={"email": "a@x"}))
    assert profile.unsubscribed("email")
    assert not profile.reachable("email")


def test_leaving_is_dated_by_the_first_time_whatever_came_first():
    profile = Profile()
    for at_ms in (7000, 5000, 6000):
        leave(profile, "email", at_ms)
    assert profile.left == {"email": 5000}


def test_leaving_more_channels_than_are_kept_is_leaving_everywhere():
    profile = Profile()
    for rank in range(3 * MOST_CHANNELS):
        leave(profile, f"channel-{rank}", 1)
    assert len(profile.left) == MOST_CHANNELS + 1
    assert EVERYWHERE in profile.left
    assert profile.unsubscribed("email")


def test_sends_are_kept_in_order_the_newest_only():
    profile = Profile()
    for at_ms in [5, 3, *range(10, 10 + MOST_SENDS)]:
        note_send(profile, at_ms)
    assert profile.sends == list(range(10, 10 + MOST_SENDS))


@pytest.mark.parametrize(("since_ms", "count"), [(100, 2), (101, 1), (200, 1), (201, 0)])
def test_sends_are_counted_from_a_time_on(since_ms, count):
    assert Profile(sends=[100, 200]).sends_since(since_ms) == count


def test_taking_a_send_back_leaves_another_of_the_same_time():
    profile = Profile(sends=[100, 100, 200])
    take_back_send(profile, 100)
    take_back_send(profile, 999)
    assert profile.sends == [100, 200]


def test_of_more_templates_than_are_kept_the_one_sent_first_is_forgotten():
    profile = Profile()
    for rank in range(MOST_ACTIONS + 5):
        note_action(profile, "spring", f"t{rank}", 1000 + rank)
    note_action(profile, "spring", "t9", 5)  # an earlier send that is noted late
    assert len(profile.sent_at) == MOST_ACTIONS
    assert min(profile.sent_at.values()) == 1005
    assert profile.sent_at["spring/t9"] == 1009
