"""Feedback joined to the decisions that it answers; those that are closed are corrected."""

from collections.abc import Sequence

from schemas.ids import TIME_MARKER
from schemas.records import Reward
from schemas.topics import REWARDS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.gathered import Gathered
from streams.agents.profile import wrong_shard
from streams.agents.state import (
    ledger_key,
    load,
    profile_key,
    store,
)
from streams.core.learning import (
    Outcome,
)
from streams.core.ledger import (
    Entry,
    Ledger,
    Verdict,
    counted_as,
    credit,
    find_entry,
    is_full,
    is_repeated,
    last_sent_ms,
    reward_of,
)
from streams.core.profiles import (
    UNSUBSCRIBE,
    Profile,
    leave,
    note_action,
    note_kind,
    note_send,
    take_back_action,
    take_back_send,
)
from streams.kafka.metrics import FEEDBACK, FEEDBACK_IDS_DROPPED
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["Attribute"]


class Attribute:
    """Joins clicks, purchases, unsubscribes and receipts to the decisions that they answer."""

    def __init__(self, shards: int, clock: Clock) -> None:
        self._shards = shards
        self._clock = clock

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Join a batch; what answers a decision that never was goes to the dead letters."""
        ahead_of_ms = self._clock.ahead_of_ms()
        gathered = Gathered(tx, self._clock.now_ms(tx.now_ms))
        for record in batch:
            reward = tx.codec.try_decode(record.value, Reward)
            if isinstance(reward, Unreadable):
                tx.dead_letter(record, reward.reason)
                continue
            reason = self._clock.refusal(reward.occurred_at_ms)
            if reason is None:
                tx.saw(record.topic, reward.occurred_at_ms, ahead_of_ms)
                if reward.occurred_at_ms > ahead_of_ms:
                    FEEDBACK.labels("early").inc()
                if reward.kind == TIME_MARKER:
                    continue
                reason = self._join(tx, reward, gathered)
            if reason is not None:
                tx.dead_letter(record, reason)
        gathered.tell()

    def _join(self, tx: Transaction, reward: Reward, gathered: Gathered) -> str | None:
        ledger = load(tx, ledger_key(reward.user_id), Ledger)
        profile = load(tx, profile_key(reward.user_id), Profile)
        if ledger is None and profile is None:
            reason = wrong_shard(reward.user_id, tx.number, self._shards, REWARDS.name)
            if reason is not None:
                return reason
        ledger = ledger or Ledger()
        profile = profile or Profile()
        full = is_full(ledger)
        if is_repeated(ledger, reward):
            FEEDBACK.labels("duplicate").inc()
            return None
        if full:
            FEEDBACK_IDS_DROPPED.inc()
        entry = find_entry(ledger, reward, gathered.campaign)
        if entry is None and reward.decision_id is not None and reward.kind != UNSUBSCRIBE:
            FEEDBACK.labels("unknown").inc()
            return (
                f"unknown: there is no decision {reward.decision_id} of this user, or it is beyond "
                "its correction horizon: send back the decision_id as it came"
            )
        note_kind(profile, reward.kind, reward.occurred_at_ms)
        if entry is None:
            FEEDBACK.labels("unmatched").inc()
        elif not self._credit(reward, entry, ledger, gathered):
            return (
                f"a {reward.kind} of value {reward.value} makes a reward that is too large to "
                "learn from: lower its weight in the campaign"
            )
        if reward.kind == UNSUBSCRIBE:
            channel = reward.channel or (entry.channel if entry is not None else None)
            leave(profile, channel, reward.occurred_at_ms)
        store(tx, profile_key(reward.user_id), profile)
        store(tx, ledger_key(reward.user_id), ledger)
        return None

    @staticmethod
    def _credit(reward: Reward, entry: Entry, ledger: Ledger, gathered: Gathered) -> bool:
        """Credit feedback; False where it cannot be."""
        campaign = gathered.campaign(entry)
        result = credit(entry, reward, campaign)
        FEEDBACK.labels(result.verdict.value).inc()
        if result.verdict is Verdict.CORRECTED and entry.delivered is not False:
            gathered.add(
                Outcome(
                    user_id=reward.user_id,
                    entry=entry,
                    reward=result.now,
                    previous=result.previous,
                    known=result.previous,
                    at_ms=reward.occurred_at_ms,
                    kind=counted_as(reward.kind, campaign),
                )
            )
        elif result.verdict is Verdict.CREDITED and entry.told:
            earned = reward_of(entry, campaign)
            gathered.correct_early(reward.user_id, entry, earned, reward.occurred_at_ms)
        elif result.verdict is Verdict.UNDELIVERED:
            take_back_send(ledger, entry.decided_at_ms)
            if campaign.fatigue_size:
                before_ms = last_sent_ms(ledger, entry)
                take_back_action(ledger, entry.campaign_id, entry.action, before_ms)
        elif result.verdict is Verdict.DELIVERED:
            note_send(ledger, entry.decided_at_ms)
            if campaign.fatigue_size:
                note_action(ledger, entry.campaign_id, entry.action, entry.decided_at_ms)
        return result.verdict is not Verdict.TOO_LARGE
