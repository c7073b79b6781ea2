"""Work beside decisions that wait: a moment of it, then a rest several times as long."""

import time
from collections.abc import Callable

__all__ = ["Pace"]

MOMENT_S = 0.002  # a thread that decides waits for the interpreter at most about so long


class Pace:
    """Keeps a thread to a share of a core.

    Python gives the interpreter to another thread only after 5 ms of work: to a decision, which
    lets go of it some twenty times, one thread that works without a pause adds a tenth of a second.

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
    ) -> None:
        self._rest_per_s = 1.0 / share - 1.0
        self._clock = clock
        self._sleep = sleep
        self._rested_at = clock()

    def rest(self) -> None:
        """Sleep if it is time to; called between small pieces of work, by the thread itself."""
        worked_s = self._clock() - self._rested_at
        if worked_s >= MOMENT_S and self._rest_per_s > 0:
            self._sleep(worked_s * self._rest_per_s)
            self._rested_at = self._clock()
