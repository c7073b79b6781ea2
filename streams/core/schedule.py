"""A campaign's course: which wave runs, what of it has come back, and when the next one starts.

State of a campaign shard. Nothing here knows of Kafka; times are arguments.
"""

from enum import StrEnum

import msgspec

from schemas.campaign import Campaign
from schemas.checks import LAST_TIME_MS
from schemas.learning import LearningUpdate, Tally, WaveReport
from streams.core.learning import add_tallies

__all__ = [
    "CampaignState",
    "Due",
    "ShardProgress",
    "WaveState",
    "due",
    "due_late",
    "note_update",
    "report",
    "start_wave",
]


class ShardProgress(msgspec.Struct, array_like=True):
    """How far one user shard has come with a wave."""

    decided: int = 0
    open: int = 0
    deciding: bool = True


class WaveState(msgspec.Struct, array_like=True):
    """A wave as the scheduler knows it.

    Attributes
    ----------
    snapshot_parts
        In how many parts the policy that it is pinned to was published.
    """

    wave: int
    policy_version: int
    encoder_version: str
    started_at_ms: int
    deadline_ms: int
    status: str = "deciding"
    ended_at_ms: int | None = None
    shards: dict[int, ShardProgress] = {}
    tallies: list[Tally] = []
    snapshot_parts: int = 1


class CampaignState(msgspec.Struct, array_like=True):
    """A campaign's definition and course.

    Attributes
    ----------
    version
        Of the newest snapshot.
    examples, reward_sum, feedback
        What the newest snapshot contains.
    changed
        Waves whose report is to be written again.
    kept, learned_at_ms
        Updates that no snapshot contains yet, and when the newest snapshot was made.
    started, pinned
        Number of waves that were started, and the definition's version that the last is pinned to.
    half_lives_ms
        Those of the sums that the policy can learn.
    leading, pairs
        With an encoder: the label of the release that new waves are decided with, and of those
        whose policies learn beside it.
    deleted
        Whether the definition was deleted since: a new one may start again from version 1.
    """

    campaign: Campaign
    waves: list[WaveState] = []
    version: int = -1
    examples: int = 0
    reward_sum: float = 0.0
    feedback: dict[str, int] = {}
    changed: list[int] = []
    kept: int = 0
    learned_at_ms: int = 0
    started: int = 0
    pinned: int = 0
    half_lives_ms: list[float] = []
    leading: str = ""
    pairs: list[str] = []
    deleted: bool = False

    def running(self) -> WaveState | None:
        """The wave that is under way; of a log's, which may come together, the first."""
        open_waves = (wave for wave in self.waves if wave.ended_at_ms is None)
        return min(open_waves, key=lambda wave: wave.wave, default=None)


class Due(StrEnum):
    """What a campaign needs now."""

    NOTHING = "nothing"
    START = "start"  # the next wave
    END = "end"  # of the running wave: all outcomes are there
    OVERDUE = "overdue"  # the running wave's deadline has come
    STOP = "stop"  # the running wave of a stopped campaign
    LEARN = "learn"  # what came in after the last wave's end
    RENEW = "renew"  # a triggered campaign's next wave, with what was learned or defined since


def note_update(
    state: CampaignState, update: LearningUpdate, shards: int, ended: WaveState | None = None
) -> bool:
    """Note a shard's progress and tallies, in place; False for a wave that never started.

    The waves of a logged campaign start with what is replayed of them. A triggered campaign's
    waves that have ended are kept apart: `ended` is the one that the update is of.
    """
    wave = next((wave for wave in state.waves if wave.wave == update.wave), ended)
    if wave is None and state.campaign.status == "logged":
        wave = _logged_wave(update, shards)
        state.waves.append(wave)
    if wave is None:
        return 0 <= update.wave < state.started and state.campaign.triggered
    wave.tallies = add_tallies([*wave.tallies, *update.tallies])
    if update.shard in wave.shards:
        wave.shards[update.shard] = ShardProgress(update.decided, update.open, update.deciding)
    if wave.ended_at_ms is None and not any(p.deciding for p in wave.shards.values()):
        wave.status = "open"
    if ended is not None and complete(wave):
        wave.status = "closed"
    if update.wave not in state.changed:
        state.changed.append(update.wave)
    return True


def _logged_wave(update: LearningUpdate, shards: int) -> WaveState:
    return WaveState(
        wave=update.wave,
        policy_version=update.policy_version,
        encoder_version=update.encoder_version,
        started_at_ms=0,
        deadline_ms=LAST_TIME_MS,
        shards={number: ShardProgress() for number in range(shards)},
    )


def complete(wave: WaveState) -> bool:
    """Whether every shard has decided for all of its users, and every outcome is closed."""
    return all(not shard.deciding and shard.open == 0 for shard in wave.shards.values())


def due(state: CampaignState, now_ms: int, interval_ms: int) -> Due:
    """What the campaign needs at this time.

    While no wave runs, snapshots are `interval_ms` apart: each is a copy of the policy.
    """
    campaign, running = state.campaign, state.running()
    if running is not None and campaign.triggered:
        return _due_triggered(state, running, now_ms, interval_ms)
    if running is not None:
        if complete(running):
            return Due.END
        if campaign.status == "stopped" and not any(p.deciding for p in running.shards.values()):
            return Due.STOP
        return Due.OVERDUE if now_ms >= running.deadline_ms else Due.NOTHING
    starts_at_ms = campaign.starts_at_ms or 0
    left = campaign.triggered or state.started < campaign.waves
    if campaign.status == "active" and left and now_ms >= starts_at_ms:
        return Due.START
    return due_late(state, now_ms, interval_ms)


def due_late(state: CampaignState, now_ms: int, interval_ms: int) -> Due:
    """Whether outcomes that no wave waits for are to be learned now."""
    late = state.kept > 0 and now_ms - state.learned_at_ms >= interval_ms
    return Due.LEARN if late else Due.NOTHING


def _due_triggered(state: CampaignState, running: WaveState, now_ms: int, interval_ms: int) -> Due:
    """A wave lasts until there is something to change: what was learned, or the definition."""
    campaign = state.campaign
    if campaign.status == "stopped":
        deciding = any(p.deciding for p in running.shards.values())
        return Due.NOTHING if deciding else Due.STOP
    if campaign.status != "active":
        return due_late(state, now_ms, interval_ms)
    over = now_ms >= running.deadline_ms and state.kept > 0
    return Due.RENEW if over or campaign.version != state.pinned else Due.NOTHING


def start_wave(state: CampaignState, shards: int, encoder_version: str, now_ms: int) -> WaveState:
    """Begin the next wave, in place, pinned to the newest policy."""
    campaign = state.campaign
    lasts_ms = campaign.learn_every_ms if campaign.triggered else campaign.wave_deadline_ms
    wave = WaveState(
        wave=state.started,
        policy_version=state.version,
        encoder_version=encoder_version,
        started_at_ms=now_ms,
        deadline_ms=now_ms + lasts_ms,
        shards={number: ShardProgress() for number in range(shards)},
    )
    state.waves.append(wave)
    state.started += 1
    state.pinned = campaign.version
    state.changed.append(wave.wave)
    return wave


def report(state: CampaignState, wave: WaveState, now_ms: int) -> WaveReport:
    """The report of a wave as it stands."""
    progress = wave.shards.values()
    return WaveReport(
        campaign_id=state.campaign.campaign_id,
        wave=wave.wave,
        status=wave.status,
        policy_version=wave.policy_version,
        encoder_version=wave.encoder_version,
        started_at_ms=wave.started_at_ms,
        ended_at_ms=wave.ended_at_ms,
        shards=len(wave.shards),
        shards_done=sum(not p.deciding and p.open == 0 for p in progress),
        decided=sum(p.decided for p in progress),
        open=sum(p.open for p in progress),
        tallies=wave.tallies,
        updated_at_ms=now_ms,
    )
