"""A campaign with an encoder in memory: the workers' own learner, pairs, warm-up and waves.

Only Kafka and the clock are left out: `LeadCampaigns`, `Pairs`, `WarmUp`, `KeepUpdates` and `Wave`
are the real ones, and people answer as the company in a box has them answer.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Campaign, WaveStart
from schemas.features import PlainProfile
from schemas.hashing import partition_of
from schemas.learning import LearningExample, LearningUpdate
from schemas.topics import WAVE_STARTS
from streams.agents.learn import KeepUpdates
from streams.agents.pairs import Pairs
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.agents.sending import PinnedWaves
from streams.agents.snapshots import newest_snapshot
from streams.agents.state import campaign_key
from streams.core.encoding import ContextEncoder, LoadedRelease, release_label
from streams.core.learning import Outcome, example_of, update_columns
from streams.core.policies import Policy, from_bytes
from streams.core.profiles import Profile
from streams.core.schedule import CampaignState
from streams.core.warm_start import first_policy
from streams.core.waves import Choice, Wave, deciding_policy
from streams.releases.offered import Standing
from streams.simulation.encoder_log import company_profile
from streams.simulation.world import Company
from tests.unit.agents.shard import (
    INTERVAL_MS,
    SHARDS,
    FakeKnown,
    FakeReleases,
    MemoryShard,
    campaign,
    clock,
    reading,
    sent,
)

__all__ = ["Earned", "MemoryCampaign", "folded", "people_of"]

CHUNK = 500
WARM_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """What one wave's sends earn in truth, by person that the policy decided for.

    Attributes
    ----------
    users
        Their indices in the company, (n,).
    expected
        E[r] under the probabilities that were logged, (n,).
    oracle
        Of the best template of each, (n,).
    labels
        Of the releases that the decisions carry.
    """

    users: NDArray[np.intp]
    expected: NDArray[np.float64]
    oracle: NDArray[np.float64]
    labels: frozenset[str | None]

    def share(self) -> float:
        """Reward a send as a share of the oracle's: waves of other people can be compared."""
        return float(self.expected.mean() / self.oracle.mean())


def folded(plain: PlainProfile) -> Profile:
    """A profile as a shard has it."""
    return Profile(
        attributes=dict(plain.attributes),  # type: ignore[arg-type]
        counts=dict(plain.counts),
        contacts=dict.fromkeys(plain.contacts, "someone"),
        left=dict(plain.left),
        sends=list(plain.sends),
    )


def people_of(company: Company, at_ms: int) -> list[Profile]:
    """Everybody's profile as of a time in milliseconds."""
    rng = np.random.default_rng((company.seed, 7))
    people = company.people
    return [folded(company_profile(rng, people, user, at_ms)) for user in range(len(people))]


class MemoryCampaign:
    """Runs wave after wave of a company's people under the releases that stand in roles.

    Parameters
    ----------
    profiles
        As shards have folded them, one a person of the company.
    releases
        By label; which decides is said by `roles`.
    """

    def __init__(
        self,
        company: Company,
        profiles: Sequence[Profile],
        releases: Mapping[str, LoadedRelease],
        *,
        policy: str,
        at_ms: int,
        encoder: str | None = "people",
    ) -> None:
        self._company, self._profiles = company, profiles
        self._index = {str(user): row for row, user in enumerate(company.people.ids)}
        self._truth = company.expected_reward()
        self._columns = {template.id: row for row, template in enumerate(company.templates)}
        self._oracle = self._truth[np.arange(len(profiles)), company.oracle()]
        self._at_ms = at_ms
        self.campaign: Campaign = campaign(
            waves=1000,
            encoder=encoder,
            context=[],
            policy=policy,
            policy_params={},
            templates=list(company.templates),
            changed_at_ms=at_ms,
        )
        self._shard = MemoryShard(now_ms=at_ms)
        self._releases = FakeReleases(loaded=dict(releases))  # type: ignore[arg-type]
        self._known = FakeKnown(releases=self._releases)
        self._log: list[tuple[int, LearningExample]] = []
        self._lead_campaigns = LeadCampaigns(
            SHARDS,
            clock(at_ms),
            self._known,
            Pairs(self._releases, reading(self._log), self._known),
            INTERVAL_MS,
        )
        self._shard.apply(TakeUpCampaigns(1), [self.campaign], "campaigns")
        self._starts: dict[int, WaveStart] = {}

    def roles(self, **roles: str) -> None:
        """Say which release is live, in shadow, and before the live one."""
        self._releases.roles = Standing(**roles)

    def warm(self, *labels: str) -> None:
        """Wait until these releases have policies of their own beside the leading one."""
        deadline = time.monotonic() + WARM_S
        while set(self._state.pairs) != set(labels):
            assert time.monotonic() < deadline, self._state.pairs
            self._lead()
            time.sleep(0.01)

    def begin(self) -> None:
        """Have the next wave begun, with the pair that stands now."""
        self._lead()
        assert len(self._starts) == SHARDS

    def run(self, users: NDArray[np.intp]) -> Earned:
        """Decide the wave that has begun for these people, have its outcomes learned, end it."""
        choices = self._decide(users, None)
        wave = self._starts[0].wave
        self._tell(choices)
        assert self._starts[0].wave == wave + 1
        return self._earned(choices)

    def would_earn(self, users: NDArray[np.intp], label: str, *, reset: bool = False) -> Earned:
        """What the wave that has begun would earn with the pair of another release.

        Parameters
        ----------
        reset
            Its policy begins anew, instead of with what it has learned.
        """
        release = self._releases.loaded[label]
        encoder = ContextEncoder(self.campaign.context, release)
        policy: Policy = first_policy(self.campaign, encoder)
        if not reset:
            leads = release_label(self._starts[0].encoder_version) == label
            name = None if leads else label
            snapshot = newest_snapshot(self._shard.begin(), self.campaign.campaign_id, name)
            assert snapshot is not None
            policy = from_bytes(snapshot.state)
        return self._earned(self._decide(users, (policy, release)))

    @property
    def _state(self) -> CampaignState:
        found: CampaignState = self._shard.load(
            campaign_key(self.campaign.campaign_id), CampaignState
        )
        return found

    def _lead(self) -> None:
        outputs = self._shard.run(self._lead_campaigns)
        self._known.follow(outputs)
        self._starts |= {start.shard: start for start in sent(outputs, WAVE_STARTS)}

    def _decide(
        self, users: NDArray[np.intp], other: tuple[Policy, LoadedRelease] | None
    ) -> list[Choice]:
        people: dict[int, list[tuple[str, Profile]]] = {number: [] for number in self._starts}
        for user in users.tolist():
            name = str(self._company.people.ids[user])
            people[partition_of(name, SHARDS)].append((name, self._profiles[user]))
        choices: list[Choice] = []
        for number, start in self._starts.items():
            if other is None:
                wave = PinnedWaves(self._known).wave(start)
            else:
                policy, release = other
                wave = Wave(start, deciding_policy(start, policy), release)
            assert wave is not None
            for chunk in range(-(-len(people[number]) // CHUNK)):
                mine = people[number][chunk * CHUNK : (chunk + 1) * CHUNK]
                choices += wave.decide(mine, chunk, self._at_ms)
        return [choice for choice in choices if choice.entry is not None]

    def _earned(self, choices: Sequence[Choice]) -> Earned:
        users = np.array([self._index[choice.decision.user_id] for choice in choices])
        expected = []
        for user, choice in zip(users.tolist(), choices, strict=True):
            assert choice.entry is not None
            columns = [self._columns[action] for action in choice.entry.actions]
            expected.append(float(self._truth[user, columns] @ choice.entry.probabilities))
        return Earned(
            users=users,
            expected=np.array(expected),
            oracle=self._oracle[users],
            labels=frozenset(release_label(c.decision.encoder_version) for c in choices),
        )

    def _tell(self, choices: Sequence[Choice]) -> None:
        users = np.array([self._index[choice.decision.user_id] for choice in choices])
        columns = np.array([self._columns[choice.decision.action] for choice in choices])
        names = [choice.decision.decision_id for choice in choices]
        answers = self._company.respond(names, users, columns, self._at_ms)
        rewards = answers.rewards(self.campaign.reward_weights).tolist()
        told: dict[int, list[Outcome]] = {number: [] for number in self._starts}
        for choice, reward in zip(choices, rewards, strict=True):
            assert choice.entry is not None
            user = choice.decision.user_id
            outcome = Outcome(
                user_id=user,
                entry=choice.entry,
                reward=reward,
                previous=None,
                known=None,
                at_ms=self._at_ms,
            )
            told[partition_of(user, SHARDS)].append(outcome)
        starts, keep = dict(self._starts), KeepUpdates(SHARDS, clock(self._at_ms))
        for number, outcomes in told.items():
            self._log += [(number, example_of(outcome, 1)) for outcome in outcomes]
            update = LearningUpdate(
                campaign_id=self.campaign.campaign_id,
                wave=starts[number].wave,
                shard=number,
                policy_version=starts[number].policy_version,
                encoder_version=starts[number].encoder_version,
                decided=len(outcomes),
                open=0,
                deciding=False,
                time_ms=self._at_ms,
                **update_columns(outcomes),  # type: ignore[arg-type]
            )
            assert self._shard.apply(keep, [update], "learning-updates") == []
        self._lead()
