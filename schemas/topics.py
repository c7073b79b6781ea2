"""Every topic of the loop, as data."""

from dataclasses import dataclass
from enum import StrEnum

from schemas.campaign import Campaign, WaveStart
from schemas.encoder_releases import EncoderReleases
from schemas.learning import LearningExample, LearningUpdate, PolicySnapshot, WaveReport
from schemas.records import Decision, LoggedDecision, Reward, UserEvent

__all__ = [
    "CAMPAIGNS",
    "CAMPAIGN_CHANGELOG",
    "DEAD_LETTERS",
    "ENCODER_RELEASES",
    "INGEST_CHANGELOG",
    "LEARNING_EXAMPLES",
    "LEARNING_UPDATES",
    "LOGGED_DECISIONS",
    "POLICY_SNAPSHOTS",
    "REWARDS",
    "SEND_DECISIONS",
    "SHARD_CHANGELOG",
    "TOPICS",
    "USER_EVENTS",
    "WAVE_REPORTS",
    "WAVE_STARTS",
    "Partitioning",
    "Topic",
]

MIB = 1024 * 1024
DAY_MS = 86_400_000


class Partitioning(StrEnum):
    """What a topic's partition number stands for; equal ones have equal counts."""

    USERS = "users"  # murmur2 of the user id: the number of a user shard
    CAMPAIGNS = "campaigns"  # murmur2 of the campaign id: the number of a campaign shard
    SOURCES = "sources"  # the largest partition count of the company's own topics
    ONE = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic: what stands in it, how it is keyed, cut and kept."""

    name: str
    key: str
    partitioning: Partitioning
    record: type | None  # None: bytes that are no contract (state, dead letters)
    compacted: bool = False
    max_bytes: int = MIB
    retention_ms: int = 7 * DAY_MS
    delete_retention_ms: int = DAY_MS  # of compacted topics: how long a deletion can be seen
    doc: str


USER_EVENTS = Topic(
    name="user-events",
    key="user",
    partitioning=Partitioning.USERS,
    record=UserEvent,
    doc="Events about users, re-keyed by ingest; after a kill some stand again, and count once: a "
    "groundswell-origin (source/partition/offset) that does not lie behind the last one of its "
    "source and partition is such. Folded into profiles.",
)
REWARDS = Topic(
    name="rewards",
    key="user",
    partitioning=Partitioning.USERS,
    record=Reward,
    doc="Clicks, purchases, dismissals, unsubscribes and receipts, re-keyed by ingest; after a "
    "kill some stand again, and count once: see user-events.",
)
LOGGED_DECISIONS = Topic(
    name="logged-decisions",
    key="user",
    partitioning=Partitioning.USERS,
    record=LoggedDecision,
    doc="Decisions of another system, replayed from its log: learned from, never sent.",
)
CAMPAIGNS = Topic(
    name="campaigns",
    key="campaign",
    partitioning=Partitioning.CAMPAIGNS,
    record=Campaign,
    compacted=True,
    max_bytes=8 * MIB,
    doc="Campaign definitions; the last record of a key counts.",
)
WAVE_STARTS = Topic(
    name="wave-starts",
    key="shard",
    partitioning=Partitioning.USERS,
    record=WaveStart,
    max_bytes=8 * MIB,
    doc="Tells each user shard to decide for an instalment of a campaign's audience.",
)
SEND_DECISIONS = Topic(
    name="send-decisions",
    key="user",
    partitioning=Partitioning.USERS,
    record=Decision,
    doc="The decisions: what senders read.",
)
LEARNING_EXAMPLES = Topic(
    name="learning-examples",
    key="user",
    partitioning=Partitioning.USERS,
    record=LearningExample,
    retention_ms=90 * DAY_MS,
    doc="Closed and corrected outcomes with context and probabilities: the log of evaluation.",
)
LEARNING_UPDATES = Topic(
    name="learning-updates",
    key="campaign",
    partitioning=Partitioning.CAMPAIGNS,
    record=LearningUpdate,
    max_bytes=8 * MIB,
    doc="Chunks of outcomes for the learner, with each shard's progress through a wave.",
)
POLICY_SNAPSHOTS = Topic(
    name="policy-snapshots",
    key="campaign",
    partitioning=Partitioning.CAMPAIGNS,
    record=PolicySnapshot,
    compacted=True,
    max_bytes=8 * MIB,
    doc="Versioned policies: the newest under the campaign, a wave's under campaign/wave.",
)
ENCODER_RELEASES = Topic(
    name="encoder-releases",
    key="name",
    partitioning=Partitioning.ONE,
    record=EncoderReleases,
    compacted=True,
    doc="Where the releases of each encoder are, and which is live or in shadow.",
)
WAVE_REPORTS = Topic(
    name="wave-reports",
    key="campaign",
    partitioning=Partitioning.CAMPAIGNS,
    record=WaveReport,
    compacted=True,
    doc="How each wave stands, under campaign/wave.",
)
SHARD_CHANGELOG = Topic(
    name="shard-changelog",
    key="state key",
    partitioning=Partitioning.USERS,
    record=None,
    compacted=True,
    max_bytes=8 * MIB,
    doc="The state of the user shards, with the input offsets that it contains.",
)
CAMPAIGN_CHANGELOG = Topic(
    name="campaign-changelog",
    key="state key",
    partitioning=Partitioning.CAMPAIGNS,
    record=None,
    compacted=True,
    max_bytes=8 * MIB,
    doc="The state of the campaign shards: schedules, learned policies, open waves' updates.",
)
INGEST_CHANGELOG = Topic(
    name="ingest-changelog",
    key="state key",
    partitioning=Partitioning.SOURCES,
    record=None,
    compacted=True,
    doc="How far the company's own topics have been ingested, half a second behind, and what of "
    "them stands in the dead letters.",
)
DEAD_LETTERS = Topic(
    name="dead-letters",
    key="original key",
    partitioning=Partitioning.ONE,
    record=None,
    max_bytes=16 * MIB,
    retention_ms=30 * DAY_MS,
    doc="Records that could not be processed, as they came, with kafka_dlt-* headers.",
)

TOPICS: tuple[Topic, ...] = (
    USER_EVENTS,
    REWARDS,
    LOGGED_DECISIONS,
    CAMPAIGNS,
    WAVE_STARTS,
    SEND_DECISIONS,
    LEARNING_EXAMPLES,
    LEARNING_UPDATES,
    POLICY_SNAPSHOTS,
    ENCODER_RELEASES,
    WAVE_REPORTS,
    SHARD_CHANGELOG,
    CAMPAIGN_CHANGELOG,
    INGEST_CHANGELOG,
    DEAD_LETTERS,
)
