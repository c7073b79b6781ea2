from dataclasses import replace

import pytest

from schemas.ids import TIME_MARKER
from schemas.records import Reward, UserEvent
from schemas.topics import REWARDS, USER_EVENTS
from streams.agents.ingest import VOUCH_MS, Ingest, Vouch
from streams.kafka.followers import VOUCHED
from streams.kafka.transaction import Incoming
from tests.unit.agents.shard import CODEC, NOON, MemoryShard, clock, incoming, refusals

SOURCES = {"events": "event", "feedback": "reward"}
EVENT = UserEvent(user_id="ann", type="app_open", occurred_at_ms=NOON)
CLICK = Reward(user_id="bob", kind="click", occurred_at_ms=NOON)


def ingested(topic: str, *records: object, now_ms: int | None = NOON):
    """What is sent on, and what is put aside."""
    tx = MemoryShard().begin()
    batch = [incoming(record, topic, 40 + rank) for rank, record in enumerate(records)]
    Ingest(SOURCES, clock(now_ms))(tx, batch)
    return tx.forwards, tx.outputs


def test_records_go_on_as_they_came_under_their_user():
    ((topic, key, event),), _ = ingested("events", EVENT)
    assert (topic, key, event.offset) == (USER_EVENTS, b"ann", 40)
    assert event.value == CODEC.encode("", EVENT)
    ((topic, key, _),), _ = ingested("feedback", CLICK)
    assert (topic, key) == (REWARDS, b"bob")


def test_order_is_kept_and_a_bad_record_stops_none_behind_it():
    sent_on, aside = ingested("events", EVENT, b"garbage", EVENT)
    assert [record.offset for _, _, record in sent_on] == [40, 42]
    assert [output.topic.name for output in aside] == ["dead-letters"]


@pytest.mark.parametrize("value", [None, b"", b"\0\0\0\0\0", b"{}", CODEC.encode("", CLICK)])
def test_what_is_no_such_record_is_refused(value):
    sent_on, aside = ingested("events", value)
    assert (len(sent_on), len(refusals(aside))) == (0, 1)


@pytest.mark.parametrize(
    ("topic", "record"),
    [
        ("events", UserEvent(user_id="ann", type=TIME_MARKER, occurred_at_ms=NOON)),
        ("feedback", Reward(user_id="ann", kind=TIME_MARKER, occurred_at_ms=NOON)),
    ],
)
def test_a_company_cannot_move_the_time_of_a_replay(topic, record):
    (why,) = refusals(ingested(topic, record)[1])
    assert "reserved" in why


@pytest.mark.parametrize(("ahead_ms", "count"), [(86_400_000, 0), (86_400_001, 1)])
def test_times_that_cannot_be_are_refused(ahead_ms, count):
    late = UserEvent(user_id="ann", type="t", occurred_at_ms=NOON + ahead_ms)
    assert len(refusals(ingested("events", late)[1])) == count
    assert refusals(ingested("events", late, now_ms=None)[1]) == []


def test_a_record_that_its_topic_does_not_take_is_refused():
    texts = {f"a{rank}": "ä" * 4096 for rank in range(180)}
    large = UserEvent(user_id="ann", type="t", occurred_at_ms=NOON, attributes=texts)
    assert len(CODEC.encode("", large)) > USER_EVENTS.max_bytes
    (why,) = refusals(ingested("events", large)[1])
    assert "takes at most" in why


def test_a_dead_letter_keeps_headers_and_says_where_it_came_from():
    shard = MemoryShard()
    tx = shard.begin()
    record = Incoming("events", 0, 41, 1, b"key", b"garbage", [("trace", b"1")])
    Ingest(SOURCES, clock())(tx, [record])
    headers = dict(tx.outputs[0].headers or ())
    assert headers["trace"] == b"1"
    assert headers["kafka_dlt-original-offset"] == b"41"
    assert tx.put_aside == [41]


def test_up_to_when_was_ingested_is_said_behind_what_it_vouches_for_and_not_at_every_turn():
    shard = MemoryShard(now_ms=NOON)
    shard.step(Vouch())
    assert shard.store.pairs[VOUCHED] == str(NOON).encode()
    for later_ms, said_ms in ((VOUCH_MS - 1, 0), (VOUCH_MS, VOUCH_MS)):
        shard.now_ms = NOON + later_ms
        shard.step(Vouch())
        assert shard.store.pairs[VOUCHED] == str(NOON + said_ms).encode()


def test_ingest_has_come_as_far_as_the_records_that_it_has_read():
    shard = MemoryShard()
    late, future = (
        replace(EVENT, occurred_at_ms=NOON - 5000),
        replace(EVENT, occurred_at_ms=NOON + 600_000),
    )
    shard.apply(Ingest(SOURCES, clock()), [late, EVENT, future, b"garbage"], "events")
    assert shard.times == {"events": NOON}
