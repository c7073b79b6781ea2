"""Feedback joined to decisions; decisions closed at their window's end, and corrected later."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, islice

from schemas.campaign import Campaign
from schemas.ids import TIME_MARKER
from schemas.learning import Tally
from schemas.records import Reward
from schemas.topics import LEARNING_EXAMPLES, REWARDS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.parts import MOST_TOLD, gather, tell_early, tell_gathered
from streams.agents.profile import wrong_shard
from streams.agents.progress import progress_update, tell
from streams.agents.running_waves import RunningWave, load_wave, store_wave
from streams.agents.state import (
    CLOSE,
    FORGET,
    REST,
    Timer,
    due_of,
    ledger_key,
    load,
    profile_key,
    put_timers,
    read_timers,
    rest_key,
    store,
    wave_key,
)
from streams.core.learning import (
    Outcome,
    Rows,
    add_tallies,
    example_of,
    outcome_tally,
    undelivered_tally,
    update_columns,
)
from streams.core.ledger import (
    Entry,
    Ledger,
    Verdict,
    close_entry,
    counted_as,
    credit,
    find_entry,
    is_full,
    is_repeated,
    last_sent_ms,
    prune,
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

__all__ = ["Attribute", "CloseDue"]

MOST_DUE = 2000  # timers handled in one transaction, and those that stand with the last


class Gathered:
    """Outcomes of one transaction by wave, told to the learner together.

    Of a wave that is learned in parts they are put to those that were not told before.
    """

    def __init__(self, tx: Transaction, now_ms: int) -> None:
        self._tx = tx
        self._now_ms = now_ms
        self._waves: dict[bytes, RunningWave] = {}
        self._outcomes: dict[bytes, list[Outcome]] = {}
        self._early: dict[bytes, list[Outcome]] = {}
        self._undelivered: dict[bytes, list[Entry]] = {}
        self._closed: Counter[bytes] = Counter()
        self._forgotten: set[bytes] = set()

    def wave(self, entry: Entry) -> RunningWave:
        """The wave of an entry, as it runs in this shard."""
        key = wave_key(entry.campaign_id, entry.wave)
        if key not in self._waves:
            running = load_wave(self._tx, key)
            assert running is not None  # a wave stays as long as entries of it do
            self._waves[key] = running
        return self._waves[key]

    def campaign(self, entry: Entry) -> Campaign:
        """The definition that the decision was made under."""
        return self.wave(entry).start.campaign

    def add(self, outcome: Outcome) -> None:
        """An outcome: written to the log now, told to the learner at the end."""
        entry = outcome.entry
        example = example_of(outcome, self.campaign(entry).version)
        self._tx.emit(LEARNING_EXAMPLES, example, key=outcome.user_id, partition=self._tx.number)
        self._outcomes.setdefault(wave_key(entry.campaign_id, entry.wave), []).append(outcome)

    def correct_early(self, user_id: str, entry: Entry, reward: float, at_ms: int) -> None:
        """What the learner knows of a decision is another reward now, before the log closes it."""
        known, entry.learned = entry.learned, reward
        self._early.setdefault(wave_key(entry.campaign_id, entry.wave), []).append(
            Outcome(
                user_id=user_id,
                entry=entry,
                reward=reward,
                previous=None,
                known=known,
                at_ms=at_ms,
            )
        )

    def closed(self, entry: Entry, *, delivered: bool) -> None:
        """A decision is open no more."""
        self.wave(entry).open -= 1
        key = wave_key(entry.campaign_id, entry.wave)
        self._closed[key] += 1
        if not delivered:
            self._undelivered.setdefault(key, []).append(entry)

    def forgotten(self, entry: Entry) -> None:
        """A decision's entry has left its ledger."""
        self.wave(entry).held -= 1
        self._forgotten.add(wave_key(entry.campaign_id, entry.wave))

    def tell(self) -> None:
        """Tell the learner what has come together, with each wave's progress."""
        for key in sorted(self._waves):
            outcomes = self._outcomes.get(key, [])
            undelivered = self._undelivered.get(key, [])
            running = self._waves[key]
            early = self._early.get(key, [])
            if early:
                tell_early(self._tx, running, early, self._now_ms)
            if outcomes or undelivered:
                if running.start.half_lives_ms is None:
                    self._tell(running, outcomes, undelivered)
                else:
                    tallies = _tallies(outcomes, undelivered)
                    closed = self._closed[key]
                    gather(self._tx, running, outcomes, tallies, closed, self._now_ms)
            if running.held == 0 and not running.deciding:
                tell_gathered(self._tx, running)  # the wave is dropped with its last entry
            if outcomes or undelivered or key in self._forgotten:
                store_wave(self._tx, running)

    def _tell(
        self, running: RunningWave, outcomes: list[Outcome], undelivered: list[Entry]
    ) -> None:
        follows = len(outcomes) + len(undelivered)
        told = 0
        # Where the last good release stood in, not all of a wave are under the wave's own.
        for encoder_version, theirs in groupby(outcomes, lambda one: one.entry.encoder_version):
            while some := list(islice(theirs, MOST_TOLD)):
                told += len(some)
                lost = undelivered if told == len(outcomes) else []
                follows -= len(some) + len(lost)
                rows = Rows(**update_columns(some))  # type: ignore[arg-type]
                tallies = _tallies(some, lost)
                update = progress_update(self._tx, running, tallies, rows, follows=follows)
                tell(self._tx, dataclasses.replace(update, encoder_version=encoder_version))
        if not outcomes:
            tell(self._tx, progress_update(self._tx, running, _tallies([], undelivered)))


def _tallies(outcomes: list[Outcome], undelivered: list[Entry]) -> list[Tally]:
    return add_tallies(
        [
            *(outcome_tally(outcome) for outcome in outcomes),
            *(undelivered_tally(entry) for entry in undelivered),
        ]
    )


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


class CloseDue:
    """Closes decisions whose window is over, and forgets those that nothing can correct."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, tx: Transaction) -> bool:
        """Handle what is due by the shard's event time; True if there is more."""
        gathered = Gathered(tx, self._clock.now_ms(tx.now_ms))
        closed: dict[int, list[tuple[str, str]]] = {}  # by the time to forget them
        due = _due(tx)
        for timer in due:
            if timer.what == REST:
                _end_rest(tx, timer)
                continue
            ledger = load(tx, ledger_key(timer.user), Ledger)
            if ledger is None:
                continue
            if timer.what == CLOSE:
                forget_ms = self._close(timer, ledger, gathered)
                if forget_ms is not None:
                    closed.setdefault(forget_ms, []).append((timer.user, timer.decision_id))
            else:
                self._forget(timer, ledger, gathered)
            if ledger.empty:
                tx.delete(ledger_key(timer.user))
            else:
                store(tx, ledger_key(timer.user), ledger)
        for forget_ms, decisions in closed.items():
            put_timers(tx, forget_ms, FORGET, decisions)
        gathered.tell()
        return len(due) >= MOST_DUE

    @staticmethod
    def _forget(timer: Timer, ledger: Ledger, gathered: Gathered) -> None:
        for entry in ledger.entries:
            if entry.decision_id == timer.decision_id:
                gathered.forgotten(entry)
        prune(ledger, timer.decision_id)

    @staticmethod
    def _close(timer: Timer, ledger: Ledger, gathered: Gathered) -> int | None:
        """Close a decision; gives when to forget it, None where it was closed before."""
        entry = next((e for e in ledger.entries if e.decision_id == timer.decision_id), None)
        if entry is None or entry.closed:
            return None
        campaign = gathered.campaign(entry)
        known = entry.learned if entry.told else None
        delivered = close_entry(entry, campaign)
        gathered.closed(entry, delivered=delivered)
        if delivered:
            gathered.add(
                Outcome(
                    user_id=timer.user,
                    entry=entry,
                    reward=entry.learned,
                    previous=None,
                    known=known,
                    at_ms=timer.due_ms,
                )
            )
        elif known:  # what never arrived has earned nothing
            gathered.correct_early(timer.user, entry, 0.0, timer.due_ms)
        return max(entry.decided_at_ms + campaign.correction_horizon_ms, timer.due_ms)


def _end_rest(tx: Transaction, timer: Timer) -> None:
    """Forget that a user rests, unless a later event has begun another rest."""
    key = rest_key(timer.user, timer.decision_id)
    until_ms = tx.get(key)
    if until_ms is not None and int(until_ms) <= timer.due_ms:
        tx.delete(key)


def _due(tx: Transaction) -> list[Timer]:
    """Take what is due out of the state: so many timers, and those that stand with the last."""
    due: list[Timer] = []
    for key, raw in tx.scan(b"t"):
        if len(due) >= MOST_DUE or due_of(key) > tx.now_ms:
            break
        due += read_timers(key, raw)
        tx.delete(key)
    return due
