"""Topics: made as the contract says, verified, and known by their ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import stamina
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import BusError, TopicError
from schemas.topics import TOPICS, Partitioning, Topic

__all__ = ["Shape", "TopicState", "describe_topics", "ensure_topics"]

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How topics are cut and copied in one deployment."""

    prefix: str
    users: int
    campaigns: int
    sources: Sequence[str]
    replication: int
    min_insync: int

    def partitions(self, topic: Topic, source_partitions: int) -> int:
        """The partition count that a topic must have."""
        match topic.partitioning:
            case Partitioning.USERS:
                return self.users
            case Partitioning.CAMPAIGNS:
                return self.campaigns
            case Partitioning.SOURCES:
                return source_partitions
            case Partitioning.ONE:
                return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """A topic as it is on the broker."""

    name: str
    topic_id: str
    partitions: int
    config: Mapping[str, str]


def topic_config(topic: Topic, shape: Shape) -> dict[str, str]:
    """The broker's configuration for a topic."""
    config = {
        "max.message.bytes": str(topic.max_bytes + 4096),  # room for batch and record headers
        "min.insync.replicas": str(min(shape.min_insync, shape.replication)),
    }
    if topic.compacted:
        config["cleanup.policy"] = "compact"
        config["delete.retention.ms"] = str(topic.delete_retention_ms)
    else:
        config["cleanup.policy"] = "delete"
        config["retention.ms"] = str(topic.retention_ms)
    return config


def describe_topics(admin: AdminClient, names: Sequence[str]) -> dict[str, TopicState]:
    """The topics that there are, by name."""
    states: dict[str, TopicState] = {}
    try:
        futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
    except KafkaException as error:
        raise BusError(f"topics cannot be described: {error.args[0].str()}") from error
    for name, future in futures.items():
        try:
            found = future.result()
        except KafkaException as error:
            if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
                continue
            raise BusError(f"topic {name} cannot be described: {error.args[0].str()}") from error
        states[name] = TopicState(
            name=name, topic_id=str(found.topic_id), partitions=len(found.partitions), config={}
        )
    if not states:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in states]
    for resource, future in admin.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        config = {key: entry.value for key, entry in future.result().items()}
        state = states[resource.name]
        states[resource.name] = TopicState(
            name=state.name, topic_id=state.topic_id, partitions=state.partitions, config=config
        )
    return states


def ensure_topics(
    admin: AdminClient, shape: Shape, *, create: bool = True
) -> dict[str, TopicState]:
    """Make the topics that are missing, verify the others.

    Returns
    -------
    dict
        Every topic's state by full name, the company's own sources included.

    Raises
    ------
    TopicError
        Where a topic is missing and may not be made, or has another partition count or size
        limit than it must have: the message names both.
    """
    names = [shape.prefix + topic.name for topic in TOPICS]
    states = describe_topics(admin, [*names, *shape.sources])
    for source in shape.sources:
        if source not in states:
            raise TopicError(
                f"source topic {source} does not exist: it is the company's own; make it, or name "
                "others with GROUNDSWELL_EVENT_SOURCES and GROUNDSWELL_REWARD_SOURCES"
            )
    sources = max((states[name].partitions for name in shape.sources), default=1)
    missing = [topic for topic in TOPICS if shape.prefix + topic.name not in states]
    if missing and not create:
        listed = ", ".join(shape.prefix + topic.name for topic in missing)
        raise TopicError(f"topics are missing: {listed}. Run: groundswell topics ensure")
    for topic in TOPICS:
        state = states.get(shape.prefix + topic.name)
        if state is not None:
            _verify(topic, state, shape.partitions(topic, sources))
    if missing:
        _create(admin, missing, shape, sources)
        states = _await_topics(admin, [*names, *shape.sources])
    return states


def _await_topics(admin: AdminClient, names: Sequence[str]) -> dict[str, TopicState]:
    """Describe topics that were just made: not every broker knows them at once."""
    for attempt in stamina.retry_context(on=TopicError, timeout=TIMEOUT_S, wait_max=1.0):
        with attempt:
            states = describe_topics(admin, names)
            unseen = sorted(set(names) - set(states))
            if unseen:
                raise TopicError(f"topics were made but are not to be seen: {', '.join(unseen)}")
            return states
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _verify(topic: Topic, state: TopicState, partitions: int) -> None:
    if state.partitions != partitions:
        raise TopicError(
            f"topic {state.name} has {state.partitions} partitions, but must have {partitions}: "
            f"set GROUNDSWELL_{topic.partitioning.upper().removesuffix('S')}_PARTITIONS to "
            f"{state.partitions}, or make the topic anew"
        )
    limit = int(state.config.get("max.message.bytes", "0"))
    if limit < topic.max_bytes + 4096:
        raise TopicError(
            f"topic {state.name} takes records of at most {limit} bytes, but must take "
            f"{topic.max_bytes + 4096}: raise its max.message.bytes"
        )
    policy = state.config.get("cleanup.policy", "")
    if topic.compacted != ("compact" in policy):
        raise TopicError(
            f"topic {state.name} has cleanup.policy {policy}, but must have "
            f"{'compact' if topic.compacted else 'delete'}: records would be lost or kept for ever"
        )


def _create(
    admin: AdminClient, topics: Sequence[Topic], shape: Shape, source_partitions: int
) -> None:
    new = [
        NewTopic(
            shape.prefix + topic.name,
            num_partitions=shape.partitions(topic, source_partitions),
            replication_factor=shape.replication,
            config=topic_config(topic, shape),
        )
        for topic in topics
    ]
    for name, future in admin.create_topics(new, operation_timeout=TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                continue
            cure = (
                " (set GROUNDSWELL_REPLICATION to the number of brokers)"
                if error.args[0].name() == "INVALID_REPLICATION_FACTOR"
                else ""
            )
            raise BusError(f"topic {name} cannot be made: {error.args[0].str()}{cure}") from error
