"""Campaigns from outside the workers: defined, changed, stopped, and looked at."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from schemas.campaign import Campaign
from schemas.errors import CampaignError
from schemas.learning import WaveReport
from schemas.topics import CAMPAIGNS, WAVE_REPORTS
from schemas.wire import Codec
from streams.core.encoding import ContextEncoder, each_its_own, feature_names
from streams.core.policies import DEFAULT_POLICY
from streams.core.policies.parameters import nearest
from streams.core.warm_start import check_warm_start
from streams.kafka.cluster import Cluster
from streams.kafka.confirmed import write_next
from streams.kafka.newest import last_readable, read_newest
from streams.kafka.read import read_all
from streams.kafka.transaction import Incoming

__all__ = ["Applied", "CampaignClient", "check_change", "take_reports"]

log = structlog.get_logger()

# From which statuses a campaign can be set to another.
BEFORE: Final[Mapping[str, tuple[str, ...]]] = {
    "active": ("paused", "stopped"),
    "paused": ("active",),
    "stopped": ("active", "paused"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A definition as it stands now, and whether that is news."""

    campaign: Campaign
    changed: bool


class CampaignClient:
    """Reads and writes the topic of campaigns.

    Parameters
    ----------
    cluster
        Where Kafka is.
    prefix
        Of the topics' names.
    """

    def __init__(self, cluster: Cluster, prefix: str = "", codec: Codec | None = None) -> None:
        self._cluster = cluster
        self._codec = codec or Codec()
        self._topic = prefix + CAMPAIGNS.name
        self._reports_topic = prefix + WAVE_REPORTS.name

    def campaigns(self) -> dict[str, Campaign]:
        """The newest definition of every campaign, by name.

        Raises
        ------
        BusError
            If the topic cannot be read.
        """
        return read_newest(
            self._cluster,
            self._topic,
            self._codec,
            Campaign,
            lambda name, why: log.warning("campaign_unreadable", campaign=name, why=why),
        )

    def campaign(self, name: str) -> Campaign:
        """The newest definition of a campaign.

        Raises
        ------
        CampaignError
            If there is none of this name.
        """
        found = self.campaigns()
        if name not in found:
            cure = nearest(name, found) if found else "make one with `groundswell campaign apply`"
            raise CampaignError(f"there is no campaign {name!r}: {cure}")
        return found[name]

    def reports(self, name: str) -> list[WaveReport]:
        """How the waves of a campaign stand, in their order."""
        found: dict[int, WaveReport] = {}
        take_reports(self._codec, read_all(self._cluster, self._reports_topic), name, found)
        return [found[wave] for wave in sorted(found)]

    def apply(self, campaign: Campaign, now_ms: int) -> Applied:
        """Make a campaign, or change its definition; its status stays what it is.

        Raises
        ------
        CampaignError
            If workers would refuse the change, or someone else makes one at the same time.
        BusError
            If it cannot be written.
        """
        known = self.campaigns()
        present = known.get(campaign.campaign_id)
        if present is None:
            _check_source(campaign, known)
            return Applied(campaign=self._write(campaign, 1, campaign.status, now_ms), changed=True)
        same = dataclasses.replace(
            campaign,
            version=present.version,
            status=present.status,
            changed_at_ms=present.changed_at_ms,
        )
        if same == present:
            return Applied(campaign=present, changed=False)
        if present.status == "logged":
            raise CampaignError(
                f"campaign {present.campaign_id} is a replayed log's: give yours another name"
            )
        check_change(present, campaign, started=bool(self.reports(campaign.campaign_id)))
        written = self._write(campaign, present.version + 1, present.status, now_ms)
        return Applied(campaign=written, changed=True)

    def set_status(self, name: str, status: str, now_ms: int) -> Applied:
        """Make a campaign active, paused or stopped.

        Raises
        ------
        CampaignError
            If there is no such campaign, or it cannot become that from what it is.
        BusError
            If it cannot be written.
        """
        present = self.campaign(name)
        if present.status == status:
            return Applied(campaign=present, changed=False)
        if present.status not in BEFORE[status]:
            raise CampaignError(
                f"campaign {name} is {present.status} and cannot become {status}: that takes one "
                f"that is {' or '.join(BEFORE[status])}"
            )
        written = self._write(present, present.version + 1, status, now_ms)
        return Applied(campaign=written, changed=True)

    def _write(self, campaign: Campaign, version: int, status: str, now_ms: int) -> Campaign:
        campaign = dataclasses.replace(
            campaign, version=version, status=status, changed_at_ms=now_ms
        )
        value = self._codec.encode(self._topic, campaign)
        if len(value) > CAMPAIGNS.max_bytes:
            raise CampaignError(
                f"campaign {campaign.campaign_id} has {len(value)} bytes, at most "
                f"{CAMPAIGNS.max_bytes} fit: say whom it is for with a segment, or split its list"
            )
        write_next(
            self._cluster,
            self._topic,
            campaign.campaign_id.encode(),
            value,
            CAMPAIGNS.max_bytes,
            lambda before: self._check_next(campaign, before),
        )
        return campaign

    def _check_next(self, campaign: Campaign, before: Sequence[bytes | None]) -> None:
        """Hold that a version follows the one before it; a deletion begins anew."""
        found = last_readable(before, self._codec, Campaign)
        stands = 0 if found is None else found.version
        if stands != campaign.version - 1:
            raise CampaignError(
                f"campaign {campaign.campaign_id} was changed by someone else at the same time "
                f"(version {stands} stands, {campaign.version - 1} was changed), nothing was "
                "written: look at its status, then try again"
            )


def check_change(present: Campaign, new: Campaign, *, started: bool) -> None:
    """Hold that workers can go on with a changed definition.

    What a policy has learned rests on its context columns, its templates' features and its
    parameters: once the first wave has started, these stay.

    Raises
    ------
    CampaignError
        With what differs and the cure.
    """
    if not started:
        return
    _check_course(present, new)
    before, after = ContextEncoder(present.context), ContextEncoder(new.context)
    names = feature_names(present.templates), feature_names(new.templates)
    changed: str | None = None
    cure = "keep that, or give the campaign a new name"
    if new.policy != present.policy:
        changed = f"policy is {new.policy}, was {present.policy}"
    elif new.policy_params != present.policy_params:
        changed = f"policy.params are {new.policy_params}, were {present.policy_params}"
    elif after.version != before.version:
        changed = _difference("context", before.columns, after.columns)
    elif names[0] != names[1]:
        changed = _difference("template features", *names)
        if each_its_own(present.templates) and each_its_own(new.templates):
            cure += (
                f", with features that say what its templates share, or with a policy that learns "
                f"each apart ({DEFAULT_POLICY}): {new.policy} knows them by their features alone"
            )
    else:
        given = {template.id: template.features for template in new.templates}
        for template in present.templates:
            if given.get(template.id, template.features) != template.features:
                changed = f"features of template {template.id} are others"
    if changed is not None:
        raise CampaignError(
            f"campaign {present.campaign_id} has started, and learns from what it began with: "
            f"{changed}: {cure}"
        )
    _check_templates(present, new)


def _check_templates(present: Campaign, new: Campaign) -> None:
    """No template of a started campaign goes missing, and none comes back from retirement."""
    gone = {t.id for t in present.templates} - {t.id for t in new.templates}
    if gone:
        raise CampaignError(
            f"campaign {present.campaign_id} has started with the templates "
            f"{', '.join(sorted(gone))}, which are missing: give them status: paused or retired "
            "instead, so that outcomes on their way still find them"
        )
    retired = {t.id for t in present.templates if t.status == "retired"}
    back = sorted(t.id for t in new.templates if t.id in retired and t.status != "retired")
    if back:
        raise CampaignError(
            f"campaign {present.campaign_id} has retired the templates {', '.join(back)}, and "
            "forgotten what it had learned of them: give what comes back a new id"
        )


def _check_course(present: Campaign, new: Campaign) -> None:
    """A started campaign goes on by its schedule, or by events, and from where it began."""
    if new.triggered != present.triggered:
        began, now = ("has", "none") if present.triggered else ("has no", "one")
        raise CampaignError(
            f"campaign {present.campaign_id} has started and {began} trigger, the new definition "
            f"has {now}: keep that, or give the campaign a new name"
        )

    for field, name in (("no_send", "no_send"), ("warm_start_campaign", "warm_start.campaign")):
        began, now = getattr(present, field), getattr(new, field)
        if began != now:
            raise CampaignError(
                f"campaign {present.campaign_id} has started, and learns from what it began with: "
                f"{name} is {now}, was {began}: keep that, or give the campaign a new name"
            )


def _check_source(campaign: Campaign, known: Mapping[str, Campaign]) -> None:
    """The campaign that another is to begin from must be there, and speak of the same."""
    name = campaign.warm_start_campaign
    if name is None:
        return
    if name not in known:
        cure = nearest(name, known) if known else "apply that one first"
        raise CampaignError(
            f"campaign {campaign.campaign_id}, warm_start.campaign {name!r}: there is none: {cure}"
        )
    check_warm_start(campaign, known[name])


def _difference(what: str, before: Iterable[str], after: Iterable[str]) -> str:
    lost, added = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    parts = [
        f"{verb} {', '.join(names[:5])}"
        for verb, names in (("lost", lost), ("gained", added))
        if names
    ]
    return f"{what} {' and '.join(parts) or 'changed order, center or scale'}"


def take_reports(
    codec: Codec, records: Iterable[Incoming], name: str, found: dict[int, WaveReport]
) -> None:
    """Take the newest report of each wave of a campaign out of records, in place."""
    prefix = f"{name}/".encode()
    for record in records:
        if record.key is None or not record.key.startswith(prefix):
            continue
        report = codec.try_decode(record.value, WaveReport)
        if isinstance(report, WaveReport) and report.campaign_id == name:
            found[report.wave] = report
