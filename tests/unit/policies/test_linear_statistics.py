import numpy as np
import pytest

from streams.core.policies import Examples, LinearThompson, Statistics
from streams.core.policies.linear_statistics import crossed, statistics_of

DAY_MS = 86_400_000


def as_new(examples: Examples, rewards=None) -> Examples:
    return Examples(
        contexts=examples.contexts,
        actions=examples.actions,
        action_features=examples.action_features,
        rewards=examples.rewards if rewards is None else rewards,
        previous=np.full(len(examples), np.nan),
        at_ms=examples.at_ms,
    )


def corrected(examples: Examples, rewards) -> Examples:
    return Examples(
        contexts=examples.contexts,
        actions=examples.actions,
        action_features=examples.action_features,
        rewards=rewards,
        previous=examples.rewards,
        at_ms=examples.at_ms,
    )


def assert_same(first: Statistics, second: Statistics) -> None:
    np.testing.assert_allclose(first.gram, second.gram, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(first.moment, second.moment, rtol=1e-9, atol=1e-12)
    assert first.power == pytest.approx(second.power, rel=1e-9, abs=1e-12)
    assert first.weight == pytest.approx(second.weight, rel=1e-9)
    assert (first.n, first.at_ms) == (second.n, second.at_ms)


def test_features_are_crossed_as_a_kronecker_product():
    x, a = np.array([2.0, 3.0]), np.array([5.0, 7.0, 11.0])
    np.testing.assert_array_equal(crossed(x[None], a[None])[0], np.kron([1.0, *x], [1.0, *a]))


def test_sums_are_those_of_the_definition(examples):
    chunk = examples(corrections=False)
    phi = crossed(chunk.contexts, chunk.action_features)
    sums = statistics_of(chunk)
    np.testing.assert_allclose(sums.gram, phi.T @ phi, rtol=1e-12)
    np.testing.assert_allclose(sums.moment, phi.T @ chunk.rewards, rtol=1e-12)
    assert sums.power == pytest.approx((chunk.rewards**2).sum())
    assert (sums.weight, sums.n) == (40.0, 40)
    assert (sums.gram == sums.gram.T).all()


@pytest.mark.parametrize("half_life_ms", [0.0, 2.0 * DAY_MS])
def test_a_corrected_reward_leaves_the_sums_of_the_right_one(examples, half_life_ms):
    first = as_new(examples(corrections=False))
    right = first.rewards + np.linspace(-1.0, 5.0, len(first))
    learned_wrong = statistics_of(first, half_life_ms).plus(
        statistics_of(corrected(first, right), half_life_ms), half_life_ms
    )
    assert_same(learned_wrong, statistics_of(as_new(first, right), half_life_ms))


def test_a_correction_counts_no_example(examples):
    first = as_new(examples(corrections=False))
    sums = statistics_of(corrected(first, first.rewards + 1.0))
    assert (sums.weight, sums.n) == (0.0, 0)
    assert (sums.gram == 0.0).all()


@pytest.mark.parametrize("half_life_ms", [0.0, 2.0 * DAY_MS])
def test_parts_add_up_in_any_order(examples, part, half_life_ms):
    chunk = examples(n=300)
    parts = [
        statistics_of(part(chunk, rows), half_life_ms)
        for rows in (slice(0, 7), slice(7, 150), slice(150, 300))
    ]
    whole = statistics_of(chunk, half_life_ms)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        total = Statistics.empty(12)
        for index in order:
            total = total.plus(parts[index], half_life_ms)
        assert_same(total, whole)


def test_an_example_counts_half_after_its_half_life(examples, part):
    chunk = part(as_new(examples(corrections=False)), slice(0, 2))
    aged = Examples(
        contexts=chunk.contexts,
        actions=chunk.actions,
        action_features=chunk.action_features,
        rewards=chunk.rewards,
        previous=chunk.previous,
        at_ms=np.array([0, 3 * DAY_MS]),
    )
    sums = statistics_of(aged, half_life_ms=3.0 * DAY_MS)
    phi = crossed(aged.contexts, aged.action_features)
    np.testing.assert_allclose(sums.gram, phi.T @ (phi * [[0.5], [1.0]]), rtol=1e-12)
    assert (sums.weight, sums.n) == (1.5, 2)


def test_forgetting_goes_to_the_prior(examples, part, actions, contexts):
    policy = LinearThompson(3, 2, half_life_days=1.0)
    blank = LinearThompson(3, 2).posterior
    policy.learn_many(as_new(examples(corrections=False)))
    assert np.abs(policy.posterior.mean - blank.mean).max() > 0.01
    last = part(as_new(examples(corrections=False)), slice(0, 1))
    late = Examples(
        contexts=last.contexts,
        actions=last.actions,
        action_features=last.action_features,
        rewards=np.array([0.03]),
        previous=last.previous,
        at_ms=last.at_ms + 400 * DAY_MS,
    )
    policy.learn_many(late)
    np.testing.assert_allclose(policy.posterior.mean, blank.mean, atol=1e-6)


def test_large_chunks_are_summed_in_blocks(examples):
    chunk = as_new(examples(n=9_000))
    phi = crossed(chunk.contexts, chunk.action_features)
    np.testing.assert_allclose(statistics_of(chunk).gram, phi.T @ phi, rtol=1e-9, atol=1e-8)


def test_sums_survive_being_written_by_half(examples):
    sums = statistics_of(examples())
    again = Statistics.from_state(sums.state(), 12)
    np.testing.assert_array_equal(again.gram, sums.gram)
    assert_same(again, sums)


def test_what_fades_counts_less_for_the_noise_too(examples):
    policy = LinearThompson(3, 2, half_life_days=2.0)
    chunk = as_new(examples())
    policy.learn_many(chunk)
    weight = statistics_of(chunk, 2.0 * DAY_MS).weight
    assert weight < 30.0
    assert policy.posterior.shape == pytest.approx(1.0 + weight / 2.0)
