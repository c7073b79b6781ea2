"""Rewards clipped and scaled before they are learned: what the units of a snapshot are."""

from collections.abc import Sequence
from dataclasses import replace

from schemas.campaign import Campaign
from schemas.errors import CampaignError
from schemas.learning import LearningUpdate, PolicySnapshot
from streams.core.encoding import ContextEncoder
from streams.core.learning import blocks_in, fold_updates
from streams.core.policies import Policy, RewardScale
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
    for field, set_so in (
        ("learn_at is decision", campaign.learn_at == "decision"),
        (f"clip_rewards is {campaign.clip_rewards}", campaign.clip_rewards is not None),
    ):
        if set_so and not policy.half_lives_ms:
            raise CampaignError(
                f"{field}, and policy {policy.name} cannot take back what it has learned: use a "
                "linear policy, or leave it out"
            )
        if set_so and campaign.encoder is not None:
            raise CampaignError(
                f"{field}, and encoder is {campaign.encoder}, whose next release learns from the "
                "log: that knows closed outcomes only, as they are: leave one of them out"
            )
    if campaign.clip_rewards is not None and campaign.learning == "parts":
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
    now = scale_from_bytes(scale) if scale else RewardScale()
    before = policy.n_learned
    seen = replace(now, quantile=campaign.clip_rewards)
    for block in blocks_in(updates, campaign, encoder):
        seen = seen.observed(block)
        policy.learn_many(now.applied(block))
    # A wave that began before rewards were clipped is told in sums: those can only be scaled.
    sums = [part for update in updates for part in sums_in(update, campaign, trusted=True)]
    if sums:
        policy.learn_sums(
            [replace(part, sums=part.sums.rescaled(1.0 / now.scale)) for part in sums]
        )
    ahead = seen.advanced()
    policy.rescale(now.scale / ahead.scale)
    return policy.n_learned - before, scale_to_bytes(ahead)
