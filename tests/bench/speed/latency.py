"""How long an event waits for its answer: produced at a steady rate, timed until it can be read.

The clock is the company's own: the moment before its producer is handed the event, and the moment
at which a read-committed consumer hands out the answer. Events come at their times whether or not
earlier ones were answered, so that a stall is paid for by all that it keeps waiting.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.hashing import partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader

__all__ = ["Latencies", "measure", "peer"]

RATE = 200.0  # events per second
WAIT_S = 20.0  # for the last answer
POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Milliseconds from event to answer.

    Attributes
    ----------
    missing
        Events that were not answered.
    late_ms
        The worst delay of the company's own producer: what the machine added to the plan.
    """

    p50: float
    p99: float
    most: float
    missing: int
    late_ms: float


class Answers:
    """Notes when the answer for each user can be read."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._reader = groupless_reader(Cluster(bootstrap), {"fetch.wait.max.ms": 500})
        self._reader.assign(_ends(self._reader, topic))
        self.at: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            message = self._reader.poll(POLL_S)
            if message is not None and not message.error():
                self.at.setdefault(message.key().decode(), time.perf_counter())

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._reader.close()


def measure(
    bootstrap: str,
    source: str,
    answers: str,
    users: Sequence[str],
    make: Callable[[str], bytes],
    *,
    partitions: int | None,
) -> Latencies:
    """Produce one event for each user at the rate, and time the answers.

    Parameters
    ----------
    source, answers
        Full names of the topics.
    make
        The bytes of a user's event.
    partitions
        The source's, where murmur2 must say which one; None: the company's own partitioner.
    """
    told = Answers(bootstrap, answers)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "acks": "all"})
    time.sleep(1.0)  # the reader stands at the end
    asked: dict[str, float] = {}
    began, late = time.perf_counter(), 0.0
    for rank, user in enumerate(users):
        due = began + rank / RATE
        while (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        late = max(late, time.perf_counter() - due)
        value = make(user)
        where = {} if partitions is None else {"partition": partition_of(user, partitions)}
        asked[user] = due
        producer.produce(source, value, user, **where)
        producer.poll(0)
    producer.flush(10)
    deadline = time.monotonic() + WAIT_S
    while len(told.at) < len(users) and time.monotonic() < deadline:
        time.sleep(0.05)
    told.close()
    waited = np.array([told.at[user] - asked[user] for user in users if user in told.at]) * 1000
    p50, p99 = np.percentile(waited, [50, 99])
    return Latencies(
        p50=float(p50),
        p99=float(p99),
        most=float(waited.max()),
        missing=len(users) - len(waited),
        late_ms=late * 1000,
    )


@contextmanager
def peer(bootstrap: str, source: str, target: str, answer: bytes | None) -> Iterator[None]:
    """A bare loop of librdkafka: whatever has come is answered in one transaction.

    It decodes nothing, keeps no state and does not commit where it is: less cannot be done.
    Without an answer it sends on what came.
    """
    stop = threading.Event()
    ready = threading.Event()
    failed: list[BaseException] = []

    def loop() -> None:
        try:
            _answer_all(bootstrap, source, target, answer, ready, stop)
        except BaseException as error:  # noqa: BLE001 - raised where the peer ends
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    if failed:
        raise failed[0]


def _answer_all(
    bootstrap: str,
    source: str,
    target: str,
    answer: bytes | None,
    ready: threading.Event,
    stop: threading.Event,
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"peer-{source}",
            "linger.ms": 0,
        }
    )
    producer.init_transactions(30)
    reader: Consumer = groupless_reader(Cluster(bootstrap))
    reader.assign(_ends(reader, source))
    ready.set()
    while not stop.is_set():
        first = reader.poll(POLL_S)
        messages: list[Any] = [] if first is None else [first, *reader.consume(500, 0)]
        messages = [message for message in messages if not message.error()]
        if not messages:
            continue
        producer.begin_transaction()
        for message in messages:
            value = message.value() if answer is None else answer
            producer.produce(target, value, message.key(), partition=message.partition())
        producer.commit_transaction(30)
    reader.close()


def _ends(reader: Consumer, topic: str) -> list[TopicPartition]:
    numbers = reader.list_topics(topic, timeout=10).topics[topic].partitions
    return [
        TopicPartition(topic, number, bounds(reader, TopicPartition(topic, number))[1])
        for number in numbers
    ]
