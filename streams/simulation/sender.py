"""The company's sender, as an outsider writes one: decisions come in, feedback goes back.

It reads `send-decisions` in a consumer group, committed records alone, and knows them by the Avro
contract. What people do with what they get is drawn from the company's truth; each click and
purchase goes to the company's own feedback topic when it happens, some of them twice and all of
them a little late, as it is with networks.
"""

import heapq
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.records import Reward
from streams.simulation.avro_contract import decode, encode
from streams.simulation.responses import Delays, disturb
from streams.simulation.world import Company

__all__ = ["DEMO_DELAYS", "Answers", "Sent", "run_sender"]

log = structlog.get_logger()

NO_SEND = "no-send"  # the word of the contract; an outsider has no constant for it
DEMO_DELAYS = Delays(click_median_s=0.4, click_sigma=0.3, purchase_median_s=0.6, purchase_sigma=0.3)
IDLE_S = 0.05


@dataclass(slots=True, kw_only=True)
class Sent:
    """What the sender knows to be true: how much it has sent, by wave.

    Attributes
    ----------
    notifications
        People that were sent something.
    feedback
        By wave and kind, each click or purchase once, however often it was posted.
    duplicates
        Posts of feedback that had been posted already.
    expired
        Decisions that came too late to be sent.
    redelivered
        Decisions that came again.
    """

    notifications: Counter[int] = field(default_factory=Counter)
    feedback: dict[int, Counter[str]] = field(default_factory=dict)
    duplicates: int = 0
    expired: int = 0
    redelivered: int = 0

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        told = {
            "notifications": dict(self.notifications),
            "feedback": {wave: dict(kinds) for wave, kinds in self.feedback.items()},
            "duplicates": self.duplicates,
            "expired": self.expired,
            "redelivered": self.redelivered,
        }
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps(told, indent=2) + "\n")
        fresh.replace(path)


@dataclass(slots=True)
class Batch:
    """Decisions that were read together; their offsets are committed when all is answered."""

    ends: Mapping[tuple[str, int], int]  # where each partition goes on
    left: int = 0


@dataclass(order=True, slots=True)
class Post:
    """Feedback that is to be posted at a time."""

    at_ms: int
    number: int
    reward: Reward = field(compare=False)
    batch: Batch = field(compare=False)


class Answers:
    """What people will do, and when it is to be posted.

    Parameters
    ----------
    duplicate_rate
        Share of the feedback that is posted twice.
    disorder_s
        Feedback is posted late by up to so many seconds, each by its own.
    """

    def __init__(
        self,
        company: Company,
        rng: np.random.Generator,
        *,
        delays: Delays = DEMO_DELAYS,
        duplicate_rate: float = 0.02,
        disorder_s: float = 0.2,
    ) -> None:
        self._company = company
        self._rng = rng
        self._delays = delays
        self._duplicate_rate = duplicate_rate
        self._disorder_s = disorder_s
        self._users = {str(user): row for row, user in enumerate(company.people.ids)}
        self._templates = {template.id: row for row, template in enumerate(company.templates)}
        self._waves: dict[str, int] = {}  # decisions that were sent
        self._posted: set[str] = set()
        self._posts: list[Post] = []
        self._batches: deque[Batch] = deque()
        self._numbers = 0
        self.sent = Sent()

    def take(
        self,
        decisions: Sequence[Mapping[str, Any]],
        ends: Mapping[tuple[str, int], int],
        now_ms: int,
    ) -> None:
        """Send what is to be sent of a batch, and find out what will come of it.

        Parameters
        ----------
        decisions
            Records of the contract.
        ends
            Where each partition of the topic goes on behind them.
        """
        batch = Batch(ends)
        self._batches.append(batch)
        fresh = [decision for decision in decisions if self._is_to_be_sent(decision, now_ms)]
        if not fresh:
            return
        responses = self._company.respond(
            [decision["decision_id"] for decision in fresh],
            np.array([self._users[decision["user_id"]] for decision in fresh]),
            np.array([self._templates[decision["action"]] for decision in fresh]),
            now_ms,
            self._delays,
        )
        for at_ms, reward in disturb(
            self._rng,
            responses.events(),
            duplicate_rate=self._duplicate_rate,
            disorder_s=self._disorder_s,
        ):
            self._numbers += 1
            batch.left += 1
            heapq.heappush(self._posts, Post(at_ms, self._numbers, reward, batch))

    def _is_to_be_sent(self, decision: Mapping[str, Any], now_ms: int) -> bool:
        if decision["action"] == NO_SEND:
            return False
        if decision["decision_id"] in self._waves:
            self.sent.redelivered += 1
            return False
        if now_ms > decision["expires_at_ms"]:
            self.sent.expired += 1
            return False
        self._waves[decision["decision_id"]] = decision["wave"]
        self.sent.notifications[decision["wave"]] += 1
        return True

    def due(self, now_ms: int) -> list[Post]:
        """Take what is to be posted by now."""
        posts = []
        while self._posts and self._posts[0].at_ms <= now_ms:
            posts.append(heapq.heappop(self._posts))
        return posts

    @property
    def next_ms(self) -> int | None:
        """When the next feedback is to be posted."""
        return self._posts[0].at_ms if self._posts else None

    def posted(self, post: Post) -> None:
        """Note that the bus has taken a post."""
        post.batch.left -= 1
        reward = post.reward
        assert reward.reward_id is not None
        assert reward.decision_id is not None
        if reward.reward_id in self._posted:
            self.sent.duplicates += 1
            return
        self._posted.add(reward.reward_id)
        wave = self._waves[reward.decision_id]
        self.sent.feedback.setdefault(wave, Counter())[reward.kind] += 1

    def answered(self) -> dict[tuple[str, int], int]:
        """Where each partition goes on behind the decisions that are answered in full."""
        ends: dict[tuple[str, int], int] = {}
        while self._batches and not self._batches[0].left:
            ends.update(self._batches.popleft().ends)
        return ends


def run_sender(
    answers: Answers,
    stop: threading.Event,
    *,
    bootstrap: str,
    group: str,
    decisions_topic: str,
    feedback_topic: str,
    truth: Path,
) -> None:
    """Send until asked to stop; what was sent is then in the file `truth`.

    Raises
    ------
    KafkaException
        If the bus refuses something: nothing is committed that was not answered.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "log_level": 2,
        }
    )
    # No partitioner is named: the default, CRC32 of the key, is not the one of the workers.
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 2})
    consumer.subscribe([decisions_topic])
    try:
        while not stop.is_set():
            _take_decisions(consumer, answers)
            _post_feedback(producer, feedback_topic, answers)
            _commit(consumer, answers)
        producer.flush(10)
        _commit(consumer, answers, asynchronous=False)
    finally:
        consumer.close()
        answers.sent.write(truth)
        log.info("sender_stopped", notifications=answers.sent.notifications.total())


def _take_decisions(consumer: Consumer, answers: Answers) -> None:
    next_ms = answers.next_ms
    wait_s = IDLE_S if next_ms is None else min(max(next_ms / 1000 - time.time(), 0.0), IDLE_S)
    decisions, ends = [], {}
    for message in consumer.consume(2000, wait_s):
        if message.error():
            raise KafkaException(message.error())
        decisions.append(decode("Decision", message.value()))
        ends[message.topic(), message.partition()] = message.offset() + 1
    if ends:
        answers.take(decisions, ends, int(time.time() * 1000))


def _post_feedback(producer: Producer, topic: str, answers: Answers) -> None:
    failures: list[KafkaError] = []

    def delivered(post: Post, error: KafkaError | None) -> None:
        if error is not None:
            failures.append(error)
        else:
            answers.posted(post)

    for post in answers.due(int(time.time() * 1000)):
        producer.produce(
            topic,
            key=post.reward.user_id,
            value=encode("Reward", asdict(post.reward)),
            on_delivery=lambda error, _message, post=post: delivered(post, error),
        )
    producer.poll(0)
    if failures:
        raise KafkaException(failures[0])


def _commit(consumer: Consumer, answers: Answers, *, asynchronous: bool = True) -> None:
    ends = answers.answered()
    if ends:
        consumer.commit(
            offsets=[TopicPartition(topic, number, end) for (topic, number), end in ends.items()],
            asynchronous=asynchronous,
        )
