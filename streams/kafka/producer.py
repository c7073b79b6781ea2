"""A shard's producer: everything of a transaction, or nothing of it."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.errors import BusError, FencedError
from streams.kafka.cluster import Cluster
from streams.kafka.refusals import ABORT_S, FOR_GOOD, kafka_error, transaction_error
from streams.kafka.transaction import Output
from streams.kafka.turn import NO_TURN, Turn

__all__ = ["TransactionalProducer"]

log = structlog.get_logger()

TIMEOUT_S = 30.0
ANY_PARTITION = -1  # the partitioner's choice
BACK_TO_BACK_S = 0.005  # a transaction that comes so soon after the last may be put off by 20 ms


class TransactionalProducer:
    """Commits outputs and changed state together. Blocking.

    Parameters
    ----------
    shard
        The shard's name, for messages.
    transactional_id
        Whoever uses it last fences those before.
    changelog, number
        Where changed state goes: topic and partition.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        shard: str,
        transactional_id: str,
        changelog: str,
        number: int,
        prefix: str,
        timeout_s: float,
    ) -> None:
        self._shard = shard
        self._changelog = changelog
        self._number = number
        self._prefix = prefix
        self._last_offset = -1
        self._begun = False
        self._ended_at = 0.0
        self._producer = Producer(
            cluster.client(
                {
                    "transactional.id": transactional_id,
                    "transaction.timeout.ms": int(timeout_s * 1000),
                    "linger.ms": 1,
                    "partitioner": "murmur2_random",
                    "message.max.bytes": 16 * 1024 * 1024,
                    "queue.buffering.max.messages": 500_000,
                    "log_level": 2,
                }
            )
        )

    def fence(self) -> None:
        """Begin: from here on the commits of the owner before fail.

        Raises
        ------
        BusError
            If the broker does not let transactions start.
        """
        try:
            self._producer.init_transactions(TIMEOUT_S)
        except KafkaException as error:
            raise BusError(
                f"shard {self._shard} cannot start transactions: {error.args[0].str()}"
            ) from error

    def begin(self, key: bytes) -> None:
        """Begin a transaction that the next commit ends, with an empty record of this key.

        A partition must be made known to the transaction's coordinator before anything is sent to
        it, and librdkafka waits a millisecond for others first: begun now, that goes on while the
        transaction is worked out. An error is met again, and told, by the commit. Right behind
        another transaction nothing is begun: the coordinator may still be ending that one, and
        librdkafka asks it again only after 20 ms.
        """
        if self._begun or time.monotonic() - self._ended_at < BACK_TO_BACK_S:
            return
        with contextlib.suppress(KafkaException, BufferError):
            self._producer.begin_transaction()
            self._begun = True
            self._producer.produce(self._changelog, b"", key, self._number)

    def commit(
        self,
        outputs: Iterable[Output],
        changes: Mapping[bytes, bytes | None],
        turn: Turn = NO_TURN,
    ) -> int:
        """Send outputs and changed state in one transaction; gives the changelog's last offset.

        Messages are handed over within the turn.

        Raises
        ------
        FencedError
            If the shard has another owner now.
        BusError
            If the broker refuses: nothing was committed.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                if not self._begun:
                    self._producer.begin_transaction()
                self._begun = False
                with turn:
                    self._produce(self._messages(outputs, changes), turn)
                self._end()
            except (KafkaException, SystemError) as error:
                self._recover(self._told(error), deadline)
            else:
                self._ended_at = time.monotonic()
                return self._last_offset

    def _told(self, error: Exception) -> KafkaError:
        """What went wrong."""
        told = kafka_error(error)
        if told is None or told.code() == KafkaError._FATAL:  # noqa: SLF001 - public, as those below
            told = transaction_error(self._producer) or told
        if told is None:
            raise error
        return told

    def _recover(self, error: KafkaError, deadline: float) -> None:
        """After a failed transaction: abort it so that it can be tried again, or raise."""
        where = f"shard {self._shard}"
        if error.code() in (
            KafkaError._FENCED,  # noqa: SLF001 - confluent-kafka's public names start so
            KafkaError.PRODUCER_FENCED,
            KafkaError.INVALID_PRODUCER_EPOCH,
        ):
            raise FencedError(
                f"{where} has another owner now, or stood still for longer than "
                f"GROUNDSWELL_TRANSACTION_TIMEOUT_S: {error.str()}"
            )
        if error.fatal() or not (error.txn_requires_abort() or error.retriable()):
            raise BusError(f"{where}: the transaction failed, nothing was committed: {error.str()}")
        cure = FOR_GOOD.get(error.code())
        if cure is not None:
            with contextlib.suppress(KafkaException, SystemError):
                self._producer.abort_transaction(ABORT_S)  # readers wait for open transactions
            raise BusError(
                f"{where}: the broker refuses the transaction, nothing was committed: "
                f"{error.str()}. To go on, {cure}"
            )
        if time.monotonic() > deadline:
            raise BusError(f"{where}: no transaction went through in time: {error.str()}")
        log.warning("transaction_retried", shard=where, error=error.str())
        try:
            self._producer.abort_transaction(TIMEOUT_S)
        except (KafkaException, SystemError) as abort:
            self._recover_abort(self._told(abort), where)

    def _recover_abort(self, error: KafkaError, where: str) -> None:
        if error.fatal():
            raise FencedError(f"{where} has another owner now: {error.str()}")
        raise BusError(f"{where}: a failed transaction cannot be aborted: {error.str()}")

    def _end(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._producer.flush(TIMEOUT_S)  # calls _note_offset
                self._producer.commit_transaction(TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
            else:
                return

    def _produce(self, messages: Iterable[tuple[Any, ...]], turn: Turn) -> None:
        """Hand over messages, each as soon as there is room for it."""
        produce = self._producer.produce
        for message in messages:
            while True:
                try:
                    produce(*message)
                except BufferError:
                    with turn.aside():
                        self._producer.poll(0.05)
                else:
                    break

    def _messages(
        self, outputs: Iterable[Output], changes: Mapping[bytes, bytes | None]
    ) -> Iterator[tuple[Any, ...]]:
        """What `produce` takes, by position, which costs half of what names do.

        Topic, value, key, partition, callback, its other name, time, headers.
        """
        for out in outputs:
            topic = self._prefix + out.topic.name
            partition = ANY_PARTITION if out.partition is None else out.partition
            yield topic, out.value, out.key, partition, None, None, 0, out.headers
        *before, last = changes
        for key in before:
            yield self._changelog, changes[key], key, self._number
        yield self._changelog, changes[last], last, self._number, self._note_offset

    def _note_offset(self, error: KafkaError | None, message: object) -> None:
        if error is None:
            self._last_offset = message.offset()  # type: ignore[attr-defined]
