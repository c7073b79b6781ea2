"""A worker that stands still under lag is noticed; one that is idle or busy is not."""

from streams.kafka.watchdog import Watchdog


def test_standing_still_under_lag_is_noticed_after_the_limit():
    dog = Watchdog(10.0)
    assert not dog.stalled(100.0, lag=5, applied=3)
    assert not dog.stalled(109.0, lag=6, applied=3)
    assert dog.stalled(111.0, lag=9, applied=3)


def test_an_idle_worker_is_well_however_long():
    dog = Watchdog(10.0)
    assert not dog.stalled(100.0, lag=0, applied=3)
    assert not dog.stalled(1000.0, lag=0, applied=3)
    assert not dog.stalled(1001.0, lag=4, applied=3)  # the lag is new


def test_a_worker_that_applies_is_well_however_far_behind():
    dog = Watchdog(10.0)
    for second in range(100):
        assert not dog.stalled(float(second * 5), lag=1000 + second, applied=second)
