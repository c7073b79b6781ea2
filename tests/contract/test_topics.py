"""Topics as data: what must hold between them."""

from collections import Counter

import pytest

from schemas.topics import DEAD_LETTERS, TOPICS, Partitioning

ADDED_HEADERS = 4096  # where from, when and why, on a dead letter


def test_names_are_unique_and_can_stand_in_kafka():
    names = [topic.name for topic in TOPICS]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert all(name.replace("-", "").isalpha() and name.islower() for name in names)
    # Kafka's metrics cannot tell "." from "_": neither may be the only difference.
    assert not any(set(name) & set("._") for name in names)


def test_every_topic_that_there_is_is_listed_and_documented():
    import schemas.topics as module

    constants = {value for value in vars(module).values() if isinstance(value, module.Topic)}
    assert constants == set(TOPICS)
    assert all(topic.doc.endswith(".") and topic.key for topic in TOPICS)


def test_a_dead_letter_has_room_for_the_largest_record_of_any_topic():
    largest = max(topic.max_bytes for topic in TOPICS if topic is not DEAD_LETTERS)
    assert DEAD_LETTERS.max_bytes >= largest + ADDED_HEADERS
    assert DEAD_LETTERS.partitioning is Partitioning.ONE


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_state_is_compacted_and_outlives_its_deletions(topic):
    if topic.name.endswith("changelog"):
        assert topic.compacted
        assert topic.record is None
    if topic.compacted:
        assert topic.delete_retention_ms >= 86_400_000


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_what_is_keyed_alike_is_partitioned_alike(topic):
    expected = {"user": Partitioning.USERS, "campaign": Partitioning.CAMPAIGNS}
    assert topic.partitioning is expected.get(topic.key, topic.partitioning)


def test_a_record_stands_in_one_topic_and_has_a_schema_of_its_name():
    from schemas.avro_schemas import parsed_schema

    records = [topic.record for topic in TOPICS if topic.record is not None]
    assert len(set(records)) == len(records)
    for record in records:
        fields = {field["name"] for field in parsed_schema(record.__name__)["fields"]}
        assert fields == set(record.__slots__), record.__name__
