"""Propensities that a log does not give, estimated from how often each action was taken."""

from collections import Counter
from collections.abc import Sequence

from schemas.errors import MappingError
from schemas.hashing import id_hash

__all__ = ["FOLDS", "PropensityCounts"]

FOLDS = 5
SMOOTHING = 20.0  # decisions that the overall shares are worth in a stratum


class PropensityCounts:
    """Shares of the actions in strata of the log, each row's from rows of other users.

    The estimate for action a in stratum s is ``(n_sa + m q_a) / (n_s + m)`` with ``q_a = (n_a + 1)
    / (n + K)``, over the rows of all folds but the user's own (cross-fitting: Chernozhukov et al.
    2018, "Double/Debiased Machine Learning", section 3). It is above 0 for every action, and is
    right only where the logging policy told nothing apart but the strata.

    Parameters
    ----------
    smoothing
        m, in decisions.
    """

    def __init__(self, smoothing: float = SMOOTHING) -> None:
        self._smoothing = smoothing
        self._cells: Counter[tuple[int, str, str]] = Counter()
        self._strata: Counter[tuple[int, str]] = Counter()
        self._actions: Counter[tuple[int, str]] = Counter()
        self._rows: Counter[int] = Counter()

    def add(self, user_id: str, stratum: str, action: str) -> None:
        """Count a row."""
        fold = id_hash(user_id) % FOLDS
        self._cells[fold, stratum, action] += 1
        self._strata[fold, stratum] += 1
        self._actions[fold, action] += 1
        self._rows[fold] += 1

    def estimate(self, user_id: str, stratum: str, action: str, actions: Sequence[str]) -> float:
        """p, the probability in (0, 1) that the action was drawn with.

        Raises
        ------
        MappingError
            If the action is none of `actions`.
        """
        if action not in actions:
            raise MappingError(f"action {action!r} is none of the {len(actions)} of the log")
        mine = id_hash(user_id) % FOLDS
        others = [fold for fold in range(FOLDS) if fold != mine]
        n = sum(self._rows[fold] for fold in others)
        n_a = sum(self._actions[fold, action] for fold in others)
        n_s = sum(self._strata[fold, stratum] for fold in others)
        n_sa = sum(self._cells[fold, stratum, action] for fold in others)
        overall = (n_a + 1) / (n + len(actions))
        return (n_sa + self._smoothing * overall) / (n_s + self._smoothing)
