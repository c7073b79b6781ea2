"""A producer that another one fenced says so, wherever it comes to know of it."""

import time

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from schemas.errors import FencedError
from streams.kafka.cluster import Cluster
from streams.kafka.producer import TransactionalProducer

pytestmark = pytest.mark.kafka


def producer(kafka, topic: str) -> TransactionalProducer:
    made = TransactionalProducer(
        cluster=Cluster(kafka.bootstrap),
        shard="users/0",
        transactional_id=topic,
        changelog=topic,
        number=0,
        prefix="",
        timeout_s=10,
    )
    made.fence()
    return made


@pytest.fixture
def fenced(kafka, namespace):
    topic = f"{namespace}changes"
    kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    old = producer(kafka, topic)
    old.commit([], {b"key": b"1"})
    producer(kafka, topic)
    with pytest.raises(FencedError, match="another owner"):
        old.commit([], {b"key": b"2"})
    return old


def test_a_fenced_producer_goes_on_saying_so(fenced):
    with pytest.raises(FencedError, match="another owner"):
        fenced.commit([], {b"key": b"3"})


def test_a_fatal_error_that_a_send_only_hints_at_is_known_as_the_fence_that_it_was(fenced):
    hint = KafkaException(KafkaError(KafkaError._FATAL, "Fatal error", fatal=True))
    with pytest.raises(FencedError, match="another owner"):
        fenced._recover(fenced._told(hint), time.monotonic() + 1)


def test_an_exception_that_lost_its_cause_is_known_as_the_fence_that_it_was(fenced):
    lost = SystemError("returned NULL without setting an exception")
    with pytest.raises(FencedError, match="another owner"):
        fenced._recover(fenced._told(lost), time.monotonic() + 1)


def test_an_exception_that_is_nothing_of_the_brokers_is_passed_on(kafka, namespace):
    topic = f"{namespace}changes"
    kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    made = producer(kafka, topic)
    made.begin(b"key")
    with pytest.raises(SystemError, match="something else"):
        made._told(SystemError("something else"))
