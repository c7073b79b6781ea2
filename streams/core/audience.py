"""Whom a wave is for, and what keeps a user from being sent something."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas.campaign import MINUTES_A_DAY, Campaign, WaveStart
from schemas.hashing import share_of
from schemas.ids import (
    BASELINE,
    CAPPED,
    HOLDOUT,
    INELIGIBLE,
    POLICY,
    QUIET_HOURS,
    UNREACHABLE,
)
from streams.core.profiles import Profile
from streams.core.segments import compile_segment

__all__ = ["Audience", "Membership", "instalment"]

MINUTE_MS = 60_000


def instalment(wave: int, waves: int) -> tuple[float, float]:
    """The part of [0, 1) that a wave takes: waves are equal shares of the audience."""
    return wave / waves, (wave + 1) / waves


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Why a user of the audience gets what: the reason, and which templates are eligible."""

    reason: str
    eligible: tuple[bool, ...]


class Audience:
    """One wave's audience, and the rules of its campaign."""

    def __init__(self, start: WaveStart) -> None:
        self._start = start
        self._campaign: Campaign = start.campaign
        segment = start.campaign.audience_segment
        self._in_segment: Callable[[Profile, int], bool] = (
            (lambda _profile, _now_ms: True)
            if segment is None
            else compile_segment(segment).matches
        )
        templates = start.campaign.templates
        self._channels = tuple(dict.fromkeys(template.channel for template in templates))
        ids = [template.id for template in templates]
        baseline = start.campaign.baseline_action
        self._baseline = ids.index(baseline) if baseline is not None else -1
        self._members: dict[tuple[str, tuple[bool, ...], frozenset[str]], Membership] = {}
        self._listed = (
            frozenset(start.users) if start.campaign.triggered and start.users is not None else None
        )

    def lists(self, user_id: str) -> bool:
        """Whether a triggered wave's list has the user, where its audience is one."""
        return self._listed is None or user_id in self._listed

    def in_instalment(self, user_id: str) -> bool:
        """Whether the user's stable place lies in this wave's part; needs no profile."""
        place = share_of(f"{self._campaign.campaign_id}/wave", user_id)
        return self._start.share_from <= place < self._start.share_until

    def in_segment(self, profile: Profile, now_ms: int) -> bool:
        """Whether the campaign's segment expression holds for the profile."""
        return self._in_segment(profile, now_ms)

    def membership(
        self, user_id: str, profile: Profile, now_ms: int, shut: AbstractSet[str] = frozenset()
    ) -> Membership:
        """What the campaign's rules say of a user of the audience, the policy not yet asked.

        Templates in `shut` were paused since the wave began.
        """
        campaign = self._campaign
        kept_out = campaign.holdout + campaign.baseline_share
        group = share_of(f"{campaign.campaign_id}/group", user_id) if kept_out else 1.0
        reached = tuple([profile.reachable(channel) for channel in self._channels])
        if group < campaign.holdout:
            return self._member(HOLDOUT, reached, shut)
        if not any(self._member(POLICY, reached, shut).eligible):
            everywhere = self._member(POLICY, (True,) * len(reached), shut)
            return self._member(
                UNREACHABLE if any(everywhere.eligible) else INELIGIBLE, reached, shut
            )
        if self._capped(profile, now_ms):
            return self._member(CAPPED, reached, shut)
        if self._quiet(now_ms):
            return self._member(QUIET_HOURS, reached, shut)
        if group < kept_out:
            can = self._member(POLICY, reached, shut).eligible[self._baseline]
            return self._member(BASELINE if can else UNREACHABLE, reached, shut)
        return self._member(POLICY, reached, shut)

    def _member(self, reason: str, reached: tuple[bool, ...], shut: AbstractSet[str]) -> Membership:
        """One membership of its kind: few are told apart, and many users have each."""
        key = (reason, reached, frozenset(shut))
        found = self._members.get(key)
        if found is None:
            can_reach = dict(zip(self._channels, reached, strict=True))
            found = self._members[key] = Membership(
                reason=reason,
                eligible=tuple(
                    template.status == "active"
                    and template.id not in shut
                    and can_reach[template.channel]
                    for template in self._campaign.templates
                ),
            )
        return found

    def _capped(self, profile: Profile, now_ms: int) -> bool:
        most = self._campaign.cap_sends
        return (
            most is not None
            and profile.sends_since(now_ms - self._campaign.cap_period_ms + 1) >= most
        )

    def _quiet(self, now_ms: int) -> bool:
        start, end = self._campaign.quiet_from_minute, self._campaign.quiet_until_minute
        if start is None or end is None:
            return False
        minute = now_ms // MINUTE_MS % MINUTES_A_DAY
        return start <= minute < end if start <= end else minute >= start or minute < end
