"""Decisions of another system, replayed from its log: entered as if made here, never sent."""

from collections.abc import Sequence

import numpy as np

from schemas.campaign import Campaign, WaveStart
from schemas.checks import LAST_TIME_MS
from schemas.ids import LOGGED, TIME_MARKER
from schemas.records import LoggedDecision
from schemas.topics import LOGGED_DECISIONS
from schemas.wire import Unreadable
from streams.agents.decide import Known, progress_update, tell
from streams.agents.profile import wrong_shard
from streams.agents.state import (
    CLOSE,
    RunningWave,
    ledger_key,
    load,
    store,
    timer_key,
    wave_key,
)
from streams.core.encoding import ContextEncoder
from streams.core.learning import add_tallies, decision_tally
from streams.core.ledger import Entry, Ledger
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["EnterLogged"]

NO_POLICY = -1  # the version of a policy that is not ours


class EnterLogged:
    """Opens a ledger entry for each logged decision.

    A record whose action is the time marker ends the log of its campaign and wave in a shard.
    """

    def __init__(self, known: Known, shards: int) -> None:
        self._known = known
        self._shards = shards

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Enter a batch; what no campaign knows goes to the dead letters."""
        entered: dict[tuple[str, int], list[str]] = {}
        for record in batch:
            logged = tx.codec.try_decode(record.value, LoggedDecision)
            if isinstance(logged, Unreadable):
                tx.dead_letter(record, logged.reason)
                continue
            tx.saw(record.topic, logged.decided_at_ms, LAST_TIME_MS)
            campaign = self._known.campaign(logged.campaign_id)
            reason = self._refusal(tx, logged, campaign)
            if reason is not None or campaign is None:
                tx.dead_letter(record, reason or "unknown campaign")
                continue
            actions = entered.setdefault((logged.campaign_id, logged.wave), [])
            if self._enter(tx, logged, campaign):
                actions.append(logged.action)
        for (campaign_id, wave), actions in sorted(entered.items()):
            running = load(tx, wave_key(campaign_id, wave), RunningWave)
            assert running is not None
            tallies = add_tallies(decision_tally(LOGGED, action) for action in actions)
            tell(tx, progress_update(tx, running, tallies))

    def _refusal(
        self, tx: Transaction, logged: LoggedDecision, campaign: Campaign | None
    ) -> str | None:
        if campaign is None:
            return f"campaign {logged.campaign_id} is unknown: apply it before its log is replayed"
        if campaign.status != "logged":
            return (
                f"campaign {logged.campaign_id} is {campaign.status}, not logged: it decides here"
            )
        if logged.action == TIME_MARKER:
            return None
        if logged.action not in {template.id for template in campaign.templates}:
            return f"campaign {logged.campaign_id} has no template {logged.action!r}: add it"
        return wrong_shard(logged.user_id, tx.number, self._shards, LOGGED_DECISIONS.name)

    @staticmethod
    def _enter(tx: Transaction, logged: LoggedDecision, campaign: Campaign) -> bool:
        key = wave_key(logged.campaign_id, logged.wave)
        encoder = ContextEncoder(campaign.context)
        running = load(tx, key, RunningWave) or RunningWave(
            _start_of_log(campaign, logged, tx.number, encoder.version)
        )
        if logged.action == TIME_MARKER:
            running.deciding = False
            store(tx, key, running)
            return False
        ledger = load(tx, ledger_key(logged.user_id), Ledger) or Ledger()
        if any(entry.decision_id == logged.decision_id for entry in ledger.entries):
            store(tx, key, running)
            return False
        running.decided += 1
        running.open += 1
        store(tx, key, running)
        context = np.array(encoder.encode(logged.attributes, {}), dtype="<f4")
        ledger.entries.append(_entry_of(logged, campaign, context.tobytes(), encoder.version))
        store(tx, ledger_key(logged.user_id), ledger)
        due_ms = (
            logged.decided_at_ms + campaign.attribution_window_ms + campaign.allowed_lateness_ms
        )
        tx.put(timer_key(due_ms, CLOSE, logged.user_id, logged.decision_id), b"")
        return True


def _entry_of(
    logged: LoggedDecision, campaign: Campaign, context: bytes, encoder_version: str
) -> Entry:
    channel = next(t.channel for t in campaign.templates if t.id == logged.action)
    return Entry(
        decision_id=logged.decision_id,
        campaign_id=logged.campaign_id,
        wave=logged.wave,
        action=logged.action,
        reason=LOGGED,
        propensity=logged.propensity,
        propensity_kind=logged.propensity_kind,
        actions=[template.id for template in campaign.templates],
        probabilities=[],
        context=context,
        decided_at_ms=logged.decided_at_ms,
        policy_version=NO_POLICY,
        encoder_version=encoder_version,
        channel=channel,
        learn=logged.learn,
    )


def _start_of_log(
    campaign: Campaign, logged: LoggedDecision, shard: int, encoder_version: str
) -> WaveStart:
    """A logged wave is pinned to the definition under which its first decision came."""
    return WaveStart(
        campaign=campaign,
        wave=logged.wave,
        shard=shard,
        policy_version=NO_POLICY,
        encoder_version=encoder_version,
        share_from=0.0,
        share_until=1.0,
        started_at_ms=logged.decided_at_ms,
        deadline_ms=LAST_TIME_MS,
    )
