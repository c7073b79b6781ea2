"""The load: events at a steady rate, and the truth about them."""

import random
import threading
import time
from collections import Counter

from confluent_kafka import Producer

from schemas.records import UserEvent
from streams.core.profiles import MOST_IDS
from tests.kafka.harness import EVENTS, Deployment

TICK, PADDING = "tick", "padding"
HOUR_MS = 3_600_000
IN_A_ROW = 3


class Feeder:
    """Sends events at a steady rate; knows how many each user has had.

    A profile keeps the ids of its newest events and leaves out what comes twice, so that an
    ordinary user would not show that a shard applied a batch twice. Some users are witnesses:
    their profiles are full of ids that are newer than their events, which come three in a row;
    each pushes the one before out again, and a batch that was applied twice counts twice.
    """

    def __init__(
        self,
        deployment: Deployment,
        users: list[str],
        rate: float,
        *,
        witnesses: int = 0,
        garbage: float = 0.0,
    ) -> None:
        self._deployment, self._users, self._rate = deployment, users, rate
        self._witnesses = frozenset(users[:witnesses])
        self._garbage_share = garbage
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._lock = threading.Lock()
        self._failures: list[str] = []
        self.truth: Counter[str] = Counter()  # ticks by user
        self.padding: Counter[str] = Counter()
        self.garbage: list[bytes] = []
        self.seconds = 0.0
        self._steady = 0

    def prepare(self) -> None:
        """Fill the witnesses' profiles with ids."""
        producer = self._producer()
        now_ms = int(time.time() * 1000)
        for user in sorted(self._witnesses):
            for number in range(MOST_IDS):
                self._produce(producer, user, PADDING, now_ms, f"{user}-padding-{number}")
                self.padding[user] += 1
        self._flush(producer)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the feeder cannot deliver"
        assert not self._failures, self._failures[:3]

    @property
    def rate(self) -> float:
        """Records a second that were really sent and confirmed, bursts left out."""
        return self._steady / max(self.seconds, 1e-9)

    @property
    def total(self) -> int:
        return sum(self.truth.values())

    def burst(self, n: int) -> None:
        """Send so many at once, besides the steady ones."""
        producer = self._producer()
        self._send(producer, n, random.Random(n))
        self._flush(producer)

    def event(self, user: str, name: str, attributes: dict[str, str]) -> bytes:
        """An event that is not among those counted, as it stands in a topic."""
        event = UserEvent(
            user_id=user,
            type="other",
            occurred_at_ms=int(time.time() * 1000),
            event_id=name,
            attributes=attributes,
        )
        return self._deployment.codec.encode("", event)

    def _producer(self) -> Producer:
        return self._deployment.producer(**{"enable.idempotence": True})

    def _run(self) -> None:
        try:
            producer, rng = self._producer(), random.Random(1)
            started = time.monotonic()
            while not self._stop.wait(0.05):
                due = int((time.monotonic() - started) * self._rate) - self._steady
                self._steady += self._send(producer, due, rng)
            self._flush(producer)
            self.seconds = time.monotonic() - started
        except Exception as error:  # noqa: BLE001 - raised where the feeder is stopped
            self._failures.append(repr(error))

    def _send(self, producer: Producer, n: int, rng: random.Random) -> int:
        now_ms = int(time.time() * 1000)
        sent = 0
        while sent < n:
            user = rng.choice(self._users)
            if rng.random() < self._garbage_share:
                with self._lock:
                    value = b"garbage %d" % len(self.garbage)
                    self.garbage.append(value)
                topic = self._deployment.prefix + EVENTS
                producer.produce(topic, key=user, value=value, on_delivery=self._delivered)
                sent += 1
                continue
            late_ms = HOUR_MS if user in self._witnesses else 0
            for _ in range(IN_A_ROW if late_ms else 1):
                with self._lock:
                    self.truth[user] += 1
                    number = self.truth[user]
                self._produce(producer, user, TICK, now_ms - late_ms, f"{user}-{number}")
                sent += 1
        return sent

    def _produce(self, producer: Producer, user: str, kind: str, at_ms: int, name: str) -> None:
        event = UserEvent(user_id=user, type=kind, occurred_at_ms=at_ms, event_id=name)
        producer.produce(
            self._deployment.prefix + EVENTS,
            key=user,
            value=self._deployment.codec.encode("", event),
            on_delivery=self._delivered,
        )
        producer.poll(0)

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(60)
        if left:
            self._failures.append(f"{left} events were not confirmed")

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failures.append(str(error))
