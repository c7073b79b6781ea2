"""Notices a worker that has stopped working: it has lag, and nothing of it is applied.

A consumer can stall in silence (faust-streaming issues 175, 471, 640). A process that ends is
started again by whoever runs it, and its partitions go to others at once.
"""

from dataclasses import dataclass

__all__ = ["Watchdog"]


@dataclass(slots=True)
class Watchdog:
    """Tells when nothing has been applied for too long although there is something to apply.

    Parameters
    ----------
    limit_s
        So long a worker may stand still under lag.
    """

    limit_s: float
    _applied: int = -1
    _since_s: float = 0.0

    def stalled(self, now_s: float, lag: int, applied: int) -> bool:
        """Look once.

        Parameters
        ----------
        now_s
            Monotonic time in seconds.
        lag
            Records that there are to apply.
        applied
            Records that were applied since the start; only whether it changes matters.
        """
        if lag == 0 or applied != self._applied:
            self._applied, self._since_s = applied, now_s
            return False
        return now_s - self._since_s > self.limit_s
