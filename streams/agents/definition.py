"""What a campaign's definition must keep to, so that no wave of it can stop a worker."""

import dataclasses

import msgspec

from schemas.campaign import Campaign
from schemas.errors import CampaignError
from streams.core.encoding import ContextEncoder
from streams.core.ledger import OTHER, STANDARD
from streams.core.schedule import CampaignState
from streams.kafka.campaign_client import check_change

__all__ = ["check_bounds", "check_size", "check_taken"]

MOST_COLUMNS = 511  # of a context: the main policy takes no more
LONGEST_MS = 3652 * 86_400_000  # ten years: times stay within what a record can say
LARGEST_VARIABLES = 512 * 1024  # bytes, of one template: half of what a decision may have
LARGEST_STATE = 7 * 1024 * 1024  # bytes, of definition and course: the changelog takes 8 MiB
WAVE_BYTES = 2048  # of a wave's course without its tallies: how far its shards have come
TALLY_BYTES = 160  # of a tally without its texts


def check_bounds(campaign: Campaign) -> None:
    """Check what would make a decision, a time or an example too large to be written.

    Raises
    ------
    CampaignError
        With the field, the value, the bound and the cure.
    """
    columns = ContextEncoder(campaign.context).d_user
    if columns > MOST_COLUMNS:
        raise CampaignError(
            f"context has {columns} columns, at most {MOST_COLUMNS} are kept with a decision: use "
            "fewer features, or fewer values and buckets"
        )
    for name in (
        "wave_deadline_ms",
        "expires_after_ms",
        "attribution_window_ms",
        "correction_horizon_ms",
    ):
        duration_ms = getattr(campaign, name)
        if duration_ms > LONGEST_MS:
            raise CampaignError(
                f"{name} may be {LONGEST_MS} (ten years), got {duration_ms}: give milliseconds"
            )
    for template in campaign.templates:
        size = sum(len(f"{name}{text}".encode()) for name, text in template.variables.items())
        if size > LARGEST_VARIABLES:
            raise CampaignError(
                f"templates.{template.id}.variables have {size} bytes, at most "
                f"{LARGEST_VARIABLES} go with every decision: let the sender keep long texts"
            )


def check_size(campaign: Campaign) -> None:
    """Check that a definition fits into its shard's state, with the course that it will have.

    Raises
    ------
    CampaignError
        If it is too large.
    """
    size = len(msgspec.msgpack.encode(campaign))
    if size > LARGEST_STATE:
        raise CampaignError(
            f"campaign {campaign.campaign_id} has {size} bytes, at most {LARGEST_STATE} are kept: "
            "say whom it is for with a segment, or split its list"
        )
    size = len(msgspec.msgpack.encode(dataclasses.replace(campaign, audience_users=None)))
    course = campaign.waves * _wave_bytes(campaign)
    if size + course > LARGEST_STATE:
        raise CampaignError(
            f"campaign {campaign.campaign_id} has {campaign.waves} waves of "
            f"{len(campaign.templates)} templates: their report would need {course} bytes, "
            f"{LARGEST_STATE - size} are left: plan fewer waves or templates"
        )


def _wave_bytes(campaign: Campaign) -> int:
    """About what a wave's course takes at most: a tally of each template sent, and of each rule."""
    kinds = {*campaign.reward_weights, *campaign.value_weights, *STANDARD, OTHER}
    tally = TALLY_BYTES + sum(len(kind.encode()) + 8 for kind in kinds)
    texts = sum(len(template.id) for template in campaign.templates)
    groups = 2 if campaign.baseline_share else 1
    return WAVE_BYTES + 5 * TALLY_BYTES + groups * (len(campaign.templates) * tally + texts)


def check_taken(state: CampaignState, new: Campaign) -> None:
    """Check that what was learned, and what is on its way, fits a changed definition.

    Raises
    ------
    CampaignError
        With what differs and the cure.
    """
    present, started = state.campaign, bool(state.waves) or state.version >= 0
    check_change(present, new, started=started)
    if not started:
        return
    if (new.status == "logged") != (present.status == "logged"):
        raise CampaignError(
            f"campaign {new.campaign_id} is {present.status} and has waves, it cannot become "
            f"{new.status}: give the campaign a new name"
        )
    features = {template.id: template.features for template in present.templates}
    for template in new.templates:
        if features.get(template.id, template.features) != template.features:
            raise CampaignError(
                f"template {template.id} of campaign {new.campaign_id} has started with the "
                f"features {features[template.id]}: give what is changed a new id"
            )
