"""Campaigns: taken up, and led through their waves."""

import dataclasses
from collections.abc import Sequence

import msgspec
import structlog

from schemas.campaign import LAST_WAVE, Campaign, WaveStart
from schemas.checks import LAST_TIME_MS
from schemas.errors import CampaignError, ExpressionError, GroundswellError
from schemas.hashing import partition_of
from schemas.learning import PolicySnapshot
from schemas.topics import CAMPAIGNS, WAVE_REPORTS, WAVE_STARTS
from schemas.wire import Unreadable
from streams.agents.clock import Clock
from streams.agents.definition import check_bounds, check_size, check_taken
from streams.agents.learner import Learner
from streams.agents.listed import keep_audience, listed_audience
from streams.agents.pairs import Pairs
from streams.agents.sending import Known
from streams.agents.snapshots import drop_frozen, publish
from streams.agents.state import (
    campaign_key,
    ended_key,
    ended_prefix,
    load,
    store,
)
from streams.core.audience import instalment
from streams.core.encoding import ContextEncoder
from streams.core.parts import half_lives_of
from streams.core.policies import validate
from streams.core.reward_units import check_units
from streams.core.schedule import CampaignState, Due, WaveState, due, due_late, report, start_wave
from streams.core.segments import compile_segment
from streams.core.snapshots import policy_of
from streams.core.warm_start import deciding_policy
from streams.kafka.transaction import Incoming, Transaction

log = structlog.get_logger()

__all__ = ["LeadCampaigns", "TakeUpCampaigns", "check_runnable"]

# How a wave ends; of a triggered campaign's outcomes may be open still.
STATUSES = {Due.END: "closed", Due.OVERDUE: "overdue", Due.STOP: "stopped", Due.RENEW: "open"}


def check_runnable(campaign: Campaign) -> None:
    """Check what needs more than the definition itself: the policy and the segment.

    Raises
    ------
    GroundswellError
        With the field, the value, the bound and the cure.
    """
    validate(campaign.policy, campaign.policy_params)
    check_bounds(campaign)
    policy = deciding_policy(campaign, ContextEncoder(campaign.context))
    half_lives_of(campaign, policy)
    check_units(campaign, policy)
    if campaign.audience_segment is not None:
        try:
            compile_segment(campaign.audience_segment)
        except ExpressionError as error:
            raise ExpressionError(f"audience.segment, {error}") from error


def _named(campaign_id: str, error: GroundswellError) -> str:
    """Give an error's message with the campaign that it is about."""
    told = str(error)
    return told if campaign_id in told else f"campaign {campaign_id}: {told}"


class TakeUpCampaigns:
    """Takes up definitions and their changes.

    Parameters
    ----------
    shards
        Number of campaign shards.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def __call__(self, tx: Transaction, batch: Sequence[Incoming]) -> None:
        """Take up each; what cannot be run goes to the dead letters and changes nothing."""
        for record in batch:
            if record.value is None:
                self._stop(tx, record.key)
                continue
            campaign = tx.codec.try_decode(record.value, Campaign)
            if isinstance(campaign, Unreadable):
                tx.dead_letter(record, campaign.reason)
                continue
            try:
                self._take_up(tx, campaign, record.key)
            except GroundswellError as error:
                tx.dead_letter(record, _named(campaign.campaign_id, error))

    @staticmethod
    def _stop(tx: Transaction, record_key: bytes | None) -> None:
        """A definition was deleted: its course is kept, and whoever makes it anew goes on."""
        state = load(tx, b"c" + (record_key or b""), CampaignState)
        if state is not None:
            state.campaign = dataclasses.replace(state.campaign, status="stopped")
            state.deleted = True
            store(tx, campaign_key(state.campaign.campaign_id), state)

    def _take_up(self, tx: Transaction, campaign: Campaign, record_key: bytes | None) -> None:
        if record_key != campaign.campaign_id.encode():
            raise CampaignError(
                f"the record's key is not {campaign.campaign_id!r}: key campaigns by their names, "
                "so that one shard leads each"
            )
        right = partition_of(campaign.campaign_id, self._shards)
        if right != tx.number:
            raise CampaignError(
                f"campaign {campaign.campaign_id} belongs into partition {right} of "
                f"{CAMPAIGNS.name}, the record came in {tx.number}: partition by murmur2 of the "
                "key, as Java's clients and librdkafka's murmur2_random do"
            )
        key = campaign_key(campaign.campaign_id)
        state = load(tx, key, CampaignState)
        known = state is not None and not state.deleted
        if state is not None and known and campaign.version <= state.campaign.version:
            return
        check_runnable(campaign)
        check_size(campaign)
        if state is None:
            state = CampaignState(_without_list(campaign))
        else:
            check_taken(state, campaign)
        keep_audience(tx, campaign.campaign_id, campaign.audience_users)
        state.campaign = _without_list(campaign)
        state.deleted = False
        store(tx, key, state)


class LeadCampaigns:
    """Starts waves, ends them when their outcomes are there, learns, and reports.

    Parameters
    ----------
    user_shards
        Number of user shards.
    known
        Other campaigns and their policies: one may begin with what another has learned.
    pairs
        The policies of campaigns with a profile encoder.
    interval_ms
        Between two snapshots of a campaign while none of its waves runs.
    """

    def __init__(
        self, user_shards: int, clock: Clock, known: Known, pairs: Pairs, interval_ms: int
    ) -> None:
        self._user_shards = user_shards
        self._clock = clock
        self._pairs = pairs
        self._interval_ms = interval_ms
        self._learner = Learner(known, pairs)
        self._resting: dict[tuple[int, bytes], tuple[bytes, CampaignState]] = {}

    def __call__(self, tx: Transaction) -> bool:
        """Do what each campaign of the shard needs now; True if there may be more."""
        more = False
        for key, raw in list(tx.scan(b"c")):
            state = self._state(tx, key, raw)
            now_ms = self._clock.now_ms(tx.now_ms)
            ready = self._pairs.ready(tx, state)
            need = due(state, now_ms, self._interval_ms) if ready else Due.NOTHING
            if need is Due.START and not self._learner.may_start(tx, state):
                need = Due.NOTHING
            if need in (Due.START, Due.RENEW) and not self._pairs.may_decide(state):
                need = due_late(state, now_ms, self._interval_ms)  # it goes on learning
            match need:
                case Due.START:
                    self._start(tx, state, now_ms)
                case Due.END | Due.OVERDUE | Due.STOP:
                    self._end(tx, state, need, now_ms)
                case Due.RENEW:
                    self._renew(tx, state, now_ms)
                case Due.LEARN:
                    self._learner.learn(tx, state, now_ms, until=LAST_WAVE)
            if ready:
                self._pairs.tend(tx, state)
            if need is Due.NOTHING and not state.changed and key not in tx.changes:
                self._resting[tx.number, key] = (raw, state)
            self._report(tx, state, now_ms)
            more |= need is not Due.NOTHING
        return more

    def _state(self, tx: Transaction, key: bytes, raw: bytes) -> CampaignState:
        """Read a state; one that nothing was done to since it was last looked at is kept.

        A state that is being changed is never kept: its transaction may come to nothing.
        """
        known = self._resting.pop((tx.number, key), None)
        if known is not None and known[0] == raw:
            return known[1]
        state = load(tx, key, CampaignState)
        assert state is not None
        return state

    def _start(self, tx: Transaction, state: CampaignState, now_ms: int) -> None:
        campaign = state.campaign
        if campaign.triggered:
            self._put_aside(tx, state, now_ms)
        snapshot = self._learner.led(tx, state, now_ms)
        policy = policy_of(snapshot)
        half_lives_ms = half_lives_of(campaign, policy)
        state.half_lives_ms = list(policy.half_lives_ms)
        wave = start_wave(state, self._user_shards, snapshot.encoder_version, now_ms)
        wave.snapshot_parts = publish(tx, _with_wave(snapshot, wave.wave))
        listed: dict[int, list[str]] | None = None
        audience = listed_audience(tx, campaign.campaign_id)
        if audience is not None:
            listed = {number: [] for number in range(self._user_shards)}
            for user in dict.fromkeys(audience):
                listed[partition_of(user, self._user_shards)].append(user)
        share_from, share_until = instalment(wave.wave, campaign.waves)
        for number in range(self._user_shards):
            start = WaveStart(
                campaign=campaign,
                wave=wave.wave,
                shard=number,
                policy_version=wave.policy_version,
                encoder_version=wave.encoder_version,
                users=None if listed is None else listed[number],
                half_lives_ms=half_lives_ms,
                share_from=share_from,
                share_until=share_until,
                started_at_ms=now_ms,
                # A triggered wave goes on until the next one reaches the shard.
                deadline_ms=LAST_TIME_MS if campaign.triggered else wave.deadline_ms,
            )
            tx.emit(WAVE_STARTS, start, key=str(number), partition=number)
        store(tx, campaign_key(campaign.campaign_id), state)

    def _renew(self, tx: Transaction, state: CampaignState, now_ms: int) -> None:
        """The next wave of a triggered campaign, whatever is still open of the last."""
        wave = state.running()
        assert wave is not None
        self._end(tx, state, Due.RENEW, now_ms)
        self._start(tx, state, now_ms)

    def _put_aside(self, tx: Transaction, state: CampaignState, now_ms: int) -> None:
        """Keep waves that ended under keys of their own; the oldest, beyond correction, no more."""
        campaign = state.campaign
        for wave in [wave for wave in state.waves if wave.ended_at_ms is not None]:
            state.waves.remove(wave)
            store(tx, ended_key(campaign.campaign_id, wave.wave), wave)
        kept_ms = campaign.closes_after_ms + campaign.correction_horizon_ms
        for key, raw in tx.scan(ended_prefix(campaign.campaign_id)):
            ended = msgspec.msgpack.decode(raw, type=WaveState)
            if (ended.ended_at_ms or 0) + kept_ms >= now_ms:
                break
            tx.delete(key)
            self._pairs.forget(tx, campaign, ended.wave)

    def _end(self, tx: Transaction, state: CampaignState, need: Due, now_ms: int) -> None:
        """Learn, and end the wave."""
        wave = state.running()
        assert wave is not None
        wave.ended_at_ms = now_ms
        wave.status = STATUSES[need]
        state.changed.append(wave.wave)
        if need is not Due.RENEW or state.kept:
            self._learner.learn(tx, state, now_ms, until=wave.wave)
        # Shards that still decide for it stop at the deadline, without its policy.
        drop_frozen(tx, state.campaign.campaign_id, wave.wave, wave.snapshot_parts)

    @staticmethod
    def _report(tx: Transaction, state: CampaignState, now_ms: int) -> None:
        if not state.changed:
            return
        waves: dict[int, WaveState] = {wave.wave: wave for wave in state.waves}
        campaign_id = state.campaign.campaign_id
        for number in sorted(set(state.changed)):
            wave = waves.get(number) or load(tx, ended_key(campaign_id, number), WaveState)
            if wave is None:
                continue  # it is beyond its correction horizon
            tx.emit(
                WAVE_REPORTS,
                report(state, wave, now_ms),
                key=f"{campaign_id}/{number}",
                partition=tx.number,
            )
        state.changed = []
        store(tx, campaign_key(campaign_id), state)


def _with_wave(snapshot: PolicySnapshot, wave: int) -> PolicySnapshot:
    return dataclasses.replace(snapshot, wave=wave)


def _without_list(campaign: Campaign) -> Campaign:
    """The definition without its list: that is kept apart, and each shard gets its part of it."""
    return dataclasses.replace(campaign, audience_users=None)
