"""What a campaign costs its learner by examples and in parts, and what summing costs a shard."""

import statistics
import time
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.learning import LearningUpdate
from schemas.topics import LEARNING_UPDATES, POLICY_SNAPSHOTS, WAVE_STARTS
from streams.agents.learn import KeepUpdates
from streams.agents.parts import gather, tell_gathered
from streams.agents.running_waves import RunningWave, store_wave
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.core.encoding import ContextEncoder
from streams.core.learning import Outcome, Rows, update_columns
from streams.core.ledger import Entry
from tests.bench.figures import Figure, write_figures
from tests.unit.agents.shard import (
    INTERVAL_MS,
    NO_PAIRS,
    NOON,
    FakeKnown,
    MemoryShard,
    campaign,
    clock,
    refusals,
    sent,
)

SHARDS = 8
EXAMPLES = 10_000  # of each shard
CHUNK = 500  # outcomes of one transaction
RUNS = 5
COLUMNS, FEATURES, ACTIONS = 15, 3, 10  # d = (1 + 15)(1 + 3) = 64
BAR = 10.0


def hot(learning: str) -> Campaign:
    rng = np.random.default_rng(1)
    names = [f"f{rank}" for rank in range(FEATURES)]
    templates = [
        Template(
            id=f"t{rank}",
            channel="email",
            features=dict(zip(names, rng.normal(size=FEATURES).round(3).tolist(), strict=True)),
        )
        for rank in range(ACTIONS)
    ]
    return campaign(
        templates=templates,
        context=[ContextFeature(attribute=f"a{rank}") for rank in range(COLUMNS)],
        policy_params={"half_life_days": 7.0},
        learning=learning,
    )


def outcomes(of: Campaign, shard: int) -> list[Outcome]:
    rng = np.random.default_rng([2, shard])
    contexts = rng.normal(size=(EXAMPLES, COLUMNS)).astype("<f4")
    taken = rng.integers(ACTIONS, size=EXAMPLES)
    rewards = (rng.random(EXAMPLES) < 0.1).astype(float)
    encoder = ContextEncoder(of.context).version
    return [
        Outcome(
            user_id=f"u{shard}-{rank}",
            entry=Entry(
                decision_id=f"d{shard}-{rank}",
                campaign_id=of.campaign_id,
                wave=0,
                action=of.templates[taken[rank]].id,
                reason="policy",
                propensity=0.1,
                propensity_kind="drawn",
                actions=[],
                probabilities=[],
                context=contexts[rank].tobytes(),
                decided_at_ms=NOON + rank,
                policy_version=0,
                encoder_version=encoder,
                channel="email",
            ),
            reward=float(rewards[rank]),
            previous=None,
            known=None,
            at_ms=NOON + rank,
        )
        for rank in range(EXAMPLES)
    ]


def begun(of: Campaign) -> tuple[MemoryShard, list[RunningWave]]:
    """A campaign shard that leads a wave, and the wave in each shard of the users."""
    leader = MemoryShard()
    assert refusals(leader.apply(TakeUpCampaigns(1), [of], "campaigns")) == []
    starts = sent(
        leader.run(LeadCampaigns(SHARDS, clock(), FakeKnown(), NO_PAIRS, INTERVAL_MS)), WAVE_STARTS
    )
    waves = [
        RunningWave(start=start, decided=EXAMPLES, open=0, deciding=False, held=EXAMPLES)
        for start in starts
    ]
    return leader, waves


def told_one_by_one(running: RunningWave, found: list[Outcome]) -> tuple[list[bytes], float]:
    """A shard's updates with the examples, and its seconds for making the columns."""
    shard, began = MemoryShard(running.start.shard), time.process_time()
    updates = []
    for first in range(0, EXAMPLES, CHUNK):
        tx = shard.begin()
        rows = Rows(**update_columns(found[first : first + CHUNK]))
        left = EXAMPLES - first - CHUNK
        updates.append(
            tx.encode(
                LEARNING_UPDATES,
                LearningUpdate(
                    campaign_id=running.start.campaign.campaign_id,
                    wave=0,
                    shard=shard.number,
                    policy_version=0,
                    encoder_version=running.start.encoder_version,
                    decided=EXAMPLES,
                    open=left,
                    deciding=False,
                    time_ms=NOON,
                    **msgspec.structs.asdict(rows),
                ),
            )
        )
    return updates, time.process_time() - began


def told_in_parts(running: RunningWave, found: list[Outcome]) -> tuple[list[bytes], float]:
    """A shard's updates with the sums, and its seconds for gathering and summing up."""
    shard, began = MemoryShard(running.start.shard), time.process_time()
    for first in range(0, EXAMPLES, CHUNK):
        tx = shard.begin()
        store_wave(tx, running)
        gather(tx, running, found[first : first + CHUNK], [], CHUNK, NOON)
        shard.commit(tx)
    tx = shard.begin()
    tell_gathered(tx, running)
    shard.commit(tx)
    took = time.process_time() - began
    return [out.value or b"" for out in shard.outputs], took


def learned(leader: MemoryShard, updates: list[bytes]) -> tuple[float, bytes]:
    """The learner's seconds from the first byte to the snapshot, less those of one without any."""
    began = time.process_time()
    keep = KeepUpdates(SHARDS, clock())
    for first in range(0, len(updates), 20):
        some = leader.apply(keep, updates[first : first + 20], "learning-updates")
        assert refusals(some) == []
    outputs = leader.run(LeadCampaigns(SHARDS, clock(), FakeKnown(), NO_PAIRS, INTERVAL_MS))
    took = time.process_time() - began
    (snapshot, *_) = sent(outputs, POLICY_SNAPSHOTS)
    assert snapshot.examples == SHARDS * EXAMPLES
    return took, snapshot.state


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_the_learner_of_a_campaign_in_parts_costs_a_fraction_of_one_by_examples():
    seconds: dict[str, list[float]] = {"examples": [], "parts": []}
    shard_seconds: dict[str, list[float]] = {"examples": [], "parts": []}
    size: dict[str, int] = {}
    found = [outcomes(hot("parts"), number) for number in range(SHARDS)]
    tell = {"examples": told_one_by_one, "parts": told_in_parts}
    for _ in range(RUNS):
        for learning, way in tell.items():
            leader, waves = begun(hot(learning))
            made = [way(replaced(wave), found[wave.start.shard]) for wave in waves]
            updates = [update for some, _ in made for update in some]
            took, _ = learned(leader, updates)
            n = SHARDS * EXAMPLES
            seconds[learning].append(took / n)
            shard_seconds[learning].append(sum(spent for _, spent in made) / n)
            size[learning] = sum(map(len, updates)) // n
    cost = {way: statistics.median(runs) * 1e6 for way, runs in seconds.items()}
    shard_cost = {way: statistics.median(runs) * 1e6 for way, runs in shard_seconds.items()}
    ratio = cost["examples"] / cost["parts"]
    scene = f"d = 64, {ACTIONS} actions, {SHARDS} shards of {EXAMPLES} examples"
    figures = [
        Figure(
            name=f"learner, per example in parts ({scene})",
            value=cost["parts"],
            unit="µs of CPU",
            peer="by examples",
            peer_value=cost["examples"],
            ratio=ratio,
            bar=f">= {BAR:g}",
            holds=ratio >= BAR,
        ),
        Figure(
            name="shard, per example in parts",
            value=shard_cost["parts"],
            unit="µs of CPU",
            peer="by examples",
            peer_value=shard_cost["examples"],
            ratio=shard_cost["parts"] / shard_cost["examples"],
        ),
        Figure(
            name="learning-updates, per example in parts",
            value=float(size["parts"]),
            unit="bytes",
            peer="by examples",
            peer_value=float(size["examples"]),
        ),
        Figure(
            name="examples that one learner takes in parts",
            value=1e6 / cost["parts"],
            unit="per s",
            peer="by examples",
            peer_value=1e6 / cost["examples"],
            ratio=ratio,
        ),
    ]
    write_figures("bench", "parts", figures)
    assert all(figure.holds is not False for figure in figures)


def replaced(wave: RunningWave) -> RunningWave:
    """A wave of its own for each run: it is changed."""
    return RunningWave(start=replace(wave.start), decided=EXAMPLES, deciding=False, held=EXAMPLES)
