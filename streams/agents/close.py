"""Decisions closed at their window's end, and forgotten where nothing can correct them."""

from streams.agents.clock import Clock
from streams.agents.gathered import Gathered
from streams.agents.state import (
    CLOSE,
    FORGET,
    REST,
    Timer,
    due_of,
    ledger_key,
    load,
    put_timers,
    read_timers,
    rest_key,
    store,
)
from streams.core.learning import (
    Outcome,
)
from streams.core.ledger import (
    Ledger,
    close_entry,
    prune,
)
from streams.kafka.transaction import Transaction

__all__ = ["MOST_DUE", "CloseDue"]

MOST_DUE = 2000  # timers handled in one transaction, and those that stand with the last


class CloseDue:
    """Closes decisions whose window is over, and forgets those that nothing can correct."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, tx: Transaction) -> bool:
        """Handle what is due by the shard's event time; True if there is more."""
        gathered = Gathered(tx, self._clock.now_ms(tx.now_ms))
        closed: dict[int, list[tuple[str, str]]] = {}  # by the time to forget them
        due = _due(tx)
        for timer in due:
            if timer.what == REST:
                _end_rest(tx, timer)
                continue
            ledger = load(tx, ledger_key(timer.user), Ledger)
            if ledger is None:
                continue
            if timer.what == CLOSE:
                forget_ms = self._close(timer, ledger, gathered)
                if forget_ms is not None:
                    closed.setdefault(forget_ms, []).append((timer.user, timer.decision_id))
            else:
                self._forget(timer, ledger, gathered)
            if ledger.empty:
                tx.delete(ledger_key(timer.user))
            else:
                store(tx, ledger_key(timer.user), ledger)
        for forget_ms, decisions in closed.items():
            put_timers(tx, forget_ms, FORGET, decisions)
        gathered.tell()
        return len(due) >= MOST_DUE

    @staticmethod
    def _forget(timer: Timer, ledger: Ledger, gathered: Gathered) -> None:
        for entry in ledger.entries:
            if entry.decision_id == timer.decision_id:
                gathered.forgotten(entry)
        prune(ledger, timer.decision_id)

    @staticmethod
    def _close(timer: Timer, ledger: Ledger, gathered: Gathered) -> int | None:
        """Close a decision; gives when to forget it, None where it was closed before."""
        entry = next((e for e in ledger.entries if e.decision_id == timer.decision_id), None)
        if entry is None or entry.closed:
            return None
        campaign = gathered.campaign(entry)
        known = entry.learned if entry.told else None
        delivered = close_entry(entry, campaign)
        gathered.closed(entry, delivered=delivered)
        if delivered:
            gathered.add(
                Outcome(
                    user_id=timer.user,
                    entry=entry,
                    reward=entry.learned,
                    previous=None,
                    known=known,
                    at_ms=timer.due_ms,
                )
            )
        elif known:  # what never arrived has earned nothing
            gathered.correct_early(timer.user, entry, 0.0, timer.due_ms)
        return max(entry.decided_at_ms + campaign.correction_horizon_ms, timer.due_ms)


def _end_rest(tx: Transaction, timer: Timer) -> None:
    """Forget that a user rests, unless a later event has begun another rest."""
    key = rest_key(timer.user, timer.decision_id)
    until_ms = tx.get(key)
    if until_ms is not None and int(until_ms) <= timer.due_ms:
        tx.delete(key)


def _due(tx: Transaction) -> list[Timer]:
    """Take what is due out of the state: so many timers, and those that stand with the last."""
    due: list[Timer] = []
    for key, raw in tx.scan(b"t"):
        if len(due) >= MOST_DUE or due_of(key) > tx.now_ms:
            break
        due += read_timers(key, raw)
        tx.delete(key)
    return due
