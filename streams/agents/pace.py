"""Work beside decisions that wait: a moment of it, then a rest several times as long."""

import time
from collections.abc import Callable

__all__ = ["Pace"]

MOMENT_S = 0.003  # a thread that decides waits for the interpreter at most about so long
TURN_S = 0.005  # so long anyone who computes may keep the interpreter
LATEST_S = 0.05  # a machine that stood still has nobody who waits for the interpreter


class Pace:
    """Keeps a thread to a share of a core.

    Python gives the interpreter to another thread only after 5 ms of work: to a decision, which
    lets go of it some twenty times, one thread that works without a pause adds a tenth of a second.

    Who wakes up later than by one turn had to wait for the interpreter with others who want it. It
    leaves it to them for as long again: the longer the busier they are.

    Parameters
    ----------
    share
        Of a core, above 0; 1 for all of it.
    """

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._rest_per_s = 1.0 / share - 1.0
        self._clock = clock
        self._sleep = sleep
        self._now = now
        self._rested_at = clock()

    def rest(self) -> None:
        """Sleep if it is time to; called between small pieces of work, by the thread itself."""
        worked_s = self._clock() - self._rested_at
        if worked_s >= MOMENT_S and self._rest_per_s > 0:
            due = self._now() + worked_s * self._rest_per_s
            self._sleep(worked_s * self._rest_per_s)
            late_s = min(max(self._now() - due - TURN_S, 0.0), LATEST_S)
            self._sleep(late_s)
            self._rested_at = self._clock()
