from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import (
    ActionSet,
    DisjointLinearThompson,
    Examples,
    disjoint_linear,
    from_bytes,
    to_bytes,
)
from streams.core.policies.kept_sums import LARGEST_DISJOINT

DAY_MS = 86_400_000


def learned_of(examples, **settings) -> DisjointLinearThompson:
    policy = DisjointLinearThompson(3, 2, **settings)
    policy.learn_many(examples)
    return policy


def test_each_action_has_the_ridge_solution_of_its_own_examples(examples):
    chunk = examples(n=200, corrections=False)
    model = learned_of(chunk).reward_model
    mine = np.array(chunk.actions) == "b"
    x = np.hstack([np.ones((mine.sum(), 1)), chunk.contexts[mine]])
    penalty = np.diag([100.0, 300.0, 300.0, 300.0])
    ridge = np.linalg.solve(
        x.T @ x + penalty, x.T @ chunk.rewards[mine] + penalty @ np.array([0.03, 0, 0, 0])
    )
    np.testing.assert_allclose(model.posterior("b").mean, ridge, rtol=1e-9)


def test_a_correction_is_exact(examples):
    chunk = examples(n=60, corrections=False)
    wrong = replace(chunk, rewards=chunk.rewards + 1.0)
    right = replace(chunk, previous=wrong.rewards)
    corrected = learned_of(wrong, half_life_days=3.0)
    corrected.learn_many(right)
    straight = learned_of(chunk, half_life_days=3.0)
    for name in "abcd":
        np.testing.assert_allclose(
            corrected.reward_model.posterior(name).mean,
            straight.reward_model.posterior(name).mean,
            rtol=1e-9,
        )


def test_features_of_actions_teach_nothing(examples, decide):
    chunk = examples(n=100)
    other = Examples(
        contexts=chunk.contexts,
        actions=chunk.actions,
        action_features=chunk.action_features + 5.0,
        rewards=chunk.rewards,
        previous=chunk.previous,
        at_ms=chunk.at_ms,
    )
    np.testing.assert_array_equal(decide(learned_of(chunk)), decide(learned_of(other)))


def test_what_was_not_sent_for_long_is_forgotten_too(examples, part):
    chunk = examples(n=100, corrections=False)
    policy = learned_of(chunk, half_life_days=1.0)
    prior = policy.reward_model.posterior("never").mean
    assert np.abs(policy.reward_model.posterior("a").mean - prior).max() > 1e-3
    late = part(chunk, np.flatnonzero(np.array(chunk.actions) == "b")[:1])
    policy.learn_many(
        Examples(
            contexts=late.contexts,
            actions=late.actions,
            action_features=late.action_features,
            rewards=late.rewards,
            previous=late.previous,
            at_ms=late.at_ms + 100 * DAY_MS,
        )
    )
    np.testing.assert_allclose(policy.reward_model.posterior("a").mean, prior, atol=1e-9)


def test_a_new_action_starts_from_the_prior_and_a_retired_one_is_forgotten(examples, contexts):
    policy = learned_of(examples(n=200))
    grown = ActionSet(ids=("a", "b", "c", "d", "e"), features=np.zeros((5, 2)))
    expected = policy.reward_model.expected(contexts, grown)
    np.testing.assert_allclose(expected[:, 4], 0.03)
    assert np.abs(expected[:, :4] - 0.03).min(axis=0).max() > 0.0
    policy.retire(["a", "unheard of"])
    np.testing.assert_allclose(policy.reward_model.expected(contexts, grown)[:, 0], 0.03)
    assert to_bytes(from_bytes(to_bytes(policy))) == to_bytes(policy)


def test_many_draws_are_counted_in_parts(examples, decide, monkeypatch):
    policy = learned_of(examples(n=200), draws=4_096)
    at_once = decide(policy)
    monkeypatch.setattr(disjoint_linear, "WEIGHTS", 4 * 4 * 100)
    np.testing.assert_allclose(decide(policy), at_once, atol=0.06)


def test_a_pause_keeps_what_was_learned(examples, contexts, actions):
    policy = learned_of(examples(n=200))
    everything = np.ones((len(contexts), 4), dtype=bool)
    before = policy.action_dist(contexts, actions, everything, np.random.default_rng(0))
    paused = everything.copy()
    paused[:, 1] = False
    during = policy.action_dist(contexts, actions, paused, np.random.default_rng(0))
    assert (during[:, 1] == 0.0).all()
    again = policy.action_dist(contexts, actions, everything, np.random.default_rng(0))
    np.testing.assert_array_equal(again, before)


def test_too_many_weights_are_refused_and_nothing_is_learned():
    policy = DisjointLinearThompson(1, 0)
    n = LARGEST_DISJOINT // 2 + 1
    names = tuple(f"t{number}" for number in range(n))
    with pytest.raises(PolicyError, match=rf"at most 8192, got {n} x 2: retire"):
        policy.learn_many(
            Examples(
                contexts=np.zeros((n, 1)),
                actions=names,
                action_features=np.zeros((n, 0)),
                rewards=np.zeros(n),
                previous=np.full(n, np.nan),
                at_ms=np.zeros(n, dtype=np.int64),
            )
        )
    assert policy.n_learned == 0
    assert policy.reward_model.kept.sums == {}
    with pytest.raises(PolicyError, match="at most 8192"):
        policy.action_dist(
            np.zeros((1, 1)),
            ActionSet(ids=names, features=np.zeros((n, 0))),
            np.ones((1, n), dtype=bool),
            np.random.default_rng(0),
        )
