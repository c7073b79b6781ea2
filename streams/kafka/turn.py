"""Turns: of a worker's shards one at a time does what needs Python's lock.

Shards that work side by side take the lock from each other whenever one lets go of it for a moment,
as numpy does to add two arrays and confluent-kafka to report each message, and wait for it again
afterwards. Deciding for a wave took 40 microseconds of CPU a decision so, and takes 35 where they
take turns. Nothing that waits for a broker belongs into a turn, and what is done soon does not wait
for one: a triggered send would come later.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

__all__ = ["NO_TURN", "Turn"]


class Turn:
    """As a context manager: waits for the turn, and passes it on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Pass the turn on for a while, within one's own: others work meanwhile."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()


class _NoTurn(Turn):
    """Waits for nobody."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield


NO_TURN = _NoTurn()
