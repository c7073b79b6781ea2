"""Which of River's regressors are offered, and what they can be made of."""

import contextlib
import importlib
import pkgutil

import numpy as np
import pytest
import river
from river import base, optim

from streams.core.policies import ActionSet, Examples, RiverRegressor, from_bytes, to_bytes
from streams.core.policies.known_types import class_of
from streams.core.policies.river_catalogue import make_regressor
from streams.core.policies.river_parts import LEFT_OUT, LOSSES, OPTIMIZERS, PARTS, REGRESSORS

# of one module, and made by its regressors alone
INNER = {
    *("BaseTreeRegressor", "ETRegressor"),
    *("AdaptiveRegressor", "MeanRegressor", "RegRule", "MondrianTreeRegressor"),
    "ModelSelectionRegressor",
}
# River offers it only where scikit-learn is installed
SCIKIT_LEARN = "compat.SKL2RiverRegressor"


def subclasses(kind: type) -> set[type]:
    below = set(kind.__subclasses__())
    return below.union(*map(subclasses, below))


def rivers(kind: type) -> dict[str, type]:
    """River's classes of a kind by the name that it offers them under, or their own alone."""
    for module in pkgutil.walk_packages(river.__path__, "river."):
        with contextlib.suppress(ImportError):  # of what is not installed
            importlib.import_module(module.name)
    named = {}
    for one in subclasses(kind):
        if not one.__module__.startswith("river.") or one.__module__.startswith("river.base"):
            continue
        package = one.__module__.split(".")[1]
        offered = one.__name__ in importlib.import_module(f"river.{package}").__all__
        named[f"{package}.{one.__name__}" if offered else one.__name__] = one
    return named


def test_every_regressor_of_river_is_offered_or_left_out_for_a_reason():
    found = {*rivers(base.Regressor), *rivers(base.MultiTargetRegressor)}
    assert found | {SCIKIT_LEARN} == {*REGRESSORS, *LEFT_OUT, *INNER}
    assert not set(REGRESSORS) & {*LEFT_OUT, *INNER}


def test_every_optimizer_and_loss_of_river_is_offered_or_left_out_for_a_reason():
    assert set(rivers(optim.base.Optimizer)) == {*OPTIMIZERS, "optim.Averager"}
    losses = {f"optim.losses.{name}" for name in rivers(optim.losses.RegressionLoss)}
    assert losses == set(LOSSES)


def test_every_part_has_a_place_in_a_snapshot():
    for kind in PARTS.values():
        assert class_of(f"{kind.__module__}:{kind.__qualname__}") is kind


def test_parts_are_made_as_they_are_told():
    member = "linear_model.LinearRegression(l2=0.25, loss=optim.losses.Quantile(alpha=0.9), "
    member += "optimizer=river.optim.Adam(lr=0.5, eps=1e-3))"
    options = [f"model={member}", "n_models=2"]
    model = make_regressor("ensemble.BaggingRegressor", options, standardise=False, seed=0)
    member = model.model
    assert isinstance(member.optimizer, optim.Adam)
    assert (member.optimizer.learning_rate, member.optimizer.eps) == (0.5, 1e-3)
    assert isinstance(member.loss, optim.losses.Quantile)
    assert (member.loss.alpha, member.l2) == (0.9, 0.25)


def test_members_of_an_ensemble_draw_by_the_same_seed_as_it():
    model = make_regressor(
        "ensemble.BaggingRegressor", ["model=facto.FMRegressor"], standardise=False, seed=7
    )
    assert (model.seed, model.model.seed) == (7, 7)
    given = make_regressor(
        "ensemble.BaggingRegressor", ["model=facto.FMRegressor(seed=3)"], standardise=False, seed=7
    )
    assert (given.seed, given.model.seed) == (7, 3)


def test_rules_are_kept_by_numbers_and_not_by_where_they_lie():
    options = ["n_min=50", "delta=0.1", "pred_type=mean", "anomaly_threshold=-5"]
    model = make_regressor("rules.AMRules", options, standardise=False, seed=0)
    rng = np.random.default_rng(0)
    most = 0
    for step in range(1_500):
        x = {f"x{column}": value for column, value in enumerate(rng.normal(size=3).tolist())}
        y = (x["x0"] > 0.0) * (5.0 if step < 700 else -5.0) + (x["x1"] > 0.5)
        model.learn_one(x, y)
        most = max(most, len(model._rules))
        assert list(model._rules) == list(range(len(model._rules)))
    assert most > 1
    assert model.n_drifts_detected > 0


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("d_user", [0, 2])
def test_rules_learn_on_where_no_reward_came_yet(d_user, standardise):
    policy = RiverRegressor(
        d_user, 0, regressor="rules.AMRules", standardise=standardise, view="user"
    )
    x = np.random.default_rng(0).normal(size=(700, d_user))
    rewards = np.zeros(700)
    rewards[450:] = 1.0
    policy.learn_many(
        Examples(
            contexts=x,
            actions=("a",) * 700,
            action_features=np.zeros((700, 0)),
            rewards=rewards,
            previous=np.full(700, np.nan),
            at_ms=np.zeros(700, dtype=np.int64),
        )
    )
    assert policy.reward_model.expected(x[:1], ONE)[0, 0] > 0.1


ONE = ActionSet(ids=("a",), features=np.zeros((1, 0)))


@pytest.mark.parametrize("name", sorted(name for name in REGRESSORS if name[:5] == "facto"))
def test_factorization_machines_expect_a_level_where_there_are_no_features(name):
    policy = RiverRegressor(0, 0, regressor=name, standardise=False, view="user")
    policy.learn_many(
        Examples(
            contexts=np.zeros((400, 0)),
            actions=("a",) * 400,
            action_features=np.zeros((400, 0)),
            rewards=np.full(400, 0.7),
            previous=np.full(400, np.nan),
            at_ms=np.zeros(400, dtype=np.int64),
        )
    )
    for one in (policy, from_bytes(to_bytes(policy))):
        expected = one.reward_model.expected(np.zeros((1, 0)), ONE)
        assert expected[0, 0] == pytest.approx(0.7, abs=0.02)
