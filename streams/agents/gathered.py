"""Outcomes of one transaction, told to the learner together."""

import dataclasses
from collections import Counter
from itertools import groupby, islice

from schemas.campaign import Campaign
from schemas.learning import Tally
from schemas.topics import LEARNING_EXAMPLES
from streams.agents.parts import MOST_TOLD, gather, tell_early, tell_gathered
from streams.agents.progress import progress_update, tell
from streams.agents.running_waves import RunningWave, load_wave, store_wave
from streams.agents.state import (
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
)
from streams.kafka.transaction import Transaction

__all__ = ["Gathered"]


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
