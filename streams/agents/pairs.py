"""A campaign's policies, one for each release of its encoder that stands in a role.

A policy means something under one release alone: they are a pair. The leading pair decides new
waves; the pair in shadow, and the one that a rollback would return to, learn the same outcomes,
encoded again from the hashed raw features that go with them. So `promote` and `rollback` swap
pairs that both know everything, and nothing is forgotten.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import structlog

from schemas.campaign import Campaign
from schemas.errors import GroundswellError
from schemas.learning import LearningUpdate, PolicySnapshot
from streams.agents.beginning import beginning
from streams.agents.sending import Known
from streams.agents.snapshots import drop_pair, newest_snapshot, publish
from streams.agents.state import (
    campaign_key,
    learned_key,
    learned_prefix,
    read_learned,
    store,
)
from streams.agents.warm_up import COMPLETE, ReadLog, WarmUp
from streams.core.encoding import ContextEncoder, LoadedRelease
from streams.core.learning import fold_updates
from streams.core.policies import Policy, to_bytes
from streams.core.schedule import CampaignState
from streams.core.snapshots import policy_of
from streams.core.warm_start import deciding_policy, first_policy
from streams.kafka.transaction import Transaction
from streams.releases.offered import Standing

__all__ = ["Pairs", "Releases"]

log = structlog.get_logger()

AGAIN_S = 30.0  # a warm-up that failed is tried again after so long
UNWANTED_S = 60.0  # nobody asked for a warm-up so long: its campaign is led elsewhere


class Releases(Protocol):
    """The releases that this worker has loaded."""

    def standing(self, name: str) -> Standing:
        """Roles of an encoder's releases."""
        ...

    def encoder(self, label: str) -> LoadedRelease | None:
        """A release; None while it is not loaded."""
        ...

    def given_up(self) -> Collection[str]:
        """Labels of releases that failed a check, or whose store is away for long."""
        ...


class Pairs:
    """The pairs of the campaigns that this worker leads.

    Parameters
    ----------
    read_log
        Reads `learning-examples`, for the policies of new releases: one of them at a time.
    known
        Other campaigns and their policies: one may begin with what another has learned.
    """

    def __init__(
        self,
        releases: Releases,
        read_log: ReadLog,
        known: Known,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._releases = releases
        self._read_log = read_log
        self._known = known
        self._clock = clock
        self._reading = threading.Semaphore(1)
        self._warming: dict[tuple[str, str], WarmUp] = {}
        self._wanted_at: dict[tuple[str, str], float] = {}  # a warm-up was asked for last
        self._failed: dict[tuple[str, str], float] = {}  # when to try again
        self._fitting: dict[str, str] = {}  # by campaign the definition and release that do
        self._stuck: dict[str, str] = {}  # by campaign the refused release that nothing replaces

    def ready(self, tx: Transaction, state: CampaignState) -> bool:
        """Whether the campaign can be led now: every release that its policies need is loaded.

        A pair whose release is given up, as it fails a check or its store is away, is let go.
        Where that is the leading one, the pair of the last good release leads in its stead, if
        there is one; if not, the campaign waits.
        """
        campaign = state.campaign
        if campaign.encoder is None:
            return True
        if not state.leading:
            live = self._releases.standing(campaign.encoder).live
            return live is not None and self._fits(campaign, live)
        labels = (state.leading, *state.pairs)
        missing = [label for label in labels if self._releases.encoder(label) is None]
        if not missing:
            return True
        given_up, waits = self._releases.given_up(), False
        for label in missing:
            if label not in given_up:
                waits = True
            elif label != state.leading:
                self._drop(tx, state, label)
            elif not self._let_another_lead(tx, state):
                waits = True
        return not waits

    def may_decide(self, state: CampaignState) -> bool:
        """Whether the policy that would lead a wave now can decide for every template, and may.

        One whose release was rolled back may not, also where that returns to one that is refused.
        """
        campaign = state.campaign
        if campaign.encoder is None or not state.leading:
            return True
        standing = self._releases.standing(campaign.encoder)
        leads = standing.live if standing.live in state.pairs else state.leading
        return leads != standing.withdrawn and self._fits(campaign, leads)

    def encoder(self, state: CampaignState) -> ContextEncoder:
        """What makes contexts for the leading policy, or the first one; `ready` must have held."""
        campaign = state.campaign
        if campaign.encoder is None:
            return ContextEncoder(campaign.context)
        label = state.leading or self._releases.standing(campaign.encoder).live
        assert label is not None
        return self._of(campaign, label)

    def promoted(
        self, tx: Transaction, state: CampaignState, snapshot: PolicySnapshot
    ) -> PolicySnapshot | None:
        """The policy that now leads in a snapshot's place, where another release is live.

        None where the release is the same, or its policy has not learned everything yet: until
        then new waves go on with the pair that they have.
        """
        if state.campaign.encoder is None:
            return None
        standing, before = self._releases.standing(state.campaign.encoder), state.leading
        if standing.live is None or standing.live not in state.pairs:
            return None
        promoted = _pair(tx, state, standing.live)
        self._drop(tx, state, standing.live)
        if before in standing.labels():
            self._keep(tx, state, before, snapshot)
        state.leading = standing.live
        log.info("pair_promoted", campaign=state.campaign.campaign_id, release=standing.live)
        return promoted

    def learn(
        self, tx: Transaction, state: CampaignState, updates: Sequence[LearningUpdate]
    ) -> None:
        """Let the pairs that do not lead learn what the leading one does."""
        campaign = state.campaign
        if campaign.encoder is None:
            return
        for update in updates:
            rows = len(update.rewards) // 8
            if rows:
                key = learned_key(campaign.campaign_id, update.wave, update.shard)
                tx.put(key, str(int(tx.get(key) or b"0") + rows).encode())
        for label in state.pairs:
            snapshot = _pair(tx, state, label)
            policy = policy_of(snapshot)
            fold_updates(policy, updates, campaign, self._of(campaign, label))
            policy.retire(campaign.retired)
            learned = dataclasses.replace(snapshot, state=to_bytes(policy), version=state.version)
            self._keep(tx, state, label, learned)

    @staticmethod
    def forget(tx: Transaction, campaign: Campaign, wave: int) -> None:
        """Nothing can correct a wave, nor those before it, any more: all of them is learned."""
        if campaign.encoder is None:
            return
        for (number, shard), _ in list(_learned(tx, campaign.campaign_id)):
            if number <= wave:
                tx.delete(learned_key(campaign.campaign_id, number, shard))
        tx.put(learned_key(campaign.campaign_id, *COMPLETE), str(wave + 1).encode())

    def tend(self, tx: Transaction, state: CampaignState) -> None:
        """Begin and adopt the policies of new releases; drop those of releases without a role.

        The campaign's state is stored where that changes it.
        """
        campaign = state.campaign
        if campaign.encoder is None or not state.leading:
            return
        wanted = self._releases.standing(campaign.encoder).labels() - {state.leading}
        for label in sorted(set(state.pairs) - wanted):
            self._drop(tx, state, label)
        for key in [key for key in self._warming if key[0] == campaign.campaign_id]:
            if key[1] not in wanted:
                self._warming.pop(key).give_up()
        for label in sorted(wanted - set(state.pairs)):
            self._begin(tx, state, label)

    def _begin(self, tx: Transaction, state: CampaignState, label: str) -> None:
        """Adopt the policy of another release, once there is one."""
        campaign = state.campaign
        policy = self._warmed(tx, campaign, label)
        leading = newest_snapshot(tx, campaign.campaign_id)
        if policy is None or leading is None:
            return
        policy.retire(campaign.retired)
        pair = dataclasses.replace(
            leading,
            encoder_version=self._of(campaign, label).version,
            state=to_bytes(policy),
        )
        self._keep(tx, state, label, pair)
        log.info("pair_ready", campaign=campaign.campaign_id, release=label)

    def _let_another_lead(self, tx: Transaction, state: CampaignState) -> bool:
        """Have the last good release lead where the leading one cannot be used here.

        What is left behind is made anew from the log where its release is loaded again.
        """
        campaign, refused = state.campaign, state.leading
        assert campaign.encoder is not None
        good = self._releases.standing(campaign.encoder).live
        if good is not None and good != refused and good not in state.pairs:
            self._begin(tx, state, good)
        if good not in state.pairs:
            if self._stuck.get(campaign.campaign_id) != refused:
                log.error(
                    "campaign_stands_still",
                    campaign=campaign.campaign_id,
                    release=refused,
                    why="its release is refused here, and no other has a policy: see "
                    "encoder_refused for the cure, or `groundswell encoder rollback`",
                )
            self._stuck[campaign.campaign_id] = refused
            return False
        assert good is not None
        pair = _pair(tx, state, good)
        self._drop(tx, state, good)
        state.leading, state.version = good, state.version + 1
        publish(tx, dataclasses.replace(pair, version=state.version))
        store(tx, campaign_key(campaign.campaign_id), state)
        self._stuck.pop(campaign.campaign_id, None)
        log.error(
            "pair_leads_instead", campaign=campaign.campaign_id, release=good, refused=refused
        )
        return True

    def _fits(self, campaign: Campaign, label: str) -> bool:
        """Whether the campaign's policy can decide with this release's columns."""
        key = (campaign.campaign_id, f"{campaign.version} {label}")
        if self._fitting.get(campaign.campaign_id) == key[1]:
            return True
        if self._failed.get(key, 0.0) > self._clock():
            return False
        try:
            deciding_policy(campaign, self._of(campaign, label))
        except GroundswellError as error:
            log.warning(
                "campaign_waits", campaign=campaign.campaign_id, release=label, why=str(error)
            )
            self._failed[key] = self._clock() + AGAIN_S
            return False
        self._fitting[campaign.campaign_id] = key[1]
        return True

    def _first(self, campaign: Campaign, label: str) -> Policy:
        """The policy of a release before any example; raises where it must wait for another's."""
        name = campaign.warm_start_campaign
        if name is not None and self._known.campaign(name) is None:
            # Its log cannot be read again either: nobody can say what it meant under the release.
            log.warning(
                "pair_begins_with_nothing",
                campaign=campaign.campaign_id,
                release=label,
                why=f"warm_start.campaign {name} was deleted",
            )
            return first_policy(campaign, self._of(campaign, label))
        return beginning(self._known, campaign, self._of(campaign, label))

    def _warmed(self, tx: Transaction, campaign: Campaign, label: str) -> Policy | None:
        """The policy of a new release once it has learned what the leading one has."""
        key = (campaign.campaign_id, label)
        if self._failed.get(key, 0.0) > self._clock():
            return None
        self._give_up_unwanted(key)
        learned = dict(_learned(tx, campaign.campaign_id))
        if key in self._warming and self._warming[key].campaign_version != campaign.version:
            self._warming.pop(key).give_up()
        try:
            if key not in self._warming:
                if not self._fits(campaign, label):
                    return None
                policy = self._first(campaign, label)
                if not learned:
                    return policy
                encoder = self._of(campaign, label)
                self._warming[key] = WarmUp(
                    self._read_log, policy, encoder, campaign, self._reading
                )
            found = self._warming[key].policy_for(learned)
        except GroundswellError as error:
            log.warning(
                "pair_not_ready", campaign=campaign.campaign_id, release=label, why=str(error)
            )
            self._warming.pop(key, None)
            self._failed[key] = self._clock() + AGAIN_S
            return None
        if found is not None:
            del self._warming[key]
        return found

    def _give_up_unwanted(self, wanted: tuple[str, str]) -> None:
        """End warm-ups of campaigns that others lead by now: one at a time reads the log."""
        now = self._clock()
        self._wanted_at[wanted] = now
        for key in [key for key, at in self._wanted_at.items() if now - at > UNWANTED_S]:
            del self._wanted_at[key]
            if key in self._warming:
                self._warming.pop(key).give_up()

    def _of(self, campaign: Campaign, label: str) -> ContextEncoder:
        release = self._releases.encoder(label)
        assert release is not None
        return ContextEncoder(campaign.context, release)

    @staticmethod
    def _keep(tx: Transaction, state: CampaignState, label: str, snapshot: PolicySnapshot) -> None:
        publish(tx, snapshot, label)
        if label not in state.pairs:
            state.pairs.append(label)
            store(tx, campaign_key(state.campaign.campaign_id), state)

    @staticmethod
    def _drop(tx: Transaction, state: CampaignState, label: str) -> None:
        drop_pair(tx, state.campaign.campaign_id, label)
        state.pairs.remove(label)
        store(tx, campaign_key(state.campaign.campaign_id), state)


def _pair(tx: Transaction, state: CampaignState, label: str) -> PolicySnapshot:
    found = newest_snapshot(tx, state.campaign.campaign_id, label)
    assert found is not None
    return found


def _learned(tx: Transaction, campaign_id: str) -> Iterator[tuple[tuple[int, int], int]]:
    """By wave and shard: examples that the snapshots contain."""
    for key, raw in tx.scan(learned_prefix(campaign_id)):
        yield read_learned(key), int(raw)
