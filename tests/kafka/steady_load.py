"""Triggered sends at a steady rate: events as they are due, and the decisions that answer them."""

import gc
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import TopicPartition

from schemas.hashing import decision_id, partition_of
from schemas.records import Decision, UserEvent
from schemas.topics import SEND_DECISIONS, USER_EVENTS
from streams.core.encoding import release_label
from streams.core.profiles import event_key
from streams.kafka.read import bounds, groupless_reader
from tests.kafka.harness import Deployment, wait_until
from tests.kafka.turned_releases import Announcer

__all__ = ["TRIGGER", "Load"]

TRIGGER = "cart-abandoned"


class Load:
    """Events at a steady rate, and the decisions that answer them.

    Events come at their times whether or not earlier ones were answered: a stall is paid for by
    all that it keeps waiting.
    """

    def __init__(self, loop: Deployment, users: list[str], rate: float) -> None:
        self._loop, self._users, self._rate = loop, users, rate
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._reads = threading.Event()
        self.events: list[tuple[str, int, float]] = []  # user, event key, when it was due
        self.read: list[tuple[Decision, float]] = []
        self.labels: dict[str, float] = {}  # when a decision of the release was read last
        self.warm_at: dict[str, float] = {}  # when the learner had the policy of a release
        self.late_s = 0.0
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self._consume, self._produce)
        ]

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Produce and read; at the end wait for the last answers.

        Python's collector rests meanwhile: to look through all that was read stops the load for
        0.4 s after some minutes, and the worker would be given 400 events at once.
        """
        reader, producer = self._threads
        gc.collect()
        try:
            gc.disable()
            reader.start()
            assert self._reads.wait(30), "the reader does not begin"  # else it misses some
            producer.start()
            yield self
            self._stop.set()
            producer.join(30)
            deadline = time.monotonic() + 60
            while len(self.read) < len(self.events) and time.monotonic() < deadline:
                self.assert_sound()
                time.sleep(0.1)
        finally:
            self._stop.set()
            self._ended.set()
            gc.enable()
            for thread in (producer, reader):
                if thread.ident is not None:
                    thread.join(30)
        self.assert_sound()

    def assert_sound(self) -> None:
        """No thread has failed, and no worker ended."""
        if self._failures:
            raise self._failures[0]
        self._loop.assert_alive()

    def pause(self, seconds: float) -> None:
        """Let the load run for a while."""
        time.sleep(seconds)
        self.assert_sound()

    def warmed(self, announcer: Announcer) -> str:
        """Announce the next release, and wait until the learner has its policy; its label."""
        label = announcer.prepare()
        told = f'"release": "{label}", "event": "pair_ready"'
        wait_until(
            lambda: any(
                told in self._loop.log(worker).read_text() for worker in self._loop.workers
            ),
            300,
            f"{label} has its policy",
        )
        self.warm_at[label] = time.perf_counter()
        self.assert_sound()
        return label

    def wait_for(self, label: str, since_s: float, timeout_s: float) -> None:
        """Wait for a decision of a release."""
        wait_until(
            lambda: self.labels.get(label, 0.0) > since_s or bool(self._failures),
            timeout_s,
            f"{label} decides",
        )
        self.assert_sound()

    def _guard(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - raised where the load runs
            self._failures.append(error)

    def _produce(self) -> None:
        loop = self._loop
        producer = loop.producer(**{"linger.ms": 0, "acks": "all"})
        topic = loop.prefix + USER_EVENTS.name
        partitions = [partition_of(user, loop.users) for user in self._users]
        began = time.perf_counter()
        while not self._stop.is_set():
            rank = len(self.events)
            due = began + rank / self._rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            self.late_s = max(self.late_s, time.perf_counter() - due)
            place = rank % len(self._users)
            user = self._users[place]
            event = UserEvent(
                user_id=user,
                type=TRIGGER,
                occurred_at_ms=int(time.time() * 1000),
                event_id=f"cart-{rank}",
            )
            self.events.append((user, event_key(event), due))
            producer.produce(topic, loop.codec.encode("", event), user, partitions[place])
            producer.poll(0)
        assert producer.flush(30) == 0

    def _consume(self) -> None:
        loop = self._loop
        reader = groupless_reader(loop.bootstrap, {"fetch.wait.max.ms": 500})
        topic = loop.prefix + SEND_DECISIONS.name
        numbers = range(loop.users)
        ends = [bounds(reader, TopicPartition(topic, number))[1] for number in numbers]
        reader.assign([TopicPartition(topic, n, end) for n, end in zip(numbers, ends, strict=True)])
        self._reads.set()
        while not self._ended.is_set():
            message = reader.poll(0.2)
            if message is None or message.error():
                continue
            at = time.perf_counter()
            decision = loop.codec.decode(message.value(), Decision)
            self.read.append((decision, at))
            self.labels[release_label(decision.encoder_version) or ""] = at
        reader.close()

    def answers(self) -> dict[int, float]:
        """By rank of its event: when each decision was read; asserts that each came once."""
        asked: dict[str, dict[int, int]] = defaultdict(dict)
        for rank, (user, key, _) in enumerate(self.events):
            asked[user][key] = rank
        found: Counter[int] = Counter()
        at: dict[int, float] = {}
        for decision, when in self.read:
            rank = next(
                rank
                for key, rank in asked[decision.user_id].items()
                if decision_id("spring", decision.wave, decision.user_id, key)
                == decision.decision_id
            )
            found[rank] += 1
            at[rank] = when
        lost = set(range(len(self.events))) - set(found)
        assert not lost, f"of {len(self.events)} events have no decision: {sorted(lost)[:20]}"
        assert set(found.values()) == {1}, found.most_common(3)
        return at
