"""Sending on, without a transaction: in order, without a gap, and acknowledged before it returns.

What is sent may be sent again by whoever comes next; `streams/kafka/origin.py` says how it counts
once all the same.
"""

import contextlib
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.errors import BusError
from streams.kafka.cluster import Cluster
from streams.kafka.producer import TIMEOUT_S
from streams.kafka.refusals import ABORT_S, FOR_GOOD, kafka_error
from streams.kafka.transaction import Output

__all__ = ["Forwarder"]


class Forwarder:
    """Sends records on, each under its key. Blocking.

    A record that is refused is followed by none: requests go out one at a time, none is given up,
    and the first failure ends the producer.

    Parameters
    ----------
    shard
        The shard's name, for messages.
    """

    def __init__(self, cluster: Cluster, shard: str, prefix: str) -> None:
        self._shard = shard
        self._prefix = prefix
        self._refused: KafkaError | None = None  # what ended the producer
        self._failure: BusError | None = None
        self._producer = Producer(
            cluster.client(
                {
                    "enable.idempotence": True,
                    "enable.gapless.guarantee": True,
                    "max.in.flight": 1,
                    "message.timeout.ms": 0,  # what were given up would be a gap
                    "linger.ms": 1,
                    "partitioner": "murmur2_random",
                    "message.max.bytes": 16 * 1024 * 1024,
                    "queue.buffering.max.messages": 500_000,
                    "log_level": 2,
                }
            )
        )

    def send(self, outputs: Sequence[Output]) -> None:
        """Send records, and wait until all are acknowledged.

        Raises
        ------
        BusError
            If the broker refuses one, or does not answer: the first of them may have been sent,
            and nothing more is.
        """
        if self._failure is None:
            self._failure = self._sent(outputs)
        if self._failure is not None:
            raise self._failure

    def _sent(self, outputs: Sequence[Output]) -> BusError | None:
        """Send; what went wrong, if something did."""
        deadline = time.monotonic() + TIMEOUT_S
        try:
            for out in outputs:
                if not self._produced(out, deadline):
                    return self._late(len(self._producer))
            left = self._producer.flush(max(deadline - time.monotonic(), 0.0))
        except (KafkaException, SystemError) as error:
            self._hear_the_rest()
            reason = self._refused or kafka_error(error)
            if reason is None:
                raise
            return self._refusal(reason)
        if self._refused is not None:
            return self._refusal(self._refused)
        return self._late(left) if left else None

    def _hear_the_rest(self) -> None:
        """Let the producer tell of each record that it has not told of yet."""
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.flush(ABORT_S)

    def _produced(self, out: Output, deadline: float) -> bool:
        """Hand a record over, as soon as there is room for it; False if there is none for long."""
        topic = self._prefix + out.topic.name
        while True:
            try:
                self._producer.produce(
                    topic, out.value, out.key, on_delivery=self._note, headers=out.headers
                )
            except BufferError:
                self._producer.poll(0.05)
                if time.monotonic() > deadline:
                    return False
            else:
                return True

    def _refusal(self, error: KafkaError) -> BusError:
        cure = FOR_GOOD.get(error.code())
        return BusError(
            f"shard {self._shard}: the broker refuses a record that is sent on: {error.str()}"
            + ("" if cure is None else f". To go on, {cure}")
        )

    def _late(self, left: int) -> BusError:
        return BusError(
            f"shard {self._shard}: {left} records that are sent on were not acknowledged for "
            f"{TIMEOUT_S:g} s: check that the brokers are up"
        )

    def _note(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and self._refused is None:
            self._refused = error
