"""One record written from outside the workers, if nobody else has changed what it rests on."""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from schemas.errors import BusError
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader, read_all
from streams.kafka.refusals import ABORT_S, FOR_GOOD, kafka_error, transaction_error

__all__ = ["write_next"]

DELIVERY_S = 30.0
OPEN_S = 10.0  # whoever stops in between holds up readers for so long
PAUSE_MS = 200
FENCED = (
    KafkaError._FENCED,  # noqa: SLF001 - confluent-kafka's public names start so
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
)

Check = Callable[[Sequence[bytes | None]], None]


def write_next(
    cluster: Cluster, topic: str, key: bytes, value: bytes, most_bytes: int, check: Check
) -> None:
    """Write the next record under a key, so that no two writers take each other's place.

    Readers of a compacted topic believe the last record under a key. So one that comes too late
    must never be there: it is written in a transaction, all before it is read, and it is committed
    only if that allows it. A writer of the same key who comes in between fences this one, which
    then looks again.

    Parameters
    ----------
    topic
        Full name.
    most_bytes
        The topic's size limit.
    check
        Is given the values under the key, the oldest first, None for a deletion; raises where the
        record must not follow them.

    Raises
    ------
    BusError
        If it is not confirmed in half a minute.
    """
    deadline = time.monotonic() + DELIVERY_S
    while True:
        try:
            _attempt(cluster, topic, key, value, most_bytes, check)
        except (KafkaException, SystemError) as error:
            failure = kafka_error(error)
            if failure is None:
                raise
            if failure.code() not in FENCED or time.monotonic() > deadline:
                cure = FOR_GOOD.get(failure.code())
                reason = failure.str() if cure is None else f"{failure.str()}: {cure}"
                raise _undelivered(topic, reason) from error
            time.sleep(secrets.randbelow(PAUSE_MS) / 1000)  # two who fence each other part ways
        else:
            return


def _attempt(
    cluster: Cluster, topic: str, key: bytes, value: bytes, most_bytes: int, check: Check
) -> None:
    producer = Producer(
        cluster.client(
            {
                "transactional.id": f"{topic}/{key.decode('utf-8', 'replace')}",
                "transaction.timeout.ms": int(OPEN_S * 1000),
                "partitioner": "murmur2_random",
                "message.max.bytes": most_bytes + 4096,
                "log_level": 0,
            }
        )
    )
    producer.init_transactions(DELIVERY_S)
    producer.begin_transaction()
    try:
        mine = _produced(producer, topic, key, value)
        before = _values_before(cluster, mine)
        # A commit that was fenced may have come through all the same.
        done = value in before
        if not done:
            check(before)
            _commit(producer)
            # It is committed before its partition has the marker that lets readers see it: who
            # wrote it would not find it.
            with contextlib.suppress(BusError):  # it is there, whoever may be away by now
                _readable(cluster, mine, mine.offset() + 1)
    except BaseException:
        _abort(producer)
        raise
    if done:
        _abort(producer)


def _produced(producer: Producer, topic: str, key: bytes, value: bytes) -> Message:
    """The record with its place, which is no reader's yet."""
    delivered: list[tuple[KafkaError | None, Message]] = []
    producer.produce(topic, value, key, on_delivery=lambda *answer: delivered.append(answer))
    try:
        producer.flush(OPEN_S)
    except (KafkaException, SystemError) as error:
        told = transaction_error(producer) or kafka_error(error)
        if told is None:
            raise
        raise KafkaException(told) from error
    if not delivered:
        raise _undelivered(topic, f"no confirmation in {OPEN_S:g} s")
    failure, message = delivered[0]
    if failure is not None:
        raise KafkaException(transaction_error(producer) or failure)
    return message


def _values_before(cluster: Cluster, mine: Message) -> list[bytes | None]:
    """What stands under the record's key before it, the oldest first."""
    topic, number = mine.topic(), mine.partition()
    if not _readable(cluster, mine, mine.offset()):
        raise _undelivered(topic, "another writer's transaction stays open")
    return [
        record.value
        for record in read_all(cluster, topic)
        if (record.partition, record.key) == (number, mine.key()) and record.offset < mine.offset()
    ]


def _readable(cluster: Cluster, mine: Message, end: int) -> bool:
    """Wait until readers come to this offset of a record's partition; whether they do.

    What other keys' writers have begun hides what is behind it.
    """
    deadline = time.monotonic() + OPEN_S
    reader = groupless_reader(cluster)
    try:
        while bounds(reader, TopicPartition(mine.topic(), mine.partition()))[1] < end:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    finally:
        reader.close()
    return True


def _commit(producer: Producer) -> None:
    deadline = time.monotonic() + DELIVERY_S
    while True:
        try:
            producer.commit_transaction(DELIVERY_S)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
        else:
            return


def _abort(producer: Producer) -> None:
    """Readers wait for open transactions; what was fenced is aborted already."""
    with contextlib.suppress(KafkaException, SystemError):
        producer.abort_transaction(ABORT_S)


def _undelivered(topic: str, reason: str) -> BusError:
    return BusError(
        f"nothing was written to topic {topic} ({reason}): check it with `groundswell topics list`"
    )
