import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import (
    DisjointLinearThompson,
    LinearThompson,
    LogisticThompson,
    SquareCB,
    Uniform,
    create,
)


@pytest.fixture
def source(examples) -> LinearThompson:
    policy = LinearThompson(3, 2, adapt=False)
    policy.learn_many(examples(n=400, corrections=False))
    return policy


def test_a_discount_is_what_an_example_counts_for(source, examples, part):
    young = LinearThompson(3, 2, adapt=False)
    young.warm_start(source, 0.25)
    quarter = source.reward_model.sums
    assert young.reward_model.sums.weight == 0.25 * quarter.weight
    np.testing.assert_array_equal(young.reward_model.sums.gram, 0.25 * quarter.gram)
    spread = {}
    for name, policy in (("old", source), ("young", young), ("none", LinearThompson(3, 2))):
        diagonal = np.linalg.inv(policy.posterior.factor @ policy.posterior.factor.T).diagonal()
        spread[name] = (np.sqrt(diagonal) * policy.posterior.scale).mean()
    assert spread["old"] < spread["young"] < spread["none"]


def test_a_warm_start_comes_before_or_after_own_examples(source, examples):
    own = examples(n=100, seed=7)
    before, after = LinearThompson(3, 2), LinearThompson(3, 2)
    before.warm_start(source, 0.5)
    before.learn_many(own)
    after.learn_many(own)
    after.warm_start(source, 0.5)
    np.testing.assert_allclose(before.posterior.mean, after.posterior.mean, rtol=1e-9, atol=1e-12)
    assert before.n_learned == after.n_learned == int(own.is_new.sum())


def test_the_source_keeps_its_own(source):
    moment = source.reward_model.sums.moment.copy()
    young = LinearThompson(3, 2)
    young.warm_start(source, 1.0)
    young.reward_model.rescale(3.0)
    np.testing.assert_array_equal(source.reward_model.sums.moment, moment)


def test_another_way_to_explore_may_start_from_the_same_model(source, contexts, actions):
    young = SquareCB(3, 2, adapt=False)
    young.warm_start(source, 1.0)
    np.testing.assert_allclose(
        young.reward_model.expected(contexts, actions), source.expected(contexts, actions)
    )


def test_actions_of_the_other_campaign_come_along(examples):
    source = DisjointLinearThompson(3, 2)
    source.learn_many(examples(n=100))
    young = DisjointLinearThompson(3, 2)
    young.warm_start(source, 0.5)
    assert {key.split(":")[1] for key in young.reward_model.kept.sums} == {"a", "b", "c", "d"}


def test_a_logistic_belief_is_carried_over(examples, contexts, actions):
    source, young = LogisticThompson(3, 2), LogisticThompson(3, 2)
    chunk = examples(n=400, corrections=False)
    source.learn_many(chunk)
    young.warm_start(source, 1.0)
    np.testing.assert_allclose(
        young.reward_model.expected(contexts, actions),
        source.reward_model.expected(contexts, actions),
    )


@pytest.mark.parametrize(
    ("young", "discount", "says"),
    [
        (LinearThompson(3, 2), 1.5, r"discount must lie in \[0, 1\], got 1.5"),
        (LinearThompson(3, 2), float("nan"), "discount must lie in"),
        (LinearThompson(2, 2), 0.5, "same columns, got 3 user and 2 action"),
        (LinearThompson(3, 1), 0.5, "same columns"),
        (DisjointLinearThompson(3, 2), 0.5, "kind DisjointLinear, got SharedLinear"),
        (LogisticThompson(3, 2), 0.5, "kind SharedLogistic, got SharedLinear"),
        (Uniform(3, 2), 0.5, "'uniform' cannot be warm-started"),
        (create("river-bandit", {}, 3, 2), 0.5, "'river-bandit' cannot be warm-started"),
        (create("river-regressor", {}, 3, 2), 0.5, "kind RiverModel, got SharedLinear"),
    ],
)
def test_what_does_not_fit_is_refused(source, young, discount, says):
    with pytest.raises(PolicyError, match=says):
        young.warm_start(source, discount)


def test_columns_of_other_names_are_refused(source):
    ours = LinearThompson(3, 2, columns=("a", "b", "c"))
    theirs = LinearThompson(3, 2, columns=("c", "b", "a"))
    with pytest.raises(PolicyError, match="same columns"):
        ours.warm_start(theirs, 0.5)
    ours.warm_start(source, 0.5)  # one that was not told its columns is taken at its word


def test_no_model_is_no_source(examples):
    with pytest.raises(PolicyError, match="'uniform' has no model to start from"):
        LinearThompson(3, 2).warm_start(Uniform(3, 2), 0.5)
