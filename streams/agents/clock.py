"""The wall clock as agents see it: not at all in a replay."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.checks import LAST_TIME_MS

__all__ = ["Clock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What time it is, and how far ahead of it a record's time may lie.

    Attributes
    ----------
    wall_ms
        Milliseconds since 1970; None in a replay, where only records move time.
    ahead_ms
        Times further ahead do not advance event time.
    impossible_ms
        Times further ahead are refused.
    """

    wall_ms: Callable[[], int] | None
    ahead_ms: int
    impossible_ms: int

    def now_ms(self, event_ms: int) -> int:
        """The time of what a worker does now: the wall clock's, in a replay event time."""
        return event_ms if self.wall_ms is None else max(event_ms, self.wall_ms())

    def answers_ms(self, event_ms: int, occurred_ms: int) -> int:
        """The time of what answers a record: the wall clock's, in a replay not before it."""
        return self.now_ms(event_ms if self.wall_ms is not None else max(event_ms, occurred_ms))

    def ahead_of_ms(self) -> int:
        """Up to where a record's time advances event time."""
        return LAST_TIME_MS if self.wall_ms is None else self.wall_ms() + self.ahead_ms

    def believed_ms(self) -> int:
        """Up to where a record's time is believed, at least from now on."""
        return LAST_TIME_MS if self.wall_ms is None else self.wall_ms() + self.impossible_ms

    def refusal(self, at_ms: int) -> str | None:
        """Why a record's time cannot be believed; None if it can."""
        if self.wall_ms is None:
            return None
        ahead_ms = at_ms - self.wall_ms()
        if ahead_ms <= self.impossible_ms:
            return None
        return (
            f"early: its time {at_ms} lies {ahead_ms // 1000} s ahead of the clock, at most "
            f"{self.impossible_ms // 1000} s are believed: correct the producer's clock"
        )
