"""A campaign's policy: what it begins with, and what it becomes as outcomes are folded into it."""

import structlog

from schemas.errors import CampaignError
from schemas.learning import LearningUpdate, PolicySnapshot
from schemas.topics import LEARNING_UPDATES
from streams.agents.beginning import beginning
from streams.agents.pairs import Pairs
from streams.agents.sending import Known
from streams.agents.snapshots import newest_snapshot, publish
from streams.agents.state import (
    base_key,
    campaign_key,
    store,
    update_prefix,
)
from streams.core.encoding import ContextEncoder, release_label
from streams.core.policies import to_bytes
from streams.core.reward_units import fold_in_units
from streams.core.schedule import CampaignState
from streams.core.snapshots import policy_of
from streams.kafka.transaction import Transaction

__all__ = ["Learner"]

log = structlog.get_logger()


class Learner:
    """Makes the snapshots of the campaigns that this worker leads.

    Parameters
    ----------
    known
        Other campaigns and their policies: one may begin with what another has learned.
    pairs
        The policies of campaigns with a profile encoder.
    """

    def __init__(self, known: Known, pairs: Pairs) -> None:
        self._known = known
        self._pairs = pairs
        self._held_up: dict[str, str] = {}

    def learn(self, tx: Transaction, state: CampaignState, now_ms: int, until: int) -> None:
        """Fold what has come back of the waves up to one into a new snapshot."""
        snapshot = self.newest(tx, state, now_ms)
        policy = policy_of(snapshot)
        keys, updates = [], []
        for key, raw in tx.scan(update_prefix(state.campaign.campaign_id)):
            update = tx.codec.decode(raw, LearningUpdate)
            if update.wave > until:
                break  # a log's next wave comes while this one is open: it is not this one's yet
            keys.append(key)
            updates.append(update)
        encoder = self._pairs.encoder(state)
        new, scale = fold_in_units(policy, updates, state.campaign, encoder, snapshot.reward_scale)
        # each time: outcomes of their last sends still come
        policy.retire(state.campaign.retired)
        state.examples += new
        for tally in (tally for update in updates for tally in update.tallies):
            state.reward_sum += tally.reward_sum
            for kind, count in tally.feedback.items():
                state.feedback[kind] = state.feedback.get(kind, 0) + count
        for key in keys:
            tx.delete(key)
        state.version += 1
        self._pairs.learn(tx, state, updates)
        state.kept -= len(keys)
        state.learned_at_ms = now_ms
        publish(tx, self._snapshot(tx, state, to_bytes(policy), scale, encoder, now_ms))
        store(tx, campaign_key(state.campaign.campaign_id), state)

    def newest(self, tx: Transaction, state: CampaignState, now_ms: int) -> PolicySnapshot:
        """The newest policy; the first one, that has learned nothing, where there is none."""
        campaign = state.campaign
        newest = newest_snapshot(tx, campaign.campaign_id)
        if newest is not None:
            return newest
        encoder = self._pairs.encoder(state)
        policy = beginning(self._known, campaign, encoder)
        state.leading = release_label(encoder.version) or ""
        state.version = 0
        snapshot = self._snapshot(tx, state, to_bytes(policy), b"", encoder, now_ms)
        publish(tx, snapshot)
        return snapshot

    def may_start(self, tx: Transaction, state: CampaignState) -> bool:
        """Whether there is a policy to begin with."""
        campaign, name = state.campaign, state.campaign.campaign_id
        if campaign.warm_start_campaign is None or tx.get(base_key(name)) is not None:
            return True
        try:
            beginning(self._known, campaign, self._pairs.encoder(state))
        except CampaignError as error:
            if self._held_up.get(name) != str(error):
                log.warning("campaign_waits", campaign=name, why=str(error))
            self._held_up[name] = str(error)
            return False
        self._held_up.pop(name, None)
        return True

    def led(self, tx: Transaction, state: CampaignState, now_ms: int) -> PolicySnapshot:
        """The policy that the next wave is decided with: of the release that is live now."""
        snapshot = self.newest(tx, state, now_ms)
        promoted = self._pairs.promoted(tx, state, snapshot)
        if promoted is None:
            return snapshot
        state.version += 1
        encoder = self._pairs.encoder(state)  # what it contains is what the one before did
        led = self._snapshot(tx, state, promoted.state, promoted.reward_scale, encoder, now_ms)
        publish(tx, led)
        return led

    @staticmethod
    def _snapshot(
        tx: Transaction,
        state: CampaignState,
        policy: bytes,
        scale: bytes,
        encoder: ContextEncoder,
        now_ms: int,
    ) -> PolicySnapshot:
        offsets = {
            str(tx.number): offset
            for topic, offset in tx.applied.items()
            if topic.endswith(LEARNING_UPDATES.name)
        }
        return PolicySnapshot(
            campaign_id=state.campaign.campaign_id,
            version=state.version,
            encoder_version=encoder.version,
            policy=state.campaign.policy,
            state=policy,
            offsets=offsets,
            examples=state.examples,
            reward_sum=state.reward_sum,
            feedback=dict(sorted(state.feedback.items())),
            reward_scale=scale,
            created_at_ms=now_ms,
        )
