"""A deployment of its own on a real Kafka: workers as processes, a sender that knows the truth."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.hashing import share_of
from schemas.ids import NO_SEND
from schemas.records import Decision, Reward, UserEvent
from schemas.topics import (
    CAMPAIGNS,
    POLICY_SNAPSHOTS,
    SEND_DECISIONS,
    SHARD_CHANGELOG,
    TOPICS,
    WAVE_REPORTS,
    Topic,
)
from schemas.wire import Codec
from streams.kafka.origin import unrepeated
from streams.kafka.provision import Shape, describe_topics, ensure_topics
from streams.kafka.read import incoming_of
from streams.kafka.transaction import Incoming

EVENTS, FEEDBACK = "company-events", "company-feedback"
WINDOW_MS = 1500


@dataclass
class Deployment:
    """Topics under a prefix, and workers with directories of their own."""

    bootstrap: str
    admin: Any
    prefix: str
    directory: Path
    users: int = 4
    campaigns: int = 2
    source_partitions: int = 3
    replication: int = 1
    min_insync: int = 1
    static: bool = False  # workers keep their names in the group
    settings: dict[str, str] = field(default_factory=dict)
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    codec: Codec = field(default_factory=Codec)

    def make_topics(self) -> None:
        sources = [self.prefix + EVENTS, self.prefix + FEEDBACK]
        new = [NewTopic(name, self.source_partitions, self.replication) for name in sources]
        for made in self.admin.create_topics(new).values():
            made.result()
        wait_until(lambda: len(describe_topics(self.admin, sources)) == 2, 10, "topics are there")
        ensure_topics(
            self.admin,
            Shape(
                prefix=self.prefix,
                users=self.users,
                campaigns=self.campaigns,
                sources=sources,
                replication=self.replication,
                min_insync=self.min_insync,
            ),
        )

    def env(self, worker: int) -> dict[str, str]:
        return {
            **os.environ,
            "GROUNDSWELL_BOOTSTRAP": self.bootstrap,
            "GROUNDSWELL_TOPIC_PREFIX": self.prefix,
            "GROUNDSWELL_USER_PARTITIONS": str(self.users),
            "GROUNDSWELL_CAMPAIGN_PARTITIONS": str(self.campaigns),
            "GROUNDSWELL_DATA_DIR": str(self.directory / f"worker-{worker}"),
            "GROUNDSWELL_SESSION_TIMEOUT_S": "6",
            "OPENBLAS_NUM_THREADS": "1",
            **({"GROUNDSWELL_INSTANCE": f"worker-{worker}"} if self.static else {}),
            **self.settings,
        }

    # ---- workers

    def start(self, worker: int) -> subprocess.Popen[bytes]:
        with self.log(worker).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streams", "worker"],
                env=self.env(worker),
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        self.workers[worker] = process
        return process

    def log(self, worker: int) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"worker-{worker}.log"

    def count(self, worker: int, event: str) -> int:
        """How often a worker has logged an event."""
        return self.log(worker).read_text().count(f'"event": "{event}"')

    def wait_open(self, worker: int, times: int = 1, timeout_s: float = 180) -> None:
        """Wait until a worker has opened its shards (so often)."""
        wait_until(
            lambda: (
                self.count(worker, "shards_opened") >= times
                or self.workers[worker].poll() is not None
            ),
            timeout_s,
            f"worker {worker} opens its shards",
        )
        assert self.workers[worker].poll() is None, self.log(worker).read_text()[-3000:]

    def kill(self, worker: int) -> None:
        self.workers[worker].send_signal(signal.SIGKILL)
        self.workers[worker].wait(10)

    def terminate(self, worker: int, timeout_s: float = 30) -> int:
        process = self.workers.pop(worker)
        process.terminate()
        return process.wait(timeout_s)

    def stop(self) -> None:
        for process in self.workers.values():
            process.kill()
        for process in self.workers.values():
            process.wait(10)
        self.workers.clear()

    def assert_alive(self) -> None:
        """No worker has ended that was not asked to."""
        for worker, process in self.workers.items():
            code = process.poll()
            assert code is None, f"worker {worker} ended with {code}: {self.tail(worker)}"

    def tail(self, worker: int) -> str:
        return self.log(worker).read_text()[-3000:]

    # ---- records

    def producer(self, **options: Any) -> Producer:
        """Partitions as librdkafka does unless told otherwise: by CRC32."""
        return Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, **options})

    def _consumer(self, group: str, **options: Any) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **options,
            }
        )

    def read(self, topic: Topic | str, isolation: str = "read_committed") -> list[Any]:
        """All records of a topic as they are now, as Kafka messages."""
        name = self.prefix + (topic if isinstance(topic, str) else topic.name)
        reader = self._consumer(
            "reader", **{"isolation.level": isolation, "enable.partition.eof": True}
        )
        try:
            numbers = reader.list_topics(name, timeout=30).topics[name].partitions
            reader.assign([TopicPartition(name, number, 0) for number in numbers])
            messages, ended = [], 0
            while ended < len(numbers):
                for message in reader.consume(10_000, 0.2):
                    error = message.error()
                    if error is not None:  # any other than the end mends itself
                        ended += error.code() == KafkaError._PARTITION_EOF
                    else:
                        messages.append(message)
            return messages
        finally:
            reader.close()

    def read_once(self, topic: Topic) -> list[Incoming]:
        """All records of a topic, less those that ingest sent on again."""
        return list(unrepeated(map(incoming_of, self.read(topic))))

    def records(self, topic: Topic, isolation: str = "read_committed") -> list[Any]:
        assert topic.record is not None
        return [
            self.codec.decode(message.value(), topic.record)
            for message in self.read(topic, isolation)
            if message.value() is not None
        ]

    def decisions(self) -> list[Decision]:
        return self.records(SEND_DECISIONS)

    def reports(self) -> dict[int, Any]:
        """The newest report by wave."""
        return {report.wave: report for report in self.records(WAVE_REPORTS)}

    def snapshot(self, campaign: str = "spring") -> Any:
        """The newest snapshot of a campaign."""
        newest = [
            s
            for s in self.records(POLICY_SNAPSHOTS)
            if s.wave is None and s.campaign_id == campaign
        ]
        return newest[-1] if newest else None

    def settled_snapshot(self, sender: "Sender") -> Any:
        """The newest snapshot, once it has (at least) all that was sent.

        On a busy machine feedback may come after its window was closed: it is then a correction,
        and what comes after the last wave is learned within a minute.
        """

        def has_all() -> bool:
            learned = self.snapshot().feedback
            return all(learned.get(k, 0) >= sender.total(k) for k in ("click", "purchase"))

        wait_until(has_all, 120, "the newest snapshot has all feedback")
        return self.snapshot()

    def state(self, topic: Topic = SHARD_CHANGELOG) -> dict[tuple[int, bytes], bytes]:
        """The state of all shards by its changelog, markers and offsets left out."""
        state: dict[tuple[int, bytes], bytes] = {}
        for message in self.read(topic):
            key = (message.partition(), message.key())
            if message.value() is None:
                state.pop(key, None)
            elif not message.key().startswith(b"!"):
                state[key] = message.value()
        return state

    def import_people(self, users: Sequence[str]) -> None:
        producer = self.producer()
        now_ms = int(time.time() * 1000)
        for rank, user in enumerate(users):
            event = UserEvent(
                user_id=user,
                type="profile",
                occurred_at_ms=now_ms,
                event_id=f"import-{user}",
                attributes={"age": 20 + rank % 50, "plan": ("free", "plus")[rank % 2]},
                contacts={"email": f"{user}@example.com"},
            )
            producer.produce(self.prefix + EVENTS, key=user, value=self.codec.encode("", event))
            producer.poll(0)
        producer.flush()

    def profiles(self) -> dict[tuple[int, bytes], bytes]:
        """Profiles by shard and key, by the changelog."""
        return {key: value for key, value in self.state().items() if key[1].startswith(b"p")}

    def wait_profiles(self, number: int, timeout_s: float = 120) -> None:
        """Wait until just so many users have a profile: a wave asks those alone that are there."""
        wait_until(lambda: len(self.profiles()) == number, timeout_s, f"{number} profiles")

    def apply(self, campaign: Campaign) -> None:
        producer = self.producer(partitioner="murmur2_random")
        producer.produce(
            self.prefix + CAMPAIGNS.name,
            key=campaign.campaign_id,
            value=self.codec.encode("", campaign),
        )
        producer.flush()

    def topics(self) -> list[str]:
        return [self.prefix + topic.name for topic in TOPICS]


def campaign(**changes: Any) -> Campaign:
    """A small campaign with short windows."""
    given: dict[str, Any] = {
        "campaign_id": "spring",
        "version": 1,
        "status": "active",
        "templates": [
            Template(id="hello", channel="email", features={"warm": 1.0}),
            Template(id="offer", channel="email", features={"warm": 0.0, "price": 0.5}),
            Template(id="news", channel="email", features={"warm": 0.5, "price": -0.5}),
        ],
        "waves": 2,
        "wave_deadline_ms": 120_000,
        "policy": "linear-thompson",
        "context": [
            ContextFeature(attribute="age", center=45, scale=15),
            ContextFeature(attribute="plan", one_of=["free", "plus"]),
        ],
        "expires_after_ms": 60_000,
        "attribution_window_ms": WINDOW_MS,
        "allowed_lateness_ms": 1000,
        "correction_horizon_ms": 600_000,
        "reward_weights": {"click": 1.0, "purchase": 2.0},
        "changed_at_ms": 1,
        "holdout": 0.05,
        "baseline_action": "hello",
        "baseline_share": 0.1,
    }
    return Campaign(**{**given, **changes})


class Sender:
    """Reads decisions as they are committed and answers them; knows what it has answered.

    Every feedback is sent twice, in an order of its own, with librdkafka's default partitioner.
    """

    def __init__(self, deployment: Deployment, click: float = 0.3, purchase: float = 0.1) -> None:
        self._deployment = deployment
        self._click, self._purchase = click, purchase
        self._stop = threading.Event()
        self.seen: Counter[str] = Counter()
        self.sent: dict[int, Counter[str]] = defaultdict(Counter)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        if self.failure is not None:
            raise self.failure

    def total(self, kind: str) -> int:
        return sum(kinds[kind] for kinds in self.sent.values())

    def _run(self) -> None:
        try:
            self._answer_all()
        except BaseException as error:  # noqa: BLE001 - raised where the sender ends
            self.failure = error

    def _answer_all(self) -> None:
        deployment = self._deployment
        reader = deployment._consumer("sender", **{"isolation.level": "read_committed"})
        topic = deployment.prefix + SEND_DECISIONS.name
        reader.assign([TopicPartition(topic, number, 0) for number in range(deployment.users)])
        producer = deployment.producer(**{"enable.idempotence": True})
        while not self._stop.is_set():
            batch: list[Reward] = []
            for message in reader.consume(500, 0.1):
                if not message.error():
                    batch += self._answer(deployment.codec.decode(message.value(), Decision))
            for reward in [*batch[::-1], *batch]:
                producer.produce(
                    deployment.prefix + FEEDBACK,
                    key=reward.user_id,
                    value=deployment.codec.encode("", reward),
                )
            producer.flush()
        reader.close()

    def _answer(self, decision: Decision) -> list[Reward]:
        self.seen[decision.decision_id] += 1
        if decision.action == NO_SEND or self.seen[decision.decision_id] > 1:
            return []
        kinds = []
        if share_of("click", decision.decision_id) < self._click:
            kinds.append("click")
        if share_of("purchase", decision.decision_id) < self._purchase:
            kinds.append("purchase")
        self.sent[decision.wave].update(kinds)
        return [
            Reward(
                user_id=decision.user_id,
                kind=kind,
                occurred_at_ms=decision.decided_at_ms + 100,
                reward_id=f"{decision.decision_id}:{kind}",
                decision_id=decision.decision_id,
            )
            for kind in kinds
        ]


def wait_until(condition: Any, timeout_s: float, what: str) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def deployment(kafka: Any, namespace: str, directory: Path, **options: Any) -> Iterator[Deployment]:
    made = Deployment(
        bootstrap=kafka.bootstrap,
        admin=kafka.admin,
        prefix=namespace,
        directory=directory,
        **options,
    )
    made.make_topics()
    try:
        yield made
    finally:
        made.stop()
