import numpy as np
import pytest

from streams.core.policies import ActionSet, LinearThompson


@pytest.fixture
def learn(examples):
    def make(**params) -> LinearThompson:
        policy = LinearThompson(3, 2, **params)
        policy.learn_many(examples(n=400, corrections=False))
        return policy

    return make


@pytest.mark.parametrize("floor", [0.02, 0.2])
def test_every_eligible_action_keeps_its_share_of_the_floor(learn, decide, eligible, floor):
    dist = decide(learn(floor=floor))
    least = np.broadcast_to(floor / np.maximum(eligible.sum(axis=1, keepdims=True), 1), dist.shape)
    assert (dist[eligible] >= least[eligible] - 1e-12).all()
    assert np.isclose(dist[eligible], least[eligible]).any()  # some are no more than that


def test_without_exploration_the_best_expected_gets_all_but_the_floor(
    learn, decide, contexts, actions, eligible
):
    policy = learn(exploration=0.0, floor=0.0)
    expected = np.where(eligible, policy.expected(contexts, actions), -np.inf)
    some = eligible.any(axis=1)
    dist = decide(policy)
    np.testing.assert_allclose(dist[some].max(axis=1), 1.0)
    np.testing.assert_array_equal(dist[some].argmax(axis=1), expected[some].argmax(axis=1))


def test_more_exploration_is_less_certain(learn, decide, eligible):
    several = eligible.sum(axis=1) > 1
    certain = [
        decide(learn(exploration=factor))[several].max(axis=1).mean() for factor in (0.1, 0.5, 2.0)
    ]
    assert certain[0] > certain[1] > certain[2]


def test_shares_are_the_odds_of_being_best():
    """Two actions, one weight apart: the odds are a normal's tail, 1 / 2 before any example."""
    two = ActionSet(ids=("a", "b"), features=np.array([[1.0], [0.0]]))
    policy = LinearThompson(0, 1, draws=16_384, floor=0.0)
    dist = policy.action_dist(
        np.zeros((1, 0)), two, np.ones((1, 2), dtype=bool), np.random.default_rng(0)
    )
    np.testing.assert_allclose(dist, [[0.5, 0.5]], atol=0.015)


def test_learning_again_is_noticed_when_deciding(learn, decide, examples):
    policy = learn()
    before = decide(policy)
    policy.learn_many(examples(n=400, seed=11, corrections=False))
    assert not np.array_equal(decide(policy), before)
