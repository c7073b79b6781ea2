from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import CampaignError
from streams.agents.schedule import check_runnable
from streams.core.encoding import ContextEncoder
from streams.core.policies import RewardScale, from_bytes, to_bytes
from streams.core.policies.state import scale_from_bytes, scale_to_bytes
from streams.core.reward_units import check_units, fold_in_units, unit_of
from streams.core.warm_start import first_policy
from tests.unit.agents.shard import campaign, frozen, update

RAW = campaign(policy_params={"draws": 16, "adapt": False}, learning="examples")
CLIPPED = replace(RAW, clip_rewards=0.9)
ENCODER = ContextEncoder(RAW.context)
RNG = np.random.default_rng(3)
FIRST = [update(list(RNG.exponential(10.0, 300)))]
SECOND = [update(list(RNG.exponential(10.0, 200)), wave=1)]


def moment(policy):
    return policy.reward_model.learned()["moment"]


def test_rewards_are_learned_in_units_that_are_fixed_until_the_next_snapshot():
    policy, by_hand = first_policy(CLIPPED, ENCODER), first_policy(RAW, ENCODER)
    new, scale = fold_in_units(policy, FIRST, CLIPPED, None, b"")
    assert new == 300
    clip = scale_from_bytes(scale).clip
    rewards = np.frombuffer(FIRST[0].rewards)
    assert clip == pytest.approx(np.quantile(rewards, 0.9), rel=0.05)
    fold_in_units(by_hand, FIRST, RAW, None, b"")  # the first are learned as they are
    by_hand.rescale(1 / clip)
    np.testing.assert_allclose(moment(policy), moment(by_hand))

    new, scale = fold_in_units(policy, SECOND, CLIPPED, None, scale)
    told = np.clip(np.frombuffer(SECOND[0].rewards), -clip, clip) / clip
    fold_in_units(by_hand, [replace(SECOND[0], rewards=told.tobytes())], RAW, None, b"")
    by_hand.rescale(clip / scale_from_bytes(scale).clip)
    assert new == 200
    np.testing.assert_allclose(moment(policy), moment(by_hand))


def test_a_correction_within_the_clip_is_exact():
    corrected, direct = first_policy(CLIPPED, ENCODER), first_policy(CLIPPED, ENCODER)
    _, scale = fold_in_units(corrected, FIRST, CLIPPED, None, b"")
    fold_in_units(direct, FIRST, CLIPPED, None, b"")
    before, after = [0.0, 1.0, 2.0], [3.0, 0.5, 2.0]
    late = update(after, before, wave=1)
    fold_in_units(corrected, [update(before, wave=1), late], CLIPPED, None, scale)
    fold_in_units(direct, [update(after, wave=1)], CLIPPED, None, scale)
    np.testing.assert_allclose(moment(corrected), moment(direct))


def test_a_campaign_that_clips_no_more_learns_in_its_own_units_again():
    policy, raw = first_policy(CLIPPED, ENCODER), first_policy(RAW, ENCODER)
    _, scale = fold_in_units(policy, FIRST, CLIPPED, None, b"")
    assert fold_in_units(policy, SECOND, RAW, None, scale) == (200, b"")
    fold_in_units(raw, [*FIRST, *SECOND], RAW, None, b"")
    np.testing.assert_allclose(moment(policy), moment(raw))


def test_a_scale_survives_its_bytes_and_tells_the_unit_of_a_snapshot():
    scale = RewardScale(quantile=0.8)
    _, raw = fold_in_units(
        first_policy(CLIPPED, ENCODER), FIRST, CLIPPED, None, scale_to_bytes(scale)
    )
    assert scale_to_bytes(scale_from_bytes(raw)) == raw
    snapshot = frozen(CLIPPED)
    assert unit_of(snapshot) == 1.0
    assert unit_of(replace(snapshot, reward_scale=raw)) == scale_from_bytes(raw).scale > 1.0


def test_the_same_outcomes_give_the_same_bytes():
    states = []
    for updates in (FIRST, [update((), wave=0), *FIRST]):
        policy = from_bytes(to_bytes(first_policy(CLIPPED, ENCODER)))
        _, scale = fold_in_units(policy, updates, CLIPPED, None, b"")
        states.append((to_bytes(policy), scale))
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"clip_rewards": 0.9}, "clip_rewards is 0.9, and policy logistic-thompson cannot"),
        ({"learn_at": "decision"}, "learn_at is decision, and policy logistic-thompson cannot"),
    ],
)
def test_only_a_policy_that_adds_up_can_be_rescaled_or_corrected(changes, says):
    other = replace(campaign(policy="logistic-thompson", policy_params={}), **changes)
    with pytest.raises(CampaignError, match=says):
        check_runnable(other)
    check_units(replace(RAW, **changes), first_policy(RAW, ENCODER))
    with pytest.raises(CampaignError, match="and encoder is people, whose next release"):
        check_units(replace(RAW, encoder="people", **changes), first_policy(RAW, ENCODER))


def test_sums_cannot_be_clipped():
    with pytest.raises(CampaignError, match="learning is parts: sums cannot be clipped"):
        check_runnable(campaign(clip_rewards=0.9, learning="parts"))
