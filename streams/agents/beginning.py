"""What a campaign's policy begins with, under the release of the encoder that it is for."""

from schemas.campaign import Campaign
from schemas.errors import CampaignError
from schemas.learning import PolicySnapshot
from streams.agents.sending import Known
from streams.agents.snapshots import newest_key
from streams.core.encoding import ContextEncoder, release_label
from streams.core.policies import Policy
from streams.core.reward_units import unit_of
from streams.core.snapshots import policy_of
from streams.core.warm_start import first_policy, warm_start

__all__ = ["beginning"]


def beginning(known: Known, campaign: Campaign, encoder: ContextEncoder) -> Policy:
    """The policy that a campaign begins with, before any example of its own.

    Where it is to begin with what another campaign has learned, that is what the other one's
    policy under the same release has learned: the leading one, or the one of a pair. A posterior
    means nothing in another release's columns, so that of another release is never taken.

    Raises
    ------
    CampaignError
        If it is to begin with what another one has learned, and that is not possible yet.
    """
    name = campaign.warm_start_campaign
    if name is None:
        return first_policy(campaign, encoder)
    where = f"campaign {campaign.campaign_id}, warm_start.campaign {name}"
    source, leading = known.campaign(name), known.snapshot(name)
    if source is None or leading is None:
        raise CampaignError(
            f"{where}: it has no policy yet: the first wave waits until it has, or until "
            "warm_start is removed"
        )
    learned = _under(known, name, leading, encoder)
    if learned is None:
        raise CampaignError(
            f"{where}: its contexts are {leading.encoder_version}, here {encoder.version}: this "
            "waits until it has a policy under the same, or until warm_start is removed"
        )
    policy = policy_of(learned)
    if learned.reward_scale:
        policy.rescale(unit_of(learned))  # this campaign begins with rewards as they are
    return warm_start(campaign, source, policy, encoder)


def _under(
    known: Known, name: str, leading: PolicySnapshot, encoder: ContextEncoder
) -> PolicySnapshot | None:
    """A campaign's newest policy whose contexts an encoder makes."""
    label = release_label(encoder.version)
    pair = None if label is None else known.snapshot(newest_key(name, label))
    for found in (leading, pair):
        if found is not None and found.encoder_version == encoder.version:
            return found
    return None
