import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, Examples


def fields(**changes):
    return {
        "contexts": np.zeros((2, 3)),
        "actions": ("a", "b"),
        "action_features": np.zeros((2, 1)),
        "rewards": np.zeros(2),
        "previous": np.array([np.nan, 0.5]),
        "at_ms": np.zeros(2, dtype=np.int64),
    } | changes


def test_examples_know_which_of_them_are_corrections():
    assert Examples(**fields()).is_new.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("contexts", np.zeros((3, 3)), "contexts must have shape"),
        ("contexts", np.full((2, 3), np.inf), "finite"),
        ("contexts", np.full((2, 3), 1e10), "within ±1e\\+09, got 1"),
        ("rewards", np.array([0.0, np.nan]), "rewards must be finite"),
        ("previous", np.array([np.nan, np.inf]), "previous must be finite"),
        ("action_features", np.zeros(2), "action_features must have shape"),
        ("at_ms", np.zeros(2), "whole milliseconds"),
    ],
)
def test_examples_that_do_not_hang_together_are_refused(name, value, says):
    with pytest.raises(PolicyError, match=says):
        Examples(**fields(**{name: value}))


@pytest.mark.parametrize(
    ("ids", "features", "says"),
    [
        (("a", "a"), np.zeros((2, 1)), "unique, got 'a' twice"),
        (("a", ""), np.zeros((2, 1)), "non-empty"),
        ((), np.zeros((0, 1)), "non-empty"),
        (("a", "b"), np.zeros((3, 1)), "must have shape"),
        (("a", "b"), np.array([[0.0], [np.nan]]), "finite"),
    ],
)
def test_action_sets_that_do_not_hang_together_are_refused(ids, features, says):
    with pytest.raises(PolicyError, match=says):
        ActionSet(ids=ids, features=features)
