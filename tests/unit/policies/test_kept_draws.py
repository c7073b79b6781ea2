"""Policies that decide for one or two users at a time draw from the posterior once."""

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, create


@pytest.fixture
def policy(examples):
    policy = create("adaptive-thompson", {}, 3, 2)
    policy.learn_many(examples(200))
    return policy


def test_what_the_policy_learns_later_changes_no_kept_draw(policy, actions, decide, examples):
    kept = policy.with_kept_draws(actions, np.random.default_rng(0))
    before = decide(kept)
    policy.learn_many(examples(200, seed=8))
    np.testing.assert_array_equal(decide(kept), before)
    assert (decide(policy) != before).any()


def test_a_handicap_counts_against_kept_draws_too(policy, actions, contexts):
    everybody = np.ones((len(contexts), len(actions)), dtype=bool)
    worst = np.zeros(everybody.shape)
    worst[:, 1] = 1e9
    kept = policy.with_kept_draws(actions, np.random.default_rng(0))
    dist = kept.action_dist(contexts, actions, everybody, np.random.default_rng(1), handicap=worst)
    np.testing.assert_allclose(dist[:, 1], policy.floor_now / len(actions))


def test_draws_that_are_too_large_are_not_kept(actions):
    policy = create("linear-thompson", {"draws": 16_384}, 100, 2)
    assert policy.with_kept_draws(actions, np.random.default_rng(0)) is policy


def test_kept_draws_serve_no_other_actions(policy, actions, contexts):
    kept = policy.with_kept_draws(actions, np.random.default_rng(0))
    two = ActionSet(ids=actions.ids[:2], features=actions.features[:2])
    everybody = np.ones((len(contexts), 2), dtype=bool)
    with pytest.raises(PolicyError, match="decide for the actions that they were kept for"):
        kept.action_dist(contexts, two, everybody, np.random.default_rng(1))
