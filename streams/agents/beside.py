"""Deciding beside other shards' work, where that takes long."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from weakref import WeakSet

from streams.core.profiles import Profile
from streams.core.waves import Choice, Wave
from streams.kafka.transaction import Transaction

__all__ = ["Beside"]

# CPU of the thread, for a chunk and for each of its users. The interpreter's part is some 10
# microseconds a user: what is more are arrays, of an encoder or a large policy.
LONG_S, LONG_EACH_S = 0.02, 50e-6


class Beside:
    """Decides for chunks, aside of the shard's turn where the wave's last one took long."""

    def __init__(self) -> None:
        self._long: WeakSet[Wave] = WeakSet()

    def decide(
        self,
        tx: Transaction,
        wave: Wave,
        people: Sequence[tuple[str, Profile]],
        chunk: int,
        now_ms: int,
        shut: frozenset[str],
        events: Mapping[str, int] | None = None,
    ) -> list[Choice]:
        """As `Wave.decide`."""
        began = time.thread_time()
        with tx.turn.aside() if wave in self._long else nullcontext():
            choices = wave.decide(people, chunk, now_ms, shut, events)
        if time.thread_time() - began > max(LONG_S, LONG_EACH_S * len(people)):
            self._long.add(wave)
        else:
            self._long.discard(wave)
        return choices
