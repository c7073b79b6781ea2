import pytest

from streams.agents.pace import LATEST_S, MOMENT_S, TURN_S, Pace


class Worker:
    """A thread's own time, and what it slept; each time it wakes up so much later than it asked."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.worked_s = 0.0
        self.slept_s = 0.0
        self.asked_s = 0.0
        self.naps = 0
        self._late_s = late_s

    def clock(self) -> float:
        return self.worked_s

    def sleep(self, seconds: float) -> None:
        self.asked_s += seconds
        self.slept_s += seconds + self._late_s
        self.naps += seconds > 0.0

    def now(self) -> float:
        return self.worked_s + self.slept_s

    def pace(self, share: float) -> Pace:
        return Pace(share, self.clock, self.sleep, self.now)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_work_in_small_pieces_takes_the_share_of_a_core_that_it_was_given(share):
    worker = Worker()
    pace = worker.pace(share)
    for _ in range(10_000):
        worker.worked_s += 0.000_1
        pace.rest()
    assert worker.worked_s / (worker.worked_s + worker.slept_s) == pytest.approx(share, rel=0.01)
    assert worker.naps == pytest.approx(worker.worked_s / MOMENT_S, rel=0.1)


def test_work_that_may_have_all_of_a_core_never_sleeps():
    worker = Worker()
    pace = worker.pace(1.0)
    worker.worked_s = 60.0
    pace.rest()
    assert worker.naps == 0


def test_a_long_piece_is_slept_off_whole():
    worker = Worker()
    pace = worker.pace(0.25)
    worker.worked_s = 0.1
    pace.rest()
    assert worker.slept_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("late_s", "counted_s"), [(TURN_S, 0.0), (TURN_S + 0.01, 0.01), (5.0, LATEST_S)]
)
def test_who_had_to_wait_for_the_interpreter_leaves_it_to_others_as_long_again(late_s, counted_s):
    worker = Worker(late_s)
    pace = worker.pace(0.2)
    worker.worked_s = 0.004
    pace.rest()
    assert worker.asked_s == pytest.approx(4 * 0.004 + counted_s)
