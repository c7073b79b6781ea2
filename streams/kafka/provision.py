"""Topics: made as the contract says, verified, and known by their ids."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import stamina
from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import BusError, SettingsError, TopicError
from schemas.topics import DEAD_LETTERS, TOPICS, Partitioning, Topic

__all__ = [
    "Shape",
    "TopicState",
    "describe_topics",
    "ensure_sources",
    "ensure_topics",
    "topic_config",
]

TIMEOUT_S = 30.0
ROOM_FOR_HEADERS = 64 * 1024
NO_ID = str(Uuid(0, 0))
HEADER_BYTES = 4096  # room for a batch's and a record's headers


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
        "max.message.bytes": str(topic.max_bytes + HEADER_BYTES),
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
            raise _refused(f"topic {name} cannot be described", error, "DESCRIBE") from error
        states[name] = TopicState(
            name=name, topic_id=str(found.topic_id), partitions=len(found.partitions), config={}
        )
    if not states:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in states]
    for resource, future in admin.describe_configs(resources, request_timeout=TIMEOUT_S).items():
        try:
            entries = future.result()
        except KafkaException as error:
            if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":  # deleted a moment ago
                del states[resource.name]
                continue
            what = f"the settings of topic {resource.name} cannot be read"
            raise _refused(what, error, "DESCRIBE_CONFIGS") from error
        config = {key: entry.value for key, entry in entries.items()}
        state = states[resource.name]
        states[resource.name] = TopicState(
            name=state.name, topic_id=state.topic_id, partitions=state.partitions, config=config
        )
    return states


def _refused(what: str, error: KafkaException, right: str) -> BusError:
    found: KafkaError = error.args[0]
    if found.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return BusError(f"{what}: grant this user {right} on it")
    return BusError(f"{what}: {found.str()}")


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
        limit than it must have: the message names both. Where the brokers know no topic ids.
    """
    names = [shape.prefix + topic.name for topic in TOPICS]
    states = describe_topics(admin, [*names, *shape.sources])
    _verify_ids(states.values())
    for source in shape.sources:
        if source not in states:
            raise TopicError(
                f"source topic {source} does not exist: it is the company's own; make it, or name "
                "others with GROUNDSWELL_EVENT_SOURCES and GROUNDSWELL_REWARD_SOURCES"
            )
        _verify_source(states[source])
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
        _create(admin, [_new_topic(topic, shape, sources) for topic in missing])
        states = _await_topics(admin, [*names, *shape.sources])
    return states


def ensure_sources(admin: AdminClient, shape: Shape, partitions: int) -> list[str]:
    """Make the company's own topics that are missing, for trying out.

    Those that are there stay as they are, whatever their partition counts.

    Returns
    -------
    list
        The names of those that were made.

    Raises
    ------
    SettingsError
        If a source has the name of a topic of ours.
    BusError
        If one cannot be made.
    """
    ours = {shape.prefix + topic.name for topic in TOPICS}
    if taken := sorted(ours & set(shape.sources)):
        raise SettingsError(
            f"source topic {taken[0]} has the name of a topic of Groundswell: name another one "
            "with GROUNDSWELL_EVENT_SOURCES or GROUNDSWELL_REWARD_SOURCES"
        )
    states = describe_topics(admin, shape.sources) if shape.sources else {}
    missing = [name for name in shape.sources if name not in states]
    if missing:
        config = {"min.insync.replicas": str(min(shape.min_insync, shape.replication))}
        new = [NewTopic(name, partitions, shape.replication, config=config) for name in missing]
        _create(admin, new)
        _await_topics(admin, missing)
    return missing


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


def _verify_ids(states: Iterable[TopicState]) -> None:
    """By its id a topic that was made again is told from the one before: KIP-516."""
    for state in states:
        if state.topic_id == NO_ID:
            raise TopicError(
                f"the brokers give topic {state.name} no id, by which records of two topics are "
                "told apart: Kafka 2.8 or later is needed, on all brokers"
            )


def _verify_source(state: TopicState) -> None:
    """Whatever stands in a source must fit into the dead letters."""
    limit = int(state.config.get("max.message.bytes", "0"))
    most = DEAD_LETTERS.max_bytes - ROOM_FOR_HEADERS
    if limit > most:
        raise TopicError(
            f"source topic {state.name} takes records of {limit} bytes, at most {most} fit into "
            "the dead letters: lower its max.message.bytes"
        )


def _verify(topic: Topic, state: TopicState, partitions: int) -> None:
    if state.partitions != partitions:
        raise TopicError(
            f"topic {state.name} has {state.partitions} partitions, but must have {partitions}: "
            + _count_cure(topic, state, partitions)
        )
    limit = int(state.config.get("max.message.bytes", "0"))
    least = topic.max_bytes + HEADER_BYTES
    if limit < least:
        raise TopicError(
            f"topic {state.name} takes records of at most {limit} bytes, but must take {least}: "
            "raise its max.message.bytes"
        )
    policy = state.config.get("cleanup.policy", "")
    if {part.strip() for part in policy.split(",")} != {_cleanup(topic)}:
        raise TopicError(
            f"topic {state.name} has cleanup.policy {policy}, but must have {_cleanup(topic)}: "
            "set that, or records would be lost or kept for ever"
        )
    # A worker trusts its own copy of the state for half as long as deletions can be seen.
    seen_ms = int(state.config.get("delete.retention.ms", topic.delete_retention_ms))
    if topic.compacted and seen_ms < topic.delete_retention_ms:
        raise TopicError(
            f"topic {state.name} has delete.retention.ms {seen_ms}, but must have at least "
            f"{topic.delete_retention_ms}: raise it, or what was deleted could come back"
        )


def _cleanup(topic: Topic) -> str:
    return "compact" if topic.compacted else "delete"


def _new_topic(topic: Topic, shape: Shape, source_partitions: int) -> NewTopic:
    return NewTopic(
        shape.prefix + topic.name,
        num_partitions=shape.partitions(topic, source_partitions),
        replication_factor=shape.replication,
        config=topic_config(topic, shape),
    )


def _count_cure(topic: Topic, state: TopicState, partitions: int) -> str:
    match topic.partitioning:
        case Partitioning.USERS:
            return f"set GROUNDSWELL_USER_PARTITIONS={state.partitions}, or make all topics anew"
        case Partitioning.CAMPAIGNS:
            return f"set GROUNDSWELL_CAMPAIGN_PARTITIONS={state.partitions}, or make all anew"
        case _ if state.partitions < partitions:
            return f"raise its partitions to {partitions}"
        case _:
            return "make it anew"


def _create(admin: AdminClient, topics: Sequence[NewTopic]) -> None:
    for name, future in admin.create_topics(topics, operation_timeout=TIMEOUT_S).items():
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
