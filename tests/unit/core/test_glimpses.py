import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.campaign import ContextFeature
from schemas.records import UserEvent
from streams.core.encoding import ContextEncoder
from streams.core.glimpses import MOST, Glimpse, glimpse_of
from streams.core.profiles import Profile, fold_event, leave
from streams.core.segments import compile_segment

RAW = ("attributes_at", "contacts_at", "seen")  # what only folding needs
ODD = ["get", "FIELDS", "rows", "f0", "two words", "naïve", "__init__", "1st", "age", "emoji 😀"]
UNFIT = ['with "quotes"', "back\\slash", "new\nline", "nul\0", "half \ud800 a pair"]


def ann(**attributes: object) -> Profile:
    profile = Profile()
    told = attributes or {"age": 30, "plan": "free", "tags": ["a", "b"]}
    first = UserEvent(
        user_id="ann",
        type="app_open",
        occurred_at_ms=1000,
        attributes=told,
        contacts={"email": "a@x"},
        event_id="1",
    )
    fold_event(profile, first)
    fold_event(profile, UserEvent(user_id="ann", type="purchase", occurred_at_ms=2000))
    leave(profile, "push", 2500)
    profile.sends, profile.sent_at = [1500], {"spring/hello": 1500}
    return profile


def read(kind: type[Profile], profile: Profile) -> Profile:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(profile), type=kind)


def test_a_glimpse_reads_what_deciding_asks_and_leaves_the_rest_as_it_stands():
    profile = ann()
    raw = msgspec.msgpack.encode(profile)
    glimpse = msgspec.msgpack.decode(raw, type=Glimpse)
    for name in ("attributes", "contacts", "counts", "left", "sends", "sent_at"):
        assert getattr(glimpse, name) == getattr(profile, name)
    assert glimpse.reachable("email")
    assert not glimpse.reachable("push")
    assert glimpse.last_event_ms("purchase") == 2000
    assert msgspec.msgpack.encode(glimpse) == raw


def test_a_glimpse_of_nobody_is_an_empty_profile():
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([]), type=Glimpse).attributes == {}


def test_a_glimpse_of_some_attributes_has_these_and_all_else():
    profile = ann()
    glimpse = read(glimpse_of({"plan", "tags", "city"}), profile)
    assert [glimpse.attributes.get(n) for n in ("plan", "tags", "city")] == [
        "free",
        ("a", "b"),
        None,
    ]
    with pytest.raises(KeyError):
        glimpse.attributes.get("age")
    for name in set(Profile.__struct_fields__) - {"attributes", *RAW}:
        assert getattr(glimpse, name) == getattr(profile, name)
    for name in RAW:
        assert msgspec.msgpack.decode(getattr(glimpse, name)) == msgspec.to_builtins(
            getattr(profile, name)
        )


def test_a_glimpse_of_nobody_lacks_every_attribute_and_is_nobody_elses():
    kind = glimpse_of(["age"])
    assert kind().attributes.get("age") is None
    assert kind().attributes is not kind().attributes
    assert not kind().reachable("email")


@pytest.mark.parametrize("name", ODD)
def test_an_attribute_may_have_any_name(name):
    glimpse = read(glimpse_of(ODD), ann(**{other: other for other in ODD}))
    assert glimpse.attributes.get(name) == name


@pytest.mark.parametrize("name", UNFIT)
def test_where_no_field_can_have_a_name_all_are_read(name):
    assert glimpse_of(["age", name]) is Glimpse
    assert glimpse_of(["age", name])().attributes.get(name) is None


@given(st.text())
def test_a_name_is_a_fields_or_all_are_read(name):
    kind = glimpse_of(["age", name])
    assert kind().attributes.get(name) is None
    if kind is not Glimpse:
        assert read(kind, Profile(attributes={name: 5, "age": 5})).attributes.get(name) == 5


def test_where_many_are_asked_for_all_are_read():
    assert glimpse_of(map(str, range(MOST))) is not Glimpse
    assert glimpse_of(map(str, range(MOST + 1))) is Glimpse


def test_what_is_asked_alike_is_read_alike():
    assert glimpse_of(["a", "b"]) is glimpse_of({"b", "a"}) is not glimpse_of(["a"])


def test_a_segment_says_what_it_asks_for():
    of = compile_segment(
        'plan == "plus" and (is_set("home city") or attribute("age") > 1) and events("seen") > 2'
        ' and reachable("email") and not days_since("bought") < 3'
    )
    assert of.attributes == {"plan", "home city", "age"}


def test_an_encoder_says_what_it_asks_for():
    features = [ContextFeature(attribute="age"), ContextFeature(event="seen")]
    assert ContextEncoder(features).attributes == {"age"}


VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.sampled_from("ab")
FEATURES = [
    ContextFeature(attribute="a", center=1.0, scale=2.0),
    ContextFeature(attribute="b", one_of=["a", "1"]),
    ContextFeature(event="purchase"),
    ContextFeature(attribute="c"),
    ContextFeature(attribute="b", buckets=4),
    ContextFeature(attribute="d", scale=0.5),
]


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.lists(VALUES, min_size=5, max_size=5), min_size=1, max_size=4)
    | st.lists(st.lists(NUMBERS, min_size=5, max_size=5), min_size=1, max_size=4)
)
def test_a_glimpse_has_the_context_of_its_profile(people):
    profiles = []
    for values in people:
        told = {n: value for n, value in zip("abcde", values, strict=True) if value is not None}
        profiles.append(ann(**told, age=1))
    encoder = ContextEncoder(FEATURES)
    glimpses = [read(glimpse_of(encoder.attributes), profile) for profile in profiles]
    whole, _ = encoder.encode_many(profiles)
    assert np.array_equal(encoder.encode_many(glimpses)[0], whole)
    for profile, row in zip(profiles, whole, strict=True):  # as each has it alone
        assert encoder.encode(profile.attributes, profile.counts) == pytest.approx(row, abs=1e-6)
