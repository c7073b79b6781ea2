"""Topics and workers of a replay's own, on any Kafka."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import TopicError
from schemas.topics import TOPICS
from streams.kafka.cluster import Cluster
from streams.kafka.provision import Shape, describe_topics, ensure_sources, ensure_topics

__all__ = ["Deployment"]

APP = "groundswell"
SOURCES = ("company-events", "company-feedback")  # a worker has them; a replay leaves them empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where a log is replayed: topics of its own on a Kafka.

    Attributes
    ----------
    users, campaigns
        Partitions; the same log on equal counts gives equal snapshots.
    """

    cluster: Cluster
    prefix: str
    users: int = 4
    campaigns: int = 1
    replication: int = 1
    min_insync: int = 1

    @property
    def shape(self) -> Shape:
        """How its topics are cut and copied."""
        return Shape(
            prefix=self.prefix,
            users=self.users,
            campaigns=self.campaigns,
            sources=[self.prefix + name for name in SOURCES],
            replication=self.replication,
            min_insync=self.min_insync,
        )

    @property
    def admin(self) -> AdminClient:
        """A client that makes and deletes topics."""
        return AdminClient(self.cluster.client({"log_level": 2}))

    def worker_env(self, directory: Path) -> dict[str, str]:
        """The variables of a worker of this deployment."""
        return {
            **self.cluster.environment(),
            "GROUNDSWELL_TOPIC_PREFIX": self.prefix,
            "GROUNDSWELL_APP": APP,
            "GROUNDSWELL_USER_PARTITIONS": str(self.users),
            "GROUNDSWELL_CAMPAIGN_PARTITIONS": str(self.campaigns),
            "GROUNDSWELL_EVENT_SOURCES": SOURCES[0],
            "GROUNDSWELL_REWARD_SOURCES": SOURCES[1],
            "GROUNDSWELL_DATA_DIR": str(directory),
            "GROUNDSWELL_INSTANCE": "",
            "GROUNDSWELL_HEALTH_PORT": "0",
            "GROUNDSWELL_CLOCK": "event",
            "OPENBLAS_NUM_THREADS": "1",  # sums in one order
        }

    def make(self) -> None:
        """Make the topics.

        Raises
        ------
        TopicError
            If there are topics with the prefix already.
        """
        admin = self.admin
        names = [self.prefix + topic.name for topic in TOPICS]
        if describe_topics(admin, names):
            raise TopicError(
                f"there are topics {self.prefix}* already, of a replay that was kept, broken off "
                "or still runs: delete them with --replace, or give another --prefix"
            )
        ensure_sources(admin, self.shape, 1)
        ensure_topics(admin, self.shape)

    def remove(self) -> None:
        """Delete the topics and the consumer group, as far as they are there.

        Raises
        ------
        TopicError
            If this user may not.
        """
        admin = self.admin
        names = [self.prefix + topic.name for topic in TOPICS]
        there = describe_topics(admin, [*names, *self.shape.sources])
        if there:
            for deleted in admin.delete_topics(list(there), operation_timeout=30).values():
                try:
                    deleted.result()
                except KafkaException as error:
                    if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                        raise TopicError(
                            f"topics {self.prefix}* may not be deleted: grant this user DELETE on "
                            "them, or delete them yourself"
                        ) from error
        for deleted in admin.delete_consumer_groups([self.prefix + APP]).values():
            with suppress(KafkaException):
                deleted.result()
