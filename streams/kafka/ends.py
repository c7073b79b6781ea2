"""Which ends of inputs were come to, where something comes behind them all the time."""

from faust.types import TP

from streams.kafka.fetching import Progress

__all__ = ["Ends"]


class Ends:
    """The ends that inputs had, until all before them is applied.

    Under a steady load there is always something that was fetched and not applied yet: an input
    that is asked whether it has nothing left would hardly ever say so, and event time would stand
    still. What stood at its end a while ago is applied a moment later.
    """

    def __init__(self) -> None:
        self._awaited: dict[TP, Progress] = {}

    def forget(self, tp: TP) -> None:
        """Another worker may have come further since."""
        self._awaited.pop(tp, None)

    def reached(self, tp: TP, now: Progress | None, seen: int) -> Progress | None:
        """The newest end of an input that was come to since this was asked last; None for none.

        Parameters
        ----------
        now
            Where the input stands.
        seen
            The last offset that was applied.
        """
        awaited, end = self._awaited.pop(tp, None), None
        if awaited is not None and awaited.last <= seen:
            awaited, end = None, awaited
        if now is not None and now.ended:
            if now.last <= seen:
                return now
            awaited = awaited or now
        if awaited is not None:
            self._awaited[tp] = awaited
        return end
