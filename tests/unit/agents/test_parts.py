"""Outcomes that shards gather and sum up, beside the same outcomes told one by one."""

from dataclasses import replace

import pytest

from schemas.campaign import Campaign, ContextFeature, WaveStart
from schemas.hashing import partition_of
from schemas.learning import LearningUpdate, PolicySnapshot
from schemas.records import Decision, Reward
from schemas.topics import (
    LEARNING_EXAMPLES,
    LEARNING_UPDATES,
    SEND_DECISIONS,
    WAVE_REPORTS,
    WAVE_STARTS,
)
from streams.agents.attribute import Attribute
from streams.agents.close import CloseDue
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.learn import KeepUpdates
from streams.agents.parts import TellGathered
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.core.policies import from_bytes
from tests.unit.agents.shard import (
    CODEC,
    INTERVAL_MS,
    NO_PAIRS,
    NOON,
    SHARDS,
    FakeKnown,
    MemoryShard,
    add_people,
    campaign,
    clock,
    refusals,
    sent,
    users_of,
)
from tests.unit.policies.test_action_parts import close as same_state

CLOSES = NOON + 110_000  # the window and its lateness
WIDEST = (("age", 256), ("plan", 255))  # columns: with the constant 512
FADING = {"draws": 16, "half_life_days": 0.001}


class Loop:
    """A leader and the shards of the users, with everything between them delivered at once."""

    def __init__(self, of: Campaign, people: int = 60, shards: int = SHARDS) -> None:
        self.of = of
        self.known = FakeKnown({of.campaign_id: of})
        self.leader = MemoryShard()
        self.told: list[LearningUpdate] = []
        self.shards = [MemoryShard(number) for number in range(shards)]
        for shard in self.shards:
            add_people(shard, users_of(shard.number, people))
        assert refusals(self.leader.apply(TakeUpCampaigns(1), [of], "campaigns")) == []

    def lead(self, now_ms: int) -> list[WaveStart]:
        self.leader.now_ms = now_ms
        outputs = self.leader.run(
            LeadCampaigns(SHARDS, clock(now_ms), self.known, NO_PAIRS, INTERVAL_MS)
        )
        self.known.follow(outputs)
        return sent(outputs, WAVE_STARTS)

    def decide(self, now_ms: int, chunk: int = 500) -> list[Decision]:
        """Start the next wave and decide for it."""
        starts, decisions = self.lead(now_ms), []
        for shard in self.shards:
            shard.now_ms = now_ms
            shard.apply(StartWaves(), [starts[shard.number]], "wave-starts")
            outputs = shard.run(DecideChunk(self.known, chunk, clock(now_ms)))
            decisions += sent(outputs, SEND_DECISIONS)
            self.deliver(outputs)
        return decisions

    def answer(self, decisions: list[Decision], kind: str = "click", batch: int = 1000) -> None:
        for shard in self.shards:
            mine = [d for d in decisions if partition_of(d.user_id, SHARDS) == shard.number]
            rewards = [
                Reward(
                    user_id=d.user_id,
                    kind=kind,
                    occurred_at_ms=d.decided_at_ms + 50,
                    decision_id=d.decision_id,
                )
                for d in mine
            ]
            for first in range(0, len(rewards), batch):
                some = rewards[first : first + batch]
                attribute = Attribute(SHARDS, clock(shard.now_ms))
                outputs = shard.apply(attribute, some, "rewards")
                assert refusals(outputs) == []
                self.deliver(outputs)

    def at(self, now_ms: int) -> None:
        """Let the shards do what is due by then."""
        for shard in self.shards:
            shard.now_ms = now_ms
            for step in (CloseDue(clock(now_ms)), TellGathered(clock(now_ms), INTERVAL_MS)):
                self.deliver(shard.run(step))

    def deliver(self, outputs) -> None:
        updates = sent(outputs, LEARNING_UPDATES)
        self.told += updates
        keep = KeepUpdates(SHARDS, clock())
        assert refusals(self.leader.apply(keep, updates, "learning-updates")) == []

    def snapshot(self) -> PolicySnapshot:
        newest = self.known.snapshot("spring")
        assert newest is not None
        return newest

    def learned(self) -> dict:
        return from_bytes(self.snapshot().state).state()


def spring(learning: str = "parts", **changes) -> Campaign:
    return campaign(**{"waves": 2, "policy_params": FADING, "learning": learning, **changes})


def run(learning: str, **changes) -> Loop:
    """A wave whose clicks come in time, and corrections of them after the close."""
    loop = Loop(spring(learning, **changes))
    decisions = loop.decide(NOON)
    loop.answer(decisions[::3])
    loop.at(CLOSES)
    loop.lead(CLOSES)  # ends the first wave, and starts the second
    loop.answer(decisions[1::3], "purchase")
    loop.at(CLOSES + INTERVAL_MS)
    loop.lead(NOON + 3_800_000)  # the second ends without an outcome; corrections are learned
    return loop


@pytest.mark.parametrize("policy", ["linear-thompson", "linear-ucb", "disjoint-linear-thompson"])
def test_parts_leave_the_policy_that_examples_do(policy):
    params = FADING if policy.endswith("thompson") else {"half_life_days": 0.001}
    given = {"policy": policy, "policy_params": params}
    parts, examples = run("parts", **given), run("examples", **given)
    assert parts.snapshot().examples == examples.snapshot().examples > 100
    assert parts.snapshot().reward_sum == examples.snapshot().reward_sum > 0
    assert parts.snapshot().feedback == examples.snapshot().feedback
    same_state(parts.learned(), examples.learned())
    assert any(update.sums for update in parts.told)
    assert not any(update.sums for update in examples.told)


def test_the_log_keeps_every_example_all_the_same():
    logs = []
    for learning in ("parts", "examples"):
        loop = run(learning)
        logs.append([e for shard in loop.shards for e in sent(shard.outputs, LEARNING_EXAMPLES)])
    assert logs[0] == logs[1]
    assert len(logs[0]) > 100


def test_the_learner_waits_until_every_sum_has_been_told():
    loop = Loop(spring())
    loop.decide(NOON)
    for shard in loop.shards:
        shard.now_ms = CLOSES
        loop.deliver(shard.run(CloseDue(clock(CLOSES))))
    assert loop.lead(CLOSES) == []  # all are closed, none is told
    for shard in loop.shards:
        loop.deliver(shard.run(TellGathered(clock(CLOSES), INTERVAL_MS)))
    assert {start.wave for start in loop.lead(CLOSES)} == {1}
    assert loop.snapshot().examples == sum(len(s.keys(b"l")) for s in loop.shards)


def test_the_number_of_messages_does_not_grow_with_the_traffic():
    counts = []
    for step_ms in (110_000, 1_000):  # closed at once, and in a hundred transactions
        loop = Loop(spring())
        starts = loop.lead(NOON)
        for shard in loop.shards:
            shard.apply(StartWaves(), [starts[shard.number]], "wave-starts")
            for chunk in range(20):  # over a minute
                shard.step(DecideChunk(loop.known, 2, clock(NOON + 3_000 * chunk)))
            shard.run(DecideChunk(loop.known, 2, clock(NOON + 60_000)))
        before = len(loop.told)
        for now_ms in range(CLOSES, CLOSES + 120_000, step_ms):
            loop.at(now_ms)
        told = loop.told[before:]
        counts.append(sum(bool(update.sums or update.rewards) for update in told))
        assert sum(t.closed for u in told for t in u.tallies) > 100
    assert counts == [SHARDS, SHARDS]


def test_any_grouping_into_transactions_gives_the_same_bytes():
    snapshots = []
    for batch in (1000, 7, 1):
        loop = Loop(spring())
        decisions = loop.decide(NOON, chunk=500)
        loop.answer(decisions[::2], batch=batch)
        for shard in loop.shards:
            shard.now_ms = CLOSES
            loop.deliver(shard.run(CloseDue(clock(CLOSES))))
        loop.at(CLOSES)
        loop.lead(CLOSES)
        snapshots.append(loop.snapshot().state)
    assert snapshots[0] == snapshots[1] == snapshots[2]


def test_a_correction_waits_for_the_interval_and_is_told_once():
    loop = Loop(spring())
    decisions = loop.decide(NOON)
    loop.at(CLOSES)
    loop.lead(CLOSES)
    before = len(loop.told)
    loop.answer(decisions, "purchase")
    loop.at(CLOSES + INTERVAL_MS - 1)
    assert not any(update.sums for update in loop.told[before:])
    loop.at(CLOSES + INTERVAL_MS)
    late = [update for update in loop.told[before:] if update.sums]
    assert len(late) == SHARDS
    assert all(one.n == 0 and one.weight == 0.0 for update in late for one in update.sums)
    before = len(loop.told)
    loop.at(CLOSES + 10 * INTERVAL_MS)
    assert loop.told[before:] == []
    assert all(shard.keys(prefix) == [] for shard in loop.shards for prefix in (b"o", b"r", b"s"))


def test_a_wave_that_ends_at_its_deadline_has_what_was_closed_shortly_before():
    deadline_ms = 200_000
    loop = Loop(spring(wave_deadline_ms=deadline_ms))
    starts = loop.lead(NOON)
    for shard in loop.shards:  # two chunks: the second is still open at the deadline
        shard.apply(StartWaves(), [starts[shard.number]], "wave-starts")
        shard.step(DecideChunk(loop.known, 10, clock(NOON)))
        shard.run(DecideChunk(loop.known, 500, clock(NOON + 150_000)))
    loop.at(CLOSES)
    assert not any(update.sums for update in loop.told)
    loop.at(NOON + deadline_ms - deadline_ms // 10)
    assert {start.wave for start in loop.lead(NOON + deadline_ms)} == {1}
    assert loop.snapshot().examples == sum(
        len(sent(shard.outputs, LEARNING_EXAMPLES)) for shard in loop.shards
    )
    assert loop.snapshot().examples > 0


def test_reports_count_while_outcomes_are_gathered():
    loop = Loop(spring())
    starts = loop.lead(NOON)
    shard = loop.shards[0]
    shard.apply(StartWaves(), [starts[0]], "wave-starts")
    shard.step(DecideChunk(loop.known, 10, clock(NOON)))
    loop.deliver(shard.outputs)
    loop.deliver(shard.run(DecideChunk(loop.known, 500, clock(NOON + 60_000))))
    shard.now_ms = CLOSES
    shard.run(CloseDue(clock(CLOSES)))
    loop.deliver(shard.run(TellGathered(clock(CLOSES + 1000), INTERVAL_MS)))
    loop.leader.now_ms = NOON + 1
    outputs = loop.leader.run(
        LeadCampaigns(SHARDS, clock(NOON + 1), loop.known, NO_PAIRS, INTERVAL_MS)
    )
    (report,) = sent(outputs, WAVE_REPORTS)
    closed = sum(tally.closed for tally in report.tallies)
    assert 0 < closed < report.decided
    assert report.open == report.decided - sum(
        tally.decisions for tally in report.tallies if tally.reason not in ("policy", "baseline")
    )


def test_few_examples_of_wide_contexts_are_told_as_they_are():
    wide = [ContextFeature(attribute="plan", buckets=100)]
    loop = Loop(spring(context=wide), people=3)
    loop.decide(NOON)
    loop.at(CLOSES)
    told = [update for update in loop.told if update.sums or update.rewards]
    assert told
    assert not any(update.sums for update in told)
    assert sum(len(update.rewards) // 8 for update in told) == sum(
        len(sent(shard.outputs, LEARNING_EXAMPLES)) for shard in loop.shards
    )


def test_blocks_are_summed_up_as_they_fill_and_the_state_stays_small():
    of = spring(waves=1, context=[ContextFeature(attribute="age", center=45, scale=15)])
    loop = Loop(of, people=1)
    shard = loop.shards[0]
    add_people(shard, users_of(0, 4_000))
    starts = loop.lead(NOON)
    shard.apply(StartWaves(), [starts[0]], "wave-starts")
    shard.run(DecideChunk(loop.known, 500, clock(NOON)))
    shard.now_ms = CLOSES
    largest = 0
    for _ in range(3):
        shard.step(CloseDue(clock(CLOSES)))
        keys = [key for prefix in (b"o", b"r", b"s") for key in shard.keys(prefix)]
        largest = max(largest, sum(len(shard.store.pairs[key]) for key in keys))
    assert len(sent(shard.outputs, LEARNING_EXAMPLES)) == 4_000
    assert len(shard.keys(b"s")) == 3  # one a template
    assert largest < 1.2 * 1024 * (4 + 28)  # a block of examples


def test_a_wave_is_told_before_its_last_entry_is_forgotten():
    loop = Loop(spring(waves=1, correction_horizon_ms=111_000))
    decisions = loop.decide(NOON)
    loop.at(CLOSES)
    loop.lead(CLOSES)
    loop.answer(decisions, "purchase")
    loop.at(NOON + 111_000)  # the correction is younger than the interval
    loop.lead(CLOSES + 2 * INTERVAL_MS)
    assert loop.snapshot().reward_sum == 2.0 * sum(d.action != "no-send" for d in decisions)
    for shard in loop.shards:
        assert all(shard.keys(prefix) == [] for prefix in (b"w", b"o", b"r", b"s"))


def test_a_campaign_may_change_its_way_of_learning_between_two_waves():
    loop = Loop(spring("parts", waves=3))
    for wave in range(2):
        now_ms = NOON + 400_000 * wave
        loop.decide(now_ms)
        loop.at(now_ms + 110_000)
        changed = replace(loop.of, version=2 + wave, learning="examples", changed_at_ms=NOON + 1)
        assert refusals(loop.leader.apply(TakeUpCampaigns(1), [changed], "campaigns")) == []
    starts = loop.lead(NOON + 900_000)
    assert {start.half_lives_ms for start in starts} == {None}
    sums = [bool(update.sums) for update in loop.told if update.sums or update.rewards]
    assert True in sums
    assert False in sums


def test_sums_with_another_half_life_are_refused():
    loop = Loop(spring("parts"))
    loop.decide(NOON)
    loop.at(CLOSES)
    (sums, *_) = [update for update in loop.told if update.sums]
    other = Loop(spring("parts", policy_params={"draws": 16}))
    other.lead(NOON)
    before = dict(other.leader.store.pairs)
    keep = KeepUpdates(SHARDS, clock())
    (why,) = refusals(other.leader.apply(keep, [sums], "learning-updates"))
    assert "half-lives" in why
    assert other.leader.store.pairs == before


def test_sums_and_gathered_rows_of_the_widest_contexts_fit_the_topic_and_the_state():
    templates = [replace(template, features={}) for template in campaign().templates]
    wide = [ContextFeature(attribute=name, buckets=buckets) for name, buckets in WIDEST]
    params = {**FADING, "adapt": False}
    loop = Loop(spring(context=wide, templates=templates, waves=1, policy_params=params), people=1)
    shard = loop.shards[0]
    add_people(shard, users_of(0, 3_000))
    loop.decide(NOON)
    loop.at(CLOSES)  # the shard in memory holds each commit to the limits
    told = [update for update in loop.told if update.sums and update.shard == 0]
    assert sum(one.n for update in told for one in update.sums) == 3_000
    assert max(len(CODEC.encode("", update)) for update in told) > 1_000_000
