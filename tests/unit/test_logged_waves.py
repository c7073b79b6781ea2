"""The waves of a replayed log overlap: each snapshot contains its own wave's outcomes only."""

from collections.abc import Iterator

import numpy as np

from schemas.campaign import Campaign, Template
from schemas.learning import LearningUpdate, PolicySnapshot, Tally
from schemas.topics import LEARNING_UPDATES, POLICY_SNAPSHOTS
from schemas.wire import Codec
from streams.agents.clock import Clock
from streams.agents.learn import KeepUpdates
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.kafka.transaction import Incoming, Transaction
from streams.kafka.turn import Turn
from tests.unit.agents.shard import NO_PAIRS, FakeKnown

CODEC = Codec()
CAMPAIGN = Campaign(
    campaign_id="log",
    version=1,
    status="logged",
    templates=[
        Template(id=name, channel="log", features={name: 1.0}) for name in ("hello", "offer")
    ],
    waves=2,
    wave_deadline_ms=1000,
    policy="linear-thompson",
    context=[],
    expires_after_ms=1000,
    attribution_window_ms=1000,
    allowed_lateness_ms=0,
    correction_horizon_ms=1000,
    reward_weights={"click": 1.0},
    changed_at_ms=0,
)


class Memory:
    """A store in memory."""

    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.state.get(key)

    def scan(self, prefix: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(self.state):
            if key.startswith(prefix) and (after is None or key > after):
                yield key, self.state[key]


class Course:
    """One campaign shard, transaction by transaction."""

    def __init__(self) -> None:
        self.store = Memory()
        self.snapshots: list[PolicySnapshot] = []
        self._offset = 0
        self._lead = LeadCampaigns(
            1,
            Clock(wall_ms=None, ahead_ms=0, impossible_ms=0),
            FakeKnown(),
            NO_PAIRS,
            60_000,
        )
        self._apply(TakeUpCampaigns(1), CAMPAIGN)

    def tell(self, wave: int, actions: list[str], rewards: list[float], **progress: object) -> None:
        rank = {name: number for number, name in enumerate(sorted(set(actions)))}
        update = LearningUpdate(
            campaign_id="log",
            wave=wave,
            shard=0,
            policy_version=-1,
            encoder_version="columns",
            time_ms=0,
            actions=sorted(rank),
            action_index=np.array([rank[name] for name in actions], "<i4").tobytes(),
            rewards=np.array(rewards, "<f8").tobytes(),
            previous=np.full(len(rewards), np.nan, "<f8").tobytes(),
            decided_at_ms=np.zeros(len(rewards), "<i8").tobytes(),
            tallies=[
                Tally(
                    reason="logged",
                    action="hello",
                    closed=len(rewards),
                    reward_sum=sum(rewards),
                    feedback={"click": int(sum(rewards))},
                )
            ],
            **{"decided": len(rewards), "open": 0, "deciding": True, **progress},
        )
        self._apply(KeepUpdates(1, Clock(wall_ms=None, ahead_ms=0, impossible_ms=0)), update)

    def lead(self) -> None:
        tx = self._begin()
        while self._lead(tx):
            self._commit(tx)
            tx = self._begin()
        self._commit(tx)

    def _apply(self, handler, record) -> None:
        tx = self._begin()
        raw = CODEC.encode("", record)
        handler(tx, [Incoming(LEARNING_UPDATES.name, 0, self._offset, 0, b"log", raw)])
        self._offset += 1
        assert not [out for out in tx.outputs if out.topic.name == "dead-letters"]
        self._commit(tx)

    def _begin(self) -> Transaction:
        return Transaction(0, self.store, CODEC, "", 0, {}, Turn())

    def _commit(self, tx: Transaction) -> None:
        for key, value in tx.changes.items():
            if value is None:
                self.store.state.pop(key, None)
            else:
                self.store.state[key] = value
        self.snapshots += [
            CODEC.decode(out.value, PolicySnapshot)
            for out in tx.outputs
            if out.topic is POLICY_SNAPSHOTS and out.value is not None  # a wave that ended
        ]


def test_what_a_next_wave_has_told_already_is_not_learned_with_the_one_that_ends():
    early, late = Course(), Course()
    for course in (early, late):
        course.tell(0, ["hello", "offer"], [1.0, 0.0])
    early.tell(1, ["offer"] * 3, [1.0, 1.0, 1.0])
    for course in (early, late):
        course.tell(0, ["hello"], [0.0], deciding=False)
        course.lead()
    late.tell(1, ["offer"] * 3, [1.0, 1.0, 1.0])
    for course in (early, late):
        course.tell(1, ["hello"], [0.0], deciding=False)
        course.lead()
        first, second = course.snapshots[-2:]
        assert (first.examples, first.reward_sum, first.feedback) == (3, 1.0, {"click": 1})
        assert (second.examples, second.reward_sum, second.feedback) == (7, 4.0, {"click": 4})
    assert [s.state for s in early.snapshots] == [s.state for s in late.snapshots]
