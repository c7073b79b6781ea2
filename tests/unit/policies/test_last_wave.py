"""A campaign's last wave is not explored in: nothing of it is learned in time."""

import numpy as np
import pytest

from streams.core.policies import create, to_bytes
from streams.core.policies.exploration import greedy_dist

POSTERIORS = (
    "adaptive-thompson",
    "linear-thompson",
    "logistic-thompson",
    "linear-ucb",
    "disjoint-linear-thompson",
    "disjoint-linear-ucb",
)


@pytest.fixture(params=POSTERIORS)
def policy(request, examples):
    policy = create(request.param, {"exploration": 5.0}, 3, 2)
    policy.learn_many(examples(300))
    return policy


def test_the_last_wave_takes_what_is_expected_to_be_best(policy, decide, contexts, actions):
    everybody = np.ones((len(contexts), len(actions)), dtype=bool)
    rng = np.random.default_rng(1)
    last = policy.for_last_wave().action_dist(contexts, actions, everybody, rng)
    best = greedy_dist(policy.reward_model.expected(contexts, actions), everybody)
    floor = getattr(policy, "floor_now", policy.floor)
    np.testing.assert_allclose(last, (1 - floor) * best + floor / len(actions))
    before = policy.action_dist(contexts, actions, everybody, np.random.default_rng(1))
    assert (last != before).any(), "the policy itself explores"


def test_what_is_closed_or_worn_out_is_not_taken_in_the_last_wave(policy, contexts, actions):
    can = np.ones((len(contexts), len(actions)), dtype=bool)
    can[:, 0] = False
    worst = np.zeros(can.shape)
    worst[:, 1] = 1e9
    rng = np.random.default_rng(1)
    dist = policy.for_last_wave().action_dist(contexts, actions, can, rng, handicap=worst)
    floor = getattr(policy, "floor_now", policy.floor)
    assert (dist[:, 0] == 0.0).all()
    np.testing.assert_allclose(dist[:, 1], floor / (len(actions) - 1))


def test_deciding_the_last_wave_leaves_the_policy_as_it_was(policy, contexts, actions, decide):
    raw, before = to_bytes(policy), decide(policy)
    decide(policy.for_last_wave())
    assert to_bytes(policy) == raw
    np.testing.assert_array_equal(decide(policy), before)


@pytest.mark.parametrize("name", POSTERIORS)
def test_who_wants_it_explores_in_the_last_wave_too(name, examples):
    policy = create(name, {"explore_last_wave": True}, 3, 2)
    policy.learn_many(examples(300))
    assert policy.for_last_wave() is policy


@pytest.mark.parametrize("name", POSTERIORS)
def test_a_policy_that_has_learned_nothing_explores_in_its_only_wave(name):
    policy = create(name, {}, 3, 2)
    assert policy.for_last_wave() is policy


@pytest.mark.parametrize("name", POSTERIORS)
def test_what_another_campaign_has_learned_is_enough_not_to_explore(name, examples):
    other, policy = create(name, {}, 3, 2), create(name, {}, 3, 2)
    other.learn_many(examples(300))
    policy.warm_start(other, 0.5)
    assert policy.n_learned == 0
    assert policy.for_last_wave() is not policy


@pytest.mark.parametrize("name", ["uniform", "softmax", "squarecb", "epsilon-greedy"])
def test_what_explores_by_a_rule_keeps_to_it(name, examples):
    policy = create(name, {}, 3, 2)
    policy.learn_many(examples(300))
    assert policy.for_last_wave() is policy
