"""One record written from outside the workers, and confirmed before anything goes on."""

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.errors import BusError

__all__ = ["write_confirmed"]

DELIVERY_S = 30.0


def write_confirmed(
    bootstrap: str, topic: str, key: bytes, value: bytes, most_bytes: int
) -> Message:
    """Write a record; give it with the offset that it got.

    Parameters
    ----------
    topic
        Full name.
    most_bytes
        The topic's size limit.

    Raises
    ------
    BusError
        If it is not confirmed in half a minute.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": most_bytes + 4096,
            "delivery.timeout.ms": int(DELIVERY_S * 1000),
            "log_level": 0,
        }
    )
    delivered: list[tuple[KafkaError | None, Message]] = []
    try:
        producer.produce(topic, value, key, on_delivery=lambda *answer: delivered.append(answer))
    except KafkaException as error:
        raise _undelivered(topic, error.args[0].str()) from error
    producer.flush(DELIVERY_S + 5)
    if not delivered:
        raise _undelivered(topic, f"no confirmation in {DELIVERY_S:g} s")
    failure, message = delivered[0]
    if failure is not None:
        raise _undelivered(topic, failure.str())
    return message


def _undelivered(topic: str, reason: str) -> BusError:
    return BusError(
        f"nothing was written to topic {topic} ({reason}): check it with `groundswell topics list`"
    )
