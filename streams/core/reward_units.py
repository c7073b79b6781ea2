"""Rewards clipped and scaled before they are learned: what the units of a snapshot are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from schemas.campaign import Campaign
from schemas.errors import CampaignError
from schemas.learning import LearningUpdate, PolicySnapshot
from streams.core.encoding import ContextEncoder
from streams.core.learning import blocks_in, fold_updates
from streams.core.policies import Policy, RewardScale
from streams.core.policies.data import FloatArray
from streams.core.policies.state import scale_from_bytes, scale_to_bytes
from streams.core.sums import sums_in

__all__ = ["check_units", "fold_in_units", "unit_of"]


def unit_of(snapshot: PolicySnapshot) -> float:
    """What a reward of 1 in the snapshot's policy is, in the campaign's units of reward."""
    return scale_from_bytes(snapshot.reward_scale).scale if snapshot.reward_scale else 1.0


def check_units(campaign: Campaign, policy: Policy) -> None:
    """Hold that a policy can be learned as its campaign says.

    Raises
    ------
    CampaignError
        If it cannot, with the field and the cure.
    """
    clips = campaign.clip_rewards is not None
    for field, set_so, can, cannot in (
        (
            "learn_at is decision",
            campaign.learn_at == "decision",
            bool(policy.half_lives_ms),
            "cannot take back what it has learned",
        ),
        (
            f"clip_rewards is {campaign.clip_rewards}",
            clips,
            policy.can_rescale,
            "cannot go on in another unit of reward",
        ),
    ):
        if set_so and not can:
            raise CampaignError(
                f"{field}, and policy {policy.name} {cannot}: use a linear policy, or leave it out"
            )
        if set_so and campaign.encoder is not None:
            raise CampaignError(
                f"{field}, and encoder is {campaign.encoder}, whose next release learns from the "
                "log: that knows closed outcomes only, as they are: leave one of them out"
            )
    if clips and campaign.learning == "parts":
        raise CampaignError(
            f"clip_rewards is {campaign.clip_rewards}, and learning is parts: sums cannot be "
            "clipped, use learning: examples"
        )


def fold_in_units(
    policy: Policy,
    updates: Sequence[LearningUpdate],
    campaign: Campaign,
    encoder: ContextEncoder | None,
    scale: bytes,
) -> tuple[int, bytes]:
    """Learn what updates hold, in units that are fixed until the next snapshot.

    Rewards are looked at before any is learned: what is clipped is clipped in the first batch too.
    What a correction takes back is what was learned, see
    :class:`~streams.core.policies.reward_scale.RewardScale`; sums of linear models are then as if
    the corrected reward had come at once, and others as exact as corrections are for them.

    Parameters
    ----------
    encoder
        That the policy is of.
    scale
        The reward scale of the snapshot before; empty where there was none.

    Returns
    -------
    tuple
        Number of new examples, and the scale of the snapshot that is made now: empty where the
        campaign does not clip rewards.
    """
    if campaign.clip_rewards is None:
        if scale:  # it did clip, until the definition changed
            policy.rescale(scale_from_bytes(scale).scale)
        return fold_updates(policy, updates, campaign, encoder), b""
    was = scale_from_bytes(scale) if scale else RewardScale()
    before = policy.n_learned
    seen = replace(was, quantile=campaign.clip_rewards)
    newest = -1
    for update in updates:
        if update.rewards:
            seen = seen.observed(_floats(update.rewards), _floats(update.previous))
            newest = max(newest, update.wave)
    now = seen.advanced(newest)
    policy.rescale(was.scale / now.scale)
    for block in blocks_in((_told(now, one) for one in updates), campaign, encoder):
        policy.learn_many(block)
    # A wave that began before rewards were clipped is told in sums: those can only be scaled.
    sums = [part for update in updates for part in sums_in(update, campaign, trusted=True)]
    if sums:
        policy.learn_sums(
            [replace(part, sums=part.sums.rescaled(1.0 / now.scale)) for part in sums]
        )
    return policy.n_learned - before, scale_to_bytes(now)


def _told(scale: RewardScale, update: LearningUpdate) -> LearningUpdate:
    """The update with its rewards, and those that they correct, clipped and scaled."""
    rewards, previous = (
        scale.transformed(_floats(column), update.wave).astype("<f8").tobytes()
        for column in (update.rewards, update.previous)
    )
    return replace(update, rewards=rewards, previous=previous)


def _floats(column: bytes) -> FloatArray:
    return np.frombuffer(column, dtype="<f8")
