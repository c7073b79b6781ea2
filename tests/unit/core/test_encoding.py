import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.campaign import ContextFeature, Template
from streams.core.encoding import ContextEncoder, action_set, feature_names
from streams.core.profiles import Profile
from tests.unit.agents.shard import campaign


def encoded(feature: ContextFeature, value: object) -> list[float]:
    attributes = {} if value is None else {feature.attribute: value}
    return ContextEncoder([feature]).encode(attributes, {})


AGE = ContextFeature(attribute="age", center=45.0, scale=15.0)
PLAN = ContextFeature(attribute="plan", one_of=["free", "plus", "true", "3"])
CITY = ContextFeature(attribute="city", buckets=8)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (60, 1.0),
        (30.0, -1.0),
        (1000, 3.0),
        (-1000, -3.0),
        (2**63 - 1, 3.0),
        (-1.7e308, -3.0),
        (True, 1.0),
        (False, 0.0),
        ("60", 0.0),
        (("a",), 0.0),
        (None, 0.0),
    ],
)
def test_a_number_is_scaled_and_held_within_three(value, expected):
    assert encoded(AGE, value) == [expected]


def test_the_least_scale_and_the_largest_centre_give_finite_columns():
    for center, scale in ((0.0, 5e-324), (1.7e308, 1e-300), (-1.7e308, 1.7e308)):
        feature = ContextFeature(attribute="age", center=center, scale=scale)
        for value in (0, 1, -1.7e308, 1.7e308):
            (column,) = encoded(feature, value)
            assert -3.0 <= column <= 3.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plus", [0, 1, 0, 0]),
        ("other", [0, 0, 0, 0]),
        (("free", "plus"), [1, 1, 0, 0]),
        (["plus"], [0, 1, 0, 0]),
        (True, [0, 0, 1, 0]),
        (3, [0, 0, 0, 1]),
        (None, [0, 0, 0, 0]),
    ],
)
def test_one_of_has_a_column_for_each_value(value, expected):
    assert encoded(PLAN, value) == expected


def test_buckets_set_one_column_a_value_and_the_same_one_always():
    assert sum(encoded(CITY, "Bonn")) == 1
    assert encoded(CITY, "Bonn") == encoded(CITY, ("Bonn",))
    assert encoded(CITY, ()) == encoded(CITY, None) == [0.0] * 8
    two = encoded(CITY, ("Bonn", "Köln"))
    assert [
        max(pair) for pair in zip(encoded(CITY, "Bonn"), encoded(CITY, "Köln"), strict=True)
    ] == two
    other = ContextFeature(attribute="town", buckets=256)
    same = ContextFeature(attribute="city", buckets=256)
    assert encoded(other, "Bonn") != encoded(same, "Bonn")


def test_numbers_are_the_same_whether_everybody_has_them_or_not():
    features = [AGE, PLAN, ContextFeature(attribute="sum", scale=10.0), ContextFeature(event="x")]
    encoder = ContextEncoder(features)
    full = [Profile(attributes={"age": 30 + n, "sum": 2.5 * n}) for n in range(4)]
    others = [Profile(attributes=a) for a in ({}, {"age": True, "sum": "much"}, {"sum": 1})]
    alone, _ = encoder.encode_many(full)
    among, _ = encoder.encode_many(full + others)
    assert np.array_equal(among[:4], alone)
    assert alone[2].tolist() == pytest.approx([(32 - 45) / 15, 0, 0, 0, 0, 0.5, 0])
    assert among[4:, [0, 5]].tolist() == [[0, 0], [1, 0], [0, pytest.approx(0.1)]]


def test_hashed_columns_are_the_same_in_every_release():
    assert encoded(CITY, "Bonn").index(1.0) == 4


def test_events_count_by_their_logarithm():
    encoder = ContextEncoder([ContextFeature(event="click")])
    assert encoder.encode({}, {"click": (3, 0)}) == [math.log(4.0)]
    assert encoder.encode({}, {}) == [0.0]
    assert encoder.columns == ("events(click)",)


def test_columns_are_named_in_their_order():
    encoder = ContextEncoder([AGE, PLAN, ContextFeature(attribute="city", buckets=2)])
    assert encoder.columns == (
        "age",
        "plan=free",
        "plan=plus",
        "plan=true",
        "plan=3",
        "city#0",
        "city#1",
    )
    assert encoder.d_user == 7


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_contexts_are_what_the_log_keeps_of_them(values):
    encoder = ContextEncoder([ContextFeature(attribute="x", scale=7.0)])
    contexts, _ = encoder.encode_many([Profile(attributes={"x": value}) for value in values])
    assert contexts.shape == (len(values), 1)
    kept = np.frombuffer(contexts.astype("<f4").tobytes(), dtype="<f4")
    assert (kept.astype(np.float64) == contexts.ravel()).all()


def test_without_features_contexts_have_no_columns():
    assert ContextEncoder([]).encode_many([Profile(), Profile()])[0].shape == (2, 0)


def test_the_version_changes_with_the_meaning_of_any_column():
    versions = {
        ContextEncoder(features).version
        for features in (
            [AGE],
            [ContextFeature(attribute="age", center=46.0, scale=15.0)],
            [ContextFeature(event="age")],
            [AGE, PLAN],
            [PLAN, AGE],
        )
    }
    assert len(versions) == 5
    assert ContextEncoder([AGE]).version == ContextEncoder([AGE]).version


def test_an_absent_feature_of_a_template_is_nil_and_columns_are_in_order_of_name():
    actions = action_set(campaign())
    assert feature_names(campaign().templates) == ("price", "warm")
    assert actions.ids == ("hello", "offer", "ping")
    assert actions.features.tolist() == [[0.0, 1.0], [0.5, 0.0], [-0.5, 0.5]]


def test_templates_may_be_without_features():
    bare = campaign(templates=[Template(id="a", channel="email", features={})])
    assert action_set(bare).features.shape == (1, 0)
