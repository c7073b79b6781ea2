from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, AdaptiveThompson, Examples, from_bytes, to_bytes
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.best_shares import scaled
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.recent_levels import RecentLevels
from streams.core.policies.sum_keys import keys_of

DAY_MS = 86_400_000


def sends(rng, actions, weights, n, day):
    """Make a day's sends, n of them, with weights (n_actions, 1 + d_user) and a noise of 0.1."""
    x = rng.normal(size=(n, weights.shape[1] - 1))
    taken = rng.integers(len(actions), size=n)
    means = weights[taken, 0] + (x * weights[taken, 1:]).sum(axis=1)
    return Examples(
        contexts=x,
        actions=tuple(actions.ids[index] for index in taken),
        action_features=actions.features[taken],
        rewards=means + 0.1 * rng.normal(size=n),
        previous=np.full(n, np.nan),
        at_ms=np.full(n, day * DAY_MS),
    )


@pytest.fixture
def dense(examples, actions):
    """Give a model, and the mean and covariance of the same one with a column for each action."""
    chunk = examples(n=80, corrections=False)
    model = HierarchicalLinear(3, 2, Beliefs(adapt=False, base_reward=0.0))
    model.learn(chunk)

    def laid_out(x, indices):
        own = np.eye(len(actions))[indices]
        acts = np.hstack([np.ones((len(x), 1)), actions.features[indices], own])
        users = np.hstack([np.ones((len(x), 1)), x])
        return (users[:, :, None] * acts[:, None, :]).reshape(len(x), -1)

    precision = np.full((4, 3 + len(actions)), 300.0)
    precision[1:, 0] = precision[0, 1:3] = 100.0
    precision[0, 3:] = 100.0
    precision[0, 0] = 1.0
    phi = laid_out(chunk.contexts, np.array([actions.ids.index(name) for name in chunk.actions]))
    cover = np.linalg.inv(phi.T @ phi + np.diag(precision.ravel()))
    return model, laid_out, cover @ phi.T @ chunk.rewards, cover


def test_the_posterior_is_that_of_a_regression_with_a_column_for_each_action(
    dense, actions, contexts
):
    model, laid_out, mean, cover = dense
    spread = model.spread(contexts, actions)
    for index in range(len(actions)):
        new = laid_out(contexts, np.full(len(contexts), index))
        np.testing.assert_allclose(
            model.expected(contexts, actions)[:, index], new @ mean, rtol=1e-6, atol=1e-9
        )
        variance = model.noise_variance * ((new @ cover) * new).sum(axis=1)
        np.testing.assert_allclose(spread[:, index] ** 2, variance, rtol=1e-5)


def test_an_action_is_drawn_as_often_as_it_is_believed_to_be_the_better_of_two(
    dense, actions, contexts
):
    model, laid_out, mean, cover = dense
    two = ActionSet(ids=actions.ids[:2], features=actions.features[:2])
    may = np.ones((len(contexts), 2), dtype=bool)
    draws = 4_000
    drawn = model.drawn(two, np.random.default_rng(0), draws=draws, widen=1.0)
    shares = model.shares(contexts, two, may, [(w, scaled(plans), one) for w, plans, one in drawn])
    apart = np.subtract(*(laid_out(contexts, np.full(len(contexts), index)) for index in (0, 1)))
    spread = np.sqrt(model.noise_variance * ((apart @ cover) * apart).sum(axis=1))
    better = stats.t(df=82).cdf(apart @ mean / spread)  # 80 examples, and what the noise began with
    np.testing.assert_allclose(shares[:, 0], better, atol=4.0 * 0.5 / np.sqrt(draws))


def test_actions_with_nothing_in_common_are_told_apart(actions):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(len(actions), 3))
    policy = AdaptiveThompson(2, 2)
    for day in range(3):
        policy.learn_many(sends(rng, actions, weights, 1_000, day))
    x = rng.normal(size=(50, 2))
    truth = weights[:, 0] + x @ weights[:, 1:].T
    np.testing.assert_allclose(policy.reward_model.expected(x, actions), truth, atol=0.05)


def test_before_any_example_all_that_is_eligible_is_sent_alike(actions, contexts):
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    may[:, 0] = False
    dist = AdaptiveThompson(3, 2).action_dist(contexts, actions, may, np.random.default_rng(0))
    np.testing.assert_allclose(dist, may / (len(actions) - 1.0))


def test_before_any_example_what_a_user_was_just_sent_stands_back(actions, contexts):
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    handicap = np.where(np.arange(len(actions)) == 1, 0.02, 0.0) * np.ones(may.shape)
    dist = AdaptiveThompson(3, 2, floor=0.0).action_dist(
        contexts, actions, may, np.random.default_rng(0), handicap=handicap
    )
    assert (dist[:, 1] == 0.0).all()


def test_when_templates_wear_out_their_levels_drift_and_tastes_stay(actions):
    rng = np.random.default_rng(4)
    weights = 0.05 * rng.normal(size=(len(actions), 3))
    base = HierarchicalLinear(2, 2, Beliefs())
    levels = RecentLevels(base, 0.75 * DAY_MS)
    for day in range(8):
        worn = weights.copy()
        worn[:2, 0] -= 0.02 * day  # two of them lose a little every day
        chunk = sends(rng, actions, worn, 600, day)
        for model in (base, levels):
            model.learn(chunk)
    x = rng.normal(size=(50, 2))
    truth = worn[:, 0] + x @ worn[:, 1:].T
    off = [np.abs(model.expected(x, actions) - truth).mean() for model in (base, levels)]
    assert off[1] < 0.5 * off[0]


def test_drifting_levels_are_those_of_a_regression_on_what_the_long_memory_leaves(actions):
    rng = np.random.default_rng(6)
    chunk = sends(rng, actions, rng.normal(size=(len(actions), 3)), 300, 1)
    base = HierarchicalLinear(2, 2, Beliefs(adapt=False))
    levels = RecentLevels(base, 0.0)
    for model in (base, levels):
        model.learn_rows(chunk, keys_of(chunk))
    x = np.zeros((1, 2))
    for index, name in enumerate(actions.ids):
        mine = np.array(chunk.actions) == name
        left = chunk.rewards[mine] - base.expected(chunk.contexts[mine], actions)[:, index]
        level = left.sum() / (100.0 + mine.sum())
        assert levels.expected(x, actions)[0, index] == pytest.approx(
            base.expected(x, actions)[0, index] + level
        )


def test_when_tastes_turn_the_short_memory_takes_over(actions):
    rng = np.random.default_rng(2)
    before, after = 0.1 * rng.normal(size=(2, len(actions), 3))
    policy = AdaptiveThompson(2, 2)
    for day in range(5):
        policy.learn_many(sends(rng, actions, before, 2_000, day))
    assert policy.reward_model.weights[:2].sum() > 0.9
    for day in (5, 6):
        policy.learn_many(sends(rng, actions, after, 2_000, day))
    assert policy.reward_model.weights[:2].sum() < 0.1


def test_a_correction_is_exact_while_the_precisions_stay(examples, contexts, actions):
    chunk = examples(n=60, corrections=False)
    wrong = replace(chunk, rewards=chunk.rewards + 1.0)
    right = replace(chunk, previous=wrong.rewards)
    straight, mended = (HierarchicalLinear(3, 2, Beliefs(half_life_days=2.0)) for _ in range(2))
    straight.learn(chunk)
    mended.learn(wrong)
    mended.learn(right)
    np.testing.assert_allclose(
        mended.expected(contexts, actions), straight.expected(contexts, actions), rtol=1e-9
    )


def test_what_was_retired_starts_anew_from_its_features(examples, actions, contexts):
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(examples())
    policy.retire(["b"])
    again = ActionSet(ids=("b", "never sent"), features=actions.features[[1, 1]])
    for member in policy.reward_model.members:
        assert not [key for key in member.kept.sums if key.endswith(":b")]
        np.testing.assert_array_equal(*member.expected(contexts, again).T)


def test_a_snapshot_with_too_few_weights_is_refused(examples):
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(examples())
    state = from_bytes(to_bytes(policy)).state()
    state["learned"]["log_weights"] = np.zeros(2)
    with pytest.raises(PolicyError, match="a mixture of 5 must have as many finite weights"):
        AdaptiveThompson.from_state(state)


def test_too_many_actions_are_refused():
    policy = AdaptiveThompson(63, 0)
    actions = ActionSet(ids=tuple(map(str, range(129))), features=np.zeros((129, 0)))
    with pytest.raises(PolicyError, match=r"at most 8192, got 129 x 64"):
        policy.action_dist(
            np.zeros((1, 63)), actions, np.ones((1, 129), dtype=bool), np.random.default_rng(0)
        )


def test_the_floor_fades_with_what_was_learned_and_is_part_of_what_is_drawn_from(
    actions, examples, contexts
):
    policy = AdaptiveThompson(3, 2, floor=0.1, floor_fades=100)
    assert policy.floor_now == 0.1
    policy.learn_many(examples(n=900, corrections=False))
    assert policy.floor_now == pytest.approx(0.1 * 10.0**-0.45)
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    dist = policy.action_dist(contexts, actions, may, np.random.default_rng(0))
    assert dist.min() >= policy.floor_now / len(actions) - 1e-12
    assert from_bytes(to_bytes(policy)).floor_now == policy.floor_now


def test_a_floor_that_does_not_fade_stays(examples):
    policy = AdaptiveThompson(3, 2, floor_fades=0)
    policy.learn_many(examples(n=900, corrections=False))
    assert policy.floor_now == 0.02
