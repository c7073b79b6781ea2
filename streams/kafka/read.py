"""Topics read from outside the group: to their end as of now, or on and on."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from schemas.errors import BrokerError, BusError, TopicError
from streams.kafka.cluster import Cluster
from streams.kafka.transaction import Incoming

__all__ = [
    "bounds",
    "follow",
    "groupless_reader",
    "incoming_of",
    "may_not_read",
    "no_right_to",
    "of_no_matter",
    "partitions_of",
    "read_all",
]

REQUEST_S = 10.0
POLL_S = 0.2
AT_ONCE = 500


def read_all(
    cluster: Cluster,
    topic: str,
    *,
    since: Mapping[int, int] | None = None,
    timeout_s: float = 30.0,
) -> Generator[Incoming, None, None]:
    """Every committed record that the topic has at the time of the call, and then stop.

    The end is the last stable offset: what open transactions hold back is not there yet. That
    the last thing in a partition is a transaction's marker, or an aborted record, is no matter.

    Parameters
    ----------
    cluster
        Where Kafka is.
    topic
        Full name.
    since
        By partition the first offset to read; of others all that is kept.
    timeout_s
        Without any progress for so long, reading fails.

    Raises
    ------
    TopicError
        There is no such topic.
    BrokerError
        No broker answers, or none goes on answering.
    """
    reader = _reader(cluster)
    try:
        left, starts = {}, {}
        for number in partitions_of(reader, topic):
            low, high = bounds(reader, TopicPartition(topic, number))
            first = (since or {}).get(number, low)
            if high > max(first, low):
                left[number] = high
                starts[number] = first if first > low else OFFSET_BEGINNING
        reader.assign([TopicPartition(topic, number, at) for number, at in starts.items()])
        deadline, reason = time.monotonic() + timeout_s, "no answer"
        while left:
            for message in _next(reader):
                error, number = message.error(), message.partition()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                    reason = _reason(error, topic)
                    continue
                deadline = time.monotonic() + timeout_s
                end = left.get(number)
                if end is None:
                    continue
                if error is None and message.offset() < end:
                    yield incoming_of(message)
                # At the end of a partition the error's offset is the next one that is fetched:
                # it comes after markers, which are no messages.
                if message.offset() + (error is None) >= end:
                    del left[number]
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"topic {topic} cannot be read to its end ({reason} for {timeout_s:g} s): "
                    "check that its brokers are up"
                )
    finally:
        reader.close()


def follow(
    cluster: Cluster, topics: Sequence[str], *, from_beginning: bool = False
) -> Generator[Incoming | None, None, None]:
    """Committed records of topics as they come, without end; None where none came for a while.

    Raises
    ------
    TopicError
        One of the topics is not there, or no more.
    BrokerError
        No broker answers at the start. Later ones that fail are waited for.
    """
    reader = _reader(cluster)
    start = OFFSET_BEGINNING if from_beginning else OFFSET_END
    try:
        found = []
        for topic in topics:
            for number in partitions_of(reader, topic):
                at = start if from_beginning else bounds(reader, TopicPartition(topic, number))[1]
                found.append(TopicPartition(topic, number, at))
        reader.assign(found)
        while True:
            messages = _next(reader)
            for message in messages:
                error = message.error()
                if error is None:
                    yield incoming_of(message)
                else:
                    _reason(error, message.topic())  # raises where waiting mends nothing
            if not messages:
                yield None
    finally:
        reader.close()


def _reader(cluster: Cluster) -> Consumer:
    return groupless_reader(
        cluster,
        {
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": 50,
            "fetch.message.max.bytes": 8 * 1024 * 1024,
            "log_level": 0,
        },
    )


def groupless_reader(cluster: Cluster, options: Mapping[str, object] | None = None) -> Consumer:
    """A consumer of committed records that is assigned its partitions and commits no offsets."""
    return Consumer(
        cluster.client(
            {
                "group.id": "none",  # librdkafka wants one; nothing is ever committed in it
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",  # what retention took away meanwhile is skipped
                "log_level": 2,
                **(options or {}),
            }
        )
    )


def of_no_matter(error: KafkaError | None) -> bool:
    """Whether there is an error that tells a groupless reader nothing.

    librdkafka looks for its group's coordinator all the same, and says so where this user has no
    right to that group.
    """
    return error is not None and bool(error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED)


def may_not_read(error: KafkaError, topic: str) -> BusError | None:
    """What is to be raised where a right is missing: waiting does not mend that."""
    if error.code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return None
    return no_right_to(topic)


def no_right_to(topics: str) -> BusError:
    """What is told of topics that this user may not read."""
    return BusError(f"topic {topics} may not be read: grant this user READ and DESCRIBE on it")


def _next(reader: Consumer) -> list[Message]:
    """What is there, or comes within a moment: `consume` would wait for as many as it may give."""
    first = reader.poll(POLL_S)
    found = [] if first is None else [first, *reader.consume(AT_ONCE, 0)]
    return [message for message in found if not of_no_matter(message.error())]


def partitions_of(reader: Consumer, topic: str) -> list[int]:
    """The partition numbers of a topic.

    Raises
    ------
    BusError
        If no broker tells, within some seconds.
    """
    found = _asked(lambda: reader.list_topics(topic, timeout=REQUEST_S).topics[topic], topic)
    if found.error is not None:
        raise BusError(f"topic {topic} cannot be read: {_reason(found.error, topic)}")
    return sorted(found.partitions)


def bounds(reader: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """First offset of a partition, and the one behind its last.

    Raises
    ------
    BusError
        If no broker tells, within some seconds.
    """
    low, high = _asked(
        lambda: reader.get_watermark_offsets(partition, timeout=REQUEST_S), partition.topic
    )
    return int(low), int(high)


def _asked(question: Callable[[], Any], topic: str) -> Any:
    """The answer, once there is one: a topic that was just made, or moves, has no leader yet."""
    deadline = time.monotonic() + REQUEST_S
    while True:
        try:
            return question()
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"topic {topic} cannot be looked up ({_reason(error.args[0], topic)} for "
                    f"{REQUEST_S:g} s): check that its brokers are up"
                ) from error
            time.sleep(0.05)


def _reason(error: KafkaError, topic: str) -> str:
    """What went wrong, where waiting may mend it."""
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):  # noqa: SLF001
        raise TopicError(f"topic {topic} does not exist: make it with `groundswell topics ensure`")
    if (refused := may_not_read(error, topic)) is not None:
        raise refused
    if error.fatal():
        raise BusError(f"topic {topic} cannot be read: {error.str()}")
    return str(error.str())


def incoming_of(message: Message) -> Incoming:
    """A record as workers have it."""
    return Incoming(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=[(name, value or b"") for name, value in message.headers() or ()],
    )
