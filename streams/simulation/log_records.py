"""A log's rows as the records that are fed through the topics."""

from collections.abc import Iterator

from schemas.campaign import Campaign
from schemas.hashing import fallback_id
from schemas.ids import TIME_MARKER
from schemas.records import LoggedDecision, Reward, UserEvent
from streams.simulation.log_mapping import (
    ESTIMATED,
    HELD_OUT_WAVE,
    LEARNED_WAVE,
    LogMapping,
)
from streams.simulation.log_reader import LogRow, LogSummary

__all__ = ["LogRecords"]

NOBODY = "groundswell.replay"  # the user of a record that carries nothing but its time


class LogRecords:
    """Makes the records of each row.

    Parameters
    ----------
    summary
        Of the log's first reading: where it is split, and what propensities are estimated from.
    """

    def __init__(self, mapping: LogMapping, campaign: Campaign, summary: LogSummary) -> None:
        self._mapping = mapping
        self._campaign_id = campaign.campaign_id
        self._actions = [template.id for template in campaign.templates]
        self._summary = summary

    def is_learned(self, row: LogRow) -> bool:
        """Whether the row is in the part of the log that is learned from."""
        return row.at_ms < self._summary.split_at_ms

    def decision(self, row: LogRow) -> LoggedDecision:
        """The row's decision."""
        learned = self.is_learned(row)
        return LoggedDecision(
            decision_id=self._decision_id(row),
            campaign_id=self._campaign_id,
            wave=LEARNED_WAVE if learned else HELD_OUT_WAVE,
            user_id=row.user_id,
            action=row.action,
            propensity=self._propensity(row),
            propensity_kind=self._mapping.propensity.kind,
            decided_at_ms=row.at_ms,
            attributes=row.attributes,
            learn=learned,
            probabilities=row.probabilities,
            policy_version=row.wave,
        )

    def rewards(self, row: LogRow) -> Iterator[Reward]:
        """What came back for the row's decision."""
        decision_id = self._decision_id(row)
        for reward in row.rewards:
            yield Reward(
                user_id=row.user_id,
                kind=reward.kind,
                occurred_at_ms=reward.at_ms,
                reward_id=f"{decision_id}:{reward.kind}",
                value=reward.value,
                decision_id=decision_id,
                campaign_id=self._campaign_id,
            )

    def event(self, row: LogRow) -> UserEvent | None:
        """The event about the row's user; None where the mapping makes none."""
        if self._mapping.event is None:
            return None
        return UserEvent(
            user_id=row.user_id,
            type=self._mapping.event,
            occurred_at_ms=row.at_ms,
            event_id=self._decision_id(row),
            attributes=row.attributes,
        )

    def end_of_wave(self, wave: int, at_ms: int) -> LoggedDecision:
        """What ends a wave in the shard that it comes to, and moves the input's time."""
        return LoggedDecision(
            decision_id=f"{TIME_MARKER}-{wave}",
            campaign_id=self._campaign_id,
            wave=wave,
            user_id=NOBODY,
            action=TIME_MARKER,
            propensity_kind=self._mapping.propensity.kind,
            decided_at_ms=at_ms,
            learn=False,
        )

    def rewards_until(self, at_ms: int) -> Reward:
        """Says that all rewards up to a time have come."""
        return Reward(user_id=NOBODY, kind=TIME_MARKER, occurred_at_ms=at_ms)

    def events_until(self, at_ms: int) -> UserEvent:
        """Says that all events up to a time have come."""
        return UserEvent(user_id=NOBODY, type=TIME_MARKER, occurred_at_ms=at_ms)

    def _decision_id(self, row: LogRow) -> str:
        return fallback_id(self._campaign_id, row.number)

    def _propensity(self, row: LogRow) -> float | None:
        if self._mapping.propensity.kind != ESTIMATED:
            return row.propensity
        return self._summary.propensities.estimate(
            row.user_id, row.stratum, row.action, self._actions
        )
