import numpy as np
import pytest
from river import bandit, proba, stats

from streams.core.policies import ActionSet, Examples, RiverBandit, RiverRegressor

TWO = ActionSet(ids=("a", "b"), features=np.zeros((2, 0)))
THREE = ActionSet(ids=("a", "b", "c"), features=np.zeros((3, 0)))


def told(arms: str, rewards, previous=None) -> Examples:
    n = len(arms)
    return Examples(
        contexts=np.zeros((n, 0)),
        actions=tuple(arms),
        action_features=np.zeros((n, 0)),
        rewards=np.array(rewards, dtype=np.float64),
        previous=np.full(n, np.nan) if previous is None else np.array(previous, dtype=np.float64),
        at_ms=np.zeros(n, dtype=np.int64),
    )


def odds(policy, actions=THREE) -> list[float]:
    may = np.ones((1, len(actions)), dtype=bool)
    dist = policy.action_dist(np.zeros((1, 0)), actions, may, np.random.default_rng(0))
    return dist[0].round(6).tolist()


def of(**params) -> RiverBandit:
    return RiverBandit(0, 0, **{"floor": 0.0, "reward": "mean", **params})


def test_epsilon_greedy_odds_are_closed():
    policy = of(bandit="EpsilonGreedy", epsilon=0.3)
    policy.learn_many(told("aab", [0.0, 1.0, 0.9]))
    assert odds(policy) == [0.1, 0.8, 0.1]


def test_ucb_takes_the_largest_bound_and_shares_what_was_never_tried():
    policy = of(bandit="UCB", delta=1.0)
    assert odds(policy) == [round(1 / 3, 6)] * 3
    policy.learn_many(told("aab", [1.0, 1.0, 0.0]))
    assert odds(policy) == [0.0, 0.0, 1.0]
    assert odds(policy, TWO) == [1.0, 0.0]  # 1 + sqrt(ln 3) against sqrt(2 ln 3)


def test_exp3_odds_are_those_of_river():
    policy = of(bandit="Exp3", gamma=0.2)
    policy.learn_many(told("aabca", [1.0, 0.5, 0.2, 0.0, 1.0]))
    river = policy._bandit
    river._pull(["a", "b", "c"])
    np.testing.assert_allclose(odds(policy), list(river._probabilities.values()), atol=1e-6)


def test_exp3_does_not_outgrow_a_float():
    policy = of(bandit="Exp3", gamma=0.5)
    policy.learn_many(told("a" * 5_000, [1.0] * 5_000))
    assert odds(policy, TWO)[0] == pytest.approx(0.75)


@pytest.mark.parametrize("reward", ["beta", "gaussian"])
def test_thompson_odds_are_those_of_rivers_pulls(reward):
    policy = of(bandit="ThompsonSampling", reward=reward, draws=16_384)
    rng = np.random.default_rng(3)
    rewards = np.r_[rng.random(40) < 0.4, rng.random(40) < 0.5].astype(float)
    policy.learn_many(told("a" * 40 + "b" * 40, rewards))
    pulls = [policy._bandit._pull(["a", "b"]) for _ in range(8_000)]
    assert odds(policy, TWO)[0] == pytest.approx(pulls.count("a") / 8_000, abs=0.025)


def test_bayes_ucb_follows_the_quantiles():
    policy = of(bandit="BayesUCB")
    policy.learn_many(told("aabbb", [1.0, 0.0, 1.0, 1.0, 0.0]))
    river = policy._bandit
    best = max("ab", key=river.compute_index)
    assert odds(policy, TWO) == [float(best == "a"), float(best == "b")]


def test_burn_in_comes_first():
    policy = of(bandit="EpsilonGreedy", epsilon=0.0, burn_in=2)
    policy.learn_many(told("aab", [1.0, 1.0, 0.0]))
    assert odds(policy) == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "reward"),
    [
        ("EpsilonGreedy", "mean"),
        ("UCB", "mean"),
        ("ThompsonSampling", "beta"),
        ("ThompsonSampling", "gaussian"),
        ("BayesUCB", "beta"),
    ],
)
def test_a_correction_is_exact(name, reward):
    corrected, straight = of(bandit=name, reward=reward), of(bandit=name, reward=reward)
    corrected.learn_many(told("aabb", [0.0, 1.0, 0.0, 0.0]))
    corrected.learn_many(told("ab", [1.0, 0.5], previous=[0.0, 0.0]))
    straight.learn_many(told("aabb", [1.0, 1.0, 0.5, 0.0]))
    np.testing.assert_allclose(odds(corrected, TWO), odds(straight, TWO), atol=1e-9)
    assert corrected.n_learned == straight.n_learned == 4


def test_a_correction_of_what_another_learner_was_told_does_no_harm():
    policy = of(bandit="ThompsonSampling", reward="beta")
    policy.learn_many(told("ab", [1.0, 0.0], previous=[0.0, 1.0]))
    assert sum(odds(policy, TWO)) == pytest.approx(1.0)


def test_retired_arms_are_forgotten():
    policy = of(bandit="Exp3")
    policy.learn_many(told("ab", [1.0, 0.0]))
    policy.retire(["a"])
    assert set(policy._bandit._weights) == {"b"}
    assert set(policy._bandit._rewards) == {"b"}


def test_deciding_leaves_no_trace():
    for name in ("ThompsonSampling", "EpsilonGreedy", "UCB", "BayesUCB", "Exp3", "RandomPolicy"):
        policy = of(bandit=name)
        policy.learn_many(told("a", [1.0]))
        before = policy.state()
        odds(policy)
        np.testing.assert_equal(policy.state(), before)


def test_every_bandit_without_context_has_its_odds():
    known = {
        name
        for name in bandit.__all__
        if isinstance(getattr(bandit, name), type)
        and issubclass(getattr(bandit, name), bandit.base.Policy)
        and not issubclass(getattr(bandit, name), bandit.base.ContextualPolicy)
    }
    assert known == set(next(p for p in RiverBandit.PARAMETERS if p.name == "bandit").choices)
    assert issubclass(proba.Beta, proba.base.Distribution)
    assert hasattr(stats.Mean, "revert")


# ---- regressors


def played(n: int, seed: int = 0) -> Examples:
    """Action a pays where x is above 0, action b elsewhere."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1))
    taken = rng.integers(2, size=n)
    pays = np.where(taken == 0, x[:, 0] > 0.0, x[:, 0] < 0.0)
    return Examples(
        contexts=x,
        actions=tuple("ab"[index] for index in taken),
        action_features=np.where(taken[:, None] == 0, 1.0, -1.0),
        rewards=pays * 1.0,
        previous=np.full(n, np.nan),
        at_ms=np.zeros(n, dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("regressor", "view"),
    [
        ("linear_model.LinearRegression", "user"),
        ("linear_model.LinearRegression", "crossed"),
        ("linear_model.BayesianLinearRegression", "crossed"),
        ("tree.HoeffdingTreeRegressor", "user"),
        ("neighbors.KNNRegressor", "both"),
        ("forest.AMFRegressor", "both"),
        ("facto.FMRegressor", "both"),
        ("rules.AMRules", "user"),
    ],
)
def test_a_regressor_finds_out_who_likes_what(regressor, view):
    policy = RiverRegressor(1, 1, regressor=regressor, view=view)
    policy.learn_many(played(600))
    both = ActionSet(ids=("a", "b"), features=np.array([[1.0], [-1.0]]))
    expected = policy.reward_model.expected(np.array([[1.5], [-1.5]]), both)
    assert expected[0, 0] > expected[0, 1] + 0.2
    assert expected[1, 1] > expected[1, 0] + 0.2


def test_an_action_of_which_nothing_is_known_is_expected_to_earn_the_base_reward():
    policy = RiverRegressor(1, 1, view="user", base_reward=0.25)
    policy.learn_many(played(50))
    grown = ActionSet(ids=("a", "b", "new"), features=np.zeros((3, 1)))
    expected = policy.reward_model.expected(np.zeros((2, 1)), grown)
    assert (expected[:, 2] == 0.25).all()
    policy.retire(["a"])
    assert (policy.reward_model.expected(np.zeros((2, 1)), grown)[:, 0] == 0.25).all()


def test_corrections_may_be_left_out():
    for corrections, models in ((True, 1), (False, 0)):
        policy = RiverRegressor(0, 0, corrections=corrections)
        policy.learn_many(told("a", [1.0], previous=[0.0]))
        assert len(policy.reward_model.models) == models
        assert policy.n_learned == 0


@pytest.mark.parametrize(
    "regressor",
    [
        "linear_model.BayesianLinearRegression",
        *("facto.FFMRegressor", "facto.FMRegressor", "facto.FwFMRegressor", "facto.HOFMRegressor"),
    ],
)
def test_a_model_that_ran_away_is_not_believed(regressor):
    policy = RiverRegressor(1, 0, regressor=regressor, standardise=False, base_reward=0.1)
    n = 60
    policy.learn_many(
        Examples(
            contexts=np.full((n, 1), 1e6),
            actions=("a",) * n,
            action_features=np.zeros((n, 0)),
            rewards=np.full(n, 1e6),
            previous=np.full(n, np.nan),
            at_ms=np.zeros(n, dtype=np.int64),
        )
    )
    only = ActionSet(ids=("a",), features=np.zeros((1, 0)))
    assert np.isfinite(policy.reward_model.expected(np.array([[1.0]]), only)).all()
