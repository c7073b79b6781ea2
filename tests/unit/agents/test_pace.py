import pytest

from streams.agents.pace import MOMENT_S, Pace


class Worker:
    """A thread's own time, and what it slept."""

    def __init__(self) -> None:
        self.worked_s = 0.0
        self.slept_s = 0.0
        self.naps = 0

    def clock(self) -> float:
        return self.worked_s

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        self.naps += 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_work_in_small_pieces_takes_the_share_of_a_core_that_it_was_given(share):
    worker = Worker()
    pace = Pace(share, worker.clock, worker.sleep)
    for _ in range(10_000):
        worker.worked_s += 0.000_1
        pace.rest()
    assert worker.worked_s / (worker.worked_s + worker.slept_s) == pytest.approx(share, rel=0.01)
    assert worker.naps == pytest.approx(worker.worked_s / MOMENT_S, rel=0.1)


def test_work_that_may_have_all_of_a_core_never_sleeps():
    worker = Worker()
    pace = Pace(1.0, worker.clock, worker.sleep)
    worker.worked_s = 60.0
    pace.rest()
    assert worker.naps == 0


def test_a_long_piece_is_slept_off_whole():
    worker = Worker()
    pace = Pace(0.25, worker.clock, worker.sleep)
    worker.worked_s = 0.1
    pace.rest()
    assert worker.slept_s == pytest.approx(0.3)
