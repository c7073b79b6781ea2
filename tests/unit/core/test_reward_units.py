from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import CampaignError, PolicyError
from streams.agents.schedule import check_runnable
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import POLICIES, RewardScale, from_bytes, to_bytes
from streams.core.policies.mixed_memory import MixedMemory
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


ALIKE = [replace(one, features={one.id: 1.0}) for one in RAW.templates]
NAMES = [one.id for one in ALIKE]
EARNS = np.array([2.0, 1.6, 1.2])  # a send of each, on average
FORTUNE = 20_000.0


def moment(policy):
    return policy.reward_model.learned()["moment"]


def wave_of(wave: int, fortune: float | None = None, n: int = 2_000):
    """A wave's outcomes: purchases of all templates, and one for a fortune of the worst."""
    rng = np.random.default_rng(wave)
    sent = rng.integers(len(NAMES), size=n)
    rewards = rng.exponential(EARNS[sent])
    if fortune is not None:
        rewards[np.flatnonzero(sent == 2)[0]] = fortune
    index = sent.astype("<i4").tobytes()
    return update(list(rewards), wave=wave, actions=NAMES, action_index=index)


def refund(of):
    """A wave's largest reward taken back."""
    rewards = np.frombuffer(of.rewards)
    at = int(rewards.argmax())
    context = np.frombuffer(of.contexts, dtype="<f4").reshape(len(rewards), -1)[at]
    taken = NAMES[np.frombuffer(of.action_index, dtype="<i4")[at]]
    return update([0.0], [rewards[at]], wave=of.wave, actions=[taken], contexts=context.tobytes())


def run(of, batches):
    """Learn batches, one snapshot each."""
    policy, scale = first_policy(of, ENCODER), b""
    for batch in batches:
        _, scale = fold_in_units(policy, [batch], of, None, scale)
    return policy, scale


def believed(of, policy, scale):
    """What a send of each template is expected to earn, and its share of the sends."""
    people, actions = np.random.default_rng(5).random((300, ENCODER.d_user)), action_set(of)
    unit = scale_from_bytes(scale).scale if scale else 1.0
    expected = policy.reward_model.expected(people, actions).mean(axis=0) * unit
    everyone = np.ones((len(people), len(NAMES)), dtype=np.bool_)
    dist = policy.action_dist(people, actions, everyone, np.random.default_rng(0))
    return expected, dist.mean(axis=0)


@pytest.mark.parametrize("name", ["linear-thompson", "adaptive-thompson"])
def test_a_fortune_in_the_first_wave_does_not_make_the_worst_template_the_best(name):
    plain = replace(RAW, policy=name, policy_params={}, templates=ALIKE)
    clipped = replace(plain, clip_rewards=0.99)
    for waves in (1, 2):  # a campaign of one wave is clipped too
        batches = [wave_of(0, FORTUNE), wave_of(1)][:waves]
        expected, shares = believed(plain, *run(plain, batches))
        assert expected[2] > 10.0
        assert shares[2] > 0.8
        expected, shares = believed(clipped, *run(clipped, batches))
        np.testing.assert_allclose(expected, EARNS, atol=0.15)
        assert shares[0] > 0.9


def clipped_to(batch, clip, without=()):
    """A batch as it is learned by hand: clipped, in its own units, some rewards never given."""
    rewards = np.clip(np.frombuffer(batch.rewards), -clip, clip)
    rewards[list(without)] = 0.0
    return replace(batch, rewards=rewards.tobytes())


def in_money(policy, unit):
    """What is summed up of rewards, in the campaign's own units."""
    model = policy.reward_model
    if not isinstance(model, MixedMemory):
        return unit * model.learned()["moment"]
    lasting, rates = model.members[0], model.members[-1]
    sizes = [total for _, total in rates.came.values()]
    return unit * np.array([*lasting.kept.stack().moments.ravel(), *sizes])


@pytest.mark.parametrize("name", ["linear-thompson", "adaptive-thompson"])
def test_a_refund_leaves_nothing_whatever_the_clip_is_by_then(name):
    of = replace(RAW, policy=name, policy_params={}, templates=ALIKE, clip_rewards=0.99)
    first, second = wave_of(0, FORTUNE), wave_of(1)
    second = replace(second, rewards=(30.0 * np.frombuffer(second.rewards)).tobytes())
    policy, scale = run(of, [first, second, refund(first)])
    clips = scale_from_bytes(scale).clips
    assert len(clips) == 2
    assert clips[1] > 5.0 * clips[0]
    fortune = [int(np.frombuffer(first.rewards).argmax())]
    by_hand, _ = run(
        replace(of, clip_rewards=None),
        [clipped_to(first, clips[0], without=fortune), clipped_to(second, clips[1])],
    )
    np.testing.assert_allclose(
        in_money(policy, scale_from_bytes(scale).scale), in_money(by_hand, 1.0), rtol=1e-9
    )


def test_rewards_are_learned_in_units_that_are_fixed_until_the_next_snapshot():
    policy, by_hand = first_policy(CLIPPED, ENCODER), first_policy(RAW, ENCODER)
    new, scale = fold_in_units(policy, FIRST, CLIPPED, None, b"")
    assert new == 300
    clip = scale_from_bytes(scale).clip
    rewards = np.frombuffer(FIRST[0].rewards)
    assert clip == pytest.approx(np.quantile(rewards, 0.9), rel=0.05)

    fold_in_units(by_hand, [clipped_to(FIRST[0], clip)], RAW, None, b"")
    by_hand.rescale(1 / clip)
    np.testing.assert_allclose(moment(policy), moment(by_hand))

    new, scale = fold_in_units(policy, SECOND, CLIPPED, None, scale)
    by_hand.rescale(clip)
    clip = scale_from_bytes(scale).clip
    fold_in_units(by_hand, [clipped_to(SECOND[0], clip)], RAW, None, b"")
    by_hand.rescale(1 / clip)
    assert new == 200
    np.testing.assert_allclose(moment(policy), moment(by_hand))


def test_a_correction_is_exact_beyond_the_clip_and_under_another_one():
    corrected, by_hand = first_policy(CLIPPED, ENCODER), first_policy(RAW, ENCODER)
    before, after = [0.0, 1.0, 900.0, 5.0], [3.0, 700.0, 0.0, 2.0]
    _, scale = fold_in_units(corrected, [*FIRST, update(before)], CLIPPED, None, b"")
    clip = scale_from_bytes(scale).clip
    more = replace(SECOND[0], rewards=(9.0 * np.frombuffer(SECOND[0].rewards)).tobytes())
    _, scale = fold_in_units(corrected, [more, update(after, before)], CLIPPED, None, scale)
    now = scale_from_bytes(scale)
    assert now.clip > 2.0 * clip
    told = [clipped_to(FIRST[0], clip), clipped_to(update(after), clip), clipped_to(more, now.clip)]
    fold_in_units(by_hand, told, RAW, None, b"")
    np.testing.assert_allclose(in_money(corrected, now.scale), in_money(by_hand, 1.0))


def test_a_campaign_that_clips_no_more_learns_in_its_own_units_again():
    policy, raw = first_policy(CLIPPED, ENCODER), first_policy(RAW, ENCODER)
    _, scale = fold_in_units(policy, FIRST, CLIPPED, None, b"")
    assert fold_in_units(policy, SECOND, RAW, None, scale) == (200, b"")
    told = clipped_to(FIRST[0], scale_from_bytes(scale).clip)
    fold_in_units(raw, [told, *SECOND], RAW, None, b"")
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
        (
            {"clip_rewards": 0.9},
            "clip_rewards is 0.9, and policy logistic-thompson cannot go on in another unit",
        ),
        (
            {"learn_at": "decision"},
            "learn_at is decision, and policy logistic-thompson cannot take back",
        ),
    ],
)
def test_only_a_policy_that_adds_up_can_be_rescaled_or_corrected(changes, says):
    other = replace(campaign(policy="logistic-thompson", policy_params={}), **changes)
    with pytest.raises(CampaignError, match=says):
        check_runnable(other)
    check_units(replace(RAW, **changes), first_policy(RAW, ENCODER))
    with pytest.raises(CampaignError, match="and encoder is people, whose next release"):
        check_units(replace(RAW, encoder="people", **changes), first_policy(RAW, ENCODER))


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_a_policy_says_whether_it_can_be_rescaled(name):
    params = {"action": "hello"} if name == "fixed" else {}
    policy = first_policy(replace(RAW, policy=name, policy_params=params), ENCODER)
    try:
        policy.rescale(0.5)
    except PolicyError:
        assert not policy.can_rescale
    else:
        assert policy.can_rescale


def test_the_default_policy_can_be_clipped_but_not_learned_at_the_decision():
    default = campaign(policy="adaptive-thompson", policy_params={})
    check_runnable(replace(default, clip_rewards=0.99))
    with pytest.raises(CampaignError, match="learn_at is decision, and policy adaptive-thompson"):
        check_runnable(replace(default, learn_at="decision"))


def test_sums_cannot_be_clipped():
    with pytest.raises(CampaignError, match="learning is parts: sums cannot be clipped"):
        check_runnable(campaign(clip_rewards=0.9, learning="parts"))
