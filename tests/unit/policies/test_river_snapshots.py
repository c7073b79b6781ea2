"""River's models survive as data, and nothing else gets in."""

import builtins
import contextlib
import itertools

import msgspec
import numpy as np
import pytest
from river import linear_model, neighbors, preprocessing, stats

from schemas.errors import PolicyError
from streams.core.policies import (
    ActionSet,
    Examples,
    RiverBandit,
    RiverRegressor,
    from_bytes,
    to_bytes,
    validate,
)
from streams.core.policies.known_types import class_of
from streams.core.policies.plain_objects import as_plain
from streams.core.policies.plain_reader import from_plain
from streams.core.policies.river_arms import BANDITS, REWARDS
from streams.core.policies.river_catalogue import REGRESSORS, make_regressor
from streams.core.policies.river_parts import LOSSES, OPTIMIZERS
from streams.core.policies.state import _lively, _plain

NEEDS = {
    "dummy.StatisticRegressor": ["statistic=stats.Mean"],
    "ensemble.BaggingRegressor": ["model=tree.HoeffdingTreeRegressor", "n_models=2"],
    "ensemble.EWARegressor": [
        'models=["linear_model.LinearRegression", "linear_model.PARegressor"]'
    ],
    "ensemble.SRPRegressor": ["n_models=2"],
    "forest.AMFRegressor": ["n_estimators=2"],
    "forest.ARFRegressor": ["n_models=2"],
    "forest.OXTRegressor": ["n_models=2"],
    "preprocessing.TargetMinMaxScaler": ["regressor=linear_model.PARegressor"],
    "preprocessing.TargetStandardScaler": ["regressor=linear_model.PARegressor"],
    # rules that are made, and dropped again, within what a test learns
    "rules.AMRules": ["n_min=20", "delta=0.5", "tau=0.5", "anomaly_threshold=-5"],
}
CANNOT_TAKE_A_CONSTANT = "tree.SGTRegressor"  # it divides by how far a feature spreads
# what changes the classes, functions and methods that a regressor keeps
ODD = [
    ("dummy.StatisticRegressor", ["statistic=stats.EWMean(fading_factor=0.1)"]),
    ("ensemble.BaggingRegressor", ["model=forest.ARFRegressor(n_models=2)", "n_models=2"]),
    ("facto.FMRegressor", ["n_factors=3", "latent_optimizer=optim.Adam", "l2_latent=0.1"]),
    ("facto.HOFMRegressor", ["degree=2", "l1_weight=0.01"]),
    ("rules.AMRules", ["n_min=20", "delta=0.5", "tau=0.5", "pred_type=mean"]),
    (
        "rules.AMRules",
        ["n_min=20", "delta=0.5", "tau=0.5", "pred_type=model", "ordered_rule_set=false"],
    ),
    *(
        ("linear_model.LinearRegression", [f"optimizer={name}", "intercept_lr=0.05"])
        for name in sorted(OPTIMIZERS)
    ),
    ("linear_model.LinearRegression", ["optimizer=optim.AdaBound(lr=0.01, final_lr=0.2)"]),
    *(("linear_model.LinearRegression", [f"loss={name}"]) for name in sorted(LOSSES)),
    ("forest.ARFRegressor", ["n_models=2", "leaf_prediction=model"]),
    (
        "forest.OXTRegressor",
        [
            "n_models=2",
            "detection_mode=drop",
            "resampling_strategy=bagging",
            "resampling_rate=2",
        ],
    ),
    ("forest.OXTRegressor", ["n_models=2", "detection_mode=off", "resampling_strategy=null"]),
    ("neighbors.KNNRegressor", ["engine=neighbors.LazySearch", "n_neighbors=3"]),
    ("linear_model.LinearRegression", ["l1=0.01"]),
    ("linear_model.PARegressor", ["mode=0"]),
    ("linear_model.PARegressor", ["mode=2"]),
    ("tree.HoeffdingAdaptiveTreeRegressor", ["leaf_prediction=mean"]),
    ("tree.HoeffdingTreeRegressor", ['nominal_attributes=["x1"]', "leaf_prediction=model"]),
    ("tree.HoeffdingTreeRegressor", ["leaf_model=linear_model.PARegressor"]),
]


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


ACTIONS = ActionSet(ids=("a", "b", "c"), features=np.array([[1.0], [0.0], [-1.0]]))


def played(n: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    x[:, 0] = x[:, 0] > 0.0  # of few values, as what is nominal
    taken = rng.integers(3, size=n)
    return Examples(
        contexts=x,
        actions=tuple("abc"[index] for index in taken),
        action_features=ACTIONS.features[taken],
        rewards=(x[:, 0] * (taken == 0) + x[:, 1] > 0.3) * 1.0,
        previous=np.full(n, np.nan),
        at_ms=np.zeros(n, dtype=np.int64),
    )


def assert_read_back_alike(policy) -> None:
    policy.learn_many(played(250, seed=0))
    raw = to_bytes(policy)
    again = from_bytes(raw)
    assert to_bytes(again) == raw
    x = played(20, seed=1).contexts
    may = np.ones((len(x), 3), dtype=bool)
    for seed in (2, 3):  # before and after learning more
        of = [
            one.action_dist(x, ACTIONS, may, np.random.default_rng(seed)) for one in (policy, again)
        ]
        np.testing.assert_array_equal(*of)
        for one in (policy, again):
            one.learn_many(played(60, seed))
    assert to_bytes(again) == to_bytes(policy)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            (name, NEEDS.get(name, []))
            for name in sorted(REGRESSORS)
            if name != CANNOT_TAKE_A_CONSTANT
        ),
        *ODD,
    ],
)
def test_every_regressors_snapshot_is_read_and_decides_the_same(name, options, standardise):
    assert_read_back_alike(
        RiverRegressor(
            2,
            1,
            regressor=name,
            options=options,
            view="both",
            standardise=standardise,
            model_seed=1,
        )
    )


@pytest.mark.parametrize(("bandit", "reward"), [*itertools.product(BANDITS, REWARDS)])
def test_every_bandits_snapshot_is_read_and_decides_the_same(bandit, reward):
    assert_read_back_alike(RiverBandit(2, 1, bandit=bandit, reward=reward))


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
        (
            {"regressor": "ensemble.BaggingRegressor", "options": ["model=ensemble.EWARegressor"]},
            r"ensemble.EWARegressor cannot be made with .*models",
        ),
        (
            {"regressor": "ensemble.BaggingRegressor", "options": ["model=Hoeffding"]},
            r"cannot be made with model=Hoeffding: give one of .*facto.FMRegressor",
        ),
        *(
            ({"regressor": "linear_model.LinearRegression", "options": [option]}, says)
            for option, says in (
                ("optimizer=optim.Adamm", "optimizer=optim.Adamm: give one of .*optim.Adam,"),
                ("optimizer=Adam", "give one of optim.AMSGrad, optim.AdaBound, .*, optim.SGD"),
                ("optimizer=optim.Averager", "optimizer=optim.Averager: give one of"),
                ("optimizer=optim.losses.Huber", "optimizer=optim.losses.Huber: .*optim.Adam"),
                ("optimizer=optim.Adam(rate=1)", "optim.Adam cannot be made with .*'rate'"),
                ("optimizer=optim.Adam(0.1)", "only name=value stands between the brackets"),
                ("optimizer=optim.Adam(**1)", "only name=value stands between the brackets"),
                ("optimizer=optim.Adam(lr=)", "cannot be read"),
                (f"optimizer={'optim.Adam(lr=' * 99}1{')' * 99}", "more than 20 parts in one"),
                (f"l2={'[' * 99_999}", "cannot learn with"),
                ("optimizer=optim.Adam(lr=1 + x)", "cannot be read"),
                ("optimizer=optim.Adam(lr=much)", "cannot learn with"),
                ("optimizer=optim.Adam(lr=optim.Adam)", "lr=optim.Adam: of parts"),
                ("optimizer=(lambda: 1)(x=1)", "cannot be made with"),
                ("loss=Huber", "give one of optim.losses.Absolute, .*, optim.losses.Squared"),
                ("loss=optim.losses.Log", "loss=optim.losses.Log: "),
                ("l2=__import__('os').system(x='ls')", "cannot be made with|cannot learn"),
            )
        ),
        ({"regressor": "multioutput.RegressorChain"}, "it learns several targets"),
        ({"regressor": "river.compat.SKL2RiverRegressor"}, "another library's model"),
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
    with pytest.raises(PolicyError, match="is no class that is defined there"):
        class_of("river.tree.nodes.htr_nodes:Var")
    with pytest.raises(PolicyError, match=r"cannot hold river\.stats\.Mean"):
        class_of("river.stats:Mean")


MEAN = ["object", "river.stats.mean:Mean"]
ALL_MODES = ["name", "river.forest.online_extra_trees:ExtraTrees._detection_mode_all"]
NORMAL = ["object", "river.optim.initializers:Normal"]
WORDS = np.zeros(624, dtype=np.int64)
FLOAT, BETA = ["name", "builtins:float"], ["name", "river.proba.beta:Beta"]


@pytest.mark.parametrize(
    "nodes",
    [
        # attributes that Python gives, of functions, objects and classes
        [["method", [1], "__builtins__"], ["name", "river.utils.math:minkowski_distance"]],
        [["method", [1], "__builtins__"], ALL_MODES],
        [["method", [1], "__globals__"], ALL_MODES],
        [["method", [1], "__call__"], ALL_MODES],
        *([["method", [1], f"__{word}__"], MEAN] for word in ("class", "init", "dict", "module")),
        *([["method", [1], f"__{word}__"], MEAN] for word in ("setattr", "reduce_ex", "delattr")),
        *([["method", [1], word], FLOAT] for word in ("mro", "fromhex", "__subclasses__")),
        *([["method", [1], word], BETA] for word in ("clone", "__mro__", "__init__", "mutate")),
        # methods that set what they are told, that no model keeps, or that are another class's
        *([["method", [1], word], MEAN] for word in ("mutate", "update", "get", "_scale", "n")),
        [["method", [1], "append"], ["list"]],
        [["method", [1], "__setitem__"], ["dict"]],
        [["method", "{0.__class__}", "format"]],
        [
            ["method", [1], "func"],
            ["object", "river.preprocessing.scale_target:TargetStandardScaler"],
        ],
        # chains
        [["method", [1], "clone"], ["method", [2], "clone"], MEAN],
        [["method", [1], "__func__"], ["method", [2], "clone"], MEAN],
        [["method", [1], "__self__"], ["method", [2], "__func__"], ["method", [3], "clone"], MEAN],
        [["method", [1], "func"], ["partial", [2], 1.0], FLOAT],
        # functions and classes that no model calls
        *(
            [["name", name]]
            for name in (
                "builtins:set",
                "builtins:type",
                "builtins:getattr",
                "functools:partial",
                "importlib:import_module",
                "river.utils.math:minkowski_distance",
                "river.base.base:Base.clone",
                "river.stats.mean:Mean",
                "river.stats.mean:Mean.update",
                "river.tree.hoeffding_tree:HoeffdingTree.learn_one",
                "river.tree.hoeffding_tree:HoeffdingTree.__init__",
                "river.forest.online_extra_trees:ExtraTrees.__init__",
                "river.linear_model.pa:BasePA._calc_tau_1",
                "river.linear_model.pa:PARegressor",
            )
        ),
        # objects of classes that call what they hold, open files, or are none
        *(
            [["object", name]]
            for name in (
                "river.compose.func:FuncTransformer",
                "river.compose.target_transform:TargetTransformRegressor",
                "river.compose.union:TransformerUnion",
                "river.bandit.datasets.news:NewsArticles",
                "river.drift.datasets.apple:Apple",
                "river.drift.retrain:DriftRetrainingClassifier",
                "river.utils.rolling:Rolling",
                "river.tree.hoeffding_tree:HoeffdingTree.learn_one",
                "river.tree.hoeffding_tree:HoeffdingTree.__init__",
                "river.tree.hoeffding_tree:io",
                "river.tree.base:Branch.__class__",
                "river.tree.__init__.os:path",
                "river.treehouse:Treehouse",
                "builtins:float",
            )
        ),
        # partials but of float, or of anything but a number
        [["partial", [1], 1.0], BETA],
        [["partial", [1], 1.0], ALL_MODES],
        [["partial", [1]], FLOAT],
        [["partial", [1], "1.0"], FLOAT],
        [["partial", [1], 1.0, 2.0], FLOAT],
        [["partial", [1], True], FLOAT],
        [["partial", "var", 1.0]],
        [["partial", "Var"]],
        [["partial", "fields", [1]], FLOAT],
        [["partial", "fields", [1]], ["partial", [2], 1.0], FLOAT],
        [["partial", "fields", [0]]],
        [["partial", [1], 0], NORMAL],
        [["partial", [1], True], NORMAL],
        [["partial", [1], 2, 2], NORMAL],
        [["partial", [1], 2], MEAN],
        [["default", [1]], NORMAL],
        [["random-state", WORDS[:-1], 0, 0, 0.0]],
        [["random-state", WORDS, 625, 0, 0.0]],
        [["random-state", WORDS, -1, 0, 0.0]],
        [["random-state", WORDS.tolist(), 0, 0, 0.0]],
        [["partial", [1], [2]], FLOAT, ["list"]],
        [["partial", [1], "x", 1.0], ["method", [2], "clone"], MEAN],
        [["partial", [1], "x"], ["method", [2], "__setitem__"], ["dict"]],
        [["partial", [1], 1.0], ["partial", [2], 1.0], FLOAT],
        # dictionaries filled by what is no such function, and keys that hash as they like
        [["default", [1]], MEAN],
        [["default", [1]], ALL_MODES],
        [["default", "float"]],
        [["vector", [1], None], FLOAT],
        [["vector", [1], None], MEAN],
        [["vector", None, [1], "x", 1.0], ["set"]],
        [["dict", [1], 0], MEAN],
        # attributes in the place of what a class defines
        [[*MEAN, "get", [1]], FLOAT],
        [[*MEAN, "__class__", [1]], FLOAT],
        [[*MEAN, "__deepcopy__", [1]], FLOAT],
        [["object", "river.preprocessing.scale_target:TargetStandardScaler", "_wrapped_model", 1]],
        # numbers that are none
        [["scalar", "|O", 1]],
        [["scalar", "|V9", 9]],
        [["scalar", "<f8", [1]], ["list"]],
        [["rust", "river._river_rust.stats:RsEWMean", [0.5], "ff"]],
    ],
)
def test_nothing_is_reached_but_what_models_need(nodes):
    before = dict(vars(builtins))
    with pytest.raises(PolicyError):
        from_plain(nodes)
    assert vars(builtins) == before


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (
            [["method", [1], "__builtins__"], ["name", "river.utils.math:minkowski_distance"]],
            r"cannot hold river\.utils\.math\.minkowski_distance to call it",
        ),
        ([["method", [1], "mutate"], MEAN], "the method mutate of river.stats.mean.Mean"),
        ([["partial", [1], 1.0], BETA], r"a partial Beta of \[1\.0\]"),
        ([[*MEAN, "get", [1]], FLOAT], "cannot set get of river.stats.mean.Mean"),
        ([["object", "river.compose.func:FuncTransformer"]], "cannot hold river.compose.func.Func"),
        ([["rust", "river._river_rust.stats:RsEWMean", [0.5], "ff"]], "1 bytes of a RsEWMean"),
    ],
)
def test_what_is_refused_is_named(nodes, says):
    with pytest.raises(PolicyError, match=says):
        from_plain(nodes)


def test_a_signed_snapshot_that_would_change_pythons_builtins_is_refused():
    policy = RiverRegressor(2, 1, regressor="linear_model.LinearRegression", view="both")
    policy.learn_many(played(5, seed=0))
    nodes = as_plain(policy.reward_model.models[""])
    (scaler,) = (
        row
        for row, node in enumerate(nodes)
        if node[1:2] == ["river.preprocessing.scale:StandardScaler"]
    )
    n = len(nodes)
    nodes[scaler] = ["object", "river.compose.func:FuncTransformer", "func", [n]]
    nodes += [
        ["partial", [n + 1], "stolen"],
        ["method", [n + 2], "__setitem__"],
        ["method", [n + 3], "__builtins__"],
        ["name", "river.utils.math:minkowski_distance"],
    ]
    policy.reward_model.learned = lambda: {"": nodes}
    raw = to_bytes(policy)
    try:
        with pytest.raises(PolicyError, match=r"cannot hold river\.compose\.func\.FuncTransformer"):
            from_bytes(raw).action_dist(
                np.ones((1, 2)), ACTIONS, np.ones((1, 3), dtype=bool), np.random.default_rng(0)
            )
        assert "stolen" not in vars(builtins)
    finally:
        vars(builtins).pop("stolen", None)


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


@pytest.mark.parametrize(
    ("wanted", "options", "other"),
    [
        (
            "tree.HoeffdingTreeRegressor",
            [],
            make_regressor("linear_model.LinearRegression", [], standardise=True, seed=0),
        ),
        (
            "tree.HoeffdingTreeRegressor",
            [],
            make_regressor("tree.HoeffdingTreeRegressor", [], standardise=False, seed=0),
        ),
        (
            "linear_model.LinearRegression",
            [],
            preprocessing.StandardScaler() | linear_model.LinearRegression(),
        ),
        (
            "ensemble.BaggingRegressor",
            ["model=linear_model.LinearRegression"],
            make_regressor(
                "ensemble.BaggingRegressor",
                ["model=linear_model.PARegressor"],
                standardise=True,
                seed=0,
            ),
        ),
    ],
)
def test_another_regressor_within_what_standardises_is_refused(wanted, options, other):
    policy = RiverRegressor(1, 0, regressor=wanted, options=options)
    policy.reward_model.models["a"] = other
    with pytest.raises(PolicyError, match=r"regressor of action 'a' is a .*, not a Pipeline"):
        from_bytes(to_bytes(policy))


@pytest.mark.parametrize(
    "name",
    [
        *("tree.HoeffdingAdaptiveTreeRegressor", "forest.ARFRegressor"),
        *("facto.FFMRegressor", "facto.FwFMRegressor", "rules.AMRules"),
    ],
)
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
