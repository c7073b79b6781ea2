"""A campaign's policies survive a new release of its encoder, a promotion and a rollback."""

import dataclasses
import time
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
from structlog.testing import capture_logs

from schemas.campaign import Campaign, Template
from schemas.learning import LearningExample, LearningUpdate
from schemas.topics import POLICY_SNAPSHOTS, WAVE_STARTS
from streams.agents.learn import KeepUpdates
from streams.agents.pairs import Pairs
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.agents.snapshots import newest_snapshot
from streams.agents.state import campaign_key
from streams.core.encoding import ContextEncoder, action_set, release_label
from streams.core.policies import Examples, create, from_bytes, to_bytes
from streams.core.profiles import Profile
from streams.core.schedule import CampaignState
from streams.releases.offered import Standing
from tests.unit.agents.shard import (
    INTERVAL_MS,
    NOON,
    SHARDS,
    FakeKnown,
    FakeRelease,
    FakeReleases,
    MemoryShard,
    campaign,
    clock,
    frozen,
    reading,
    sent,
)

OLD, NEW = "people@1.0.0", "people@2.0.0"
SIZES = {OLD: 6, NEW: 9}
SPRING = campaign(waves=20, encoder="people", policy="linear-thompson")
COUNTRIES = ("de", "fr", "it", "pl", "se")


class Leader:
    """A campaign shard with its log: tells it outcomes as user shards do."""

    def __init__(self, of: Campaign = SPRING) -> None:
        self.campaign = of
        self.shard = MemoryShard()
        self.releases = FakeReleases()
        self.log: list[tuple[int, LearningExample]] = []
        self.known = FakeKnown()
        self.pairs = Pairs(self.releases, reading(self.log), self.known)
        self.outcomes: list[Outcome] = []
        self.shard.apply(TakeUpCampaigns(1), [of], "campaigns")

    def lead(self):
        return self.shard.run(
            LeadCampaigns(SHARDS, clock(self.shard.now_ms), self.known, self.pairs, INTERVAL_MS)
        )

    def lead_until(self, condition) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.lead()
            time.sleep(0.01)

    @property
    def state(self) -> CampaignState:
        return self.shard.load(campaign_key("spring"), CampaignState)

    def policy(self, label: str | None = None):
        snapshot = newest_snapshot(self.shard.begin(), "spring", label)
        assert snapshot is not None
        return from_bytes(snapshot.state)

    def finish(self, wave: int, n: int = 40, *, open_ones: int = 0) -> None:
        """Every shard's outcomes of a wave, under the release that the wave is pinned to."""
        pinned = next(w for w in self.state.waves if w.wave == wave).encoder_version
        for number in range(SHARDS):
            told = [self._outcome(wave, number, rank, pinned) for rank in range(n)]
            self.tell(wave, number, told, pinned, open_ones)

    def finish_as(self, wave: int, release: FakeRelease) -> None:
        """The same where this worker has not the wave's release, but others have."""
        self.releases.loaded[release.version] = release
        self.finish(wave)
        del self.releases.loaded[release.version]

    def _outcome(self, wave: int, shard: int, rank: int, pinned: str) -> "Outcome":
        rng = np.random.default_rng([wave, shard, rank])
        profile = Profile(
            attributes={
                "age": float(rng.integers(18, 80)),
                "plan": ("free", "plus")[rng.integers(2)],
                "country": COUNTRIES[rng.integers(5)],
            }
        )
        release = self.releases.loaded[release_label(pinned)]
        contexts, features = ContextEncoder(self.campaign.context, release).encode_many(
            [profile], NOON
        )
        return Outcome(
            profile=profile,
            context=contexts[0],
            features=features[0],
            action=self.campaign.templates[rng.integers(2)].id,
            reward=float(rng.random() < 0.4),
        )

    def tell(
        self, wave: int, shard: int, told: "list[Outcome]", pinned: str, open_ones: int = 0
    ) -> None:
        for outcome in told:
            self.outcomes.append(outcome)
            self.log.append((shard, outcome.example(wave, pinned)))
        names = [template.id for template in self.campaign.templates]
        update = LearningUpdate(
            campaign_id="spring",
            wave=wave,
            shard=shard,
            policy_version=0,
            encoder_version=pinned,
            decided=len(told),
            open=open_ones,
            deciding=False,
            time_ms=NOON,
            actions=names,
            action_index=np.array([names.index(o.action) for o in told], "<i4").tobytes(),
            contexts=np.array([o.context for o in told], "<f4").tobytes(),
            features=[o.features for o in told],
            rewards=np.array([o.reward for o in told], "<f8").tobytes(),
            previous=np.array([o.previous for o in told], "<f8").tobytes(),
            decided_at_ms=np.full(len(told), NOON, "<i8").tobytes(),
        )
        keep = KeepUpdates(SHARDS, clock())
        assert [o.key for o in self.shard.apply(keep, [update], "learning-updates")] == []


@dataclass(frozen=True, kw_only=True)
class Outcome:
    profile: Profile
    context: np.ndarray
    features: bytes
    action: str
    reward: float
    previous: float = float("nan")

    def example(self, wave: int, pinned: str) -> LearningExample:
        return LearningExample(
            decision_id="d",
            campaign_id="spring",
            campaign_version=1,
            wave=wave,
            user_id="u",
            reason="policy",
            action=self.action,
            propensity_kind="drawn",
            propensity=0.5,
            actions=[],
            probabilities=[],
            context=self.context.astype("<f4").tobytes(),
            features=self.features,
            reward=self.reward,
            previous_reward=None if np.isnan(self.previous) else self.previous,
            policy_version=0,
            encoder_version=pinned,
            decided_at_ms=NOON,
            closed_at_ms=NOON,
        )


def scores(policy, release: FakeRelease) -> np.ndarray:
    """What a policy makes of some people: posterior means of all templates."""
    people = [Profile(attributes={"age": float(age), "country": "it"}) for age in range(20, 60, 5)]
    contexts, _ = ContextEncoder(SPRING.context, release).encode_many(people, NOON)
    return policy.expected(contexts, action_set(SPRING))


def learned_from(outcomes: list[Outcome], release: FakeRelease, of=SPRING, begins_with=None):
    """A policy that was there from the beginning."""
    encoder, actions = ContextEncoder(of.context, release), action_set(of)
    policy = create(of.policy, {}, encoder.d_user, actions.d_action)
    if begins_with is not None:
        policy.warm_start(begins_with, of.warm_start_discount)
    contexts = np.vstack([encoder.encode_many([o.profile], NOON)[0] for o in outcomes])
    rows = [actions.ids.index(o.action) for o in outcomes]
    policy.learn_many(
        Examples(
            contexts=contexts,
            actions=tuple(o.action for o in outcomes),
            action_features=actions.features[rows],
            rewards=np.array([o.reward for o in outcomes]),
            previous=np.array([o.previous for o in outcomes]),
            at_ms=np.full(len(outcomes), NOON),
        )
    )
    return policy


def starts(outputs) -> set[str]:
    return {release_label(start.encoder_version) for start in sent(outputs, WAVE_STARTS)}


@pytest.fixture
def leader():
    leader = Leader()
    leader.releases.have(SIZES, live=OLD)
    assert starts(leader.lead()) == {OLD}
    leader.finish(0)
    leader.lead()
    return leader


def test_no_wave_starts_before_a_release_is_live():
    leader = Leader()
    assert leader.lead() == []
    leader.releases.have(SIZES, live=OLD)
    assert starts(leader.lead()) == {OLD}


def test_a_release_that_the_policy_cannot_have_starts_nothing_and_stops_nobody():
    leader = Leader()
    leader.releases.loaded[OLD] = FakeRelease(OLD, 4000)
    leader.releases.roles = Standing(live=OLD)
    assert leader.lead() == []


def test_a_policy_for_the_release_in_shadow_learns_the_log_again(leader):
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    new = leader.releases.loaded[NEW]
    due = scores(learned_from(leader.outcomes, new), new)
    assert np.abs(scores(leader.policy(NEW), new) - due).max() < 1e-9


def test_the_policy_in_shadow_contains_what_the_leading_one_contains_and_no_more(leader):
    contained = list(leader.outcomes)
    leader.finish(1, open_ones=1)  # in the log already, and not in a snapshot yet
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    new = leader.releases.loaded[NEW]
    found = scores(leader.policy(NEW), new)
    assert np.abs(found - scores(learned_from(contained, new), new)).max() < 1e-9
    leader.finish(1, n=0)
    leader.lead()
    found = scores(leader.policy(NEW), new)
    assert np.abs(found - scores(learned_from(leader.outcomes, new), new)).max() < 1e-9


def test_corrections_that_change_no_reward_stand_in_the_log_and_are_no_rows(leader):
    dismissed = dataclasses.replace(leader.outcomes[0], previous=leader.outcomes[0].reward)
    leader.log.insert(1, (0, dismissed.example(0, leader.state.waves[0].encoder_version)))
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    new = leader.releases.loaded[NEW]
    due = scores(learned_from(leader.outcomes, new), new)
    assert np.abs(scores(leader.policy(NEW), new) - due).max() < 1e-9


def test_a_promotion_takes_effect_with_the_next_wave_and_forgets_nothing(leader):
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.lead()
    assert leader.state.leading == OLD  # wave 1 is under way
    leader.finish(1)
    assert starts(leader.lead()) == {NEW}
    assert (leader.state.leading, leader.state.pairs) == (NEW, [OLD])
    new = leader.releases.loaded[NEW]
    found = scores(leader.policy(), new)
    assert np.abs(found - scores(learned_from(leader.outcomes, new), new)).max() < 1e-9


def test_a_rollback_returns_to_a_policy_that_went_on_learning(leader):
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(1)
    leader.lead()
    leader.finish(2)
    leader.lead()
    leader.releases.have(SIZES, live=OLD, previous=NEW)
    leader.finish(3)
    assert starts(leader.lead()) == {OLD}
    old = leader.releases.loaded[OLD]
    found = scores(leader.policy(), old)
    assert np.abs(found - scores(learned_from(leader.outcomes, old), old)).max() < 1e-9


def test_a_release_made_live_without_a_shadow_waits_until_its_policy_is_warm(leader):
    gate = []
    read = reading(leader.log)
    leader.pairs = Pairs(
        leader.releases, lambda since: read(since) if gate else waits(gate), leader.known
    )
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(1)
    assert starts(leader.lead()) == {OLD}
    gate.append(True)
    leader.lead_until(lambda: NEW in leader.state.pairs)
    leader.finish(2)
    assert starts(leader.lead()) == {NEW}


def test_a_log_is_read_once_though_the_campaign_learns_while_it_is_read(leader):
    read, seen = reading(leader.log), []

    def slowly(since):
        for shard, offset, example in read(since):
            seen.append((shard, offset))
            time.sleep(0.005)
            yield shard, offset, example

    leader.pairs = Pairs(leader.releases, slowly, leader.known)
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    for wave in (1, 2, 3):
        leader.finish(wave)
        leader.lead()
        assert leader.state.pairs == []  # it is still being read
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    assert len(seen) == len(set(seen)) == len(leader.log)
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(4)
    leader.lead()
    new = leader.releases.loaded[NEW]
    found = scores(leader.policy(), new)
    assert np.abs(found - scores(learned_from(leader.outcomes, new), new)).max() < 1e-9


def waits(gate: list[bool]):
    while not gate:
        time.sleep(0.005)
    yield from ()


def test_versions_rise_through_promotion_and_rollback(leader):
    versions = []

    def note(outputs) -> None:
        found = sent(outputs, POLICY_SNAPSHOTS)
        versions.extend(s.version for s in found if s.wave is None and OLD in s.encoder_version)

    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(1)
    before = leader.state.version
    note(leader.lead())
    assert leader.state.version > before
    assert versions == sorted(versions)


def test_a_pair_whose_release_is_refused_is_let_go(leader):
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    del leader.releases.loaded[NEW]
    leader.releases.roles = Standing(live=OLD)
    leader.releases.refused[NEW] = "one byte is another"
    leader.finish(1)
    leader.lead()
    assert leader.state.pairs == []
    assert newest_snapshot(leader.shard.begin(), "spring", NEW) is None
    assert len(leader.state.waves) > 1


def test_a_pair_whose_release_is_not_loaded_yet_is_waited_for_until_it_is_given_up(leader):
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    del leader.releases.loaded[NEW]
    leader.releases.roles = Standing(live=OLD)
    leader.finish(1)
    assert starts(leader.lead()) == set()
    assert leader.state.pairs == [NEW]
    leader.releases.refused[NEW] = "its store is away"
    assert starts(leader.lead()) == {OLD}
    assert leader.state.pairs == []


def promote_new(leader: Leader) -> None:
    """The new release was warmed in shadow, leads since wave 2, and that wave's outcomes came."""
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(1)
    assert starts(leader.lead()) == {NEW}
    leader.finish(2)


def test_what_was_rolled_back_begins_no_wave_though_what_was_before_it_is_refused(leader):
    promote_new(leader)
    old = leader.releases.loaded.pop(OLD)
    leader.releases.refused[OLD] = "one byte is another"
    leader.releases.roles = Standing(previous=NEW, withdrawn=NEW)
    assert starts(leader.lead()) == set()
    assert leader.state.leading == NEW
    seen = leader.state.examples
    leader.finish(2, n=3)  # it goes on learning what comes
    leader.shard.now_ms += 10 * INTERVAL_MS
    assert starts(leader.lead()) == set()
    assert leader.state.examples > seen
    leader.releases.refused.clear()
    leader.releases.loaded[OLD] = old
    leader.releases.have(SIZES, live=OLD, previous=NEW)
    leader.lead_until(lambda: leader.state.pairs == [OLD])
    leader.finish(3)
    assert starts(leader.lead()) == {OLD}
    found = scores(leader.policy(), old)
    assert np.abs(found - scores(learned_from(leader.outcomes, old), old)).max() < 1e-9


def test_a_log_that_cannot_be_read_is_tried_again_and_stops_nobody(leader):
    def broken():
        raise OSError("no broker")
        yield

    ticks, readable = count(step=31.0), []

    def read(since):
        return reading(leader.log)(since) if readable else broken()

    leader.pairs = Pairs(leader.releases, read, leader.known, clock=lambda: next(ticks))
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    for _ in range(20):
        leader.lead()
        time.sleep(0.01)
    assert leader.state.pairs == []
    readable.append(True)
    leader.lead_until(lambda: leader.state.pairs == [NEW])


def test_where_the_leading_release_is_refused_the_last_good_pair_leads(leader):
    """As on a worker that takes over a campaign, and may not load what it was led with."""
    promote_new(leader)
    new = leader.releases.loaded.pop(NEW)
    leader.releases.refused[NEW] = "nobody who is trusted signed it"
    leader.releases.roles = Standing(live=OLD, previous=OLD)
    assert starts(leader.lead()) == {OLD}
    assert (leader.state.leading, leader.state.pairs) == (OLD, [])
    old = leader.releases.loaded[OLD]
    found = scores(leader.policy(), old)
    assert np.abs(found - scores(learned_from(leader.outcomes, old), old)).max() < 1e-9
    assert newest_snapshot(leader.shard.begin(), "spring", OLD) is None
    # The key came: the log makes what was left behind anew, and it leads again.
    leader.releases.refused.clear()
    leader.releases.loaded[NEW] = new
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.finish(3)
    assert starts(leader.lead()) == {NEW}
    new = leader.releases.loaded[NEW]
    found = scores(leader.policy(), new)
    assert np.abs(found - scores(learned_from(leader.outcomes, new), new)).max() < 1e-9


def test_the_last_good_release_gets_a_policy_from_the_log_where_it_had_none(leader):
    """The old release is no pair: nobody had it loaded while the new one led."""
    leader.releases.have(SIZES, live=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    leader.finish(1)
    assert starts(leader.lead()) == {NEW}
    assert leader.state.pairs == []
    leader.finish(2)
    del leader.releases.loaded[NEW]
    leader.releases.refused[NEW] = "one byte is another"
    leader.releases.roles = Standing(live=OLD, previous=OLD)
    leader.lead_until(lambda: leader.state.leading == OLD)
    leader.lead()
    old = leader.releases.loaded[OLD]
    found = scores(leader.policy(), old)
    assert np.abs(found - scores(learned_from(leader.outcomes, old), old)).max() < 1e-9


def test_a_refused_release_without_another_holds_its_campaign_and_no_other(leader):
    others = campaign(campaign_id="summer", waves=3)
    leader.shard.apply(TakeUpCampaigns(1), [others], "campaigns")
    del leader.releases.loaded[OLD]
    leader.releases.refused[OLD] = "one byte is another"
    leader.releases.roles = Standing()
    leader.finish_as(1, FakeRelease(OLD, SIZES[OLD]))
    with capture_logs() as told:
        outputs = leader.lead()
        leader.lead()
    assert {start.campaign.campaign_id for start in sent(outputs, WAVE_STARTS)} == {"summer"}
    assert [one["event"] for one in told if one["log_level"] == "error"] == [
        "campaign_stands_still"
    ]
    leader.releases.refused.clear()
    leader.releases.have(SIZES, live=OLD)
    assert starts(leader.lead()) == {OLD}


WARM = dataclasses.replace(SPRING, warm_start_campaign="winter", warm_start_discount=0.5)
WINTER = dataclasses.replace(SPRING, campaign_id="winter")


def winters(leader: Leader, label: str, n: int = 200):
    """What another campaign has learned under a release, told as its snapshot."""
    release = FakeRelease(label, SIZES[label])
    leader.releases.loaded.setdefault(label, release)
    told = [leader._outcome(0, 9, rank, f"x+{label}") for rank in range(n)]
    policy = learned_from(told, release)
    encoder = ContextEncoder(WINTER.context, release)
    snapshot = dataclasses.replace(
        frozen(WINTER, encoder=encoder), state=to_bytes(policy), wave=None
    )
    return snapshot, policy


def warm_leader() -> Leader:
    leader = Leader(WARM)
    leader.releases.have(SIZES, live=OLD)
    leader.known.campaigns["winter"] = WINTER
    leader.known.snapshots["winter", None], _ = winters(leader, OLD)
    leader.lead()
    leader.finish(0)
    leader.lead()
    return leader


def test_a_new_releases_policy_begins_with_what_its_source_has_learned_under_that_release():
    leader = warm_leader()
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    for _ in range(3):
        leader.lead()
    assert leader.state.pairs == []  # its source has no policy under it yet: another's is no use
    leader.known.snapshots["winter@" + NEW, None], source = winters(leader, NEW)
    leader.pairs = Pairs(leader.releases, reading(leader.log), leader.known)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    new = leader.releases.loaded[NEW]
    found = scores(leader.policy(NEW), new)
    due = learned_from(leader.outcomes, new, WARM, source)
    assert np.abs(found - scores(due, new)).max() < 1e-9
    cold = learned_from(leader.outcomes, new)
    assert np.abs(found - scores(cold, new)).max() > 1e-3


def test_where_its_source_was_deleted_a_new_releases_policy_begins_with_nothing():
    leader = warm_leader()
    del leader.known.campaigns["winter"]
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    with capture_logs() as told:
        leader.lead_until(lambda: leader.state.pairs == [NEW])
    assert "pair_begins_with_nothing" in {one["event"] for one in told}
    new = leader.releases.loaded[NEW]
    due = scores(learned_from(leader.outcomes, new), new)
    assert np.abs(scores(leader.policy(NEW), new) - due).max() < 1e-9


def test_templates_that_come_while_the_log_is_read_are_learned_too(leader):
    gate: list[bool] = []
    read = reading(leader.log)

    def held(since):
        found = list(read(since))
        yield from found[:5]
        yield from waits(gate)
        yield from found[5:]

    leader.pairs = Pairs(leader.releases, held, leader.known)
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead()
    extra = Template(id="late", channel="email", features={"warm": 0.25, "price": 0.25})
    changed = dataclasses.replace(leader.campaign, version=2, templates=[*SPRING.templates, extra])
    leader.shard.apply(TakeUpCampaigns(1), [changed], "campaigns")
    leader.campaign = changed
    leader.finish(1)
    late = dataclasses.replace(leader.outcomes[-1], action="late", reward=1.0)
    leader.lead()
    leader.tell(2, 0, [late] * 30, leader.state.waves[-1].encoder_version)
    for number in range(1, SHARDS):
        leader.tell(2, number, [], leader.state.waves[-1].encoder_version)
    leader.lead()
    gate.append(True)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    new = leader.releases.loaded[NEW]
    due = scores(learned_from(leader.outcomes, new, changed), new)
    assert np.abs(scores(leader.policy(NEW), new) - due).max() < 1e-9


def test_one_reader_at_a_time_reads_the_log_for_however_many_policies(leader):
    read, under_way, most = reading(leader.log), [], []

    def counted(since):
        under_way.append(1)
        most.append(len(under_way))
        try:
            for found in read(since):
                time.sleep(0.001)
                yield found
        finally:
            under_way.pop()

    sizes = SIZES | {"people@3.0.0": 4}
    leader.pairs = Pairs(leader.releases, counted, leader.known)
    leader.releases.have(sizes, live=OLD, shadow=NEW, previous="people@3.0.0")
    leader.lead_until(lambda: len(leader.state.pairs) == 2)
    assert max(most) == 1
    for label in (NEW, "people@3.0.0"):
        release = leader.releases.loaded[label]
        due = scores(learned_from(leader.outcomes, release), release)
        assert np.abs(scores(leader.policy(label), release) - due).max() < 1e-9
