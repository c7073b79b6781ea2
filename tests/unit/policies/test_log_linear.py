from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, AdaptiveThompson, Examples, from_bytes, to_bytes
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.effect_sizes import PAIRED, EffectSizes
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.log_linear import LogLinear

DAY_MS = 86_400_000


def clicks(rng, actions, weights, n, day=1, size=1.0):
    """Make sends that are clicked at exp(weights), with weights (n_actions, 1 + d_user)."""
    x = rng.normal(size=(n, weights.shape[1] - 1))
    taken = rng.integers(len(actions), size=n)
    rates = np.exp(weights[taken, 0] + (x * weights[taken, 1:]).sum(axis=1))
    return Examples(
        contexts=x,
        actions=tuple(actions.ids[index] for index in taken),
        action_features=actions.features[taken],
        rewards=size * (rng.random(n) < rates),
        previous=np.full(n, np.nan),
        at_ms=np.full(n, day * DAY_MS),
    )


@pytest.fixture
def rates(actions):
    """Give weights of the logarithm of a rate: about 5 %, and the first user feature decides."""
    weights = np.zeros((len(actions), 4))
    weights[:, 0] = np.log(0.05) + 0.3 * np.random.default_rng(3).normal(size=len(actions))
    weights[:, 1] = 0.5 * np.random.default_rng(4).normal(size=len(actions))
    return weights


def test_what_is_believed_is_the_mode_of_a_penalised_poisson_likelihood(actions, rates):
    chunk = clicks(np.random.default_rng(0), actions, rates, 2_000)
    model = LogLinear(3, 2, Beliefs(adapt=False))
    model.learn(chunk)
    theta = model.hierarchy.theta.mean.reshape(4, 3)
    precisions = model.sizes.precisions(np.log(0.03))
    slope = -precisions.shared * (theta - precisions.mean)
    grams = model.kept.stack().grams[:, 0].sum(axis=0)
    middle = grams[1:] / grams[0]  # of those who clicked, as they are expected to
    for name, features in zip(actions.ids, actions.features, strict=True):
        mine = np.array(chunk.actions) == name
        u = np.hstack([np.ones((mine.sum(), 1)), chunk.contexts[mine] - middle])
        key = next(key for key in model.kept.sums if key.endswith(f":{name}"))
        act = np.concatenate([[1.0], features])
        own = model.hierarchy.own_of(key, (theta @ act)[None, :])[0][0]
        pull = (chunk.rewards[mine] - np.exp(u @ (theta @ act + own))) @ u  # (p,)
        np.testing.assert_allclose(pull, precisions.own * own, atol=0.02)
        slope += np.outer(pull, act)
    np.testing.assert_allclose(slope, 0.0, atol=0.1)  # of some 100 clicks


def test_effects_that_multiply_are_learned_better_than_by_sums(actions, rates):
    rng = np.random.default_rng(1)
    rates[:, 1:3] += 0.6  # who clicks, clicks on anything
    models = LogLinear(3, 2, Beliefs()), HierarchicalLinear(3, 2, Beliefs())
    for day in range(3):
        chunk = clicks(rng, actions, rates, 2_000, day)
        for model in models:
            model.learn(chunk)
            model.fit_scales()
    x = rng.normal(size=(500, 3))
    truth = np.exp(rates[:, 0] + x @ rates[:, 1:].T)
    off = [np.abs(model.expected(x, actions) - truth).mean() for model in models]
    assert off[0] < 0.6 * off[1]


def test_a_correction_that_is_taken_back_leaves_all_as_it_was(actions, rates, contexts):
    chunk = clicks(np.random.default_rng(2), actions, rates, 500)
    model = LogLinear(3, 2, Beliefs())
    model.learn(chunk)
    before = model.expected(contexts, actions)
    flipped = 1.0 - chunk.rewards
    some = np.arange(20)
    there = replace(chunk, rewards=flipped, previous=chunk.rewards).taking(some)
    back = replace(chunk, previous=flipped).taking(some)
    model.learn(there)
    assert not np.allclose(model.expected(contexts, actions), before, rtol=1e-3)
    model.learn(back)
    np.testing.assert_allclose(model.expected(contexts, actions), before, rtol=0.02)


def test_an_action_with_larger_rewards_is_expected_to_earn_more(actions):
    rng = np.random.default_rng(5)
    level = np.full((len(actions), 4), 0.0)
    level[:, 0] = np.log(0.1)
    model = LogLinear(3, 2, Beliefs())
    for index in range(len(actions)):
        alone = ActionSet(ids=actions.ids[index : index + 1], features=actions.features[[index]])
        size = 4.0 if index == 1 else 1.0
        model.learn(clicks(rng, alone, level[:1], 4_000, size=size))
    earned = model.expected(np.zeros((1, 3)), actions)[0]
    assert earned[1] == pytest.approx(0.4, rel=0.15)
    assert np.delete(earned, 1) == pytest.approx(0.1, rel=0.2)


def test_rewards_in_other_units_are_expected_in_these(actions, rates, contexts):
    model = LogLinear(3, 2, Beliefs())
    model.learn(clicks(np.random.default_rng(6), actions, rates, 500))
    before = model.expected(contexts, actions)
    model.rescale(0.1)
    np.testing.assert_allclose(model.expected(contexts, actions), 0.1 * before)


def test_what_another_learned_counts_for_its_share(actions, rates, contexts):
    source, heir, half = (LogLinear(3, 2, Beliefs()) for _ in range(3))
    source.learn(clicks(np.random.default_rng(7), actions, rates, 800))
    heir.warm_start(source, 1.0)
    half.warm_start(source, 0.5)
    np.testing.assert_allclose(
        heir.expected(contexts, actions), source.expected(contexts, actions), rtol=1e-9
    )
    assert (half.spread(contexts, actions) > heir.spread(contexts, actions)).mean() > 0.9


def test_after_a_negative_reward_the_linear_models_alone_decide(actions, rates):
    policy = AdaptiveThompson(3, 2)
    chunk = clicks(np.random.default_rng(8), actions, rates, 600)
    policy.learn_many(chunk)
    assert policy.reward_model.weights[-1] > 0.0
    rewards = chunk.rewards.copy()
    rewards[0] = -1.0
    policy.learn_many(replace(chunk, rewards=rewards))
    assert policy.reward_model.weights[-1] == 0.0
    assert policy.reward_model.weights.sum() == pytest.approx(1.0)
    policy.learn_many(chunk)  # and never again
    assert policy.reward_model.weights[-1] == 0.0


def test_where_the_zero_of_a_users_feature_is_does_not_matter(actions, rates, contexts):
    chunk = clicks(np.random.default_rng(13), actions, rates, 2_000)
    here, there = LogLinear(3, 2, Beliefs()), LogLinear(3, 2, Beliefs())
    far = np.array([3.0, -2.0, 5.0])
    for model, shift in ((here, 0.0), (there, far)):
        model.learn(replace(chunk, contexts=chunk.contexts + shift))
        model.fit_scales()
    np.testing.assert_allclose(
        there.expected(contexts + far, actions), here.expected(contexts, actions), rtol=1e-6
    )
    np.testing.assert_allclose(
        there.spread(contexts + far, actions), here.spread(contexts, actions), rtol=1e-6
    )
    drawn = [
        next(iter(model.drawn_plans(actions, np.random.default_rng(0), 64, 1.0)))
        for model in (here, there)
    ]
    u = np.hstack([np.ones((len(contexts), 1)), contexts])
    moved = np.hstack([np.ones((len(contexts), 1)), contexts + far])
    np.testing.assert_allclose(moved @ drawn[1], u @ drawn[0], rtol=1e-6, atol=1e-6)


def test_which_user_feature_decides_is_found_out(actions, rates):
    rng = np.random.default_rng(9)
    rates[:, 1] *= 2.0
    model = LogLinear(3, 2, Beliefs())
    for day in range(4):
        model.learn(clicks(rng, actions, rates, 2_000, day))
        model.fit_scales()
    assert model.sizes.by_user.argmax() == 0
    assert model.sizes.by_user[0] > 2.0 * model.sizes.by_user[1:].max()


def test_products_that_decide_nothing_are_let_go_and_the_one_that_does_is_kept(actions):
    rng = np.random.default_rng(12)
    weights = np.zeros((len(actions), 4))
    weights[:, 0] = np.log(0.05)
    weights[:, 2] = actions.features[:, 1]  # one of the six products
    model = LogLinear(3, 2, Beliefs())
    for day in range(5):
        model.learn(clicks(rng, actions, weights, 2_000, day))
        model.fit_scales()
    factors = np.outer(model.sizes.by_user, model.sizes.by_action) * model.sizes.by_pair
    others = np.delete(factors.ravel(), 3)
    assert factors[1, 1] > 5.0 * others.max()
    assert model.sizes.by_pair.min() >= PAIRED / (1.0 + PAIRED)  # never wholly


def test_sizes_of_effects_that_are_none_are_refused():
    state = EffectSizes.alike(4, 3, 0.03).state()
    assert EffectSizes.from_state(state, 4, 3).state().keys() == state.keys()
    with pytest.raises(PolicyError, match=r"of shapes \(5,\), \(4,\), \(2,\) and \(4, 2\)"):
        EffectSizes.from_state(state, 5, 3)
    with pytest.raises(PolicyError, match=r"got 0\.0 as the smallest"):
        EffectSizes.from_state({**state, "by_user": np.zeros(3)}, 4, 3)


def test_a_snapshot_that_lacks_an_actions_rewards_is_refused(actions, rates):
    model = LogLinear(3, 2, Beliefs())
    model.learn(clicks(np.random.default_rng(10), actions, rates, 300))
    state = model.learned()
    with pytest.raises(PolicyError, match="rewards must be counted for the 4 actions"):
        LogLinear(3, 2, Beliefs()).restore({**state, "came": {}})


def test_rates_near_one_and_none_at_all_stay_finite(actions, contexts):
    for level in (-30.0, 0.0):
        weights = np.full((len(actions), 4), 0.0)
        weights[:, 0] = level
        model = LogLinear(3, 2, Beliefs())
        for day in range(3):
            model.learn(clicks(np.random.default_rng(11), actions, weights, 500, day))
            model.fit_scales()
        earned = model.expected(contexts, actions)
        assert np.isfinite(earned).all()
        assert (earned < 0.02).all() if level < 0.0 else (np.abs(earned - 1.0) < 0.25).all()


def test_a_policy_that_learned_clicks_is_read_back_to_the_byte_and_goes_on_alike(
    actions, rates, contexts
):
    rng = np.random.default_rng(12)
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(clicks(rng, actions, rates, 700))
    raw = to_bytes(policy)
    again = from_bytes(raw)
    assert to_bytes(again) == raw
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    more = clicks(rng, actions, rates, 700, day=2)
    for one in (policy, again):
        one.learn_many(more)
    assert to_bytes(again) == to_bytes(policy)
    first, second = (
        one.action_dist(contexts, actions, may, np.random.default_rng(0)) for one in (policy, again)
    )
    np.testing.assert_array_equal(first, second)


def test_other_orders_of_users_and_actions_give_the_same_shares(actions, rates, contexts):
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(clicks(np.random.default_rng(13), actions, rates, 700))
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    dist = policy.action_dist(contexts, actions, may, np.random.default_rng(0))
    order = np.array([2, 0, 3, 1])
    turned = ActionSet(
        ids=tuple(actions.ids[index] for index in order), features=actions.features[order]
    )
    other = policy.action_dist(contexts[::-1], turned, may, np.random.default_rng(0))
    np.testing.assert_allclose(other[::-1], dist[:, order], atol=1e-9)


def test_what_a_user_was_just_sent_stands_back_in_units_of_reward(actions, rates, contexts):
    policy = AdaptiveThompson(3, 2, floor=0.0)
    policy.learn_many(clicks(np.random.default_rng(14), actions, rates, 2_000))
    may = np.ones((len(contexts), len(actions)), dtype=bool)
    best = policy.reward_model.expected(contexts, actions).argmax(axis=1)
    handicap = np.where(np.arange(len(actions)) == best[:, None], 1.0, 0.0)
    dist = policy.action_dist(contexts, actions, may, np.random.default_rng(0), handicap=handicap)
    assert dist[np.arange(len(best)), best].max() == 0.0


def test_clicks_whose_effects_multiply_are_told_from_sums(actions, rates):
    rates[:, 1:3] += 0.6
    rng = np.random.default_rng(15)
    policy = AdaptiveThompson(3, 2)
    for day in range(3):
        policy.learn_many(clicks(rng, actions, rates, 2_000, day))
    assert policy.reward_model.weights[-1] > 0.9


def test_clicks_that_add_up_are_told_from_products(actions):
    rng = np.random.default_rng(16)
    policy = AdaptiveThompson(3, 2)
    for day in range(6):
        x = rng.uniform(-1.0, 1.0, size=(2_000, 3))
        taken = rng.integers(len(actions), size=2_000)
        means = 0.5 + x @ np.array([0.3, 0.1, -0.08])
        chunk = Examples(
            contexts=x,
            actions=tuple(actions.ids[index] for index in taken),
            action_features=actions.features[taken],
            rewards=(rng.random(2_000) < means).astype(float),
            previous=np.full(2_000, np.nan),
            at_ms=np.full(2_000, day * DAY_MS),
        )
        policy.learn_many(chunk)
    assert policy.reward_model.weights[-1] < 0.2
