"""The company's event source: everyone is imported once, then the app tells what people do."""

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import structlog
from confluent_kafka import Producer

from schemas.records import UserEvent
from streams.simulation.avro_contract import encode
from streams.simulation.people import People

__all__ = ["app_events", "people_events", "run_source"]

log = structlog.get_logger()

KINDS = ("app_open", "viewed")
DUPLICATE_RATE = 0.02
LATE_S = 0.3


def people_events(rng: np.random.Generator, people: People, now_ms: int) -> Iterator[UserEvent]:
    """Give what the company knows of everyone, in no order, some of it twice."""
    order = rng.permutation(len(people))
    again = order[rng.random(len(people)) < DUPLICATE_RATE]
    for index in (*order.tolist(), *again.tolist()):
        user = str(people.ids[index])
        yield UserEvent(
            event_id=f"import-{user}",
            user_id=user,
            type="imported",
            occurred_at_ms=now_ms,
            attributes=dict(people.attributes(index)),
            contacts=dict(people.contacts(index)),
        )


def app_events(
    rng: np.random.Generator, people: People, from_ms: int, until_ms: int, per_s: float
) -> list[UserEvent]:
    """Give what is posted in a span of time: each event a little after it happened, some twice."""
    count = int(rng.poisson(per_s * (until_ms - from_ms) / 1000))
    posted_ms = np.sort(rng.integers(from_ms, until_ms, count)) if count else np.zeros(0, np.int64)
    late_ms = (rng.random(count) * LATE_S * 1000).astype(np.int64)
    events = [
        UserEvent(
            event_id=f"app-{user}-{at}-{number}",
            user_id=str(people.ids[user]),
            type=KINDS[kind],
            occurred_at_ms=int(at),
        )
        for number, (user, kind, at) in enumerate(
            zip(
                rng.integers(0, len(people), count).tolist(),
                rng.integers(0, len(KINDS), count).tolist(),
                (posted_ms - late_ms).tolist(),
                strict=True,
            )
        )
    ]
    again = [event for event in events if rng.random() < DUPLICATE_RATE]
    return events + again


def run_source(
    people: People,
    seed: int,
    stop: threading.Event,
    *,
    bootstrap: str,
    topic: str,
    events_per_s: float,
) -> None:
    """Import everyone, then post app events at a steady rate until asked to stop."""
    rng = np.random.default_rng((seed, 3))  # another stream than the company's and the waves'
    # No partitioner is named: the default, CRC32 of the key, is not the one of the workers.
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 2,
        }
    )
    started = time.monotonic()
    for event in people_events(rng, people, int(time.time() * 1000)):
        if stop.is_set():
            return
        _post(producer, topic, event)
    producer.flush(60)
    log.info("people_imported", people=len(people), seconds=round(time.monotonic() - started, 2))
    from_ms = int(time.time() * 1000)
    while not stop.wait(0.1):
        until_ms = int(time.time() * 1000)
        for event in app_events(rng, people, from_ms, until_ms, events_per_s):
            _post(producer, topic, event)
        producer.poll(0)
        from_ms = until_ms
    producer.flush(10)


def _post(producer: Producer, topic: str, event: UserEvent) -> None:
    producer.produce(topic, key=event.user_id, value=encode("UserEvent", asdict(event)))
