"""A shard in memory: what a real one does between a handler and Kafka, with a dict for RocksDB."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.campaign import Campaign, ContextFeature, Template, WaveStart
from schemas.features import FeatureBatch, hash_profiles
from schemas.hashing import partition_of
from schemas.learning import LearningExample, LearningUpdate, PolicySnapshot, Tally
from schemas.records import Decision, UserEvent
from schemas.topics import (
    DEAD_LETTERS,
    POLICY_SNAPSHOTS,
    SEND_DECISIONS,
    SHARD_CHANGELOG,
    Topic,
)
from schemas.wire import Codec
from streams.agents.clock import Clock
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.pairs import Pairs
from streams.agents.profile import FoldProfiles
from streams.agents.state import load
from streams.agents.warm_up import ReadLog
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import create, to_bytes
from streams.core.snapshots import SnapshotParts
from streams.kafka.shard import Handler, Step
from streams.kafka.transaction import Incoming, Output, Transaction
from streams.kafka.turn import Turn
from streams.releases.offered import Standing

CODEC = Codec()
DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2  # some day's noon, UTC
SHARDS = 4
INTERVAL_MS = 60_000  # between snapshots while no wave runs


class MemoryStore:
    """The interface of `streams.kafka.store.Store`, without a disk."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.pairs.get(key)

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.pairs.pop(key, None)
            else:
                self.pairs[key] = value

    def scan(self, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.pairs):
            if key.startswith(prefix) and (after is None or key > after):
                yield key, self.pairs[key]


@dataclass
class MemoryShard:
    """Applies handlers and steps; each in a transaction whose changes are then written.

    Time is what the test sets, as if every input had been read to its end at that moment.
    """

    number: int = 0
    now_ms: int = NOON
    store: MemoryStore = field(default_factory=MemoryStore)
    applied: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    turn: Turn = field(default_factory=Turn)

    def begin(self) -> Transaction:
        return Transaction(
            self.number, self.store, CODEC, "", self.now_ms, dict(self.applied), self.turn
        )

    def commit(self, tx: Transaction) -> list[Output]:
        for key, value in tx.changes.items():
            assert len(key) + len(value or b"") <= SHARD_CHANGELOG.max_bytes
        for output in tx.outputs:
            assert len(output.value or b"") <= output.topic.max_bytes
        self.store.write(tx.changes)
        self.times.update(tx.times)
        self.outputs += tx.outputs
        return tx.outputs

    def apply(self, handler: Handler, records: Sequence[Any], topic: str = "input") -> list[Output]:
        """Give records, or bytes, to a handler as the next ones of an input."""
        first = self.applied.get(topic, -1) + 1
        batch = [incoming(record, topic, first + rank) for rank, record in enumerate(records)]
        tx = self.begin()
        with tx.turn:
            handler(tx, batch)
        self.applied[topic] = first + len(batch) - 1
        return self.commit(tx)

    def step(self, step: Step) -> list[Output]:
        tx = self.begin()
        with tx.turn:
            self.more = step(tx)
        return self.commit(tx)

    def run(self, step: Step) -> list[Output]:
        """Repeat a step until it has nothing left to do."""
        outputs = self.step(step)
        while self.more:
            outputs = [*outputs, *self.step(step)]
        return outputs

    def load(self, key: bytes, kind: type[Any]) -> Any:
        return load(self.begin(), key, kind)

    def holds(self, user: str) -> bool:
        return partition_of(user, SHARDS) == self.number

    def keys(self, prefix: bytes) -> list[bytes]:
        return [key for key, _ in self.store.scan(prefix)]


@dataclass
class FakeRelease:
    """Encodes by what the hashed features hold: other columns, and as many of them as it likes."""

    version: str
    z_size: int

    def encode_profiles(self, users: Sequence[Any], now_ms: int) -> tuple[np.ndarray, list[bytes]]:
        batch = hash_profiles(users, [now_ms] * len(users))
        return self.encode_features(batch), batch.to_bytes()

    def encode_features(self, features: FeatureBatch) -> np.ndarray:
        z = np.zeros((len(features), self.z_size), dtype=np.float32)
        for row in range(len(features)):
            for one in (features.tokens, features.numbers):
                for at in range(one.starts[row], one.starts[row + 1]):
                    z[row, int(one.ids[at]) % self.z_size] += np.tanh(one.values[at])
        return z


@dataclass
class FakeReleases:
    """What a worker has loaded."""

    roles: Standing = field(default_factory=Standing)
    loaded: dict[str, FakeRelease] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def standing(self, _name: str) -> Standing:
        return self.roles

    def encoder(self, label: str) -> FakeRelease | None:
        return self.loaded.get(label)

    def given_up(self) -> dict[str, str]:
        return self.refused

    def have(self, sizes: Mapping[str, int], **roles: str) -> None:
        """Have releases loaded, by their sizes of z, and the roles that they stand in."""
        self.loaded |= {label: FakeRelease(label, sizes[label]) for label in roles.values()}
        self.roles = Standing(**roles)


def reading(log: list[tuple[int, LearningExample]]) -> ReadLog:
    """Read a log that is a list; an example's place is its offset."""

    def read(since: Mapping[int, int]) -> Iterator[tuple[int, int, LearningExample]]:
        for offset, (shard, example) in enumerate(list(log)):
            if offset >= since.get(shard, 0):
                yield shard, offset, example

    return read


@dataclass
class FakeKnown:
    """What a worker follows."""

    campaigns: dict[str, Campaign] = field(default_factory=dict)
    snapshots: dict[tuple[str, int | None], PolicySnapshot] = field(default_factory=dict)
    parts: SnapshotParts = field(default_factory=SnapshotParts)
    releases: FakeReleases = field(default_factory=FakeReleases)

    def encoder(self, label: str) -> FakeRelease | None:
        return self.releases.encoder(label)

    def stands_in(self, label: str) -> str | None:
        live = self.releases.roles.live
        return live if label in self.releases.refused and live != label else None

    def campaign(self, campaign_id: str) -> Campaign | None:
        return self.campaigns.get(campaign_id)

    def snapshot(self, campaign_id: str, wave: int | None = None) -> PolicySnapshot | None:
        return self.snapshots.get((campaign_id, wave))

    def follow(self, outputs: Sequence[Output]) -> None:
        """Take up the snapshots among a campaign shard's outputs."""
        for output in outputs:
            if output.topic is not POLICY_SNAPSHOTS:
                continue
            raw_key = (output.key or b"").decode()
            name, _, wave = raw_key.partition("#")[0].partition("/")
            key = (name, int(wave) if wave else None)
            if output.value is None:
                self.snapshots.pop(key, None)
                self.parts.drop(raw_key)
            elif whole := self.parts.put(raw_key, CODEC.decode(output.value, PolicySnapshot)):
                self.snapshots[key] = whole


NO_PAIRS = Pairs(FakeReleases(), reading([]), FakeKnown())


def incoming(record: Any, topic: str = "input", offset: int = 0) -> Incoming:
    """A record as it comes from a topic; keyed as ours are."""
    if isinstance(record, Incoming):
        return record
    if isinstance(record, bytes) or record is None:
        return Incoming(topic, 0, offset, 1, b"key", record)
    key = getattr(record, "user_id", None) or getattr(record, "campaign_id", None) or ""
    return Incoming(topic, 0, offset, 1, key.encode(), CODEC.encode("", record))


def sent(outputs: Sequence[Output], topic: Topic) -> list[Any]:
    """The records among outputs that go to a topic."""
    return [
        CODEC.decode(output.value, topic.record)  # type: ignore[arg-type]
        for output in outputs
        if output.topic is topic and output.value is not None
    ]


def refusals(outputs: Sequence[Output]) -> list[str]:
    """Why records went to the dead letters."""
    return [
        dict(output.headers or ())["kafka_dlt-exception-message"].decode()
        for output in outputs
        if output.topic is DEAD_LETTERS
    ]


def raw(outputs: Sequence[Output]) -> list[tuple[str, bytes | None, bytes | None]]:
    """Outputs to compare."""
    return [(output.topic.name, output.key, output.value) for output in outputs]


def clock(now_ms: int | None = NOON) -> Clock:
    """A wall clock that stands still; None: a replay's."""
    return Clock(
        wall_ms=None if now_ms is None else lambda: now_ms, ahead_ms=300_000, impossible_ms=DAY_MS
    )


def users_of(number: int, count: int, shards: int = SHARDS) -> list[str]:
    """Users that belong into a shard."""
    names = (f"user-{rank}" for rank in range(100_000))
    mine = (name for name in names if partition_of(name, shards) == number)
    return [next(mine) for _ in range(count)]


def campaign(**changes: Any) -> Campaign:
    """Three templates in two channels, all in one wave, windows of minutes."""
    given: dict[str, Any] = {
        "campaign_id": "spring",
        "version": 1,
        "status": "active",
        "templates": [
            Template(id="hello", channel="email", features={"warm": 1.0}),
            Template(id="offer", channel="email", features={"price": 0.5}),
            Template(id="ping", channel="push", features={"warm": 0.5, "price": -0.5}),
        ],
        "waves": 1,
        "wave_deadline_ms": 3_600_000,
        "policy": "linear-thompson",
        "policy_params": {"draws": 16},
        "context": [
            ContextFeature(attribute="age", center=45.0, scale=15.0),
            ContextFeature(attribute="plan", one_of=["free", "plus"]),
            ContextFeature(event="app_open"),
        ],
        "expires_after_ms": 60_000,
        "attribution_window_ms": 100_000,
        "allowed_lateness_ms": 10_000,
        "correction_horizon_ms": 1_000_000,
        "reward_weights": {"click": 1.0, "purchase": 2.0},
        "value_weights": {"purchase": 0.25},
        "changed_at_ms": NOON,
    }
    return Campaign(**{**given, **changes})


def wave_start(of: Campaign, number: int = 0, wave: int = 0, **given: Any) -> WaveStart:
    """What the scheduler tells a shard."""
    usual: dict[str, Any] = {
        "campaign": of,
        "wave": wave,
        "shard": number,
        "policy_version": 0,
        "encoder_version": ContextEncoder(of.context).version,
        "share_from": wave / of.waves,
        "share_until": (wave + 1) / of.waves,
        "started_at_ms": NOON,
        "deadline_ms": NOON + of.wave_deadline_ms,
    }
    return WaveStart(**{**usual, **given})


def frozen(
    of: Campaign, wave: int = 0, version: int = 0, encoder: ContextEncoder | None = None
) -> PolicySnapshot:
    """The policy that has learned nothing, as a wave is pinned to it."""
    encoder, actions = encoder or ContextEncoder(of.context), action_set(of)
    policy = create(of.policy, of.policy_params, encoder.d_user, actions.d_action)
    return PolicySnapshot(
        campaign_id=of.campaign_id,
        version=version,
        encoder_version=encoder.version,
        policy=of.policy,
        state=to_bytes(policy),
        offsets={},
        examples=0,
        reward_sum=0.0,
        created_at_ms=NOON,
        wave=wave,
    )


def add_people(shard: MemoryShard, users: Sequence[str]) -> None:
    """Give users an age, a plan and both channels."""
    events = [
        UserEvent(
            user_id=user,
            type="profile",
            occurred_at_ms=NOON - DAY_MS,
            attributes={"age": 20 + rank % 50, "plan": ("free", "plus")[rank % 2]},
            contacts={"email": f"{user}@example.com", "push": f"token-{user}"},
        )
        for rank, user in enumerate(users)
    ]
    assert not shard.apply(FoldProfiles(SHARDS, 65_536, clock()), events, "user-events")


def decided(
    shard: MemoryShard, of: Campaign, wave: int = 0, chunk: int = 500, **start: Any
) -> list[Decision]:
    """Run a wave of a campaign in a shard."""
    known = FakeKnown({of.campaign_id: of}, {(of.campaign_id, wave): frozen(of, wave)})
    shard.apply(StartWaves(), [wave_start(of, shard.number, wave, **start)], "wave-starts")
    outputs = shard.run(DecideChunk(known, chunk, clock(shard.now_ms)))
    return sent(outputs, SEND_DECISIONS)


def update(
    rewards: Sequence[float] = (),
    previous: Sequence[float] | None = None,
    shard: int = 0,
    wave: int = 0,
    **given: Any,
) -> LearningUpdate:
    """Outcomes of the template `hello`, from one shard."""
    n = len(rewards)
    rng = np.random.default_rng([abs(shard), abs(wave), n])
    usual: dict[str, Any] = {
        "campaign_id": "spring",
        "wave": wave,
        "shard": shard,
        "policy_version": wave,
        "encoder_version": "e",
        "decided": n,
        "open": 0,
        "deciding": False,
        "time_ms": NOON,
        "actions": ["hello"] if n else [],
        "action_index": np.zeros(n, dtype="<i4").tobytes(),
        "contexts": rng.random((n, 4)).astype("<f4").tobytes(),
        "rewards": np.array(rewards, dtype="<f8").tobytes(),
        "previous": np.array(previous or [math.nan] * n, dtype="<f8").tobytes(),
        "decided_at_ms": np.full(n, NOON, dtype="<i8").tobytes(),
        "tallies": [
            Tally(
                reason="policy",
                action="hello",
                decisions=n,
                closed=n,
                feedback={"click": n},
                reward_sum=sum(rewards) - sum(previous or ()),
            )
        ]
        if n
        else [],
    }
    return LearningUpdate(**{**usual, **given})
