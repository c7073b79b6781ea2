"""A pair fits its campaign: it can decide for all templates, and has forgotten those retired."""

import dataclasses

from structlog.testing import capture_logs

from schemas.campaign import Campaign, Template
from schemas.topics import POLICY_SNAPSHOTS
from streams.agents.pairs import UNWANTED_S, Pairs
from streams.agents.schedule import TakeUpCampaigns
from streams.agents.snapshots import newest_snapshot
from streams.core.encoding import release_label
from tests.unit.agents.shard import campaign, reading, sent
from tests.unit.agents.test_pairs import NEW, OLD, SIZES, SPRING, Leader, starts

WIDE = 485  # with the campaign's own columns, 16 templates have room in a disjoint policy, 17 not


def disjoint(templates: int, version: int = 1) -> Campaign:
    return campaign(
        version=version,
        waves=20,
        encoder="people",
        policy="disjoint-linear-thompson",
        templates=[
            Template(id=f"template-{n}", channel="email", features={"warm": n / 20})
            for n in range(templates)
        ],
    )


def with_a_pair(of: Campaign) -> Leader:
    """One wave was learned, and the release in shadow has its policy."""
    leader = Leader(of)
    leader.releases.have(SIZES, live=OLD)
    leader.lead()
    leader.finish(0)
    leader.lead()
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead_until(lambda: leader.state.pairs == [NEW])
    return leader


def test_a_release_too_wide_for_the_number_of_templates_starts_nothing_and_says_so():
    leader = Leader(disjoint(17))
    leader.releases.have({OLD: WIDE}, live=OLD)
    with capture_logs() as said:
        assert leader.lead() == []
    (waits,) = [line for line in said if line["event"] == "campaign_waits"]
    assert "17 x " in waits["why"]
    fitting = Leader(disjoint(16))
    fitting.releases.have({OLD: WIDE}, live=OLD)
    assert starts(fitting.lead()) == {OLD}


def test_a_running_campaign_that_gets_a_template_too_many_waits_for_a_narrower_release():
    leader = Leader(disjoint(16))
    leader.releases.have({OLD: WIDE}, live=OLD)
    assert starts(leader.lead()) == {OLD}
    leader.shard.apply(TakeUpCampaigns(1), [disjoint(17, version=2)], "campaigns")
    leader.finish(0, n=2)
    assert starts(leader.lead()) == set()
    assert starts(leader.lead()) == set()
    leader.releases.have({OLD: WIDE, NEW: 6}, live=NEW, previous=OLD)
    leader.lead_until(lambda: leader.state.leading == NEW)
    assert len(leader.state.campaign.templates) == 17
    assert release_label(leader.state.waves[-1].encoder_version) == NEW


def test_a_campaign_that_waits_for_a_release_can_be_stopped():
    leader = Leader(disjoint(16))
    leader.releases.have({OLD: WIDE}, live=OLD)
    leader.lead()
    stopped = dataclasses.replace(disjoint(17, version=3), status="stopped")
    for change in (disjoint(17, version=2), stopped):
        leader.shard.apply(TakeUpCampaigns(1), [change], "campaigns")
        assert starts(leader.lead()) == set()
    leader.finish(0, n=2)
    leader.lead()
    assert {wave.status for wave in leader.state.waves} == {"closed"}
    assert leader.state.campaign.status == "stopped"


def test_a_release_too_wide_gets_no_policy_in_shadow_and_stops_nobody():
    leader = Leader(disjoint(16))
    leader.releases.have({OLD: 6}, live=OLD)
    leader.lead()
    leader.releases.have({OLD: 6, NEW: WIDE + 30}, live=OLD, shadow=NEW)
    leader.finish(0, n=2)
    assert starts(leader.lead()) == {OLD}
    assert leader.state.pairs == []


def test_a_pair_forgets_what_was_its_retired_templates_own():
    leader = with_a_pair(disjoint(3))

    def knows(label: str | None) -> bool:
        snapshot = newest_snapshot(leader.shard.begin(), "spring", label)
        assert snapshot is not None
        return b"template-1" in snapshot.state

    assert knows(None)
    assert knows(NEW)
    first = disjoint(3, version=2)
    retired = [
        dataclasses.replace(t, status="retired") if t.id == "template-1" else t
        for t in first.templates
    ]
    changed = dataclasses.replace(first, templates=retired)
    leader.shard.apply(TakeUpCampaigns(1), [changed], "campaigns")
    leader.finish(1)  # its last outcomes come after it was retired
    leader.lead()
    assert not knows(None)
    assert not knows(NEW)


def test_what_leads_after_a_promotion_says_what_it_contains():
    leader = with_a_pair(SPRING)
    leader.finish(1)
    leader.lead()
    leader.releases.have(SIZES, live=NEW, previous=OLD)
    leader.finish(2)
    outputs = leader.lead()
    led = [
        s for s in sent(outputs, POLICY_SNAPSHOTS) if s.wave is None and NEW in s.encoder_version
    ]
    assert led[-1].examples == leader.state.examples
    assert led[-1].examples == len(leader.outcomes)
    assert led[-1].reward_sum == leader.state.reward_sum


class Abandoned:
    """A warm-up whose campaign another worker leads by now."""

    campaign_version = 1
    given_up = False

    def give_up(self) -> None:
        self.given_up = True


def test_a_warm_up_that_nobody_asks_for_any_more_gives_the_reader_to_others():
    now = [0.0]
    leader, left = Leader(), Abandoned()
    leader.pairs = Pairs(leader.releases, reading(leader.log), leader.known, clock=lambda: now[0])
    leader.pairs._warming["elsewhere", NEW] = left  # type: ignore[assignment]
    leader.pairs._wanted_at["elsewhere", NEW] = 0.0
    leader.releases.have(SIZES, live=OLD)
    leader.lead()
    leader.releases.have(SIZES, live=OLD, shadow=NEW)
    leader.lead()
    assert not left.given_up
    leader.pairs._warming.pop(("spring", NEW), None)
    now[0] = UNWANTED_S + 1
    leader.finish(0)
    leader.lead()
    leader.releases.have({**SIZES, "people@3.0.0": 4}, live=OLD, shadow="people@3.0.0")
    leader.lead()
    assert left.given_up
