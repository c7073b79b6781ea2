from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ids import TIME_MARKER
from schemas.records import UserEvent
from streams.agents.profile import GROWTH, GROWTH_BASE, FoldProfiles
from streams.agents.state import dumped, profile_key
from streams.core.profiles import Profile, fold_event
from tests.unit.agents.shard import NOON, SHARDS, MemoryShard, clock, incoming, refusals, users_of

ANN, BOB = users_of(0, 2)


def folding(most_bytes: int = 65_536, now_ms: int | None = NOON) -> FoldProfiles:
    return FoldProfiles(SHARDS, most_bytes, clock(now_ms))


def event(number: int = 0, **given) -> UserEvent:
    usual = {"user_id": ANN, "type": "app_open", "occurred_at_ms": NOON + number}
    return UserEvent(**{**usual, **given})


def profile(shard: MemoryShard, user: str = ANN) -> Profile | None:
    return shard.load(profile_key(user), Profile)


def test_events_of_a_batch_are_folded_one_after_the_other():
    shard = MemoryShard()
    outputs = shard.apply(folding(), [event(1), event(2), event(1), event(3, user_id=BOB)])
    assert outputs == []
    assert profile(shard).event_count("app_open") == 2
    assert profile(shard, BOB).event_count("app_open") == 1


def test_an_event_in_the_wrong_shard_is_refused_and_says_which_is_right():
    shard = MemoryShard()
    (why,) = refusals(shard.apply(folding(), [event(user_id=users_of(3, 1)[0])]))
    assert "partition 3" in why
    assert shard.store.pairs == {}


@pytest.mark.parametrize("first", [True, False])
def test_an_event_that_makes_a_profile_too_large_is_refused_and_leaves_it_as_it_was(first):
    shard = MemoryShard()
    if not first:
        shard.apply(folding(), [event(1, attributes={"age": 3})])
    before = dict(shard.store.pairs)
    large = event(2, attributes={f"a{rank}": "x" * 400 for rank in range(10)})
    (why,) = refusals(shard.apply(folding(4000), [large]))
    assert "at most 4000" in why
    assert shard.store.pairs == before
    assert shard.apply(folding(4000), [event(3)]) == []


def test_a_profile_that_is_too_large_may_shrink():
    shard = MemoryShard()
    shard.apply(folding(), [event(1, attributes={"long": "x" * 4000, "short": "y"})])
    assert refusals(shard.apply(folding(1000), [event(2, attributes={"more": "z"})]))
    assert shard.apply(folding(1000), [event(3, attributes={"long": None})]) == []
    assert profile(shard).attributes == {"short": "y"}


@pytest.mark.parametrize("value", [b"", b"\0\1\2\3\4\5", None])
def test_unreadable_records_are_refused(value):
    assert len(refusals(MemoryShard().apply(folding(), [value]))) == 1


def test_numbers_of_any_size_and_lists_are_kept():
    shard = MemoryShard()
    values = {"n": -(2**63), "m": 2**63 - 1, "f": 1e308, "l": ["a"] * 1000, "b": False}
    assert shard.apply(folding(), [event(attributes=values)]) == []
    assert profile(shard).attributes == {**values, "l": ("a",) * 1000}


def test_time_moves_with_events_and_markers_but_not_with_those_far_ahead():
    shard = MemoryShard()
    far = event(300_001)
    shard.apply(folding(), [event(5), event(3), far, event(9, type=TIME_MARKER)], "user-events")
    assert shard.times == {"user-events": NOON + 9}
    assert profile(shard).event_count(TIME_MARKER) == 0
    assert profile(shard).last_event_ms("app_open") == NOON + 300_001


def test_times_that_cannot_be_are_refused_but_not_in_a_replay():
    impossible = event(86_400_001)
    shard = MemoryShard()
    (why,) = refusals(shard.apply(folding(), [impossible], "user-events"))
    assert why.startswith("early")
    assert shard.times == {}
    assert shard.apply(folding(now_ms=None), [impossible], "user-events") == []
    assert shard.times == {"user-events": NOON + 86_400_001}


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 3)), max_size=14),
    st.lists(st.integers(0, 14), max_size=4),
)
@settings(deadline=None, max_examples=40)
def test_splitting_a_batch_anywhere_gives_the_same_state(given_, cuts):
    events = [
        event(at, user_id=ANN if mine else BOB, attributes={"plan": str(value)})
        for at, mine, value in given_
    ]
    whole, parts = MemoryShard(), MemoryShard()
    whole.apply(folding(), events)
    edges = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(edges):
        if start < end:
            parts.apply(folding(), events[start:end])
    assert parts.store.pairs == whole.store.pairs


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.dictionaries(
                st.sampled_from(["a", "b", "c"]),
                st.one_of(st.none(), st.just("x" * 150), st.just("y" * 20), st.just([""] * 60)),
                min_size=1,
            ),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 12), max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_what_is_refused_for_its_size_is_the_same_however_a_batch_is_split(given_, cuts):
    events = [
        event(rank, user_id=(ANN, BOB)[user % 2], attributes=attributes)
        for rank, (user, attributes) in enumerate(given_)
    ]
    whole, parts = MemoryShard(), MemoryShard()
    refused = refusals(whole.apply(folding(400), events))
    in_parts: list[str] = []
    for start, end in pairwise([0, *sorted(cuts), len(events)]):
        if start < end:
            in_parts += refusals(parts.apply(folding(400), events[start:end]))
    assert in_parts == refused
    assert parts.store.pairs == whole.store.pairs
    assert all(len(raw) <= 400 for raw in whole.store.pairs.values())


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3).filter(str.isprintable),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text("ab", max_size=70),
            st.lists(st.text("a", max_size=2), max_size=40),
        ),
        max_size=12,
    ),
    st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.text("ab", max_size=40), max_size=5),
)
@settings(deadline=None, max_examples=100)
def test_an_event_makes_a_profile_no_larger_than_the_bound_says(attributes, contacts):
    one = event(attributes=attributes, contacts=contacts)
    size = len(incoming(one).value or b"")
    profile = Profile()
    before = len(dumped(profile))
    fold_event(profile, one)
    assert len(dumped(profile)) - before <= GROWTH * size + GROWTH_BASE
