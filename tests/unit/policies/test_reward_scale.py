from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import Examples, LinearThompson, RewardScale
from streams.core.policies.data import LARGEST
from streams.core.policies.reward_scale import ACCURACY, BUCKETS, MOST_CLIPS


def seen(values, previous=None, scale: RewardScale | None = None) -> RewardScale:
    """Show rewards to a scale, a new one if none is given."""
    told = np.full(len(values), np.nan) if previous is None else np.array(previous)
    return (scale or RewardScale()).observed(np.array(values, dtype=np.float64), told)


@pytest.fixture
def amounts() -> np.ndarray:
    return np.random.default_rng(0).lognormal(3.0, 1.5, 20_000)


def test_at_first_rewards_are_what_they_are():
    rewards = np.array([0.0, 5.0, -3.0, 1e8])
    np.testing.assert_array_equal(RewardScale().transformed(rewards, 0), rewards)
    assert RewardScale().version == 0


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 1.0])
def test_the_clip_is_the_quantile_of_what_was_seen(amounts, quantile):
    scale = seen(amounts, scale=RewardScale(quantile=quantile)).advanced(0)
    assert scale.clip == pytest.approx(np.quantile(amounts, quantile), rel=2.5 * ACCURACY)
    assert scale.scale == scale.clip
    assert scale.version == 1


def test_nothing_moves_within_a_version(amounts):
    scale = seen(amounts).advanced(0)
    later = seen(amounts * 100.0, scale=scale)
    assert (later.clip, later.scale, later.version) == (scale.clip, scale.scale, 1)
    assert later.advanced(1).clip > 10.0 * scale.clip


def test_zeros_and_signs_do_not_count(amounts):
    with_zeros = np.concatenate([amounts, np.zeros(100_000)])
    plain = seen(amounts).advanced(0)
    assert seen(with_zeros).advanced(0).clip == plain.clip
    assert seen(-amounts).advanced(0).clip == plain.clip


def test_the_order_and_grouping_do_not_matter(amounts):
    parts = RewardScale()
    for part in np.array_split(amounts[::-1], 7):
        parts = seen(part, scale=parts)
    np.testing.assert_array_equal(seen(amounts).counts, parts.counts)


def test_a_correction_moves_its_count():
    right = seen([5.0, 80.0])
    corrected = seen([80.0], [0.0], seen([5.0, 0.0]))
    np.testing.assert_array_equal(right.counts, corrected.counts)
    taken_back = seen([0.0], [80.0], right)
    np.testing.assert_array_equal(taken_back.counts, seen([5.0]).counts)


def test_of_few_rewards_the_largest_counts_as_the_next():
    few = seen([1.0, 3.0, 7.0, 20_000.0]).advanced(0)
    assert few.clip == pytest.approx(7.0, rel=ACCURACY)
    assert seen([7.0]).advanced(0).clip == pytest.approx(7.0, rel=ACCURACY)
    whole = seen([1.0, 20_000.0], scale=RewardScale(quantile=1.0)).advanced(0)
    assert whole.clip == pytest.approx(20_000.0, rel=ACCURACY)


def test_without_a_reward_nothing_is_clipped():
    nothing = seen([0.0] * 200).advanced(0)
    assert (nothing.clip, nothing.scale, nothing.version) == (np.inf, 1.0, 1)
    # what comes of that wave later is clipped as what came first
    later = seen([7.0], scale=nothing).advanced(1)
    np.testing.assert_allclose(later.transformed(np.array([90.0]), 0), [1.0])


def test_a_wave_keeps_the_clip_that_it_was_first_learned_with(amounts):
    first = seen(amounts).advanced(1)
    second = seen(amounts * 100.0, scale=first).advanced(2)
    huge = np.array([1e9, -1e9, first.clip / 2.0, np.nan])
    before = np.array([first.clip, -first.clip, first.clip / 2.0, np.nan])
    for wave in (0, 1):
        np.testing.assert_allclose(second.transformed(huge, wave), before / second.scale)
    for wave in (2, 3):
        np.testing.assert_allclose(second.transformed(huge[:2], wave), [1.0, -1.0])


def test_late_rewards_of_a_wave_do_not_move_its_clip(amounts):
    first = seen(amounts).advanced(4)
    late = seen(amounts * 100.0, scale=first).advanced(4)
    assert late.clip > 10.0 * first.clip
    np.testing.assert_allclose(late.transformed(np.array([1e9]), 4), [first.clip / late.scale])


def test_only_clips_that_differ_are_kept_and_so_many_of_them():
    scale = seen([1.0] * 3)
    for wave in range(50):
        scale = seen([1.0], scale=scale).advanced(wave)
    assert scale.ends.tolist() == [49]
    rng = np.random.default_rng(4)
    for wave in range(50, 60 + MOST_CLIPS):
        scale = seen(
            [float(10.0 ** rng.uniform(0.0, 6.0))], scale=replace(scale, counts=0 * scale.counts)
        )
        scale = scale.advanced(wave)
    assert len(scale.ends) == len(scale.clips) <= MOST_CLIPS
    assert scale.ends[-1] == 59 + MOST_CLIPS


def paid(values) -> Examples:
    n = len(values)
    return Examples(
        contexts=np.zeros((n, 0)),
        actions=("a",) * n,
        action_features=np.zeros((n, 0)),
        rewards=values,
        previous=np.full(n, np.nan),
        at_ms=np.zeros(n, dtype=np.int64),
    )


def test_a_linear_model_goes_on_across_versions(amounts):
    """Learned under one scale and rescaled, it is as if learned under the next."""
    below = amounts[amounts < 200.0][:500]
    old = replace(RewardScale(), clip=400.0, scale=400.0)
    new = replace(old, clip=1_000.0, scale=1_000.0, version=1)
    moved, straight = (LinearThompson(0, 0, base_reward=0.0) for _ in range(2))
    moved.learn_many(paid(old.transformed(below, 0)))
    moved.reward_model.rescale(old.scale / new.scale)
    straight.learn_many(paid(new.transformed(below, 0)))
    np.testing.assert_allclose(moved.posterior.mean, straight.posterior.mean, rtol=1e-9)
    assert moved.posterior.rate == pytest.approx(straight.posterior.rate, rel=1e-9)


def test_the_state_comes_back(amounts):
    scale = seen([3.0], scale=seen(amounts, scale=RewardScale(quantile=0.95)).advanced(3))
    again = RewardScale.from_state(scale.state())
    assert again.state().keys() == scale.state().keys()
    np.testing.assert_equal(again.state(), scale.state())
    assert again.advanced(4).clip == scale.advanced(4).clip


def test_what_was_clipped_far_above_todays_unit_can_still_be_learned():
    scale = seen([5e6] * 10).advanced(0)
    tiny = np.full(100_000, 1e-3)
    scale = scale.observed(tiny, np.full(len(tiny), np.nan)).advanced(1)
    assert scale.transformed(np.array([5e6, -5e6]), 0).tolist() == [LARGEST, -LARGEST]


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"clip": -1.0},
        {"quantile": 0.2},
        {"version": -1},
        {"version": np.inf},
        {"counts": -5},
        {"buckets": np.array([BUCKETS])},
        {"counts": "many"},
        {"ends": np.array([3, 4])},
        {"ends": np.array([4, 3]), "clips": np.ones(2)},
        {"ends": np.array([3]), "clips": np.zeros(1)},
    ],
)
def test_what_cannot_be_a_state_is_refused(amounts, change):
    state = seen(amounts).advanced(0).state() | change
    with pytest.raises(PolicyError):
        RewardScale.from_state(state)
    with pytest.raises(PolicyError, match="lacks or garbles 'clip'"):
        RewardScale.from_state(
            {key: state[key] for key in ("quantile", "version", "buckets")}
            | {"buckets": np.zeros(0, dtype=np.int64), "counts": 0, "quantile": 0.9, "version": 0}
        )
