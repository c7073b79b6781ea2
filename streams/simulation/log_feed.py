"""A company's log, fed through the topics to workers whose only clock is the log itself.

Time passes in a shard as the least of its inputs' times, and user events come last: they hold it
back until a block's decisions and then its rewards are part of every shard's state. So a reward
always finds its decision, and no decision closes before its rewards are in, however fast or slow
the workers are.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from schemas.campaign import Campaign
from schemas.errors import BusError, GroundswellError
from schemas.hashing import partition_of
from schemas.learning import LearningExample, PolicySnapshot
from schemas.records import LoggedDecision, Reward, UserEvent
from schemas.topics import (
    CAMPAIGNS,
    DEAD_LETTERS,
    LEARNING_EXAMPLES,
    LOGGED_DECISIONS,
    REWARDS,
    USER_EVENTS,
    Topic,
)
from schemas.wire import Codec
from streams.kafka.campaign_client import CampaignClient
from streams.kafka.read import read_all
from streams.simulation.log_deployment import Deployment
from streams.simulation.log_mapping import HELD_OUT_WAVE, LEARNED_WAVE, LogMapping, campaign_of
from streams.simulation.log_reader import LogReader, LogRow, LogSummary
from streams.simulation.log_records import LogRecords
from streams.simulation.shard_watch import ShardWatch

__all__ = ["Feed", "Prepared", "Progress", "Replayed", "prepare"]

BLOCK = 5000  # rows that are fed before the shards are waited for
LEARNED, ALL_CLOSED = 1, 2  # the snapshots that the ends of both waves make
"""The snapshots: 0 has learned nothing, 1 what is learned of the log, 2 is 1 again."""

Progress = Callable[[str, int], None]  # what is done, and how many rows have been fed


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A log that has been read once: how it is fed, and as which campaign."""

    reader: LogReader
    mapping: LogMapping
    summary: LogSummary
    campaign: Campaign


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What has become of a log.

    Attributes
    ----------
    learned
        The policy that has learned the first part; nothing of the second.
    held_out
        The closed outcomes of the second part.
    """

    summary: LogSummary
    campaign: Campaign
    learned: PolicySnapshot
    held_out: list[LearningExample]


def prepare(log: Path, mapping: LogMapping) -> Prepared:
    """Read a log once.

    Raises
    ------
    MappingError
        If it cannot be replayed.
    """
    reader = LogReader(log, mapping)
    summary = reader.scan()
    campaign = campaign_of(mapping, summary.actions, summary.first_ms)
    return Prepared(reader=reader, mapping=mapping, summary=summary, campaign=campaign)


@dataclass
class Feed:
    """Feeds a log to the workers of a deployment, block by block.

    Parameters
    ----------
    alive
        Called while waiting; raises if the workers have ended.
    progress
        Told how it goes.
    block
        Rows that are fed before the shards are waited for: memory is bounded by them.
    """

    deployment: Deployment
    prepared: Prepared
    alive: Callable[[], None] = lambda: None
    progress: Progress = lambda _what, _rows: None
    block: int = BLOCK
    _last: dict[tuple[str, int], int] = field(default_factory=dict)
    _failure: KafkaError | None = None

    def __post_init__(self) -> None:
        prepared = self.prepared
        self._codec = Codec()
        self._records = LogRecords(prepared.mapping, prepared.campaign, prepared.summary)
        self._producer = Producer(
            self.deployment.cluster.client(
                {
                    "acks": "all",
                    "enable.idempotence": True,
                    "linger.ms": 5,
                    "log_level": 2,
                }
            )
        )

    def apply_campaign(self) -> None:
        """Make the campaign. Workers that start after it know it when the log comes."""
        campaign = self.prepared.campaign
        client = CampaignClient(self.deployment.cluster, self.deployment.prefix)
        client.apply(campaign, campaign.changed_at_ms)

    def run(self) -> Replayed:
        """Feed the whole log, and wait until everything in it is closed and learned.

        Raises
        ------
        GroundswellError
            If the workers stop, or a record of the log is refused by them.
        """
        deployment, prepared = self.deployment, self.prepared
        watch = ShardWatch(deployment.cluster, deployment.prefix, self.alive)
        with closing(watch):
            self.progress("workers start", 0)
            number = partition_of(prepared.campaign.campaign_id, deployment.campaigns)
            watch.wait_applied({(deployment.prefix + CAMPAIGNS.name, number): 0})
            fed = 0
            for rows in self._blocks():
                self._feed(rows, watch)
                fed += len(rows)
                self.progress("log is fed", fed)
            self.progress("outcomes close", fed)
            self._end(watch)
            learned = watch.wait_snapshot(LEARNED)
            watch.wait_snapshot(ALL_CLOSED)
        self._check_refused()
        if learned.examples != prepared.summary.learned:
            raise GroundswellError(
                f"{learned.examples} of {prepared.summary.learned} decisions were learned: see the "
                "workers' logs"
            )
        held_out = [
            example
            for record in read_all(deployment.cluster, deployment.prefix + LEARNING_EXAMPLES.name)
            if not (example := self._codec.decode(record.value, LearningExample)).learn
        ]
        return Replayed(
            summary=prepared.summary,
            campaign=prepared.campaign,
            learned=learned,
            held_out=held_out,
        )

    def _blocks(self) -> Iterator[list[LogRow]]:
        """The log in parts, none of which is learned only in part."""
        rows = self.prepared.reader.rows()
        while block := list(islice(rows, self.block)):
            learned = sum(self._records.is_learned(row) for row in block)
            for start, end in pairwise(sorted({0, learned, len(block)})):
                yield block[start:end]

    def _feed(self, rows: list[LogRow], watch: ShardWatch) -> None:
        until_ms = rows[-1].at_ms
        for row in rows:
            self._send(LOGGED_DECISIONS, self._records.decision(row))
        watch.wait_applied(self._delivered())
        for row in rows:
            for reward in self._records.rewards(row):
                self._send(REWARDS, reward)
        self._send_everywhere(REWARDS, self._records.rewards_until(until_ms))
        watch.wait_applied(self._delivered())
        for row in rows:
            event = self._records.event(row)
            if event is not None:
                self._send(USER_EVENTS, event)
        self._send_everywhere(USER_EVENTS, self._records.events_until(until_ms))

    def _end(self, watch: ShardWatch) -> None:
        """Let time pass beyond the last window: every decision closes, and both waves end."""
        prepared = self.prepared
        campaign, split_ms = prepared.campaign, prepared.summary.split_at_ms
        horizon_ms = max(campaign.correction_horizon_ms, campaign.attribution_window_ms)
        until_ms = prepared.summary.last_ms + horizon_ms + 1
        for wave, at_ms in ((LEARNED_WAVE, split_ms), (HELD_OUT_WAVE, until_ms)):
            self._send_everywhere(LOGGED_DECISIONS, self._records.end_of_wave(wave, at_ms))
        self._send_everywhere(REWARDS, self._records.rewards_until(until_ms))
        watch.wait_applied(self._delivered())
        self._send_everywhere(USER_EVENTS, self._records.events_until(until_ms))
        watch.wait_applied(self._delivered())

    def _send(self, topic: Topic, record: LoggedDecision | Reward | UserEvent) -> None:
        partition = partition_of(record.user_id, self.deployment.users)
        self._produce(topic, record, partition)

    def _send_everywhere(self, topic: Topic, record: LoggedDecision | Reward | UserEvent) -> None:
        for partition in range(self.deployment.users):
            self._produce(topic, record, partition)

    def _produce(
        self, topic: Topic, record: LoggedDecision | Reward | UserEvent, partition: int
    ) -> None:
        name = self.deployment.prefix + topic.name
        value = self._codec.encode(name, record)
        while True:
            try:
                self._producer.produce(
                    name, value, record.user_id, partition, on_delivery=self._note
                )
                self._producer.poll(0)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failure = error
            return
        at = (message.topic(), message.partition())
        self._last[at] = max(message.offset(), self._last.get(at, -1))

    def _delivered(self) -> dict[tuple[str, int], int]:
        """The last offset of everything that has been sent, once all of it has arrived."""
        left = self._producer.flush(60.0)
        if left or self._failure is not None:
            why = self._failure.str() if self._failure is not None else "no confirmation in 60 s"
            raise BusError(f"{left or 'some'} records of the log were not written: {why}")
        return dict(self._last)

    def _check_refused(self) -> None:
        refused = 0
        reason = ""
        topic = self.deployment.prefix + DEAD_LETTERS.name
        for record in read_all(self.deployment.cluster, topic):
            refused += 1
            said = dict(record.headers).get("kafka_dlt-exception-message", b"")
            reason = reason or said.decode("utf-8", "replace")
        if refused:
            raise GroundswellError(
                f"{refused} records of the log were refused by the workers, the first: {reason}"
            )
