"""Waves as they run in a user shard: what they are pinned to, and how far they have come.

What a wave is pinned to holds the campaign's whole definition and does not change. It stands under
a key of its own, so that neither a chunk nor a triggered decision writes it, or decodes it, again.
"""

import dataclasses
import functools

import msgspec

from schemas.campaign import WaveStart
from schemas.learning import Tally
from streams.agents.state import (
    State,
    Triggering,
    active_key,
    done_key,
    load,
    loaded,
    store,
    triggering_key,
    wave_key,
)

__all__ = ["RunningWave", "load_wave", "open_triggers", "pinned_key", "store_wave"]

KEPT, LARGEST_KEPT = 1024, 64 * 1024  # starts that are kept as read, and the bytes of one


class Course(msgspec.Struct, array_like=True):
    """How far a wave has come in one user shard.

    Attributes
    ----------
    cursor
        The last state key, or the number of listed users, that was looked at.
    chunk
        Number of the next chunk.
    decided, open
        Decisions made; of these, still open.
    held
        Entries of it that ledgers hold, open or to be corrected.
    untold
        What its decisions added to its report since the learner was told last.
    told_ms
        When that was, by the clock that decisions are made by.
    listed
        Whether it is for users of a list, which is kept apart.
    """

    cursor: bytes = b""
    chunk: int = 0
    decided: int = 0
    open: int = 0
    deciding: bool = True
    held: int = 0
    untold: list[Tally] = []
    told_ms: int = 0
    listed: bool = False


class RunningWave(Course, kw_only=True):
    """A wave in one user shard.

    Attributes
    ----------
    start
        What it is pinned to.
    is_stored
        Whether that stands in the state as it is.
    """

    start: WaveStart
    is_stored: bool = False


def pinned_key(campaign_id: str, wave: int) -> bytes:
    """Key of what a running wave is pinned to."""
    return _pinned(wave_key(campaign_id, wave))


def _pinned(key: bytes) -> bytes:
    return b"k" + key[1:]


def _start_of(raw: bytes) -> WaveStart:
    return _kept(raw) if len(raw) <= LARGEST_KEPT else loaded(raw, WaveStart)


@functools.lru_cache(maxsize=KEPT)
def _kept(raw: bytes) -> WaveStart:
    return loaded(raw, WaveStart)


def load_wave(state: State, key: bytes) -> RunningWave | None:
    """The wave under a key, as it runs here; None where it does not."""
    course = load(state, key, Course)
    if course is None:
        return None
    raw = state.get(_pinned(key))
    assert raw is not None  # they are put and deleted together
    return RunningWave(*msgspec.structs.astuple(course), start=_start_of(raw), is_stored=True)


def store_wave(state: State, running: RunningWave) -> None:
    """Put a wave; what only deciding needed goes with it, and the wave with its last entry."""
    campaign, number = running.start.campaign, running.start.wave
    key = wave_key(campaign.campaign_id, number)
    if not running.deciding and not campaign.triggered:
        state.delete(active_key(campaign.campaign_id, number))
    if not running.deciding and not running.held:
        state.delete(key)
        state.delete(_pinned(key))
        if not campaign.triggered:  # those are told apart by the newest that was started
            state.put(done_key(campaign.campaign_id, number), b"")
        return
    if not running.deciding and running.start.users is not None:
        running.start = dataclasses.replace(running.start, users=None)
        running.is_stored = False
    if not running.is_stored:
        store(state, _pinned(key), running.start)
        running.is_stored = True
    store(state, key, msgspec.structs.astuple(running)[: len(Course.__struct_fields__)])


def open_triggers(state: State, start: WaveStart) -> None:
    """Begin a triggered campaign's next wave; one that is known already is not begun again."""
    campaign = start.campaign
    assert campaign.trigger_event is not None
    key = triggering_key(campaign.campaign_id)
    known = load(state, key, Triggering) or Triggering(campaign.trigger_event, [])
    if known.waves and known.waves[-1] >= start.wave:
        return
    store_wave(state, RunningWave(start=start))
    store(state, key, Triggering(campaign.trigger_event, [*known.waves, start.wave]))
