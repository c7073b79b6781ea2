"""The bare peer of the throughput rows: a loop that decodes and counts, and keeps nothing."""

import io
import time
from collections import Counter
from collections.abc import Sequence

import fastavro
from confluent_kafka import TopicPartition

from schemas.avro_schemas import parsed_schema
from schemas.topics import USER_EVENTS
from streams.kafka.cluster import Cluster
from streams.kafka.read import groupless_reader
from tests.bench.speed.stage import Stage

__all__ = ["count_events"]


def count_events(stage: Stage, records: Sequence[tuple[str, bytes]]) -> tuple[float, Counter[str]]:
    """Count events by user; gives events a second, and the counts."""
    schema = parsed_schema("UserEvent")
    counts: Counter[str] = Counter()
    topic = stage.at.prefix + USER_EVENTS.name
    reader = groupless_reader(Cluster(stage.at.bootstrap))
    reader.assign([TopicPartition(topic, number, 0) for number in range(stage.at.users)])
    try:
        with stage.filled(USER_EVENTS.name, records) as begin:
            began = time.perf_counter()
            begin()
            left = len(records)
            while left:
                for message in reader.consume(1000, 1.0):
                    stream = io.BytesIO(message.value())
                    stream.seek(5)
                    event = fastavro.schemaless_reader(stream, schema, None)
                    counts[event["user_id"]] += 1
                    left -= 1
        return len(records) / (time.perf_counter() - began), counts
    finally:
        reader.close()
