"""Waves: started in a shard by a record, decided chunk by chunk between its other work."""

import dataclasses
from collections.abc import Iterator, Sequence

from schemas.campaign import LAST_WAVE, WaveStart
from schemas.wire import Unreadable
from streams.agents.beside import Beside
from streams.agents.clock import Clock
from streams.agents.listed import drop_list, listed_users, put_list
from streams.agents.parts import note_complete
from streams.agents.progress import note_tallies, store_progress, tell_progress
from streams.agents.running_waves import RunningWave, load_wave, open_triggers, store_wave
from streams.agents.sending import (
    Known,
    Members,
    PinnedWaves,
    send,
    shut_templates,
)
from streams.agents.state import active_key, done_key, wave_key
from streams.core.waves import Wave
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["DecideChunk", "StartWaves"]

LOOKED_AT = 10  # so many times the chunk's size of users are looked at for one chunk


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
            if not 0 <= start.wave <= LAST_WAVE:
                tx.dead_letter(record, f"wave {start.wave}: waves are 0 to {LAST_WAVE}")
                continue
            if start.campaign.triggered:
                open_triggers(tx, start)
                continue
            keys = [
                key(start.campaign.campaign_id, start.wave)
                for key in (wave_key, active_key, done_key)
            ]
            running, active, done = keys
            if tx.get(running) is None and tx.get(done) is None:
                listed = start.users is not None
                if listed:
                    put_list(tx, start)
                    start = dataclasses.replace(start, users=None)
                store_wave(tx, RunningWave(start=start, listed=listed))
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
        self._pinned = PinnedWaves(known)
        self._beside = Beside()

    def let_go(self, shard: int) -> None:
        """A shard has moved to another worker."""
        self._pinned.let_go(shard)

    def __call__(self, tx: Transaction) -> bool:
        """Decide one chunk of the first wave that can go on; True if there may be more."""
        for key, _ in tx.scan(b"a"):
            running = load_wave(tx, b"w" + key[1:])
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
            self._finish(tx, running, now_ms)
            return True
        wave = self._pinned.wave(start) if status == "active" else None
        if wave is None:
            if running.untold:  # it waits: who looks at its report sees all that was decided
                tell_progress(tx, running, now_ms)
            return False
        members = Members(tx, wave, now_ms)
        ended = self._add_next(members, tx, running, wave)
        shut = shut_templates(start.campaign, newest)
        choices = self._beside.decide(tx, wave, members.people, running.chunk, now_ms, shut)
        running.chunk += 1
        note_tallies(running, send(tx, running, choices, members.ledgers, now_ms))
        if ended:
            self._finish(tx, running, now_ms)
        else:
            store_progress(tx, running, now_ms)
        return True

    def _add_next(
        self, members: Members, tx: Transaction, running: RunningWave, wave: Wave
    ) -> bool:
        """Add the next users of the instalment; True if they are the last. Moves the cursor."""
        taken = 0
        for looked, (cursor, user, raw) in enumerate(self._candidates(tx, running), start=1):
            running.cursor = cursor
            if wave.audience.in_instalment(user):
                taken += 1
                members.add(user, raw)
            if taken >= self._chunk_size or looked >= LOOKED_AT * self._chunk_size:
                return False
        return True

    @staticmethod
    def _candidates(
        tx: Transaction, running: RunningWave
    ) -> Iterator[tuple[bytes, str, bytes | None]]:
        """Cursor, user and, where it was met on the way, the profile's state."""
        if running.listed:
            first = int(running.cursor or b"0")
            for rank, user in enumerate(listed_users(tx, running.start, first), first + 1):
                yield str(rank).encode(), user, None
        else:
            for key, raw in tx.scan(b"p", running.cursor or None):
                yield key, key[1:].decode(), raw

    def _finish(self, tx: Transaction, running: RunningWave, now_ms: int) -> None:
        start = running.start
        running.deciding = False
        if running.listed:
            drop_list(tx, start)
        note_complete(tx, running)
        tell_progress(tx, running, now_ms)
        self._pinned.forget(start)
