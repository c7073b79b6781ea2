"""What the learner is told of a wave in a shard: how far it has come, and what came of it."""

from collections.abc import Sequence

import msgspec

from schemas.learning import LearningUpdate, Sums, Tally
from schemas.topics import LEARNING_UPDATES
from streams.agents.running_waves import RunningWave, store_wave
from streams.agents.state import load, wave_key
from streams.core.learning import Rows, add_tallies
from streams.kafka.transaction import Transaction

__all__ = [
    "Gathering",
    "gathering_key",
    "is_to_be_told",
    "note_tallies",
    "progress_update",
    "store_progress",
    "tell",
    "tell_progress",
]

TELL_AFTER_MS = 1000  # a report may be so old: a message for each chunk would cost more than it


class Gathering(msgspec.Struct, array_like=True):
    """What a shard has not told yet of a wave that is learned in parts.

    Attributes
    ----------
    lasts_ms, ends_ms
        How long the wave lasts, and when it ends though decisions are open; of a triggered one,
        whose outcomes are learned by the waves behind it, its start.
    since_ms
        When the first of it was gathered.
    told_ms
        When tallies were told last.
    closed
        Decisions that are closed, which the learner does not know.
    rows, records
        Examples that are not summed up, and under how many keys they stand.
    summed
        Whether there are sums.
    complete
        Whether the shard has decided for all of its users, and no decision of them is open.
    """

    lasts_ms: int
    ends_ms: int
    since_ms: int
    told_ms: int
    closed: int = 0
    rows: int = 0
    records: int = 0
    summed: bool = False
    complete: bool = False
    tallies: list[Tally] = []


def gathering_key(campaign_id: str, wave: int) -> bytes:
    """Key of what a wave has gathered."""
    return b"o" + wave_key(campaign_id, wave)[1:]


def progress_update(
    tx: Transaction,
    running: RunningWave,
    tallies: list[Tally],
    rows: Rows | None = None,
    sums: list[Sums] | None = None,
    *,
    follows: int = 0,
) -> LearningUpdate:
    """What the learner is told of a wave in this shard.

    Parameters
    ----------
    follows
        Outcomes in updates behind this one: their decisions count as open, so that the learner
        does not take the wave for complete before it has them.
    """
    start = running.start
    return LearningUpdate(
        campaign_id=start.campaign.campaign_id,
        wave=start.wave,
        shard=tx.number,
        policy_version=start.policy_version,
        encoder_version=start.encoder_version,
        decided=running.decided,
        open=running.open + follows + _gathered(tx, running),
        deciding=running.deciding,
        time_ms=tx.now_ms,
        tallies=tallies,
        sums=sums or [],
        **msgspec.structs.asdict(rows or Rows()),
    )


def _gathered(tx: Transaction, running: RunningWave) -> int:
    start = running.start
    if start.half_lives_ms is None:
        return 0
    gathering = load(tx, gathering_key(start.campaign.campaign_id, start.wave), Gathering)
    return 0 if gathering is None else gathering.closed


def tell(tx: Transaction, update: LearningUpdate) -> None:
    """Send an update to the learner of its campaign."""
    tx.emit(LEARNING_UPDATES, update, key=update.campaign_id)


def note_tallies(running: RunningWave, tallies: Sequence[Tally]) -> None:
    """Keep what decisions add to the wave's report until the learner is told."""
    running.untold = add_tallies([*running.untold, *tallies])


def is_to_be_told(running: RunningWave, now_ms: int) -> bool:
    """Whether there is something to tell, and what was told last is a second old.

    Of a clock that was put back it is not known how old that is.
    """
    return bool(running.untold) and not 0 <= now_ms - running.told_ms < TELL_AFTER_MS


def tell_progress(tx: Transaction, running: RunningWave, now_ms: int) -> None:
    """Tell the learner how far the wave has come, and store it."""
    tell(tx, progress_update(tx, running, running.untold))
    running.untold, running.told_ms = [], now_ms
    store_wave(tx, running)


def store_progress(tx: Transaction, running: RunningWave, now_ms: int) -> None:
    """Store the wave; where the learner is to be told, in the same transaction."""
    if is_to_be_told(running, now_ms):
        tell_progress(tx, running, now_ms)
    else:
        store_wave(tx, running)
