"""Topics that the brokers do not describe well enough to work on."""

import pytest

from schemas.errors import TopicError
from streams.kafka.provision import Shape, TopicState, ensure_topics

SHAPE = Shape(prefix="", users=1, campaigns=1, sources=["orders"], replication=1, min_insync=1)


def test_brokers_that_give_topics_no_ids_are_refused(monkeypatch):
    orders = TopicState(name="orders", topic_id="A" * 22, partitions=1, config={})
    monkeypatch.setattr("streams.kafka.provision.describe_topics", lambda *_: {"orders": orders})
    with pytest.raises(TopicError, match=r"orders no id.*Kafka 2\.8 or later"):
        ensure_topics(None, SHAPE)
