"""What every worker knows: campaigns, policies, how far ingest is; by a consumer without a group.

Faust's GlobalTable does not reach all workers (faust-streaming issue 283): here each worker
has all partitions of the compacted topics assigned, and decides nothing until it has read them
to the end once.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

import structlog
from confluent_kafka import Consumer, Message, TopicPartition

from schemas.campaign import Campaign
from schemas.encoder_releases import EncoderReleases
from schemas.learning import PolicySnapshot
from schemas.topics import (
    CAMPAIGNS,
    ENCODER_RELEASES,
    INGEST_CHANGELOG,
    POLICY_SNAPSHOTS,
    Topic,
)
from schemas.wire import Codec, Unreadable
from streams.core.snapshots import SnapshotParts
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader, may_not_read, partitions_of
from streams.kafka.transaction import Incoming

__all__ = ["VOUCHED", "Follower"]

VOUCHED = b"v"  # state key of an ingest shard: up to when it has what the company's topics had

log = structlog.get_logger()


class Follower:
    """The newest campaign definitions and policy snapshots, by key.

    Reads in a thread of its own; look-ups are safe from any thread.

    Parameters
    ----------
    announce
        Told of encoders' releases, from that thread: the encoder's name, and None where what was
        announced of it is deleted.
    """

    topics: Sequence[Topic] = (CAMPAIGNS, POLICY_SNAPSHOTS, ENCODER_RELEASES, INGEST_CHANGELOG)

    def __init__(
        self,
        cluster: Cluster,
        prefix: str,
        codec: Codec,
        announce: Callable[[str, EncoderReleases | None], None],
    ) -> None:
        self._announce = announce
        self._cluster = cluster
        self._prefix = prefix
        self._codec = codec
        self._campaigns: dict[str, Campaign] = {}
        self._snapshots = SnapshotParts()
        self._marks: tuple[bytes, ...] = ()
        self._vouched: dict[int, int] = {}
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until everything that there was at the start has been read."""
        return self._ready.wait(timeout_s)

    @property
    def failure(self) -> Exception | None:
        """What ended the reading, if anything did."""
        return self._failure

    def campaign(self, campaign_id: str) -> Campaign | None:
        """The newest definition of a campaign."""
        return self._campaigns.get(campaign_id)

    def campaigns(self) -> list[Campaign]:
        """All campaigns."""
        return [self._campaigns[key] for key in sorted(self._campaigns)]

    def urgent(self, records: Sequence[Incoming]) -> bool:
        """Whether one of these may be an event that an active campaign waits for.

        Whichever campaign's it is, it has the event's name in its bytes: what is taken for one and
        is none costs a transaction, no more.
        """
        marks = self._marks
        return bool(marks) and any(
            mark in record.value for record in records if record.value for mark in marks
        )

    def snapshot(self, campaign_id: str, wave: int | None = None) -> PolicySnapshot | None:
        """The newest policy of a campaign, or the one that a wave is pinned to."""
        key = campaign_id if wave is None else f"{campaign_id}/{wave}"
        return self._snapshots.get(key)

    @property
    def vouched_ms(self) -> int:
        """Up to when all that the company's topics had has been ingested; 0: not known yet."""
        return min(self._vouched.values(), default=0)

    def _follow(self) -> None:
        try:
            self._read()
        except Exception as error:
            self._failure = error
            log.exception("follower_failed")

    def _read(self) -> None:
        reader = groupless_reader(self._cluster, {"fetch.wait.max.ms": 50})
        try:
            ends = self._ends(reader)
            reader.assign([TopicPartition(tp.topic, tp.partition, 0) for tp in ends])
            left = {(tp.topic, tp.partition): end for tp, end in ends.items() if end > 0}
            while True:
                for message in reader.consume(1000, 0.05):
                    error = message.error()
                    if error is None:
                        self._take(message)
                    elif (refused := may_not_read(error, message.topic())) is not None:
                        raise refused
                if left:
                    left = self._still_left(reader, left)
                if not left:
                    self._ready.set()
        finally:
            reader.close()

    def _ends(self, reader: Consumer) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = {}
        for topic in self.topics:
            name = self._prefix + topic.name
            for number in partitions_of(reader, name):
                tp = TopicPartition(name, number)
                low, high = bounds(reader, tp)
                ends[tp] = high if high > low else 0
                if topic is INGEST_CHANGELOG:
                    self._vouched[number] = 0  # each must say something first
        return ends

    @staticmethod
    def _still_left(
        reader: Consumer, left: dict[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        """Partitions whose end at the start has not been reached; markers count as read."""
        positions = reader.position([TopicPartition(topic, number) for topic, number in left])
        reached = {
            (tp.topic, tp.partition)
            for tp in positions
            if tp.offset >= 0 and tp.offset >= left[tp.topic, tp.partition]
        }
        return {tp: end for tp, end in left.items() if tp not in reached}

    def _take(self, message: Message) -> None:
        topic, key, value = message.topic(), message.key() or b"", message.value()
        if topic == self._prefix + INGEST_CHANGELOG.name:
            if key == VOUCHED and value is not None:
                self._vouched[message.partition()] = int(value)
        else:
            self._take_named(topic, key.decode("utf-8", "replace"), value)

    def _take_named(self, topic: str, name: str, value: bytes | None) -> None:
        if topic == self._prefix + CAMPAIGNS.name:
            campaign = self._codec.try_decode(value, Campaign) if value is not None else None
            if isinstance(campaign, Unreadable):
                log.warning("campaign_unreadable", campaign=name, why=campaign.reason)
            elif campaign is None:
                self._campaigns.pop(name, None)
            else:
                self._campaigns[name] = campaign
            self._marks = _marks(self._campaigns.values())
        elif topic == self._prefix + ENCODER_RELEASES.name:
            releases = self._codec.try_decode(value, EncoderReleases) if value is not None else None
            if isinstance(releases, Unreadable):
                log.warning("releases_unreadable", encoder=name, why=releases.reason)
            else:
                self._announce(name, releases)
        else:
            snapshot = self._codec.try_decode(value, PolicySnapshot) if value is not None else None
            if isinstance(snapshot, Unreadable):
                log.warning("snapshot_unreadable", key=name, why=snapshot.reason)
            elif snapshot is None:
                self._snapshots.drop(name)
            else:
                self._snapshots.put(name, snapshot)


def _marks(campaigns: Iterable[Campaign]) -> tuple[bytes, ...]:
    """The names of the events that active campaigns wait for."""
    waiting = (known.trigger_event for known in campaigns if known.status == "active")
    return tuple(sorted({event.encode() for event in waiting if event is not None}))
