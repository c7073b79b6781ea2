"""Triggered sends at a steady rate: events as they are due, and the decisions that answer them."""

import gc
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import TopicPartition

from schemas.hashing import decision_id
from schemas.records import Decision
from schemas.topics import SEND_DECISIONS, USER_EVENTS
from streams.core.encoding import release_label
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader
from tests.kafka.harness import Deployment, wait_until
from tests.kafka.steady_events import Event, Plan, SteadyEvents
from tests.kafka.turned_releases import Announcer

__all__ = ["Load"]


class Load:
    """Events at a steady rate, and the decisions that answer them.

    Events come at their times whether or not earlier ones were answered: a stall is paid for by
    all that it keeps waiting.
    """

    def __init__(self, loop: Deployment, users: list[str], rate: float) -> None:
        self._loop = loop
        self._ended = threading.Event()
        self._reads = threading.Event()
        self._source = SteadyEvents(
            Plan(
                bootstrap=loop.bootstrap,
                topic=loop.prefix + USER_EVENTS.name,
                partitions=loop.users,
                users=users,
                rate=rate,
            )
        )
        self.events: list[Event] = []  # known once the load has stopped
        self.read: list[tuple[Decision, float]] = []
        self.labels: dict[str, float] = {}  # when a decision of the release was read last
        self.warm_at: dict[str, float] = {}  # when the learner had the policy of a release
        self.late_s = 0.0
        self._failures: list[BaseException] = []
        self._reader = threading.Thread(target=self._guard, daemon=True)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Produce and read; at the end wait for the last answers.

        Python's collector rests meanwhile: to look through all that was read stops the reader for
        0.4 s after some minutes, and what is read then would look late.
        """
        gc.collect()
        try:
            gc.disable()
            self._reader.start()
            assert self._reads.wait(30), "the reader does not begin"  # else it misses some
            self._source.start()
            yield self
            self.assert_sound()
            self.events, self.late_s = self._source.stop()
            deadline = time.monotonic() + 60
            while len(self.read) < len(self.events) and time.monotonic() < deadline:
                self._assert_read()
                time.sleep(0.1)
        finally:
            self._source.end()
            self._ended.set()
            gc.enable()
            if self._reader.ident is not None:
                self._reader.join(30)
        self._assert_read()

    def assert_sound(self) -> None:
        """Events come, answers are read, and no worker ended."""
        self._source.assert_sound()
        self._assert_read()

    def _assert_read(self) -> None:
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

        def is_warm() -> bool:
            self.assert_sound()
            return any(told in self._loop.log(worker).read_text() for worker in self._loop.workers)

        wait_until(is_warm, 300, f"{label} has its policy")
        self.warm_at[label] = time.perf_counter()
        return label

    def wait_for(self, label: str, since_s: float, timeout_s: float) -> None:
        """Wait for a decision of a release."""

        def decides() -> bool:
            self.assert_sound()
            return self.labels.get(label, 0.0) > since_s

        wait_until(decides, timeout_s, f"{label} decides")

    def _guard(self) -> None:
        try:
            self._consume()
        except BaseException as error:  # noqa: BLE001 - raised where the load runs
            self._failures.append(error)

    def _consume(self) -> None:
        loop = self._loop
        reader = groupless_reader(Cluster(loop.bootstrap), {"fetch.wait.max.ms": 500})
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
