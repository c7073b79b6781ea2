"""A sender to start from: decisions become emails or webhook calls, and receipts go back.

At least once: a decision's offset is committed when its receipt is in Kafka, so after a crash the
one that was under way is sent again. Its id is the same again, in `X-Groundswell-Decision` (and in
an email's `Message-ID`): the receiver is to ignore an id that it has seen. The receipt's id is made
of the decision's, so that Groundswell counts it once.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import stamina
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from schemas.errors import BusError, SettingsError
from schemas.ids import NO_SEND
from schemas.records import Decision, Reward
from schemas.wire import Codec, Unreadable
from streams.kafka.cluster import Cluster
from streams.simulation.outboxes import BusyError, Outbox, RefusedError

__all__ = ["Patience", "ReferenceSender", "Route"]

log = structlog.get_logger()

DELIVERED, FAILED = "delivered", "failed"
RECEIPT_TIMEOUT_S = 30.0
SESSION_MS = 10_000  # so long a dead sender's decisions wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which decisions are read, by whom, and where receipts go.

    Attributes
    ----------
    channel
        Decisions of other channels are another sender's; None: of all channels.
    """

    cluster: Cluster
    decisions: str
    receipts: str
    group: str
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one notification is tried before it counts as failed."""

    attempts: int = 6
    timeout_s: float = 45.0
    wait_first_s: float = 0.2


class ReferenceSender:
    """Reads decisions, sends what is to be sent, and posts a receipt for each.

    Parameters
    ----------
    now_ms
        The clock: milliseconds since 1970-01-01 UTC.

    Attributes
    ----------
    counts
        Decisions by what became of them: delivered, failed, expired, unreadable.
    """

    def __init__(
        self,
        route: Route,
        outbox: Outbox,
        codec: Codec,
        now_ms: Callable[[], int],
        patience: Patience | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._route, self._outbox, self._codec, self._now_ms = route, outbox, codec, now_ms
        self._patience = patience or Patience()

    def run(self, stop: threading.Event) -> None:
        """Send until asked to stop.

        Raises
        ------
        BusError
            If Kafka cannot be read, or does not take a receipt: what is not committed comes again.
        SettingsError
            If nobody answers where notifications go, or nothing is taken from this sender.
        """
        route = self._route
        common = route.cluster.client({"log_level": 2})
        consumer = Consumer(
            common
            | {
                "group.id": route.group,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "session.timeout.ms": SESSION_MS,
                "enable.auto.offset.store": False,  # commits, once a second, what has been handled
            }
        )
        producer = Producer(
            common | {"enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 0}
        )
        log.info("sender_started", topic=route.decisions, channel=route.channel, group=route.group)
        try:
            consumer.subscribe([route.decisions])
            while not stop.is_set():
                message = consumer.poll(0.2)
                if message is not None:
                    self._take(consumer, producer, message)
        finally:
            consumer.close()
            self._outbox.close()
            log.info("sender_stopped", **self.counts)

    def _take(self, consumer: Consumer, producer: Producer, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.retriable() and not error.fatal():
                return
            raise BusError(
                f"{self._route.decisions} cannot be read: {error.str()}: "
                "groundswell topics ensure makes the topics"
            )
        receipt = self._handle(message)
        if receipt is not None:
            self._post(producer, receipt)
        try:
            consumer.store_offsets(message)
            if receipt is not None:
                consumer.commit(message=message, asynchronous=False)
        except KafkaException as lost:
            # Another sender has the partition now and sends it again; the ids stay the same.
            log.warning("sender_commit_refused", why=lost.args[0].name())

    def _handle(self, message: Message) -> Reward | None:
        """Send a decision if it is to be sent; its receipt."""
        decision = self._codec.try_decode(message.value(), Decision)
        if isinstance(decision, Unreadable):
            self.counts["unreadable"] += 1
            place = {"partition": message.partition(), "offset": message.offset()}
            log.warning("decision_unreadable", topic=message.topic(), **place)
            return None
        if decision.action == NO_SEND or self._route.channel not in (None, decision.channel):
            return None
        if self._now_ms() >= decision.expires_at_ms:
            self.counts["expired"] += 1
            return None
        kind = self._send(decision)
        self.counts[kind] += 1
        return Reward(
            reward_id=f"{decision.decision_id}:{kind}",
            user_id=decision.user_id,
            kind=kind,
            occurred_at_ms=self._now_ms(),
            decision_id=decision.decision_id,
            campaign_id=decision.campaign_id,
            channel=decision.channel,
        )

    def _send(self, decision: Decision) -> str:
        patience = self._patience
        try:
            for attempt in stamina.retry_context(
                on=(BusyError, OSError),
                attempts=patience.attempts,
                timeout=patience.timeout_s,
                wait_initial=patience.wait_first_s,
                wait_jitter=patience.wait_first_s,
            ):
                with attempt:
                    self._outbox.send(decision)
        except (RefusedError, BusyError) as error:
            log.warning("notification_failed", decision_id=decision.decision_id, why=str(error))
            return FAILED
        except OSError as error:
            raise SettingsError(
                f"nobody answers where notifications go ({error.strerror or type(error).__name__}, "
                f"{patience.attempts} attempts): nothing is lost, start again when it does"
            ) from error
        return DELIVERED

    def _post(self, producer: Producer, receipt: Reward) -> None:
        refusals: list[KafkaError] = []

        def note(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refusals.append(error)

        topic = self._route.receipts
        value = self._codec.encode(topic, receipt)
        producer.produce(topic, value, receipt.user_id.encode(), on_delivery=note)
        left = producer.flush(RECEIPT_TIMEOUT_S)
        if left or refusals:
            why = refusals[0].str() if refusals else f"no answer in {RECEIPT_TIMEOUT_S:g} s"
            raise BusError(
                f"{topic} takes no receipt: {why}: check the topic; decisions come again"
            )
