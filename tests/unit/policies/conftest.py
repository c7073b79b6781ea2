"""A small campaign: contexts, actions, who may get what, and what came of it."""

from collections.abc import Callable

import numpy as np
import pytest

from streams.core.policies import POLICIES, ActionSet, Examples, Policy, create

D_USER, D_ACTION = 3, 2
# what a registered policy needs beyond its defaults
SETTINGS = {"fixed": {"order": ["c", "a"]}}


@pytest.fixture
def actions() -> ActionSet:
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5], [0.0, 0.0]])
    return ActionSet(ids=("a", "b", "c", "d"), features=features)


@pytest.fixture
def contexts() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(60, D_USER))


@pytest.fixture
def eligible(contexts, actions) -> np.ndarray:
    may = np.random.default_rng(2).random((len(contexts), len(actions))) < 0.7
    may[0] = False  # nothing
    may[1] = True  # everything
    may[2] = [False, True, False, False]  # one thing
    return may


@pytest.fixture
def decide(contexts, actions, eligible) -> Callable[..., np.ndarray]:
    """Ask a policy for its probabilities in this scene."""

    def ask(policy: Policy, seed: int = 0) -> np.ndarray:
        return policy.action_dist(contexts, actions, eligible, np.random.default_rng(seed))

    return ask


@pytest.fixture
def examples(actions) -> Callable[..., Examples]:
    """Make n examples with a linear truth; every fifth of them is a correction."""

    def make(n: int = 40, seed: int = 3, corrections: bool = True) -> Examples:
        rng = np.random.default_rng(seed)
        taken = rng.integers(len(actions), size=n)
        x = rng.normal(size=(n, D_USER))
        previous = np.full(n, np.nan)
        if corrections:
            previous[::5] = rng.random(len(previous[::5])).round(1)
        return Examples(
            contexts=x,
            actions=tuple(actions.ids[index] for index in taken),
            action_features=actions.features[taken],
            rewards=0.1 * x[:, 0] * actions.features[taken, 0] + rng.normal(0.0, 0.1, n),
            previous=previous,
            at_ms=rng.integers(1_700_000_000_000, 1_700_900_000_000, size=n),
        )

    return make


# every registered policy with its defaults, and those that differ much by a parameter
CASES = {name: (name, SETTINGS.get(name, {})) for name in sorted(POLICIES)} | {
    "linear-thompson/forgetting": ("linear-thompson", {"half_life_days": 2.0}),
    "disjoint-linear-thompson/forgetting": ("disjoint-linear-thompson", {"half_life_days": 2.0}),
    "logistic-thompson/forgetting": ("logistic-thompson", {"half_life_days": 2.0}),
    "epsilon-greedy/disjoint": ("epsilon-greedy", {"model": "disjoint-linear"}),
    "softmax/disjoint": ("softmax", {"model": "disjoint-linear", "temperature": 0.1}),
    "squarecb/logistic": ("squarecb", {"model": "logistic"}),
    "river-regressor/tree": (
        "river-regressor",
        {"regressor": "tree.HoeffdingTreeRegressor", "view": "both", "explore": "softmax"},
    ),
    "river-regressor/linear": (
        "river-regressor",
        {
            "regressor": "river.linear_model.LinearRegression",
            "view": "user",
            "explore": "squarecb",
        },
    ),
    "river-regressor/neighbours": (
        "river-regressor",
        {"regressor": "neighbors.KNNRegressor", "options": ["n_neighbors=3"]},
    ),
    "river-regressor/passive": ("river-regressor", {"regressor": "linear_model.PARegressor"}),
    "river-regressor/bagging": (
        "river-regressor",
        {
            "regressor": "ensemble.BaggingRegressor",
            "options": ["model=linear_model.LinearRegression", "n_models=3"],
        },
    ),
    "river-regressor/adam": (
        "river-regressor",
        {
            "regressor": "linear_model.LinearRegression",
            "options": ["optimizer=optim.Adam(lr=0.01)", "loss=optim.losses.Huber"],
        },
    ),
    "river-regressor/factors": (
        "river-regressor",
        {"regressor": "facto.FMRegressor", "options": ["n_factors=2"], "view": "both"},
    ),
    "river-regressor/rules": ("river-regressor", {"regressor": "rules.AMRules", "view": "both"}),
    "river-bandit/epsilon": ("river-bandit", {"bandit": "EpsilonGreedy", "reward": "mean"}),
    "river-bandit/ucb": ("river-bandit", {"bandit": "UCB", "reward": "mean", "delta": 0.1}),
    "river-bandit/bayes": ("river-bandit", {"bandit": "BayesUCB"}),
    "river-bandit/exp3": ("river-bandit", {"bandit": "Exp3", "burn_in": 2}),
    "river-bandit/gaussian": ("river-bandit", {"reward": "gaussian"}),
}


@pytest.fixture(params=CASES)
def fresh(request) -> Callable[[], Policy]:
    """Make one of the policies, as often as a test needs it."""
    name, params = CASES[request.param]
    return lambda: create(name, params, D_USER, D_ACTION)


@pytest.fixture
def learned(fresh, examples) -> Policy:
    policy = fresh()
    policy.learn_many(examples())
    return policy


@pytest.fixture
def part() -> Callable[..., Examples]:
    """Take some of the examples, by index or slice."""

    def take(examples: Examples, rows) -> Examples:
        index = np.arange(len(examples))[rows]
        return Examples(
            contexts=examples.contexts[index],
            actions=tuple(examples.actions[row] for row in index),
            action_features=examples.action_features[index],
            rewards=examples.rewards[index],
            previous=examples.previous[index],
            at_ms=examples.at_ms[index],
        )

    return take
