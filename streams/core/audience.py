"""Whom a wave is for, and what keeps a user from being sent something."""

from collections.abc import Callable
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


class _Kinds:
    """The memberships of users whom the same channels reach: few are told apart.

    Attributes
    ----------
    eligible
        Templates that may be sent to such a user.
    out
        Why none may; None where one may.
    """

    def __init__(self, eligible: tuple[bool, ...], out: str | None) -> None:
        self.eligible = eligible
        self.out = out
        self._of = {
            reason: Membership(reason=reason, eligible=eligible)
            for reason in (HOLDOUT, INELIGIBLE, UNREACHABLE, CAPPED, QUIET_HOURS, BASELINE, POLICY)
        }

    def __getitem__(self, reason: str) -> Membership:
        return self._of[reason]


class Audience:
    """One wave's audience, and the rules of its campaign.

    Attributes
    ----------
    attributes
        Of a profile, that the segment asks for.
    """

    def __init__(self, start: WaveStart) -> None:
        self._start = start
        self._campaign: Campaign = start.campaign
        segment = start.campaign.audience_segment
        compiled = None if segment is None else compile_segment(segment)
        self._in_segment: Callable[[Profile, int], bool] = (
            (lambda _profile, _now_ms: True) if compiled is None else compiled.matches
        )
        self.attributes = frozenset[str]() if compiled is None else compiled.attributes
        templates = start.campaign.templates
        self._channels = tuple(dict.fromkeys(template.channel for template in templates))
        ids = [template.id for template in templates]
        baseline = start.campaign.baseline_action
        self._baseline = ids.index(baseline) if baseline is not None else -1
        self._kinds: dict[tuple[tuple[bool, ...], frozenset[str]], _Kinds] = {}
        self._whole = start.share_from <= 0.0 and start.share_until >= 1.0
        self._listed = (
            frozenset(start.users) if start.campaign.triggered and start.users is not None else None
        )

    def lists(self, user_id: str) -> bool:
        """Whether a triggered wave's list has the user, where its audience is one."""
        return self._listed is None or user_id in self._listed

    def in_instalment(self, user_id: str) -> bool:
        """Whether the user's stable place lies in this wave's part; needs no profile."""
        if self._whole:
            return True
        place = share_of(f"{self._campaign.campaign_id}/wave", user_id)
        return self._start.share_from <= place < self._start.share_until

    def in_segment(self, profile: Profile, now_ms: int) -> bool:
        """Whether the campaign's segment expression holds for the profile."""
        return self._in_segment(profile, now_ms)

    def membership(
        self, user_id: str, profile: Profile, now_ms: int, shut: frozenset[str] = frozenset()
    ) -> Membership:
        """What the campaign's rules say of a user of the audience, the policy not yet asked.

        Templates in `shut` were paused since the wave began.
        """
        campaign = self._campaign
        kept_out = campaign.holdout + campaign.baseline_share
        group = share_of(f"{campaign.campaign_id}/group", user_id) if kept_out else 1.0
        kinds = self._reached(
            tuple([profile.reachable(channel) for channel in self._channels]), shut
        )
        if group < campaign.holdout:
            return kinds[HOLDOUT]
        if kinds.out is not None:
            return kinds[kinds.out]
        if self._capped(profile, now_ms):
            return kinds[CAPPED]
        if self._quiet(now_ms):
            return kinds[QUIET_HOURS]
        if group < kept_out:
            return kinds[BASELINE if kinds.eligible[self._baseline] else UNREACHABLE]
        return kinds[POLICY]

    def _reached(self, reached: tuple[bool, ...], shut: frozenset[str]) -> _Kinds:
        """Memberships of users whom these of the channels reach."""
        kinds = self._kinds.get((reached, shut))
        if kinds is None:
            eligible = self._eligible(reached, shut)
            out = None
            if not any(eligible):
                out = (
                    UNREACHABLE if any(self._eligible((True,) * len(reached), shut)) else INELIGIBLE
                )
            kinds = self._kinds[reached, shut] = _Kinds(eligible, out)
        return kinds

    def _eligible(self, reached: tuple[bool, ...], shut: frozenset[str]) -> tuple[bool, ...]:
        can_reach = dict(zip(self._channels, reached, strict=True))
        return tuple(
            template.status == "active" and template.id not in shut and can_reach[template.channel]
            for template in self._campaign.templates
        )

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
