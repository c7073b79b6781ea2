from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import Examples, LinearThompson, RewardScale
from streams.core.policies.reward_scale import ACCURACY, BUCKETS


def paid(values, previous=None) -> Examples:
    n = len(values)
    return Examples(
        contexts=np.zeros((n, 0)),
        actions=("a",) * n,
        action_features=np.zeros((n, 0)),
        rewards=np.array(values, dtype=np.float64),
        previous=np.full(n, np.nan) if previous is None else np.array(previous, dtype=np.float64),
        at_ms=np.zeros(n, dtype=np.int64),
    )


@pytest.fixture
def amounts() -> np.ndarray:
    return np.random.default_rng(0).lognormal(3.0, 1.5, 20_000)


def test_at_first_rewards_are_what_they_are():
    scale = RewardScale()
    examples = paid([0.0, 5.0, -3.0, 1e8])
    np.testing.assert_array_equal(scale.applied(examples).rewards, examples.rewards)
    assert scale.version == 0


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 1.0])
def test_the_clip_is_the_quantile_of_what_was_seen(amounts, quantile):
    scale = RewardScale(quantile=quantile).observed(paid(amounts)).advanced()
    assert scale.clip == pytest.approx(np.quantile(amounts, quantile), rel=2.5 * ACCURACY)
    assert scale.scale == scale.clip
    assert scale.version == 1


def test_nothing_moves_within_a_version(amounts):
    scale = RewardScale().observed(paid(amounts)).advanced()
    later = scale.observed(paid(amounts * 100.0))
    assert (later.clip, later.scale, later.version) == (scale.clip, scale.scale, 1)
    assert later.advanced().clip > 10.0 * scale.clip


def test_zeros_and_signs_do_not_count(amounts):
    with_zeros = np.concatenate([amounts, np.zeros(100_000)])
    plain = RewardScale().observed(paid(amounts)).advanced()
    assert RewardScale().observed(paid(with_zeros)).advanced().clip == plain.clip
    assert RewardScale().observed(paid(-amounts)).advanced().clip == plain.clip


def test_the_order_and_grouping_do_not_matter(amounts):
    whole = RewardScale().observed(paid(amounts))
    parts = RewardScale()
    for part in np.array_split(amounts[::-1], 7):
        parts = parts.observed(paid(part))
    np.testing.assert_array_equal(whole.counts, parts.counts)


def test_a_correction_moves_its_count():
    right = RewardScale().observed(paid([5.0, 80.0]))
    corrected = RewardScale().observed(paid([5.0, 0.0])).observed(paid([80.0], previous=[0.0]))
    np.testing.assert_array_equal(right.counts, corrected.counts)
    taken_back = right.observed(paid([0.0], previous=[80.0]))
    np.testing.assert_array_equal(taken_back.counts, RewardScale().observed(paid([5.0])).counts)


def test_a_few_rewards_move_nothing():
    scale = RewardScale().observed(paid([7.0] * 99)).advanced()
    assert (scale.clip, scale.scale, scale.version) == (np.inf, 1.0, 1)
    assert scale.observed(paid([7.0])).advanced().clip == pytest.approx(7.0, rel=ACCURACY)


def test_rewards_and_what_they_correct_are_clipped_alike(amounts):
    scale = RewardScale(quantile=0.9).observed(paid(amounts)).advanced()
    small = scale.applied(paid([scale.clip / 2.0, 1e9, -1e9], previous=[np.nan, 1e8, 0.0]))
    np.testing.assert_allclose(small.rewards, [0.5, 1.0, -1.0])
    np.testing.assert_allclose(small.previous, [np.nan, 1.0, 0.0])


def test_a_linear_model_goes_on_across_versions(amounts):
    """Learned under one scale and rescaled, it is as if learned under the next."""
    below = amounts[amounts < 200.0][:500]
    old = replace(RewardScale(), clip=400.0, scale=400.0)
    new = replace(old, clip=1_000.0, scale=1_000.0, version=1)
    moved, straight = (LinearThompson(0, 0, base_reward=0.0) for _ in range(2))
    moved.learn_many(old.applied(paid(below)))
    moved.reward_model.rescale(old.scale / new.scale)
    straight.learn_many(new.applied(paid(below)))
    np.testing.assert_allclose(moved.posterior.mean, straight.posterior.mean, rtol=1e-9)
    assert moved.posterior.rate == pytest.approx(straight.posterior.rate, rel=1e-9)


def test_the_state_comes_back(amounts):
    scale = RewardScale(quantile=0.95).observed(paid(amounts)).advanced().observed(paid([3.0]))
    again = RewardScale.from_state(scale.state())
    assert again.state().keys() == scale.state().keys()
    np.testing.assert_equal(again.state(), scale.state())
    assert again.advanced().clip == scale.advanced().clip


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"clip": -1.0},
        {"quantile": 0.2},
        {"version": -1},
        {"buckets": np.array([BUCKETS])},
        {"counts": "many"},
    ],
)
def test_what_cannot_be_a_state_is_refused(amounts, change):
    state = RewardScale().observed(paid(amounts)).state() | change
    with pytest.raises(PolicyError):
        RewardScale.from_state(state)
    with pytest.raises(PolicyError, match="lacks or garbles 'clip'"):
        RewardScale.from_state(
            {key: state[key] for key in ("quantile", "version", "buckets")}
            | {"buckets": np.zeros(0, dtype=np.int64), "counts": 0, "quantile": 0.9, "version": 0}
        )
