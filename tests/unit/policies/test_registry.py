import pytest

from schemas.errors import PolicyError
from streams.core.policies import POLICIES, LinearThompson, create, validate


def test_every_parameter_has_a_default_that_passes_and_a_line_of_meaning():
    for policy in POLICIES.values():
        for parameter in policy.PARAMETERS:
            parameter.check(policy.name, parameter.default)
            assert parameter.doc
            assert "\n" not in parameter.doc


def test_the_defaults_of_the_registry_are_those_of_the_class():
    assert validate("linear-thompson", {}) == LinearThompson(1, 1).parameters()
    for parameter in LinearThompson.PARAMETERS:
        assert validate("linear-thompson", {})[parameter.name] == parameter.default


def test_given_parameters_reach_the_policy():
    policy = create("linear-thompson", {"draws": 64, "floor": 0, "adapt": False}, 2, 1)
    assert isinstance(policy, LinearThompson)
    assert (policy.draws, policy.floor, policy.adapt) == (64, 0.0, False)
    assert isinstance(policy.floor, float)  # 0 in a definition is 0.0 here


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("linear-tompson", {}, "no policy 'linear-tompson': did you mean 'linear-thompson'"),
        ("zzz", {}, "give one of adaptive-thompson, .*, uniform"),
        ("linear-thompson", {"flor": 0.1}, "no parameter 'flor': did you mean 'floor'"),
        ("uniform", {"flor": 0.1}, "no parameter 'flor': there are none"),
        ("linear-thompson", {"floor": 1.5}, r"'floor' must lie in \[0, 1\], got 1.5"),
        ("linear-thompson", {"floor": float("nan")}, "'floor' must lie in"),
        ("linear-thompson", {"floor": "lots"}, "'floor' must be of type float, got 'lots'"),
        ("linear-thompson", {"floor": True}, "'floor' must be of type float, got True"),
        ("linear-thompson", {"draws": 512.5}, "'draws' must be of type int, got 512.5"),
        ("linear-thompson", {"draws": 8}, r"'draws' must lie in \[16, 16384\], got 8"),
        ("linear-thompson", {"adapt": 1}, "'adapt' must be of type bool, got 1"),
        ("fixed", {"order": "a"}, "'order' must be a list of words, got 'a'"),
        ("fixed", {}, "either action or order"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_cure(name, params, says):
    with pytest.raises(PolicyError, match=says):
        validate(name, params)


def test_the_class_checks_its_parameters_too():
    with pytest.raises(PolicyError, match="'exploration' must lie in"):
        LinearThompson(1, 1, exploration=-1.0)


def test_too_many_features_are_refused_before_anything_is_learned():
    assert create("linear-thompson", {}, 31, 15).d_user == 31  # 32 * 16 = 512
    with pytest.raises(PolicyError, match=r"at most 512, got \(1 \+ 32\)\(1 \+ 15\) = 528"):
        create("linear-thompson", {}, 32, 15)
    with pytest.raises(PolicyError, match="d_user must be at least 0, got -1"):
        create("uniform", {}, -1, 0)
