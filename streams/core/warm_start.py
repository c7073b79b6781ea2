"""A campaign's first policy: what another campaign has learned, or nothing."""

import numpy as np

from schemas.campaign import Campaign
from schemas.errors import CampaignError, PolicyError
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import Policy, create

__all__ = ["check_warm_start", "deciding_policy", "first_policy", "warm_start"]


def first_policy(campaign: Campaign, encoder: ContextEncoder) -> Policy:
    """The campaign's policy before any example, for the contexts that an encoder makes."""
    d_action = action_set(campaign).d_action
    return create(campaign.policy, campaign.policy_params, encoder.d_user, d_action)


def deciding_policy(campaign: Campaign, encoder: ContextEncoder) -> Policy:
    """The first policy, once it has decided for somebody.

    Raises
    ------
    GroundswellError
        If it cannot: it would stop every worker that a wave reaches.
    """
    policy, actions = first_policy(campaign, encoder), action_set(campaign)
    anyone, every_action = np.zeros((1, encoder.d_user)), np.ones((1, len(actions)), dtype=np.bool_)
    handicap = np.zeros((1, len(actions))) if campaign.fatigue_size else None
    policy.action_dist(anyone, actions, every_action, np.random.default_rng(0), handicap=handicap)
    return policy


def check_warm_start(campaign: Campaign, source: Campaign) -> None:
    """Hold that a campaign can begin with what another one has learned.

    Raises
    ------
    CampaignError
        If their columns or policies differ, with what differs and the cure.
    """
    mine, theirs = ContextEncoder(campaign.context), ContextEncoder(source.context)
    where = f"campaign {campaign.campaign_id}, warm_start.campaign {source.campaign_id}"
    if mine.version != theirs.version:
        raise CampaignError(
            f"{where}: its context is another ({', '.join(theirs.columns)[:200]}): a warm start "
            "needs the same features in the same order, with the same center and scale"
        )
    if campaign.encoder != source.encoder:
        raise CampaignError(
            f"{where}: its encoder is {source.encoder or '(none)'}, here "
            f"{campaign.encoder or '(none)'}: a warm start needs the same"
        )
    names, others = _action_features(campaign), _action_features(source)
    if names != others:
        raise CampaignError(
            f"{where}: its templates have the features {', '.join(others) or '(none)'}, these "
            f"{', '.join(names) or '(none)'}: a warm start needs the same"
        )
    try:
        first_policy(campaign, mine).warm_start(first_policy(source, theirs), 1.0)
    except PolicyError as error:
        raise CampaignError(f"{where}: {error}") from error


def _action_features(campaign: Campaign) -> tuple[str, ...]:
    names = {name for template in campaign.templates for name in template.features}
    return (*sorted(names), *(("(no-send)",) if campaign.no_send else ()))


def warm_start(
    campaign: Campaign, source: Campaign, learned: Policy, encoder: ContextEncoder
) -> Policy:
    """The campaign's policy as it begins with what another one has learned.

    Raises
    ------
    CampaignError
        If that is not possible.
    """
    check_warm_start(campaign, source)
    policy = first_policy(campaign, encoder)
    policy.warm_start(learned, campaign.warm_start_discount)
    return policy
