"""Updates of the shards: kept until a snapshot contains them."""

import math
from collections.abc import Sequence

from schemas.campaign import LAST_WAVE
from schemas.errors import GroundswellError
from schemas.features import FeatureBatch
from schemas.learning import LearningUpdate
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.state import campaign_key, ended_key, load, store, update_key
from streams.core.learning import examples_in
from streams.core.schedule import CampaignState, WaveState, note_update
from streams.core.sums import sums_in
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["KeepUpdates"]


class KeepUpdates:
    """Notes each shard's progress, and keeps what is to be learned in a fixed order.

    Updates are learned when their wave ends, in the order of (wave, shard, offset): so the
    snapshot does not depend on how the shards' updates were mixed on the way.
    """

    def __init__(self, user_shards: int, clock: Clock) -> None:
        self._user_shards = user_shards
        self._clock = clock

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Keep a batch; what fits no campaign goes to the dead letters."""
        ahead_of_ms = self._clock.ahead_of_ms()
        states: dict[str, CampaignState] = {}  # those that the batch changes
        for record in batch:
            update = tx.codec.try_decode(record.value, LearningUpdate)
            if isinstance(update, Unreadable):
                tx.dead_letter(record, update.reason)
                continue
            tx.saw(record.topic, update.time_ms, ahead_of_ms)
            reason = self._keep(tx, update, record, states)
            if reason is not None:
                tx.dead_letter(record, reason)
        for campaign_id, state in states.items():
            store(tx, campaign_key(campaign_id), state)

    def _keep(
        self,
        tx: Transaction,
        update: LearningUpdate,
        record: Incoming,
        states: dict[str, CampaignState],
    ) -> str | None:
        if not (0 <= update.wave <= LAST_WAVE and 0 <= update.shard < self._user_shards):
            return f"there is no wave {update.wave} or no shard {update.shard} of the users"
        sums = ((t.reward_sum, t.reward_square_sum) for t in update.tallies)
        if not all(math.isfinite(part) for pair in sums for part in pair):
            return "a sum of rewards is not a finite number"
        state = states.get(update.campaign_id) or load(
            tx, campaign_key(update.campaign_id), CampaignState
        )
        if state is None:
            return f"campaign {update.campaign_id} is unknown here: apply it first"
        reason = _misfit(update, state)
        if reason is not None:
            return reason
        aside = ended_key(update.campaign_id, update.wave)
        ended = load(tx, aside, WaveState) if state.campaign.triggered else None
        if not note_update(state, update, self._user_shards, ended):
            return f"campaign {update.campaign_id} never started wave {update.wave}"
        if ended is not None:
            store(tx, aside, ended)
        counted = any(tally.feedback or tally.closed for tally in update.tallies)
        if update.rewards or update.sums or counted:
            assert record.value is not None
            state.kept += 1
            key = update_key(update.campaign_id, update.wave, update.shard, record.offset)
            tx.put(key, record.value)
        states[update.campaign_id] = state
        return None


def _misfit(update: LearningUpdate, state: CampaignState) -> str | None:
    """Why the policy could not learn an update; None if it can."""
    try:
        examples_in(update, state.campaign)
        FeatureBatch.from_bytes(update.features)
        sums_in(update, state.campaign)
    except GroundswellError as error:
        return str(error)
    if any(sums.half_life_ms not in state.half_lives_ms for sums in update.sums):
        return (
            f"campaign {update.campaign_id} is learned with the half-lives {state.half_lives_ms} "
            "ms, the sums have others"
        )
    return None
