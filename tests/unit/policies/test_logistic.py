from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logit

from streams.core.policies import ActionSet, Examples, LogisticThompson
from streams.core.policies.gaussian import Gaussian
from streams.core.policies.linear_statistics import crossed
from streams.core.policies.logistic_mode import Labelled, find_mode

ACTIONS = ActionSet(ids=("a", "b", "c"), features=np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]))


def played(n: int, seed: int = 0) -> tuple[Examples, np.ndarray]:
    """Clicks at about 1 to 12 % by a logistic truth, and the true rates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    taken = rng.integers(3, size=n)
    phi = crossed(x, ACTIONS.features[taken])
    weights = np.random.default_rng(99).normal(0.0, 0.3, 12)
    weights[0] = logit(0.04)
    rates = expit(phi @ weights)
    return (
        Examples(
            contexts=x,
            actions=tuple(ACTIONS.ids[index] for index in taken),
            action_features=ACTIONS.features[taken],
            rewards=(rng.random(n) < rates).astype(np.float64),
            previous=np.full(n, np.nan),
            at_ms=np.zeros(n, dtype=np.int64),
        ),
        rates,
    )


@pytest.fixture(scope="module")
def taught() -> LogisticThompson:
    policy = LogisticThompson(3, 2)
    examples, _ = played(20_000)
    for start in range(0, 20_000, 1_000):
        policy.learn_many(examples.taking(slice(start, start + 1_000)))
    return policy


def test_expected_probabilities_are_calibrated(taught):
    fresh, rates = played(60_000, seed=1)
    columns = np.array([ACTIONS.ids.index(name) for name in fresh.actions])
    expected = taught.reward_model.expected(fresh.contexts, ACTIONS)
    said = expected[np.arange(len(fresh)), columns]
    edges = np.quantile(said, np.linspace(0.0, 1.0, 9))
    for low, high in pairwise(edges):
        inside = (said >= low) & (said <= high)
        clicked, error = fresh.rewards[inside].mean(), rates[inside].std() + 1e-9
        noise = np.sqrt(said[inside].mean() / inside.sum())
        assert abs(said[inside].mean() - clicked) < 4.0 * noise + 0.1 * error + 0.003
    assert np.corrcoef(said, rates)[0, 1] > 0.97


def test_beliefs_cover_the_truth(taught):
    fresh, rates = played(5_000, seed=2)
    columns = np.array([ACTIONS.ids.index(name) for name in fresh.actions])
    rows = np.arange(len(fresh))
    expected = taught.reward_model.expected(fresh.contexts, ACTIONS)[rows, columns]
    spread = taught.reward_model.spread(fresh.contexts, ACTIONS)[rows, columns]
    assert 0.85 < (np.abs(expected - rates) < 2.0 * spread).mean() <= 1.0


def test_before_any_example_the_base_rate_is_expected(contexts):
    policy = LogisticThompson(3, 2, base_reward=0.1)
    none = ActionSet(ids=("n",), features=np.zeros((1, 2)))
    expected = policy.reward_model.expected(np.zeros((1, 3)), none)
    assert 0.1 < expected[0, 0] < 0.35  # the level itself is worth one example, so it is unsure


def test_chunks_of_other_sizes_come_to_about_the_same(taught):
    policy = LogisticThompson(3, 2)
    examples, _ = played(20_000)
    policy.learn_many(examples)
    fresh, _ = played(2_000, seed=3)
    here = policy.reward_model.expected(fresh.contexts, ACTIONS)
    there = taught.reward_model.expected(fresh.contexts, ACTIONS)
    np.testing.assert_allclose(here, there, rtol=0.2, atol=0.004)
    assert policy.chunks_matter


def test_a_corrected_reward_comes_near_to_the_right_one():
    examples, _ = played(8_000)
    late = np.flatnonzero(examples.rewards == 1.0)[::10]  # a tenth of the clicks
    early = examples.rewards.copy()
    early[late] = 0.0
    corrected, straight, never = (LogisticThompson(3, 2) for _ in range(3))
    straight.learn_many(examples)
    as_first_told = Examples(
        contexts=examples.contexts,
        actions=examples.actions,
        action_features=examples.action_features,
        rewards=early,
        previous=examples.previous,
        at_ms=examples.at_ms,
    )
    for policy in (corrected, never):
        policy.learn_many(as_first_told)
    part = examples.taking(late)
    corrected.learn_many(
        Examples(
            contexts=part.contexts,
            actions=part.actions,
            action_features=part.action_features,
            rewards=part.rewards,
            previous=np.zeros(len(part)),
            at_ms=part.at_ms,
        )
    )
    fresh, _ = played(2_000, seed=4)
    right, near, far = (
        policy.reward_model.expected(fresh.contexts, ACTIONS)
        for policy in (straight, corrected, never)
    )
    assert np.abs(near - right).mean() < 0.2 * np.abs(far - right).mean()
    assert corrected.n_learned == 8_000


def test_the_mode_is_where_the_slope_is_nil():
    examples, _ = played(500)
    phi = crossed(examples.contexts, examples.action_features)
    precision = np.diag(np.linspace(1.0, 5.0, 12))
    belief = Gaussian.solved(precision, np.zeros(12))
    push = np.linspace(-1.0, 1.0, 12)
    chunk = Labelled(phi=phi, labels=examples.rewards, weights=np.full(500, 0.5), push=push)
    mode, curvature = find_mode(belief, precision, chunk)
    rates = expit(phi @ mode)
    slope = 0.5 * (examples.rewards - rates) @ phi + push - precision @ mode
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    np.testing.assert_allclose(
        curvature, phi.T @ (0.5 * (rates * (1.0 - rates))[:, None] * phi), rtol=1e-9, atol=1e-9
    )


def test_features_far_out_do_not_throw_the_search_off():
    phi = np.array([[1.0, 1e8], [1.0, -1e8], [1.0, 1e8]])
    belief = Gaussian.solved(np.eye(2), np.array([0.0, 3.0]))
    chunk = Labelled(
        phi=phi, labels=np.array([0.0, 1.0, 0.0]), weights=np.ones(3), push=np.zeros(2)
    )
    mode, curvature = find_mode(belief, np.eye(2), chunk)
    assert np.isfinite(mode).all()
    assert np.isfinite(curvature).all()
    assert mode[1] < 1.0  # it has turned away from the belief that the examples contradict
