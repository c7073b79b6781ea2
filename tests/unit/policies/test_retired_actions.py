"""What a template that is retired has taught of features stays; what was its own goes."""

from dataclasses import replace

import numpy as np
import pytest

from streams.core.policies import ActionSet, AdaptiveThompson, Examples, from_bytes, to_bytes
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.kept_sums import MOST_RETIRED
from streams.core.policies.log_linear import LogLinear
from streams.core.policies.sum_keys import action_of

DAY_MS = 86_400_000
MODELS = [HierarchicalLinear, LogLinear]
MANY = MOST_RETIRED + 8


class World:
    """People with three features, templates with two, and what each earns with each.

    Signed rewards of which the mean is linear, or clicks of about 5 % whose effects multiply; a
    template's level is its own to some part.
    """

    def __init__(self, clicks: bool, seed: int = 0) -> None:
        self.clicks = clicks
        self.rng = np.random.default_rng(seed)
        self.tastes = np.array([[0.6, -0.3], [-0.4, 0.8], [0.5, 0.4]])

    def templates(self, n: int, name: str = "template") -> ActionSet:
        angles = self.rng.uniform(0.0, 2.0 * np.pi, n)
        features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return ActionSet(ids=tuple(f"{name}-{index}" for index in range(n)), features=features)

    def means(self, x, features, levels=0.0):
        scores = x @ self.tastes @ features.T + levels
        return np.minimum(0.05 * np.exp(scores), 1.0) if self.clicks else 0.1 * scores

    def sends(self, actions: ActionSet, n: int, day: int = 0, spread: float = 0.2) -> Examples:
        x = self.rng.normal(size=(n, 3))
        taken = self.rng.integers(len(actions), size=n)
        levels = spread * np.sin(7.0 * np.arange(len(actions)))
        means = self.means(x, actions.features, levels)[np.arange(n), taken]
        noise = 0.2 * self.rng.normal(size=n)
        return Examples(
            contexts=x,
            actions=tuple(actions.ids[index] for index in taken),
            action_features=actions.features[taken],
            rewards=(self.rng.random(n) < means) * 1.0 if self.clicks else means + noise,
            previous=np.full(n, np.nan),
            at_ms=np.full(n, day * DAY_MS),
        )

    def earned(self, policy, actions: ActionSet) -> float:
        """What a policy's choice is worth above that of chance."""
        x = np.random.default_rng(9).normal(size=(2_000, 3))
        means = self.means(x, actions.features)
        dist = policy.action_dist(
            x, actions, np.ones(means.shape, dtype=bool), np.random.default_rng(1)
        )
        return float((dist * means).sum(axis=1).mean() - means.mean())


def same(model, other, contexts, actions, rtol=1e-6):
    """Whether two models expect the same, as surely."""
    for told in ("expected", "spread"):
        np.testing.assert_allclose(
            getattr(model, told)(contexts, actions),
            getattr(other, told)(contexts, actions),
            rtol=rtol,
            atol=1e-3 * rtol,
        )


@pytest.mark.parametrize("clicks", [False, True])
@pytest.mark.parametrize("gone", [5, 6])
def test_new_templates_are_judged_by_features_that_retired_ones_have_taught(clicks, gone):
    world = World(clicks)
    season, new = world.templates(6), world.templates(3, "new")
    policy = AdaptiveThompson(3, 2)
    for day in range(6):
        policy.learn_many(world.sends(season, 1_000, day))
    before = world.earned(policy, new)
    policy.retire(season.ids[:gone])
    assert before > 0.01
    assert world.earned(policy, new) >= 0.95 * before
    assert not policy.reward_model.is_new


@pytest.mark.parametrize("clicks", [False, True])
def test_two_hundred_templates_that_came_and_went_leave_a_state_of_one_size(clicks):
    world = World(clicks)
    templates, new = world.templates(200), world.templates(3, "new")
    policy, sizes = AdaptiveThompson(3, 2), []
    for index, name in enumerate(templates.ids):
        one = ActionSet(ids=(name,), features=templates.features[[index]])
        policy.learn_many(world.sends(one, 40, day=index // 20))
        policy.retire([name])
        sizes.append(len(to_bytes(policy)))
    assert max(sizes) < 1.01 * sizes[MANY]
    kept, few = AdaptiveThompson(3, 2), world.templates(12, "few")
    for day in range(10):
        kept.learn_many(world.sends(few, 800, day))
    assert world.earned(policy, new) >= 0.95 * world.earned(kept, new)


@pytest.mark.parametrize("model_of", MODELS)
def test_what_is_expected_of_others_is_as_before(model_of, contexts):
    world = World(clicks=True)
    season, new = world.templates(6), world.templates(3, "new")
    model, before = (model_of(3, 2, Beliefs()) for _ in range(2))
    chunk = world.sends(season, 2_000)
    for one in (model, before):
        one.learn(chunk)
        one.fit_scales()
    model.retire(season.ids[:4])
    same(model, before, contexts, new)
    left = ActionSet(ids=season.ids[4:], features=season.features[4:])
    same(model, before, contexts, left)


def test_what_was_folded_is_what_a_regression_with_columns_for_the_retired_says(contexts):
    world = World(clicks=False)
    season, new = world.templates(MANY), world.templates(3, "new")
    model, before = (HierarchicalLinear(3, 2, Beliefs()) for _ in range(2))
    chunk = world.sends(season, 3_000)
    for one in (model, before):
        one.learn(chunk)
        one.fit_scales()
    model.retire(season.ids)
    assert len(model.kept) == MOST_RETIRED
    same(model, before, contexts, new)
    assert model.noise_variance == pytest.approx(before.noise_variance)


def test_what_was_folded_says_the_same_of_rates_wherever_the_zero_of_a_feature_is(contexts):
    world = World(clicks=True)
    season, new = world.templates(MANY), world.templates(3, "new")
    chunk = world.sends(season, 6_000)
    far = np.array([3.0, -2.0, 5.0])
    before, here, there = (LogLinear(3, 2, Beliefs()) for _ in range(3))
    for model, shift in ((before, 0.0), (here, 0.0), (there, far)):
        model.learn(replace(chunk, contexts=chunk.contexts + shift))
        model.fit_scales()
    for model in (here, there):
        model.retire(season.ids)
    # but that effects are believed to be small about those who answer to what is kept apart
    same(here, before, contexts, new, rtol=0.05)
    np.testing.assert_allclose(
        there.expected(contexts + far, new), here.expected(contexts, new), rtol=1e-6
    )


@pytest.mark.parametrize("model_of", MODELS)
@pytest.mark.parametrize("n", [6, MANY])
def test_a_memory_that_fades_forgets_what_the_retired_taught(model_of, n, contexts):
    world = World(clicks=True)
    season, new = world.templates(n), world.templates(3, "new")
    model = model_of(3, 2, Beliefs(adapt=False, half_life_days=1.0))
    model.learn(world.sends(season, 4_000))
    model.retire(season.ids)
    knew = np.ptp(model.expected(contexts, new), axis=1).mean()
    other = ActionSet(ids=("other",), features=np.zeros((1, 2)))
    model.learn(world.sends(other, 10, day=20))
    assert np.ptp(model.expected(contexts, new), axis=1).mean() < 0.05 * knew


@pytest.mark.parametrize("clicks", [False, True])
def test_a_policy_with_retired_templates_is_read_back_to_the_byte_and_goes_on_alike(
    clicks, contexts
):
    world = World(clicks)
    season, new = world.templates(MANY), world.templates(3, "new")
    policy = AdaptiveThompson(3, 2)
    for day in range(2):
        policy.learn_many(world.sends(season, 1_000, day))
    policy.retire(season.ids)
    assert b"template" not in to_bytes(policy)
    again = from_bytes(to_bytes(policy))
    for day in (2, 3):
        assert to_bytes(again) == to_bytes(policy)
        may = np.ones((len(contexts), len(new)), dtype=bool)
        np.testing.assert_array_equal(
            *(
                one.action_dist(contexts, new, may, np.random.default_rng(0))
                for one in (policy, again)
            )
        )
        more = world.sends(new, 700, day)
        for one in (policy, again):
            one.learn_many(more)
            one.retire(season.ids)


@pytest.mark.parametrize("model_of", MODELS)
@pytest.mark.parametrize("n", [6, MANY])
def test_a_retired_name_that_comes_back_has_no_level_of_its_own_until_it_is_sent(
    model_of, n, contexts
):
    world = World(clicks=True)
    season = world.templates(n)
    model = model_of(3, 2, Beliefs())
    model.learn(world.sends(season, 3_000))
    both = ActionSet(ids=("template-1", "never sent"), features=season.features[[1, 1]])
    model.retire(["template-1"])
    earns = model.expected(contexts, both)
    if model_of is LogLinear:  # mean sizes of rewards, which are all 1
        np.testing.assert_allclose(earns[:, 0], earns[:, 1], rtol=1e-9)
    else:
        np.testing.assert_array_equal(earns[:, 0], earns[:, 1])
    back = ActionSet(ids=("template-1",), features=season.features[[1]])
    dear = world.sends(back, 300)
    model.learn(replace(dear, rewards=np.ones(300)))
    earns = model.expected(contexts, both)
    assert (earns[:, 0] > earns[:, 1]).all()


def test_outcomes_that_come_after_a_template_was_retired_count_as_those_before(contexts):
    world = World(clicks=False)
    season, new = world.templates(6), world.templates(3, "new")
    model, late = (HierarchicalLinear(3, 2, Beliefs(half_life_days=2.0)) for _ in range(2))
    chunk = world.sends(season, 600, day=1)
    first, later = chunk.taking(slice(0, 400)), chunk.taking(slice(400, 600))
    wrong = replace(first, rewards=first.rewards + 1.0)
    model.learn(chunk)
    late.learn(wrong)
    late.retire(season.ids[:3])
    late.learn(replace(chunk, previous=np.append(wrong.rewards, later.previous)))
    late.retire(season.ids[:3])
    same(late, model, contexts, new)
    left = ActionSet(ids=season.ids[3:], features=season.features[3:])
    same(late, model, contexts, left)


@pytest.mark.parametrize("model_of", MODELS)
def test_a_correction_of_what_a_retired_template_earned_moves_what_it_taught(model_of, contexts):
    world = World(clicks=True)
    season, new = world.templates(6), world.templates(3, "new")
    chunk = world.sends(season, 2_000)
    model, late = (model_of(3, 2, Beliefs()) for _ in range(2))
    for one in (model, late):
        one.learn(chunk)
    late.retire(season.ids)
    before = late.expected(contexts, new)
    came = replace(chunk, rewards=np.ones(2_000), previous=chunk.rewards).taking(slice(0, 60))
    for one in (model, late):
        one.learn(came)
    assert (late.expected(contexts, new) > before).mean() > 0.9
    same(late, model, contexts, new)


@pytest.mark.parametrize("model_of", MODELS)
def test_corrections_of_what_was_folded_are_left_out(model_of, contexts):
    world = World(clicks=True)
    season, new = world.templates(MANY), world.templates(3, "new")
    model = model_of(3, 2, Beliefs())
    first = ActionSet(ids=season.ids[:8], features=season.features[:8])
    others = ActionSet(ids=season.ids[8:], features=season.features[8:])
    chunk = world.sends(first, 600)
    model.learn(chunk)
    model.learn(world.sends(others, 1_000, day=1))
    model.retire(season.ids)
    before = model.expected(contexts, new)
    model.learn(replace(chunk, rewards=1.0 - chunk.rewards, previous=chunk.rewards))
    np.testing.assert_array_equal(model.expected(contexts, new), before)


@pytest.mark.parametrize("model_of", MODELS)
@pytest.mark.parametrize("number", [4, MANY])  # kept apart, and folded
def test_corrections_that_come_with_a_names_first_sends_are_of_these(number, model_of):
    """Whatever of that name was retired, here or where this began."""
    world = World(clicks=True)
    season = world.templates(number)
    new = ActionSet(ids=season.ids[:1], features=season.features[:1])
    heir, apart = (model_of(3, 2, Beliefs()) for _ in range(2))
    source = model_of(3, 2, Beliefs())
    source.learn(world.sends(season, 1_000))
    source.retire(season.ids)
    sent = world.sends(new, 200, day=9)
    corrected = replace(sent, rewards=np.ones(200), previous=sent.rewards).taking(slice(0, 60))
    for one in (heir, apart):
        one.warm_start(source, 1.0)
    before = {key: heir.kept.sums[key].moment.copy() for key in heir.kept.sums}
    heir.learn(together(sent, corrected))
    apart.learn(sent)
    apart.learn(corrected)
    (key,) = heir.kept.sums.keys() - before
    assert action_of(key) == new.ids[0]
    if model_of is LogLinear:
        assert heir.came[key] == apart.came[key] == (60 + sent.rewards[60:].sum(),) * 2
    else:
        np.testing.assert_allclose(heir.kept.sums[key].moment, apart.kept.sums[key].moment)
        for retired, moment in before.items():
            np.testing.assert_array_equal(heir.kept.sums[retired].moment, moment)


def together(one: Examples, other: Examples) -> Examples:
    columns = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("contexts", "action_features", "rewards", "previous", "at_ms")
    }
    return Examples(actions=one.actions + other.actions, **columns)


@pytest.mark.parametrize("model_of", MODELS)
def test_an_heir_takes_over_what_retired_templates_taught_by_its_share(model_of, contexts):
    world = World(clicks=True)
    season, new = world.templates(MANY), world.templates(3, "new")
    source, heir, half = (model_of(3, 2, Beliefs()) for _ in range(3))
    source.learn(world.sends(season, 3_000))
    source.retire(season.ids)
    heir.warm_start(source, 1.0)
    half.warm_start(source, 0.5)
    same(heir, source, contexts, new)
    assert (half.spread(contexts, new) > heir.spread(contexts, new)).mean() > 0.8
    folded, whole = half.kept.taught, source.kept.taught
    np.testing.assert_allclose(folded.gram, 0.5 * whole.gram)
    np.testing.assert_allclose(folded.moment, 0.5 * whole.moment)
    heir.warm_start(source, 1.0)
    assert len(heir.kept) == MOST_RETIRED


@pytest.mark.parametrize("model_of", MODELS)
def test_rewards_in_other_units_rescale_what_retired_templates_taught(model_of, contexts):
    world = World(clicks=True)
    season, new = world.templates(MANY), world.templates(3, "new")
    model = model_of(3, 2, Beliefs(base_reward=0.0))
    model.learn(world.sends(season, 3_000))
    model.retire(season.ids)
    before = model.expected(contexts, new)
    model.rescale(0.1)
    np.testing.assert_allclose(model.expected(contexts, new), 0.1 * before)


@pytest.mark.parametrize("model_of", MODELS)
def test_sizes_of_effects_are_fitted_with_what_was_folded(model_of, contexts):
    world = World(clicks=True)
    season, other = world.templates(MANY), world.templates(6, "other")
    model, kept = (model_of(3, 2, Beliefs()) for _ in range(2))
    first, second = world.sends(season, 4_000), world.sends(other, 4_000, day=1)
    for one in (model, kept):
        one.learn(first)
        one.fit_scales()
    model.retire(season.ids)
    for one in (model, kept):
        one.learn(second)
        one.fit_scales()
    new = world.templates(3, "new")
    ours, theirs = (one.expected(contexts, new) for one in (model, kept))
    assert np.abs(ours - theirs).mean() < 0.05 * theirs.std()
    spreads = model.spread(contexts, new), kept.spread(contexts, new)
    np.testing.assert_allclose(*spreads, rtol=0.2)


def test_kept_draws_go_on_as_they_are_when_a_template_is_retired(contexts):
    world = World(clicks=True)
    season = world.templates(4)
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(world.sends(season, 1_000))
    kept = policy.with_kept_draws(season, np.random.default_rng(0))
    may = np.ones((len(contexts), len(season)), dtype=bool)
    before = kept.action_dist(contexts, season, may, np.random.default_rng(1))
    policy.retire(season.ids[:2])
    after = kept.action_dist(contexts, season, may, np.random.default_rng(1))
    np.testing.assert_array_equal(after, before)
