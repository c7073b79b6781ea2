"""Waves that are learned in parts: outcomes are gathered in the shard, summed up, and told as sums.

Examples stand in the state as they come, until a block of them is full; it is then added to the
sums, one key for each template and half-life. Sums are told when the shard has all outcomes of the
wave, or the wave is about to end without; what is corrected later is gathered again.
"""

from collections.abc import Iterator, Sequence

from schemas.campaign import WaveStart
from schemas.learning import Sums, Tally
from streams.agents.clock import Clock
from streams.agents.progress import Gathering, gathering_key, progress_update, tell
from streams.agents.running_waves import RunningWave, load_wave
from streams.agents.state import load, store, wave_key
from streams.core.learning import (
    Outcome,
    Rows,
    add_tallies,
    examples_in,
    joined,
    rows_of,
    update_columns,
)
from streams.core.parts import block_rows, row_bytes, sums_bytes
from streams.core.policies import Examples, parts_by_action
from streams.core.sums import added
from streams.kafka.transaction import Transaction

__all__ = ["TellGathered", "gather", "note_complete", "tell_early", "tell_gathered"]

TALLIES_MS = 1000  # between two reports of what was counted
MOST_TOLD = 2000  # outcomes in one update: of the widest contexts they stay within its limit
LARGEST_TOLD = 4 * 1024 * 1024  # bytes of sums in one update: half of its limit


def gather(
    tx: Transaction,
    running: RunningWave,
    outcomes: Sequence[Outcome],
    tallies: Sequence[Tally],
    closed: int,
    now_ms: int,
) -> None:
    """Put outcomes of a transaction to those that are to be told together.

    Parameters
    ----------
    tallies
        What they, and decisions that were not delivered, add to the wave's report.
    closed
        Decisions that were closed by the transaction.
    """
    start = running.start
    gathering = _load(tx, running) or _begun(start, now_ms)
    gathering.closed += closed
    gathering.tallies = add_tallies([*gathering.tallies, *tallies])
    rows = Rows(**update_columns(outcomes))  # type: ignore[arg-type]
    if rows.actions:
        _put_rows(tx, running, gathering, rows, len(rows.rewards) // 8)
    if gathering.rows >= block_rows(start):
        _sum_up(tx, running, gathering, rest=False)
    gathering.complete = _is_complete(running)
    _store(tx, running, gathering)


def tell_early(
    tx: Transaction, running: RunningWave, outcomes: Sequence[Outcome], now_ms: int
) -> None:
    """Tell of decisions whose window is open: what the learner knows, and no report counts."""
    if running.start.half_lives_ms is not None:
        gather(tx, running, outcomes, [], 0, now_ms)
        return
    for first in range(0, len(outcomes), MOST_TOLD):
        rows = Rows(**update_columns(outcomes[first : first + MOST_TOLD]))  # type: ignore[arg-type]
        if rows.actions:
            tell(tx, progress_update(tx, running, [], rows))


def note_complete(tx: Transaction, running: RunningWave) -> None:
    """Where deciding ends with every outcome gathered, these are all that there will be."""
    gathering = _load(tx, running)
    if gathering is not None and _is_complete(running):
        gathering.complete = True
        _store(tx, running, gathering)


def tell_gathered(tx: Transaction, running: RunningWave) -> None:
    """Tell all that a wave has gathered: as examples where those take less room than the sums."""
    gathering = _load(tx, running)
    if gathering is None:
        return
    updates: list[tuple[Rows | None, list[Sums] | None]]
    fewer = gathering.rows * row_bytes(running.start) <= sums_bytes(running.start)
    if fewer and not gathering.summed:
        updates = [(rows, None) for rows in _told_rows(tx, running)]
    else:
        _sum_up(tx, running, gathering, rest=True)
        updates = [(None, sums) for sums in _told_sums(tx, running)]
    tallies = gathering.tallies
    tx.delete(_key(running))
    for rows, sums in updates[:-1]:
        tell(tx, progress_update(tx, running, [], rows, sums, follows=max(gathering.closed, 1)))
    rows, sums = updates[-1] if updates else (None, None)
    tell(tx, progress_update(tx, running, tallies, rows, sums))


class TellGathered:
    """Tells what was gathered when it is due, and in between what was counted.

    Parameters
    ----------
    interval_ms
        Between two snapshots of a campaign while none of its waves runs: what comes after a
        wave's end need not be told more often.
    """

    def __init__(self, clock: Clock, interval_ms: int) -> None:
        self._clock = clock
        self._interval_ms = interval_ms

    def __call__(self, tx: Transaction) -> bool:
        """Tell what is due of one wave; True if there may be more."""
        now_ms = self._clock.now_ms(tx.now_ms)
        for key, _ in tx.scan(b"o"):
            gathering = load(tx, key, Gathering)
            assert gathering is not None
            due = now_ms >= _due_ms(gathering, self._interval_ms)
            counted = gathering.tallies and now_ms >= gathering.told_ms + TALLIES_MS
            if not due and not counted:
                continue
            running = load_wave(tx, b"w" + key[1:])
            assert running is not None  # a wave is told before it is dropped
            if due:
                tell_gathered(tx, running)
            else:
                tell(tx, progress_update(tx, running, gathering.tallies))
                gathering.tallies, gathering.told_ms = [], now_ms
                _store(tx, running, gathering)
            return True
        return False


def _begun(start: WaveStart, now_ms: int) -> Gathering:
    if start.campaign.triggered:
        lasts_ms, ends_ms = start.campaign.learn_every_ms, start.started_at_ms
    else:
        lasts_ms, ends_ms = start.deadline_ms - start.started_at_ms, start.deadline_ms
    return Gathering(lasts_ms, ends_ms, since_ms=now_ms, told_ms=now_ms)


def _due_ms(gathering: Gathering, interval_ms: int) -> int:
    """When what was gathered is told at the latest.

    The learner folds when a wave ends. Before that nobody needs the sums, but a wave can end at
    its deadline with decisions open: they are told shortly before, and from then on as they come.
    """
    pace_ms = min(interval_ms, gathering.lasts_ms // 10)
    since_ms = gathering.since_ms
    if gathering.complete:
        return since_ms if gathering.closed else since_ms + pace_ms
    if since_ms < gathering.ends_ms - pace_ms:
        return gathering.ends_ms - pace_ms
    return since_ms + (pace_ms // 4 if since_ms < gathering.ends_ms else pace_ms)


def _is_complete(running: RunningWave) -> bool:
    return not running.deciding and running.open == 0


# ---- rows


def _put_rows(
    tx: Transaction, running: RunningWave, gathering: Gathering, rows: Rows, n: int
) -> None:
    store(tx, _rows_prefix(running) + gathering.records.to_bytes(4, "big"), rows)
    gathering.rows += n
    gathering.records += 1


def _taken_rows(tx: Transaction, running: RunningWave) -> Examples | None:
    """The examples that are not summed up, removed from the state."""
    parts = []
    for key, _ in list(tx.scan(_rows_prefix(running))):
        rows = load(tx, key, Rows)
        assert rows is not None
        examples = examples_in(rows, running.start.campaign)
        assert examples is not None
        parts.append(examples)
        tx.delete(key)
    return joined(parts) if parts else None


def _told_rows(tx: Transaction, running: RunningWave) -> Iterator[Rows]:
    examples = _taken_rows(tx, running)
    for first in range(0, 0 if examples is None else len(examples), MOST_TOLD):
        assert examples is not None
        yield rows_of(examples.taking(slice(first, first + MOST_TOLD)))


# ---- sums


def _sum_up(tx: Transaction, running: RunningWave, gathering: Gathering, *, rest: bool) -> None:
    """Add whole blocks of examples to the sums; with `rest` what is left of them too."""
    examples = _taken_rows(tx, running)
    gathering.rows = gathering.records = 0
    size = block_rows(running.start)
    while examples is not None and len(examples):
        if len(examples) < size and not rest:
            _put_rows(tx, running, gathering, rows_of(examples), len(examples))
            break
        _add(tx, running, examples.taking(slice(0, size)))
        gathering.summed = True
        examples = examples.taking(slice(size, None))


def _add(tx: Transaction, running: RunningWave, examples: Examples) -> None:
    for rank, half_life_ms in enumerate(running.start.half_lives_ms or ()):
        for part in parts_by_action(examples, half_life_ms):
            key = _sums_prefix(running) + rank.to_bytes(1, "big") + part.action.encode()
            store(tx, key, added(load(tx, key, Sums), part))


def _told_sums(tx: Transaction, running: RunningWave) -> Iterator[list[Sums]]:
    """The sums, removed from the state, by updates that they fit into."""
    told: list[Sums] = []
    size = 0
    for key, raw in list(tx.scan(_sums_prefix(running))):
        sums = load(tx, key, Sums)
        assert sums is not None
        tx.delete(key)
        if told and size + len(raw) > LARGEST_TOLD:
            yield told
            told, size = [], 0
        told.append(sums)
        size += len(raw)
    if told:
        yield told


# ---- keys


def _key(running: RunningWave) -> bytes:
    return gathering_key(running.start.campaign.campaign_id, running.start.wave)


def _rows_prefix(running: RunningWave) -> bytes:
    return b"r" + wave_key(running.start.campaign.campaign_id, running.start.wave)[1:]


def _sums_prefix(running: RunningWave) -> bytes:
    return b"s" + wave_key(running.start.campaign.campaign_id, running.start.wave)[1:]


def _load(tx: Transaction, running: RunningWave) -> Gathering | None:
    return load(tx, _key(running), Gathering)


def _store(tx: Transaction, running: RunningWave, gathering: Gathering) -> None:
    store(tx, _key(running), gathering)
