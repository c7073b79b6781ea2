"""Waves: started in a shard by a record, decided chunk by chunk between its other work."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from schemas.campaign import MOST_WAVES, Campaign, WaveStart
from schemas.learning import LearningUpdate, PolicySnapshot, Tally
from schemas.records import Decision
from schemas.topics import LEARNING_UPDATES, SEND_DECISIONS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.state import (
    CLOSE,
    RunningWave,
    active_key,
    done_key,
    ledger_key,
    load,
    profile_key,
    store,
    store_wave,
    timer_key,
    wave_key,
)
from streams.core.learning import add_tallies, decision_tally
from streams.core.ledger import Ledger
from streams.core.policies import from_bytes
from streams.core.profiles import Profile, note_send
from streams.core.waves import Choice, Wave
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["DecideChunk", "Known", "StartWaves", "progress_update", "tell"]

LOOKED_AT = 10  # so many times the chunk's size of users are looked at for one chunk


class Known(Protocol):
    """What every worker follows."""

    def campaign(self, campaign_id: str) -> Campaign | None:
        """The newest definition."""
        ...

    def snapshot(self, campaign_id: str, wave: int | None = None) -> PolicySnapshot | None:
        """The newest policy, or the one that a wave is pinned to."""
        ...


class StartWaves:
    """Notes the waves that this shard is to decide for."""

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Note each wave; one that is known already is not started again."""
        for record in batch:
            start = tx.codec.try_decode(record.value, WaveStart)
            if isinstance(start, Unreadable):
                tx.dead_letter(record, start.reason)
                continue
            if start.shard != tx.number:
                tx.dead_letter(record, f"for shard {start.shard}, came to shard {tx.number}")
                continue
            if not 0 <= start.wave < MOST_WAVES:
                tx.dead_letter(record, f"wave {start.wave}: waves are 0 to {MOST_WAVES - 1}")
                continue
            keys = [
                key(start.campaign.campaign_id, start.wave)
                for key in (wave_key, active_key, done_key)
            ]
            running, active, done = keys
            if tx.get(running) is None and tx.get(done) is None:
                store(tx, running, RunningWave(start))
                tx.put(active, b"")


class DecideChunk:
    """Decides for the next users of a wave: one transaction a chunk.

    Parameters
    ----------
    chunk_size
        Most users decided at once.
    """

    def __init__(self, known: Known, chunk_size: int, clock: Clock) -> None:
        self._known = known
        self._chunk_size = chunk_size
        self._clock = clock
        self._waves: dict[tuple[str, int, int], Wave] = {}

    def __call__(self, tx: Transaction) -> bool:
        """Decide one chunk of the first wave that can go on; True if there may be more."""
        for key, _ in tx.scan(b"a"):
            running = load(tx, b"w" + key[1:], RunningWave)
            assert running is not None
            if self._advance(tx, running):
                return True
        return False

    def _advance(self, tx: Transaction, running: RunningWave) -> bool:
        start = running.start
        now_ms = self._clock.now_ms(tx.now_ms)
        newest = self._known.campaign(start.campaign.campaign_id)
        status = "active" if newest is None else newest.status
        if status == "stopped" or now_ms >= start.deadline_ms:
            self._finish(tx, running, [])
            return True
        wave = self._wave(tx.number, start) if status == "active" else None
        if wave is None:
            return False
        people, ended = self._next_people(tx, running, wave)
        choices = wave.decide(people, running.chunk, now_ms, _shut(start.campaign, newest))
        running.chunk += 1
        for choice in choices:
            self._emit(tx, choice, start.campaign)
        running.decided += len(choices)
        opened = sum(choice.entry is not None for choice in choices)
        running.open += opened
        running.held += opened
        tallies = add_tallies(
            decision_tally(choice.decision.reason, choice.decision.action) for choice in choices
        )
        if ended:
            self._finish(tx, running, tallies)
        else:
            store_wave(tx, running)
            if tallies:
                tell(tx, progress_update(tx, running, tallies))
        return True

    def _wave(self, number: int, start: WaveStart) -> Wave | None:
        """The wave with its frozen policy; None while that has not arrived."""
        key = (start.campaign.campaign_id, start.wave, number)
        wave = self._waves.get(key)
        if wave is None or wave.start != start:
            snapshot = self._known.snapshot(start.campaign.campaign_id, start.wave)
            if snapshot is None or snapshot.version != start.policy_version:
                return None
            wave = self._waves[key] = Wave(start, from_bytes(snapshot.state))
        return wave

    def _next_people(
        self, tx: Transaction, running: RunningWave, wave: Wave
    ) -> tuple[list[tuple[str, Profile]], bool]:
        """The next users of the instalment, and whether they are the last; moves the cursor."""
        people: list[tuple[str, Profile]] = []
        for looked, (cursor, user) in enumerate(self._candidates(tx, running), start=1):
            running.cursor = cursor
            if wave.audience.in_instalment(user):
                people.append((user, load(tx, profile_key(user), Profile) or Profile()))
            if len(people) >= self._chunk_size or looked >= LOOKED_AT * self._chunk_size:
                return people, False
        return people, True

    @staticmethod
    def _candidates(tx: Transaction, running: RunningWave) -> Iterator[tuple[bytes, str]]:
        if running.start.users is not None:
            first = int(running.cursor or b"0")
            for rank, user in enumerate(islice(running.start.users, first, None), first + 1):
                yield str(rank).encode(), user
        else:
            for key, _ in tx.scan(b"p", running.cursor or None):
                yield key, key[1:].decode()

    @staticmethod
    def _emit(tx: Transaction, choice: Choice, campaign: Campaign) -> None:
        decision, entry = choice.decision, choice.entry
        tx.emit(
            SEND_DECISIONS,
            decision,
            key=decision.user_id,
            partition=tx.number,
            headers=_cloud_event(decision, tx.number),
        )
        if entry is None:
            return
        user = decision.user_id
        ledger = load(tx, ledger_key(user), Ledger) or Ledger()
        ledger.entries.append(entry)
        store(tx, ledger_key(user), ledger)
        profile = load(tx, profile_key(user), Profile) or Profile()
        note_send(profile, decision.decided_at_ms)
        store(tx, profile_key(user), profile)
        due_ms = decision.decided_at_ms + campaign.closes_after_ms
        tx.put(timer_key(due_ms, CLOSE, user, decision.decision_id), b"")

    def _finish(self, tx: Transaction, running: RunningWave, tallies: list[Tally]) -> None:
        start = running.start
        running.deciding = False
        store_wave(tx, running)
        tell(tx, progress_update(tx, running, tallies))
        self._waves.pop((start.campaign.campaign_id, start.wave, tx.number), None)


def _shut(pinned: Campaign, newest: Campaign | None) -> frozenset[str]:
    """Templates that were paused since the wave began: a marketer stops what hurts at once."""
    if newest is None:
        return frozenset()
    active = {template.id for template in newest.templates if template.status == "active"}
    return frozenset(template.id for template in pinned.templates) - active


def progress_update(
    tx: Transaction,
    running: RunningWave,
    tallies: list[Tally],
    columns: dict[str, object] | None = None,
) -> LearningUpdate:
    """What the learner is told of a wave in this shard."""
    start = running.start
    return LearningUpdate(
        campaign_id=start.campaign.campaign_id,
        wave=start.wave,
        shard=tx.number,
        policy_version=start.policy_version,
        encoder_version=start.encoder_version,
        decided=running.decided,
        open=running.open,
        deciding=running.deciding,
        time_ms=tx.now_ms,
        tallies=tallies,
        **(columns or {}),  # type: ignore[arg-type]
    )


def tell(tx: Transaction, update: LearningUpdate) -> None:
    """Send an update to the learner of its campaign."""
    tx.emit(LEARNING_UPDATES, update, key=update.campaign_id)


def _cloud_event(decision: Decision, shard: int) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0.2, Kafka protocol binding, binary content mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"groundswell.decision"),
        ("ce_source", f"/groundswell/shards/{shard}".encode()),
        ("ce_id", decision.decision_id.encode()),
        ("content-type", b"application/avro"),
    ]
