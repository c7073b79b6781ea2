"""River's models survive as data, and nothing else gets in."""

import contextlib
import inspect

import msgspec
import numpy as np
import pytest
from river import linear_model, neighbors, stats

from schemas.errors import PolicyError
from streams.core.policies import RiverBandit, RiverRegressor, from_bytes, to_bytes, validate
from streams.core.policies.known_types import known
from streams.core.policies.plain_objects import as_plain
from streams.core.policies.plain_reader import from_plain
from streams.core.policies.river_catalogue import REGRESSORS, make_regressor
from streams.core.policies.state import _lively, _plain

NEEDS = {
    "ensemble.BaggingRegressor": ["model=tree.HoeffdingTreeRegressor", "n_models=2"],
    "ensemble.EWARegressor": [
        'models=["linear_model.LinearRegression", "linear_model.PARegressor"]'
    ],
    "ensemble.SRPRegressor": ["n_models=2"],
    "forest.AMFRegressor": ["n_estimators=2"],
    "forest.ARFRegressor": ["n_models=2"],
    "forest.OXTRegressor": ["n_models=2"],
}


def through_bytes(model):
    packed = msgspec.msgpack.encode(_plain(as_plain(model)))
    return from_plain(_lively(msgspec.msgpack.decode(packed))), packed


def stream(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = x[:, 0] + (x[:, 1] > 0.0) + rng.normal(0.0, 0.1, n)
    return [
        (dict(zip("uvw", row, strict=True)), value)
        for row, value in zip(x.tolist(), y.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", sorted(REGRESSORS))
def test_a_regressor_read_back_learns_and_predicts_the_same(name):
    model = make_regressor(name, NEEDS.get(name, []), standardise=True, seed=1)
    for x, y in stream(300):
        model.learn_one(x, y)
    again, packed = through_bytes(model)
    assert through_bytes(again)[1] == packed
    for x, y in stream(120, seed=1):
        assert again.predict_one(x) == model.predict_one(x)
        for either in (again, model):
            either.learn_one(x, y)
    assert through_bytes(again)[1] == through_bytes(model)[1]


def test_the_regressors_of_one_target_are_found():
    assert {
        "linear_model.LinearRegression",
        "linear_model.BayesianLinearRegression",
        "tree.HoeffdingTreeRegressor",
        "neighbors.KNNRegressor",
        "ensemble.BaggingRegressor",
        "forest.ARFRegressor",
    } <= set(REGRESSORS)
    assert "tree.iSOUPTreeRegressor" not in REGRESSORS
    assert all(inspect.isclass(kind) for kind in REGRESSORS.values())


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"regressor": "os.system"}, "no River regressor 'os.system'"),
        ({"regressor": "linear_model.LinearRegresion"}, "did you mean 'linear_model.Linear"),
        ({"regressor": "linear_model.LogisticRegression"}, "no River regressor"),
        ({"options": ["betta=1"]}, "no parameter 'betta': did you mean 'beta'"),
        ({"options": ["beta"]}, "written name=value, got 'beta'"),
        ({"options": ['beta={"a": 1}']}, "a number, a word or a list of them"),
        ({"options": ["beta=much"]}, r"cannot learn with .*beta=much"),
        (
            {"regressor": "linear_model.LinearRegression", "options": ["optimizer=3"]},
            r"cannot learn with .*optimizer=3",
        ),
        ({"regressor": "ensemble.BaggingRegressor"}, r"cannot be made with .*model"),
        ({"view": "users"}, "'view' cannot be 'users': did you mean 'user'"),
        ({"explore": "thompson"}, "'explore' cannot be 'thompson'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_learned(params, says):
    with pytest.raises(PolicyError, match=says):
        validate("river-regressor", params)


def test_nearest_neighbours_in_a_graph_are_refused_at_once():
    with pytest.raises(PolicyError, match=r"cannot be made with .*SWINN"):
        validate(
            "river-regressor",
            {"regressor": "neighbors.KNNRegressor", "options": ["engine=neighbors.SWINN"]},
        )


def test_shared_parts_stay_shared_and_circles_close():
    mean = stats.Mean()
    circle: list[object] = [mean, mean]
    circle.append(circle)
    again, _ = through_bytes(circle)
    assert again[0] is again[1]
    assert again[2] is again


def test_a_fortran_array_stays_one():
    model = linear_model.BayesianLinearRegression()
    for x, y in stream(5):
        model.learn_one(x, y)
    again, _ = through_bytes(model)
    assert again._ss_inv_arr.flags.f_contiguous
    assert again._ss_inv_arr.flags.writeable


def test_words_of_a_set_are_written_in_one_order():
    words = [f"w{number}" for number in range(50)]
    turned = list(reversed(words))
    assert as_plain(set(words)) == as_plain(set(turned))


class Stranger:
    pass


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (Stranger(), "cannot hold .*Stranger: only River's models"),
        ([Stranger], "cannot hold .*Stranger"),
        (eval, "cannot hold builtins.eval"),
        (neighbors.SWINN(seed=1), "a snapshot cannot hold|no order to write it in"),
        (np.array(["a"]), "arrays of <f8"),
        (object(), "cannot hold builtins.object"),
    ],
)
def test_what_is_unknown_is_refused_when_writing(thing, says):
    if isinstance(thing, neighbors.SWINN):
        for x, y in stream(40):
            thing.append((x, y))
    with pytest.raises(PolicyError, match=says):
        as_plain(thing)


@pytest.mark.parametrize(
    "nodes",
    [
        [["object", "os:system"]],
        [["object", "subprocess:Popen", "args", "ls"]],
        [["name", "builtins:eval"]],
        [["object", "river.datasets.base:Dataset"]],
        [["object", "river.stats.mean:np"]],
        [["object", "river.stats.mean:Mean.update"]],
        [["object", "river.stats.mean:Meen"]],
        [["object", "river.nothing:Mean"]],
        [["object", "builtins:dict"]],
        [["rust", "river.stats.mean:Mean", [], ""]],
        [["method", [0], "get"]],
        [["tuple", [0]]],
        [["tuple", [7]]],
        [["odd"]],
        [[]],
        [["dict", "a"]],
        [["array", "C", "not an array"]],
    ],
)
def test_what_is_unknown_or_garbled_is_refused_when_reading(nodes):
    with pytest.raises(PolicyError):
        from_plain(nodes)


def test_a_name_that_was_only_imported_is_not_found():
    with pytest.raises(PolicyError, match="is not where it was defined"):
        known("river.stats:Mean")


def test_another_model_in_a_snapshot_is_refused():
    policy = RiverBandit(0, 0, bandit="UCB")
    other = RiverBandit(0, 0, bandit="Exp3")
    state = other.state() | {"parameters": policy.parameters()}
    with pytest.raises(PolicyError, match="the state is a Exp3, not a UCB"):
        RiverBandit.from_state(state)
    tree = RiverRegressor(1, 0, regressor="tree.HoeffdingTreeRegressor", standardise=False)
    tree.reward_model.models["a"] = linear_model.LinearRegression()
    with pytest.raises(PolicyError, match="regressor of action 'a' is a LinearRegression"):
        from_bytes(to_bytes(tree))


@pytest.mark.parametrize("name", ["tree.HoeffdingAdaptiveTreeRegressor", "forest.ARFRegressor"])
def test_nodes_that_were_changed_are_read_or_refused_and_nothing_else(name):
    model = make_regressor(name, NEEDS.get(name, []), standardise=True, seed=1)
    for x, y in stream(60):
        model.learn_one(x, y)
    nodes = as_plain(model)
    rng = np.random.default_rng(0)
    odd = (None, -1, 10**9, 0.5, "x", [0], [10**6], [[1]], "os:system", "river.stats.mean:Mean")
    for _ in range(300):
        changed = list(nodes)
        row = int(rng.integers(len(nodes)))
        node = list(changed[row])
        if node[0] == "rust":  # River's own decoder: the snapshot's digest stands before it
            continue
        node[int(rng.integers(len(node)))] = odd[int(rng.integers(len(odd)))]
        changed[row] = node
        with contextlib.suppress(PolicyError):
            from_plain(changed)
