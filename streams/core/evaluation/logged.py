"""Logged decisions, and how much each weighs for another policy."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.errors import EvaluationError, GroundswellError, PropensityError

__all__ = [
    "FloatArray",
    "IntArray",
    "LoggedDecisions",
    "checked_action_dist",
    "checked_predictions",
    "importance_weights",
]

SUM_TOLERANCE = 1e-6  # rows of an action distribution sum to 1 within this

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ArrayT = TypeVar("ArrayT", bound=npt.NDArray[Any])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedDecisions:
    """What the logging policy chose, with which probability, and what came back.

    Parameters
    ----------
    actions : (n,) int
        Index `a_i` of the action taken in decision `i`.
    rewards : (n,) float
        Reward `r_i` of the closed outcome.
    propensities : (n,) float in (0, 1]
        Probability `p_i` that the logging policy drew `a_i` with, given the context.
    positions : (n,) int, optional
        Index of the slot the action was shown in, where a policy depends on the slot.

    Raises
    ------
    PropensityError
        A propensity is not a number in (0, 1].
    EvaluationError
        Lengths differ, the log is empty, an index is negative or no integer, or a reward is
        not finite.
    """

    actions: IntArray
    rewards: FloatArray
    propensities: FloatArray
    positions: IntArray | None = None

    def __post_init__(self) -> None:
        actions = _indices("actions", self.actions)
        n = len(actions)
        if n == 0:
            raise EvaluationError(
                "the log has 0 decisions, at least 1 is needed: widen the period or the campaigns"
            )
        rewards = _column("rewards", self.rewards, n)
        _refuse(rewards, np.isfinite(rewards), "reward must be finite", "leave open outcomes out")
        propensities = _column("propensities", self.propensities, n)
        _refuse(
            propensities,
            (propensities > 0.0) & (propensities <= 1.0),  # False for NaN
            "propensity must lie in (0, 1]",
            "log the probability the action was drawn with",
            PropensityError,
        )
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "rewards", rewards)
        object.__setattr__(self, "propensities", propensities)
        if self.positions is not None:
            positions = _indices("positions", self.positions)
            if len(positions) != n:
                raise EvaluationError(
                    f"positions has {len(positions)} rows, actions has {n}: "
                    "give one position a decision"
                )
            object.__setattr__(self, "positions", positions)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def value(self) -> float:
        """Mean reward: the on-policy value of the logging policy."""
        return float(self.rewards.mean())


def importance_weights(
    log: LoggedDecisions, action_dist: npt.ArrayLike, *, clip: float | None = None
) -> FloatArray:
    """How much more often the evaluation policy takes each logged action.

    `w_i = pi(a_i | x_i) / p_i`, or `min(w_i, clip)`: Ionides 2008, "Truncated Importance
    Sampling". Clipping trades variance for a bias toward zero.

    Parameters
    ----------
    log : LoggedDecisions
        `n` decisions.
    action_dist : (n, n_actions) or (n, n_actions, n_positions)
        `pi(a | x_i)`, or `pi(a | x_i, k)` where the log has positions.
    clip : float, optional
        The largest weight that is let through.

    Returns
    -------
    (n,) float

    Raises
    ------
    EvaluationError
        `action_dist` is no distribution over the log's actions, or `clip` is not positive.
    """
    dist = checked_action_dist(log, action_dist)  # (n, n_actions)
    weights: FloatArray = dist[np.arange(len(log)), log.actions] / log.propensities
    if clip is None:
        return weights
    if not clip > 0.0:
        raise EvaluationError(f"clip must be above 0, got {clip}: leave it out for no clipping")
    return np.minimum(weights, clip)


def checked_action_dist(log: LoggedDecisions, action_dist: npt.ArrayLike) -> FloatArray:
    """`pi(a | x_i)` at the logged position, after checks; shape (n, n_actions)."""
    dist = _per_action(log, action_dist, "action_dist")
    lowest = float(dist.min())
    if not lowest >= 0.0:  # NaN included
        raise EvaluationError(
            f"action_dist must hold probabilities, got {lowest}: "
            "pass what the policy's action_dist returns"
        )
    sums = dist.sum(axis=1)
    worst = int(np.abs(sums - 1.0).argmax())
    if not abs(sums[worst] - 1.0) <= SUM_TOLERANCE:
        raise EvaluationError(
            f"action_dist must sum to 1 within {SUM_TOLERANCE:g}, got {sums[worst]:.9g} "
            f"in row {worst}: normalise over the eligible actions"
        )
    return dist


def checked_predictions(log: LoggedDecisions, predicted_rewards: npt.ArrayLike) -> FloatArray:
    """`q(x_i, a)` at the logged position, after checks; shape (n, n_actions)."""
    predictions = _per_action(log, predicted_rewards, "predicted_rewards")
    _refuse(
        predictions,
        np.isfinite(predictions),
        "predicted reward must be finite",
        "predict every action of every row",
    )
    return predictions


def _per_action(log: LoggedDecisions, values: npt.ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    n = len(log)
    if array.ndim == 3:
        if log.positions is None:
            raise EvaluationError(
                f"{name} has a position axis and the log has no positions: "
                "log them, or pass (n, n_actions)"
            )
        highest = int(log.positions.max())
        if array.shape[0] == n and highest >= array.shape[2]:
            raise EvaluationError(
                f"the log has position {highest}, {name} has {array.shape[2]} positions: "
                "number positions from 0 and give every one of them"
            )
        if array.shape[0] == n:
            array = array[np.arange(n), :, log.positions]  # (n, n_actions)
    if array.ndim != 2 or array.shape[0] != n:
        raise EvaluationError(
            f"{name} must have shape ({n}, n_actions) or ({n}, n_actions, n_positions), "
            f"got {array.shape}: give one row a logged decision"
        )
    highest = int(log.actions.max())
    if highest >= array.shape[1]:
        raise EvaluationError(
            f"the log has action {highest}, {name} has {array.shape[1]} actions: "
            "number actions from 0 and give every one of them a column"
        )
    return array


def _indices(name: str, values: npt.ArrayLike) -> IntArray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise EvaluationError(
            f"{name} must be one row of integers, got shape {array.shape} of {array.dtype}: "
            "number them from 0"
        )
    if array.size and array.min() < 0:
        row = int(array.argmin())
        raise EvaluationError(
            f"{name} must be 0 or more, got {array[row]} in row {row}: number them from 0"
        )
    return _frozen(array.astype(np.int64))


def _column(name: str, values: npt.ArrayLike, n: int) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if array.shape != (n,):
        raise EvaluationError(
            f"{name} has shape {array.shape}, actions has ({n},): give one value a decision"
        )
    return _frozen(array)


def _frozen(array: ArrayT) -> ArrayT:
    array.flags.writeable = False
    return array


def _refuse(
    values: FloatArray,
    valid: npt.NDArray[np.bool_],
    rule: str,
    cure: str,
    error: type[GroundswellError] = EvaluationError,
) -> None:
    if valid.all():
        return
    where = np.unravel_index(int(valid.argmin()), values.shape)
    raise error(f"{rule}, got {values[where]} in row {where[0]}: {cure}")
