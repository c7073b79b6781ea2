"""Decisions of another system, replayed from its log: entered as if made here, never sent."""

from collections.abc import Sequence

import numpy as np

from schemas.campaign import MOST_WAVES, Campaign, WaveStart
from schemas.checks import LAST_TIME_MS
from schemas.errors import BadRecordError, GroundswellError
from schemas.ids import LOGGED, TIME_MARKER
from schemas.records import LoggedDecision
from schemas.topics import LOGGED_DECISIONS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.profile import wrong_shard
from streams.agents.progress import progress_update, tell
from streams.agents.running_waves import RunningWave, load_wave, store_wave
from streams.agents.schedule import check_runnable
from streams.agents.sending import Known
from streams.agents.state import CLOSE, done_key, ledger_key, load, put_timers, store, wave_key
from streams.core.encoding import ContextEncoder
from streams.core.learning import add_tallies, decision_tally
from streams.core.ledger import Entry, Ledger
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["EnterLogged"]

NO_POLICY = -1  # that a logged wave is pinned to
LARGEST_LEDGER = 4 * 1024 * 1024  # bytes: half of what the changelog takes under one key

WaveId = tuple[str, int]


class EnterLogged:
    """Opens a ledger entry for each logged decision.

    A record whose action is the time marker ends the log of its campaign and wave in a shard.
    """

    def __init__(self, known: Known, shards: int, clock: Clock) -> None:
        self._known = known
        self._shards = shards
        self._clock = clock

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Enter a batch; what no campaign knows goes to the dead letters."""
        ahead_of_ms = self._clock.ahead_of_ms()
        waves: dict[WaveId, RunningWave] = {}
        entered: dict[WaveId, list[str]] = {}
        for record in batch:
            logged = tx.codec.try_decode(record.value, LoggedDecision)
            if isinstance(logged, Unreadable):
                tx.dead_letter(record, logged.reason)
                continue
            refusal = self._clock.refusal(logged.decided_at_ms)
            if refusal is not None:
                tx.dead_letter(record, refusal)
                continue
            tx.saw(record.topic, logged.decided_at_ms, ahead_of_ms)
            wave = (logged.campaign_id, logged.wave)
            try:
                running = waves.get(wave) or self._running(tx, logged)
                if running is not None and self._enter(tx, logged, running):
                    waves[wave] = running
                    entered.setdefault(wave, []).append(logged.action)
            except BadRecordError as error:
                tx.dead_letter(record, str(error))
        for wave in sorted(entered):
            store_wave(tx, waves[wave])
            tallies = add_tallies(
                decision_tally(LOGGED, action) for action in entered[wave] if action != TIME_MARKER
            )
            tell(tx, progress_update(tx, waves[wave], tallies))

    def _running(self, tx: Transaction, logged: LoggedDecision) -> RunningWave | None:
        """The wave of a logged decision, begun by the first one; None for a marker behind its end.

        Raises
        ------
        BadRecordError
            If there can be no such wave.
        """
        if not 0 <= logged.wave < MOST_WAVES:
            raise BadRecordError(f"wave must be 0 to {MOST_WAVES - 1}, got {logged.wave}")
        campaign = self._known.campaign(logged.campaign_id)
        if campaign is None:
            raise BadRecordError(
                f"campaign {logged.campaign_id} is unknown: apply it before its log is replayed"
            )
        if campaign.status != "logged":
            raise BadRecordError(
                f"campaign {logged.campaign_id} is {campaign.status}, not logged: it decides here"
            )
        running = load_wave(tx, wave_key(logged.campaign_id, logged.wave))
        if running is not None:
            return running
        if tx.get(done_key(logged.campaign_id, logged.wave)) is not None:
            if logged.action == TIME_MARKER:
                return None
            raise BadRecordError(
                f"the log of campaign {logged.campaign_id}, wave {logged.wave}, has ended here and "
                "is beyond its correction horizon"
            )
        try:
            check_runnable(campaign)
        except GroundswellError as error:
            raise BadRecordError(
                f"campaign {logged.campaign_id} cannot be learned: {error}"
            ) from error
        return RunningWave(start=_start_of_log(campaign, logged, tx.number))

    def _enter(self, tx: Transaction, logged: LoggedDecision, running: RunningWave) -> bool:
        """Enter a decision or a marker; False where it was entered before.

        Raises
        ------
        BadRecordError
            If it is none of this shard's or the campaign's.
        """
        start = running.start
        if logged.action == TIME_MARKER:
            running.deciding = False
            return True
        ledger = self._ledger(tx, logged, start.campaign)
        if any(entry.decision_id == logged.decision_id for entry in ledger.entries):
            return False
        size = len(tx.get(ledger_key(logged.user_id)) or b"")
        if size > LARGEST_LEDGER:
            raise BadRecordError(
                f"the user's decisions that are open or can be corrected have {size} bytes, at "
                f"most {LARGEST_LEDGER} are kept: leave out users that stand for many, or shorten "
                "the windows"
            )
        running.decided += 1
        running.open += 1
        running.held += 1
        encoder = ContextEncoder(start.campaign.context)
        context = np.array(encoder.encode(logged.attributes, {}), dtype="<f4")
        ledger.entries.append(_entry_of(logged, start, context.tobytes()))
        store(tx, ledger_key(logged.user_id), ledger)
        due_ms = logged.decided_at_ms + start.campaign.closes_after_ms
        put_timers(tx, due_ms, CLOSE, [(logged.user_id, logged.decision_id)])
        return True

    def _ledger(self, tx: Transaction, logged: LoggedDecision, campaign: Campaign) -> Ledger:
        templates = {template.id for template in campaign.templates}
        for action in (logged.action, *logged.probabilities):
            if action not in templates:
                raise BadRecordError(
                    f"campaign {logged.campaign_id} has no template {action!r}: add it before "
                    "its log is replayed"
                )
        reason = wrong_shard(logged.user_id, tx.number, self._shards, LOGGED_DECISIONS.name)
        if reason is not None:
            raise BadRecordError(reason)
        return load(tx, ledger_key(logged.user_id), Ledger) or Ledger()


def _entry_of(logged: LoggedDecision, start: WaveStart, context: bytes) -> Entry:
    templates = start.campaign.templates
    channel = next(t.channel for t in templates if t.id == logged.action)
    odds = logged.probabilities
    open_to = [t.id for t in templates if not odds or odds.get(t.id, 0.0) > 0.0]
    return Entry(
        decision_id=logged.decision_id,
        campaign_id=logged.campaign_id,
        wave=logged.wave,
        action=logged.action,
        reason=LOGGED,
        propensity=logged.propensity,
        propensity_kind=logged.propensity_kind,
        actions=open_to,
        probabilities=[odds[action] for action in open_to] if odds else [],
        context=context,
        decided_at_ms=logged.decided_at_ms,
        policy_version=logged.policy_version,
        encoder_version=start.encoder_version,
        channel=channel,
        learn=logged.learn,
    )


def _start_of_log(campaign: Campaign, logged: LoggedDecision, shard: int) -> WaveStart:
    """A logged wave is pinned to the definition under which its first decision came."""
    return WaveStart(
        campaign=campaign,
        wave=logged.wave,
        shard=shard,
        policy_version=NO_POLICY,
        encoder_version=ContextEncoder(campaign.context).version,
        share_from=0.0,
        share_until=1.0,
        started_at_ms=logged.decided_at_ms,
        deadline_ms=LAST_TIME_MS,
    )
