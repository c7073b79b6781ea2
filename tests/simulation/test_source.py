import numpy as np
import pytest

from streams.simulation.people import draw_people
from streams.simulation.source import app_events, people_events

NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def people():
    return draw_people(np.random.default_rng(1), 1_000)


def test_everyone_is_imported_some_of_them_twice_in_no_order(people):
    events = list(people_events(np.random.default_rng(1), people, NOW_MS))
    order = list(dict.fromkeys(event.user_id for event in events))
    assert sorted(order) == list(people.ids)
    assert order != sorted(order)
    assert 1_000 < len(events) < 1_060
    assert len({event.event_id for event in events}) == 1_000
    first = events[0]
    row = list(people.ids).index(first.user_id)
    assert first.attributes == people.attributes(row)
    assert first.contacts == people.contacts(row)


def test_app_events_come_at_their_rate_a_little_late_disordered_and_some_twice(people):
    rng = np.random.default_rng(1)
    events = app_events(rng, people, NOW_MS, NOW_MS + 20_000, per_s=50.0)
    distinct = {event.event_id for event in events}
    assert 900 < len(distinct) < 1_100
    assert len(distinct) < len(events) < 1.06 * len(distinct)
    times = [event.occurred_at_ms for event in events]
    assert min(times) >= NOW_MS - 300
    assert max(times) < NOW_MS + 20_000
    assert times != sorted(times)


def test_quiet_span_has_no_app_events(people):
    assert app_events(np.random.default_rng(1), people, NOW_MS, NOW_MS, per_s=50.0) == []
