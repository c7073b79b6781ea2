"""What an encoder sees of a user is the same in training and in serving."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.encoder_inputs import INPUTS, EncoderInputs, NumberInput
from schemas.errors import EncoderError, ReleaseError
from schemas.feature_hash import GOLDEN, feature_hash, feature_name
from schemas.features import FeatureBatch, PlainProfile, fingerprint, hash_profiles
from schemas.training_rows import profile_from_text, profile_to_text
from streams.core.profiles import Profile

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_123
EMPTY = {"ids": [], "values": []}


def hashed(**known) -> FeatureBatch:
    return hash_profiles([PlainProfile(**known)], [NOW_MS])


def listed(ragged) -> dict[int, float]:
    return dict(zip(ragged.ids.tolist(), ragged.values.tolist(), strict=True))


def named(*parts: str) -> int:
    return feature_hash(feature_name(*parts))


@pytest.mark.parametrize(("name", "expected"), GOLDEN.items(), ids=lambda each: repr(each)[:40])
def test_golden_bytes_get_the_index_that_every_release_was_trained_with(name, expected):
    assert feature_hash(name) == expected


def test_golden_hashes_are_murmur3_of_the_reference():
    # By hand: MurmurHash3_x86_32 of nothing is the finaliser of the seed.
    h = 0x6E6F7469
    h ^= h >> 16
    h = h * 0x85EBCA6B & 0xFFFFFFFF
    h ^= h >> 13
    h = h * 0xC2B2AE35 & 0xFFFFFFFF
    h ^= h >> 16
    assert GOLDEN[b""] == h


def test_texts_and_yes_or_no_are_tokens_numbers_are_numbers_and_nothing_is_nothing():
    found = hashed(
        attributes={"plan": "free", "keen": True, "age": 31, "share": 0.25, "city": None}
    )
    assert listed(found.tokens) == {
        named("attribute", "plan", "free"): 1.0,
        named("attribute", "keen", "true"): 1.0,
    }
    assert listed(found.numbers) == {named("number", "age"): 31.0, named("number", "share"): 0.25}


def test_the_parts_of_a_list_share_its_weight():
    found = listed(hashed(attributes={"tags": ("a", "b", "c", "d")}).tokens)
    assert set(found.values()) == {0.5}
    assert named("attribute", "tags", "c") in found
    assert listed(hashed(attributes={"tags": ()}).tokens) == {}


def test_a_number_that_no_float_holds_is_missing():
    found = hashed(attributes={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 2**62})
    assert listed(found.numbers) == {named("number", "d"): 2.0**62}


def test_events_count_and_age_in_whole_hours():
    last_ms = NOW_MS - 5 * HOUR_MS
    found = hashed(counts={"open": (3, last_ms), "soon": (1, NOW_MS + HOUR_MS)})
    assert listed(found.events) == pytest.approx(
        {named("event", "open"): math.log(4), named("event", "soon"): math.log(2)}
    )
    hours = (NOW_MS - NOW_MS % HOUR_MS - last_ms) // HOUR_MS
    assert listed(found.numbers)[named("recency", "open")] == pytest.approx(math.log1p(hours))
    assert listed(found.numbers)[named("recency", "soon")] == 0.0


def test_two_times_of_one_hour_are_encoded_alike():
    profile = PlainProfile(counts={"open": (3, NOW_MS - 100 * HOUR_MS)}, sends=(NOW_MS - HOUR_MS,))
    start_ms = NOW_MS - NOW_MS % HOUR_MS
    first, last, next_hour = (
        hash_profiles([profile], [at]).to_bytes()
        for at in (start_ms, start_ms + HOUR_MS - 1, start_ms + HOUR_MS)
    )
    assert first == last != next_hour


def test_channels_that_reach_and_that_were_left():
    found = listed(hashed(contacts=("email", "push"), left={"push": 5}).tokens)
    assert set(found) == {named("reach", "email"), named("left", "push")}
    everywhere = listed(hashed(contacts=("email",), left={"": 5}).tokens)
    assert set(everywhere) == {named("left", "")}


def test_what_was_sent_counts_by_day_week_and_month():
    hours_ago = (1, 30, 200, 800)
    found = listed(hashed(sends=tuple(NOW_MS - h * HOUR_MS for h in hours_ago)).numbers)
    counts = {span: found[named("sends", span)] for span in ("day", "week", "month")}
    assert counts == pytest.approx({"day": math.log(2), "week": math.log(3), "month": math.log(4)})
    assert named("sends", "last") in found
    assert listed(hashed().numbers) == {}


profiles = st.builds(
    PlainProfile,
    attributes=st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=8),
            st.lists(st.text(max_size=5), max_size=3).map(tuple),
        ),
        max_size=5,
    ),
    counts=st.dictionaries(
        st.text(max_size=5),
        st.tuples(st.integers(1, 10**9), st.integers(0, 2 * NOW_MS)),
        max_size=4,
    ),
    contacts=st.lists(st.sampled_from(["email", "push", "sms"]), unique=True).map(
        lambda channels: tuple(sorted(channels))
    ),
    left=st.dictionaries(st.sampled_from(["", "email", "sms"]), st.integers(0, NOW_MS)),
    sends=st.lists(st.integers(0, NOW_MS), max_size=5).map(lambda times: tuple(sorted(times))),
)


@given(profiles)
def test_a_profile_of_a_file_and_one_of_a_shard_have_identical_features(plain):
    """Training reads JSON from Parquet, a worker MessagePack from its state."""
    folded = Profile(
        attributes=dict(plain.attributes),
        counts=dict(plain.counts),
        contacts=dict.fromkeys(plain.contacts, "someone"),
        left=dict(plain.left),
        sends=list(plain.sends),
    )
    served = msgspec.msgpack.decode(msgspec.msgpack.encode(folded), type=Profile)
    trained = profile_from_text(profile_to_text(PlainProfile.of(folded)))
    a, b = hash_profiles([served], [NOW_MS]), hash_profiles([trained], [NOW_MS])
    for one, other in ((a.tokens, b.tokens), (a.events, b.events), (a.numbers, b.numbers)):
        order, other_order = (
            np.argsort(one.ids, kind="stable"),
            np.argsort(other.ids, kind="stable"),
        )
        assert one.ids[order].tobytes() == other.ids[other_order].tobytes()
        assert sorted(one.values.tolist()) == sorted(other.values.tolist())


@given(st.lists(profiles, max_size=4))
def test_features_come_back_from_their_bytes(users):
    batch = hash_profiles(users, [NOW_MS] * len(users))
    back = FeatureBatch.from_bytes(batch.to_bytes())
    assert len(back) == len(users)
    assert back.to_bytes() == batch.to_bytes()


@pytest.mark.parametrize("raw", [b"", b"\1\0\0", b"\1\0\0\0\0\0", b"\0" * 7])
def test_bytes_that_are_no_features_are_refused(raw):
    with pytest.raises(EncoderError, match="learning-examples"):
        FeatureBatch.from_bytes([raw])


def test_rows_are_chosen_in_any_order():
    users = [PlainProfile(attributes={f"a{n}": "x" for n in range(size)}) for size in (2, 0, 3)]
    batch = hash_profiles(users, [NOW_MS] * 3)
    chosen = batch.rows(np.array([2, 0, 2, 1]))
    whole = batch.to_bytes()
    assert chosen.to_bytes() == [whole[2], whole[0], whole[2], whole[1]]


INPUTS_OF_TWO = EncoderInputs(
    bits=10,
    most_tokens=3,
    most_events=2,
    numbers=[
        NumberInput(name=["number", "age"], knots=[20.0, 40.0, 60.0], places=[-1.0, 0.5, 1.0]),
        NumberInput(name=["number", "spent"], knots=[0.0], places=[0.25]),
    ],
)


def test_arrays_are_padded_cut_and_placed():
    users = [
        PlainProfile(attributes={"a": "1", "b": "2", "c": "3", "d": "4", "age": 30}),
        PlainProfile(),
        PlainProfile(attributes={"age": 1e9, "spent": -7, "unheard": 3.0}),
    ]
    arrays = INPUTS_OF_TWO.arrays(hash_profiles(users, [NOW_MS] * 3))
    assert list(arrays) == list(INPUTS)
    expected = [named("attribute", name, value) % 1024 for name, value in ("a1", "b2", "c3")]
    assert arrays["token_index"].tolist() == [expected, [0, 0, 0], [0, 0, 0]]
    assert arrays["token_weight"].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert arrays["event_index"].shape == arrays["event_weight"].shape == (3, 1)
    assert arrays["numbers"].tolist() == [[-0.25, 0], [0, 0], [1, 0.25]]
    assert arrays["known"].tolist() == [[1, 0], [0, 0], [1, 1]]
    assert {array.dtype for array in arrays.values()} == {np.dtype("int64"), np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "hashed by"),
        ({"bits": 40}, "bits must be 4 to 24"),
        ({"names": ["x"]}, "inputs must be"),
        ({"most_tokens": 0}, "most_tokens"),
    ],
)
def test_inputs_that_no_profile_gives_are_refused(change, match):
    given_ = {"bits": 10, "most_tokens": 3, "most_events": 2, "numbers": []}
    with pytest.raises(ReleaseError, match=match):
        EncoderInputs(**(given_ | change))


@pytest.mark.parametrize("knots", [[], [1.0, 1.0], [2.0, 1.0], [math.nan], [0.0, math.inf]])
def test_a_number_whose_knots_do_not_rise_is_refused(knots):
    with pytest.raises(ReleaseError, match="number"):
        NumberInput(name=["number", "age"], knots=knots, places=[0.0] * len(knots))


@given(profiles, profiles, st.integers(0, 5), st.booleans())
def test_profiles_of_one_fingerprint_have_the_same_features(one, other, hours, changed):
    """The converse need not be: an order of attributes that gives the same features may differ."""
    later_ms = NOW_MS + hours * HOUR_MS
    second = other if changed else one
    if fingerprint(one, NOW_MS) == fingerprint(second, later_ms):
        features = [
            hash_profiles([user], [at]).to_bytes()
            for user, at in ((one, NOW_MS), (second, later_ms))
        ]
        assert features[0] == features[1]
    else:
        assert changed or hours


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": {"plan": "plus", "age": 30}},
        {"attributes": {"plan": "free", "age": 30.5}},
        {"attributes": {"plan": "free", "age": True}},
        {"counts": {"open": (4, NOW_MS)}},
        {"counts": {"open": (3, NOW_MS - 1)}},
        {"contacts": ("email", "push")},
        {"left": {"push": 1}},
        {"sends": (NOW_MS - 1, NOW_MS)},
    ],
)
def test_whatever_changes_in_a_profile_changes_its_fingerprint(change):
    base = PlainProfile(
        attributes={"plan": "free", "age": 30},
        counts={"open": (3, NOW_MS)},
        contacts=("email",),
        sends=(NOW_MS,),
    )
    assert fingerprint(msgspec.structs.replace(base, **change), NOW_MS) != fingerprint(base, NOW_MS)
    assert fingerprint(base, NOW_MS) == fingerprint(msgspec.structs.replace(base), NOW_MS)


def test_a_fingerprint_holds_for_its_hour():
    start_ms = NOW_MS - NOW_MS % HOUR_MS
    first, last, next_hour = (
        fingerprint(PlainProfile(), at)
        for at in (start_ms, start_ms + HOUR_MS - 1, start_ms + HOUR_MS)
    )
    assert first == last != next_hour
