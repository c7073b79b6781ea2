"""Event time goes on under a steady load: an end is come to though more stands behind it."""

import pytest
from faust.types import TP

from streams.kafka.ends import Ends
from streams.kafka.fetching import Progress

INPUT = TP("user-events", 3)


def ended(last: int, at_ms: int) -> Progress:
    return Progress(position=last + 2, end=last + 2, last=last, at_ms=at_ms)  # a marker behind it


def under_way(last: int, at_ms: int) -> Progress:
    return Progress(position=last + 1, end=last + 100, last=last, at_ms=at_ms)


@pytest.fixture
def ends():
    return Ends()


def test_an_end_is_come_to_at_once_where_all_before_it_is_applied(ends):
    assert ends.reached(INPUT, ended(9, 1_000), seen=9) == ended(9, 1_000)
    assert ends.reached(INPUT, ended(9, 2_000), seen=9) == ended(9, 2_000)


def test_an_end_is_come_to_later_though_there_is_always_more(ends):
    assert ends.reached(INPUT, ended(9, 1_000), seen=4) is None
    assert ends.reached(INPUT, ended(14, 1_100), seen=8) is None
    assert ends.reached(INPUT, ended(19, 1_200), seen=13) == ended(9, 1_000)
    assert ends.reached(INPUT, ended(24, 1_300), seen=18) is None
    assert ends.reached(INPUT, ended(29, 1_400), seen=23) == ended(19, 1_200)


def test_what_was_not_read_to_its_end_has_none(ends):
    for at_ms in range(5):
        assert ends.reached(INPUT, under_way(9, at_ms), seen=9) is None
    assert ends.reached(INPUT, None, seen=9) is None


def test_an_end_is_still_come_to_after_the_load_became_too_much(ends):
    assert ends.reached(INPUT, ended(9, 1_000), seen=4) is None
    assert ends.reached(INPUT, under_way(500, 1_100), seen=8) is None
    assert ends.reached(INPUT, under_way(900, 1_200), seen=300) == ended(9, 1_000)
    assert ends.reached(INPUT, under_way(999, 1_300), seen=600) is None


def test_inputs_are_told_apart(ends):
    other = TP("user-events", 4)
    assert ends.reached(INPUT, ended(9, 1_000), seen=4) is None
    assert ends.reached(other, ended(7, 1_000), seen=7) == ended(7, 1_000)
    assert ends.reached(other, ended(8, 1_100), seen=9) == ended(8, 1_100)
    assert ends.reached(INPUT, None, seen=9) == ended(9, 1_000)
