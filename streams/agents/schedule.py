"""Campaigns: taken up, and led through their waves."""

import dataclasses
from collections.abc import Sequence

from schemas.campaign import Campaign, WaveStart
from schemas.errors import ExpressionError, GroundswellError
from schemas.hashing import partition_of
from schemas.learning import LearningUpdate, PolicySnapshot
from schemas.topics import LEARNING_UPDATES, POLICY_SNAPSHOTS, WAVE_REPORTS, WAVE_STARTS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.state import (
    base_key,
    campaign_key,
    load,
    store,
    update_prefix,
)
from streams.core.audience import instalment
from streams.core.encoding import ContextEncoder, feature_names
from streams.core.learning import fold_updates
from streams.core.policies import create, from_bytes, to_bytes, validate
from streams.core.schedule import CampaignState, Due, WaveState, due, report, start_wave
from streams.core.segments import compile_segment
from streams.kafka.transaction import Incoming, Transaction

__all__ = ["LeadCampaigns", "TakeUpCampaigns", "check_runnable"]


def check_runnable(campaign: Campaign) -> None:
    """Check what needs more than the definition itself: the policy and the segment.

    Raises
    ------
    GroundswellError
        With the field, the value, the bound and the cure.
    """
    validate(campaign.policy, campaign.policy_params)
    d_user = ContextEncoder(campaign.context).d_user
    create(campaign.policy, campaign.policy_params, d_user, len(feature_names(campaign.templates)))
    if campaign.audience_segment is not None:
        try:
            compile_segment(campaign.audience_segment)
        except ExpressionError as error:
            raise ExpressionError(f"audience.segment, {error}") from error


def _columns(campaign: Campaign) -> tuple[object, ...]:
    """What the policy's dimensions and meaning rest on."""
    return (
        ContextEncoder(campaign.context).version,
        feature_names(campaign.templates),
        campaign.policy,
    )


class TakeUpCampaigns:
    """Takes up definitions and their changes."""

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Take up each; what cannot be run goes to the dead letters and changes nothing."""
        for record in batch:
            if record.value is None:
                continue  # a definition that was deleted: its course is kept
            campaign = tx.codec.try_decode(record.value, Campaign)
            if isinstance(campaign, Unreadable):
                tx.dead_letter(record, campaign.reason)
                continue
            try:
                check_runnable(campaign)
                self._take_up(tx, campaign)
            except GroundswellError as error:
                tx.dead_letter(record, str(error))

    @staticmethod
    def _take_up(tx: Transaction, campaign: Campaign) -> None:
        key = campaign_key(campaign.campaign_id)
        state = load(tx, key, CampaignState)
        if state is None:
            state = CampaignState(campaign)
        elif campaign.version <= state.campaign.version:
            return
        elif state.version >= 0 and _columns(campaign) != _columns(state.campaign):
            raise GroundswellError(
                f"campaign {campaign.campaign_id} has learned with other context columns, template "
                "features or policy: keep them, or give the campaign a new name"
            )
        state.campaign = campaign
        store(tx, key, state)


class LeadCampaigns:
    """Starts waves, ends them when their outcomes are there, learns, and reports.

    Parameters
    ----------
    user_shards
        Number of user shards.
    """

    def __init__(self, user_shards: int, clock: Clock) -> None:
        self._user_shards = user_shards
        self._clock = clock

    def __call__(self, tx: Transaction) -> bool:
        """Do what each campaign of the shard needs now; True if there may be more."""
        more = False
        for key, _ in list(tx.scan(b"c")):
            state = load(tx, key, CampaignState)
            assert state is not None
            now_ms = self._clock.now_ms(tx.now_ms)
            need = due(state, now_ms)
            match need:
                case Due.START:
                    self._start(tx, state, now_ms)
                case Due.END | Due.OVERDUE | Due.STOP:
                    self._end(tx, state, need, now_ms)
            self._report(tx, state, now_ms)
            more |= need is not Due.NOTHING
        return more

    def _start(self, tx: Transaction, state: CampaignState, now_ms: int) -> None:
        campaign = state.campaign
        snapshot = self._newest(tx, state, now_ms)
        wave = start_wave(state, self._user_shards, snapshot.encoder_version, now_ms)
        frozen = _with_wave(snapshot, wave.wave)
        self._publish(tx, frozen)
        listed: dict[int, list[str]] | None = None
        if campaign.audience_users is not None:
            listed = {number: [] for number in range(self._user_shards)}
            for user in dict.fromkeys(campaign.audience_users):
                listed[partition_of(user, self._user_shards)].append(user)
        share_from, share_until = instalment(wave.wave, campaign.waves)
        for number in range(self._user_shards):
            start = WaveStart(
                campaign=_without_list(campaign),
                wave=wave.wave,
                shard=number,
                policy_version=wave.policy_version,
                encoder_version=wave.encoder_version,
                users=None if listed is None else listed[number],
                share_from=share_from,
                share_until=share_until,
                started_at_ms=now_ms,
                deadline_ms=wave.deadline_ms,
            )
            tx.emit(WAVE_STARTS, start, key=str(number), partition=number)
        store(tx, campaign_key(campaign.campaign_id), state)

    def _end(self, tx: Transaction, state: CampaignState, need: Due, now_ms: int) -> None:
        """Fold what has come back into a new snapshot, and end the wave."""
        snapshot = self._newest(tx, state, now_ms)
        policy = from_bytes(snapshot.state)
        keys, updates = [], []
        wave = state.running()
        assert wave is not None
        for key, raw in tx.scan(update_prefix(state.campaign.campaign_id)):
            update = tx.codec.decode(raw, LearningUpdate)
            if update.wave > wave.wave:
                break  # a log's next wave comes while this one is open: it is not this one's yet
            keys.append(key)
            updates.append(update)
        state.examples += fold_updates(policy, updates, state.campaign)
        for tally in (tally for update in updates for tally in update.tallies):
            state.reward_sum += tally.reward_sum
            for kind, count in tally.feedback.items():
                state.feedback[kind] = state.feedback.get(kind, 0) + count
        for key in keys:
            tx.delete(key)
        state.version += 1
        self._publish(tx, self._snapshot(tx, state, to_bytes(policy), now_ms))
        wave.ended_at_ms = now_ms
        wave.status = {Due.END: "closed", Due.OVERDUE: "overdue"}.get(need, "stopped")
        state.changed.append(wave.wave)
        store(tx, campaign_key(state.campaign.campaign_id), state)

    def _newest(self, tx: Transaction, state: CampaignState, now_ms: int) -> PolicySnapshot:
        """The newest policy; the first one, that has learned nothing, where there is none."""
        campaign = state.campaign
        raw = tx.get(base_key(campaign.campaign_id))
        if raw is not None:
            return tx.codec.decode(raw, PolicySnapshot)
        d_user = ContextEncoder(campaign.context).d_user
        d_action = len(feature_names(campaign.templates))
        policy = create(campaign.policy, campaign.policy_params, d_user, d_action)
        state.version = 0
        snapshot = self._snapshot(tx, state, to_bytes(policy), now_ms)
        self._publish(tx, snapshot)
        return snapshot

    @staticmethod
    def _snapshot(
        tx: Transaction, state: CampaignState, policy: bytes, now_ms: int
    ) -> PolicySnapshot:
        offsets = {
            str(tx.number): offset
            for topic, offset in tx.applied.items()
            if topic.endswith(LEARNING_UPDATES.name)
        }
        return PolicySnapshot(
            campaign_id=state.campaign.campaign_id,
            version=state.version,
            encoder_version=ContextEncoder(state.campaign.context).version,
            policy=state.campaign.policy,
            state=policy,
            offsets=offsets,
            examples=state.examples,
            reward_sum=state.reward_sum,
            feedback=dict(sorted(state.feedback.items())),
            created_at_ms=now_ms,
        )

    @staticmethod
    def _publish(tx: Transaction, snapshot: PolicySnapshot) -> None:
        key = snapshot.campaign_id
        if snapshot.wave is None:
            raw = tx.codec.encode(POLICY_SNAPSHOTS.name, snapshot)
            tx.put(base_key(snapshot.campaign_id), raw)
        else:
            key = f"{key}/{snapshot.wave}"
        # Partitioned by the campaign alone, so that a campaign's versions keep their order.
        tx.emit(POLICY_SNAPSHOTS, snapshot, key=key, partition=tx.number)

    @staticmethod
    def _report(tx: Transaction, state: CampaignState, now_ms: int) -> None:
        if not state.changed:
            return
        waves: dict[int, WaveState] = {wave.wave: wave for wave in state.waves}
        campaign_id = state.campaign.campaign_id
        for number in sorted(set(state.changed)):
            tx.emit(
                WAVE_REPORTS,
                report(state, waves[number], now_ms),
                key=f"{campaign_id}/{number}",
                partition=tx.number,
            )
        state.changed = []
        store(tx, campaign_key(campaign_id), state)


def _with_wave(snapshot: PolicySnapshot, wave: int) -> PolicySnapshot:
    return dataclasses.replace(snapshot, wave=wave)


def _without_list(campaign: Campaign) -> Campaign:
    """The definition as shards need it: each gets its own part of a listed audience."""
    return dataclasses.replace(campaign, audience_users=None)
