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
        self._heard_at = 0.0  # of a record last
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
            If the broker refuses one, or acknowledges none for long: the first of them may have
            been sent, and after the second the others still may be.
        """
        if self._failure is None:
            self._failure = self._sent(outputs)
        if self._failure is not None:
            raise self._failure

    def _sent(self, outputs: Sequence[Output]) -> BusError | None:
        """Send; what went wrong, if something did."""
        self._heard_at = time.monotonic()
        try:
            for out in outputs:
                if not self._produced(out):
                    return self._late(len(self._producer))
            while left := self._producer.flush(max(self._left_s(), 0.0)):
                if self._left_s() <= 0.0:
                    return self._late(left)
        except (KafkaException, SystemError) as error:
            self._hear_the_rest()
            reason = self._reason(kafka_error(error))
            if reason is None:
                raise
            return self._refusal(reason)
        return None if self._refused is None else self._refusal(self._refused)

    def _left_s(self) -> float:
        """How long the next acknowledgement may take yet: a slow broker is no reason to end."""
        return self._heard_at + TIMEOUT_S - time.monotonic()

    def _reason(self, raised: KafkaError | None) -> KafkaError | None:
        """Of what was told of a record and what was raised, the one that says what helps."""
        told = [error for error in (self._refused, raised) if error is not None]
        return next((error for error in told if error.code() in FOR_GOOD), next(iter(told), None))

    def _hear_the_rest(self) -> None:
        """Let the producer tell of each record that it has not told of yet."""
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.flush(ABORT_S)

    def _produced(self, out: Output) -> bool:
        """Hand a record over, as soon as there is room for it; False if there is none for long."""
        topic = self._prefix + out.topic.name
        while True:
            try:
                self._producer.produce(
                    topic, out.value, out.key, on_delivery=self._note, headers=out.headers
                )
            except BufferError:
                self._producer.poll(0.05)
                if self._left_s() <= 0.0:
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
            f"shard {self._shard}: {left} records that are sent on were not acknowledged, none of "
            f"them for {TIMEOUT_S:g} s: check that the brokers are up"
        )

    def _note(self, error: KafkaError | None, _message: Message) -> None:
        self._heard_at = time.monotonic()
        if error is not None and self._refused is None:
            self._refused = error
