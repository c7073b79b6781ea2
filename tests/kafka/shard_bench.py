"""One shard on a real Kafka, without a worker around it."""

from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from schemas.topics import DEAD_LETTERS, SHARD_CHANGELOG, USER_EVENTS
from schemas.wire import Codec
from streams.kafka.cluster import Cluster
from streams.kafka.provision import describe_topics
from streams.kafka.read import bounds, groupless_reader, read_all
from streams.kafka.shard import Shard, ShardConfig, ShardKind
from streams.kafka.store import StoreOptions
from streams.kafka.turn import Turn
from tests.kafka.harness import wait_until


class Bench:
    """Topics for one shard, and records to apply."""

    def __init__(self, kafka, prefix: str, directory: Path, turn: Turn | None = None) -> None:
        self.kafka, self.prefix, self.directory = kafka, prefix, directory
        self.turn = turn or Turn()
        self.input = prefix + USER_EVENTS.name
        self.kind = ShardKind(
            name="users",
            inputs=(self.input,),
            timed=(self.input,),
            changelog=SHARD_CHANGELOG,
            takes_turns=True,
        )
        self.make(USER_EVENTS.name, {})
        self.make(SHARD_CHANGELOG.name, {"cleanup.policy": "compact"})
        self.make(DEAD_LETTERS.name, {})

    def make(self, name: str, config: dict[str, str]) -> None:
        new = NewTopic(self.prefix + name, 1, 1, config=config)
        self.kafka.admin.create_topics([new])[self.prefix + name].result()
        wait_until(lambda: self.ids([self.prefix + name]), 10, "the topic is there")

    def ids(self, names: Sequence[str]) -> dict[str, str]:
        return {n: s.topic_id for n, s in describe_topics(self.kafka.admin, names).items()}

    def open(self, directory: str = "a") -> Shard:
        config = ShardConfig(
            cluster=Cluster(self.kafka.bootstrap),
            app=self.prefix + "app",
            prefix=self.prefix,
            directory=self.directory / directory,
            transaction_timeout_s=10,
            codec=Codec(),
            store_options=StoreOptions(64),
            topic_ids=self.ids([*self.kind.inputs, self.prefix + self.kind.changelog.name]),
            turn=self.turn,
        )
        return Shard(self.kind, 0, config)

    # ---- the changelog, without a shard

    @property
    def changelog(self) -> str:
        return self.prefix + SHARD_CHANGELOG.name

    def producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.kafka.bootstrap,
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
            }
        )

    def end(self, topic: str) -> int:
        """The offset behind the last record of a topic of one partition."""
        reader = groupless_reader(Cluster(self.kafka.bootstrap))
        try:
            return bounds(reader, TopicPartition(topic, 0))[1]
        finally:
            reader.close()

    def count(self, topic: str) -> int:
        """How many records a topic holds."""
        return sum(1 for _ in read_all(Cluster(self.kafka.bootstrap), topic))
