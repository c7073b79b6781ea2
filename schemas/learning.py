"""What shards tell the learner, what it publishes, and what reports are made of."""

from dataclasses import dataclass, field

__all__ = ["LearningExample", "LearningUpdate", "PolicySnapshot", "Sums", "Tally", "WaveReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningExample:
    """A closed or corrected outcome with its context and probabilities."""

    decision_id: str
    campaign_id: str
    campaign_version: int
    wave: int
    user_id: str
    reason: str
    action: str
    propensity_kind: str
    actions: list[str]
    probabilities: list[float]
    context: bytes
    reward: float
    policy_version: int
    encoder_version: str
    decided_at_ms: int
    closed_at_ms: int
    propensity: float | None = None
    previous_reward: float | None = None
    feedback: dict[str, int] = field(default_factory=dict)
    learn: bool = True
    features: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Additive counts of one group and action of a wave."""

    reason: str
    action: str
    decisions: int = 0
    closed: int = 0
    undelivered: int = 0
    feedback: dict[str, int] = field(default_factory=dict)
    reward_sum: float = 0.0
    reward_square_sum: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What examples of one action add up to."""

    action: str
    half_life_ms: float
    gram: bytes
    moment: bytes
    power: float
    weight: float
    n: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningUpdate:
    """A chunk of outcomes of one shard and wave, and the shard's progress with the wave."""

    campaign_id: str
    wave: int
    shard: int
    policy_version: int
    encoder_version: str
    decided: int
    open: int
    deciding: bool
    time_ms: int
    actions: list[str] = field(default_factory=list)
    action_index: bytes = b""
    contexts: bytes = b""
    features: list[bytes] = field(default_factory=list)
    rewards: bytes = b""
    previous: bytes = b""
    decided_at_ms: bytes = b""
    sums: list[Sums] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySnapshot:
    """A policy's versioned state."""

    campaign_id: str
    version: int
    encoder_version: str
    policy: str
    state: bytes
    offsets: dict[str, int]
    examples: int
    reward_sum: float
    created_at_ms: int
    wave: int | None = None
    feedback: dict[str, int] = field(default_factory=dict)
    part: int = 0
    parts: int = 1
    reward_scale: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveReport:
    """How a wave stands."""

    campaign_id: str
    wave: int
    status: str
    policy_version: int
    encoder_version: str
    started_at_ms: int
    shards: int
    shards_done: int
    decided: int
    open: int
    tallies: list[Tally]
    updated_at_ms: int
    ended_at_ms: int | None = None
