import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import (
    ActionSet,
    EpsilonGreedy,
    LinearUcb,
    Softmax,
    SquareCB,
    create,
    validate,
)
from streams.core.policies.exploration import (
    epsilon_greedy_dist,
    greedy_dist,
    inverse_gap_dist,
    softmax_dist,
)
from streams.core.policies.linear_statistics import crossed
from streams.core.policies.squarecb import gamma_of

SCORES = np.array([[0.1, 0.3, 0.2], [0.5, 0.5, 0.1], [0.4, 0.2, 0.9], [0.0, 0.0, 0.0]])
MAY = np.array([[True] * 3, [True] * 3, [True, True, False], [False] * 3])


def test_greedy_takes_the_best_that_may_be_and_shares_ties():
    assert greedy_dist(SCORES, MAY).tolist() == [
        [0.0, 1.0, 0.0],
        [0.5, 0.5, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ]


def test_epsilon_is_shared_by_all_that_may_be():
    dist = epsilon_greedy_dist(SCORES, MAY, 0.3)
    np.testing.assert_allclose(dist[0], [0.1, 0.8, 0.1])
    np.testing.assert_allclose(dist[2], [0.85, 0.15, 0.0])


def test_softmax_odds_are_exponential_in_the_gap():
    dist = softmax_dist(SCORES, MAY, 0.1)
    assert dist[0, 1] / dist[0, 0] == pytest.approx(np.exp(2.0))
    assert dist[0, 1] / dist[0, 2] == pytest.approx(np.exp(1.0))
    np.testing.assert_allclose(dist.sum(axis=1), [1.0, 1.0, 1.0, 0.0])


def test_softmax_stays_finite_when_cold_and_when_hot():
    huge = SCORES * 1e9
    np.testing.assert_array_equal(softmax_dist(huge, MAY, 1e-9), greedy_dist(huge, MAY))
    np.testing.assert_allclose(softmax_dist(SCORES, MAY, 1e9)[0], [1 / 3] * 3)


def test_inverse_gap_weights_are_those_of_the_paper():
    dist = inverse_gap_dist(SCORES, MAY, 20.0)
    np.testing.assert_allclose(dist[0, [0, 2]], [1 / (3 + 20 * 0.2), 1 / (3 + 20 * 0.1)])
    np.testing.assert_allclose(dist[1], [0.5 - 0.5 / 11, 0.5 - 0.5 / 11, 1 / 11])
    np.testing.assert_allclose(dist[2], [1 - 1 / (2 + 20 * 0.2), 1 / (2 + 20 * 0.2), 0.0])
    np.testing.assert_allclose(dist.sum(axis=1), [1.0, 1.0, 1.0, 0.0])


def test_no_gamma_is_uniform_and_a_large_one_is_greedy():
    np.testing.assert_allclose(inverse_gap_dist(SCORES, MAY, 0.0)[0], [1 / 3] * 3)
    np.testing.assert_allclose(
        inverse_gap_dist(SCORES, MAY, 1e12), greedy_dist(SCORES, MAY), atol=1e-9
    )


def test_gamma_grows_with_examples():
    assert [gamma_of(3.0, 0.5, n) for n in (0, 1, 100)] == [3.0, 3.0, 30.0]
    policy = SquareCB(0, 1, gamma_scale=5.0, gamma_exponent=0.0)
    policy.n_learned = 10_000
    two = ActionSet(ids=("a", "b"), features=np.zeros((2, 1)))
    dist = policy.action_dist(
        np.zeros((1, 0)), two, np.ones((1, 2), dtype=bool), np.random.default_rng(0)
    )
    np.testing.assert_allclose(dist, [[0.5, 0.5]])


@pytest.mark.parametrize("model", ["linear", "disjoint-linear", "logistic"])
@pytest.mark.parametrize("kind", [EpsilonGreedy, Softmax, SquareCB])
def test_the_likeliest_action_is_the_one_expected_to_earn_most(
    kind, model, examples, decide, contexts, actions, eligible
):
    policy = kind(3, 2, model=model)
    policy.learn_many(examples(n=300, corrections=False))
    scores = np.where(eligible, policy.reward_model.expected(contexts, actions), -np.inf)
    some = eligible.any(axis=1)
    np.testing.assert_array_equal(decide(policy)[some].argmax(axis=1), scores[some].argmax(axis=1))


def test_an_upper_bound_is_the_expected_reward_plus_its_spread(
    examples, decide, contexts, actions, eligible
):
    policy = LinearUcb(3, 2, exploration=1.5, floor=0.0, adapt=False)
    policy.learn_many(examples(corrections=False))
    posterior = policy.reward_model.posterior
    covariance = posterior.noise_variance * np.linalg.inv(
        posterior.factor @ posterior.factor.T / np.outer(posterior.scale, posterior.scale)
    )
    bounds = np.empty(eligible.shape)
    for column, features in enumerate(actions.features):
        phi = crossed(contexts, np.tile(features, (len(contexts), 1)))
        spread = np.sqrt(np.einsum("nd,de,ne->n", phi, covariance, phi))
        bounds[:, column] = phi @ posterior.mean + 1.5 * spread
        np.testing.assert_allclose(
            policy.reward_model.spread(contexts, actions)[:, column], spread, rtol=1e-9
        )
    np.testing.assert_array_equal(decide(policy), greedy_dist(bounds, eligible))


def test_an_upper_bound_tries_what_it_knows_least(examples):
    policy = create("disjoint-linear-ucb", {"floor": 0.0}, 3, 2)
    policy.learn_many(examples(n=200, corrections=False))
    five = ActionSet(ids=("a", "b", "c", "d", "new"), features=np.zeros((5, 2)))
    dist = policy.action_dist(
        np.zeros((1, 3)), five, np.ones((1, 5), dtype=bool), np.random.default_rng(0)
    )
    assert dist[0].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_a_model_that_does_not_exist_is_refused():
    with pytest.raises(PolicyError, match="'model' cannot be 'linaer': did you mean 'linear'"):
        validate("squarecb", {"model": "linaer"})
    with pytest.raises(PolicyError, match=r"'base_reward' must lie between 0 and 1.*got 3\.0"):
        validate("squarecb", {"model": "logistic", "base_reward": 3.0})
