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


@pytest.fixture(params=sorted(POLICIES))
def fresh(request) -> Callable[[], Policy]:
    """Make one of the registered policies, as often as a test needs it."""
    name = request.param
    return lambda: create(name, SETTINGS.get(name, {}), D_USER, D_ACTION)


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
