"""What a linear model keeps of its examples: sums that can be made in parts and added."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PolicyError
from streams.core.policies.data import Examples, FloatArray, IntArray

__all__ = ["Statistics", "crossed", "statistics_of", "sums_of"]

INDEFINITE = 1e-8  # of the trace: an eigenvalue may be so far below 0 by rounding
TINY = 1e-292  # the trace that sums of next to nothing are held to
LARGEST_SUM = 1e100  # no examples add up to that: their features and rewards are bounded
ROWS = 4096  # features of so many examples are laid out at once: at most 16 MiB


def crossed(contexts: FloatArray, action_features: FloatArray) -> FloatArray:
    """Cross user and action features, with a constant on either side.

    ``phi(x, a) = (1, x) ⊗ (1, a)``: a constant, the user's effects, the action's effects, and
    what the action means to this user.

    Parameters
    ----------
    contexts
        x, (n, d_user).
    action_features
        a, (n, d_action).

    Returns
    -------
    FloatArray
        phi, (n, d) with d = (1 + d_user)(1 + d_action).

    >>> crossed(np.array([[2.0]]), np.array([[3.0, 5.0]]))
    array([[ 1.,  3.,  5.,  2.,  6., 10.]])
    """
    ones = np.ones((len(contexts), 1))
    users = np.hstack([ones, contexts])  # (n, 1 + d_user)
    acts = np.hstack([ones, action_features])  # (n, 1 + d_action)
    return (users[:, :, None] * acts[:, None, :]).reshape(len(users), -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums over examples, each weighted by ``2^(-age / half-life)``, age taken from ``at_ms``.

    Attributes
    ----------
    gram
        sum of w phi phi', (d, d), symmetric.
    moment
        sum of w phi r, (d,).
    power
        sum of w r².
    weight
        sum of w: the effective number of examples.
    n
        Examples, corrections not counted.
    at_ms
        The newest decision that is contained; None where there is none.
    """

    gram: FloatArray
    moment: FloatArray
    power: float
    weight: float
    n: int
    at_ms: int | None

    @classmethod
    def empty(cls, d: int) -> Self:
        """Give the sums over no examples with features phi of dimension d."""
        return cls(
            gram=np.zeros((d, d)), moment=np.zeros(d), power=0.0, weight=0.0, n=0, at_ms=None
        )

    def plus(self, other: Self, half_life_ms: float = 0.0) -> Self:
        """Add other sums, after both are aged to the newer of the two (half-life 0: never).

        Raises
        ------
        PolicyError
            If the dimensions differ.
        """
        if self.moment.shape != other.moment.shape:
            raise PolicyError(
                f"statistics must have dimension {len(self.moment)}, got {len(other.moment)}: "
                "add only what the same policy and encoder made"
            )
        at_ms = max((at for at in (self.at_ms, other.at_ms) if at is not None), default=None)
        mine = _fade(self.at_ms, at_ms, half_life_ms)
        theirs = _fade(other.at_ms, at_ms, half_life_ms)
        return type(self)(
            gram=mine * self.gram + theirs * other.gram,
            moment=mine * self.moment + theirs * other.moment,
            power=mine * self.power + theirs * other.power,
            weight=mine * self.weight + theirs * other.weight,
            n=self.n + other.n,
            at_ms=at_ms,
        )

    def discounted(self, share: float) -> Self:
        """Give the sums in which every example counts for a share of itself; ``n`` becomes 0."""
        return replace(
            self,
            gram=share * self.gram,
            moment=share * self.moment,
            power=share * self.power,
            weight=share * self.weight,
            n=0,
        )

    def rescaled(self, factor: float) -> Self:
        """Give the sums as if every reward had been multiplied by a factor."""
        return replace(self, moment=factor * self.moment, power=factor**2 * self.power)

    def aged(self, at_ms: int | None, half_life_ms: float) -> Self:
        """Give the sums as they stand at ``at_ms``, should that be later than what they hold."""
        empty = replace(type(self).empty(len(self.moment)), at_ms=at_ms)
        return self.plus(empty, half_life_ms)

    def state(self) -> dict[str, object]:
        """Give the sums as numbers and arrays; of the symmetric one the lower triangle."""
        return {
            "gram": self.gram[_lower(len(self.moment))],  # (d (d + 1) / 2,)
            "moment": self.moment,
            "power": self.power,
            "weight": self.weight,
            "n": self.n,
            "at_ms": self.at_ms,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], d: int, *, trusted: bool = False) -> Self:
        """Take up what :meth:`state` gave.

        ``power`` may be negative: corrections of what was never learned here, or was retired
        since, take off more than there is.

        Parameters
        ----------
        trusted
            Whether that the sums are sums of squares was checked before, which takes a factoring.

        Raises
        ------
        PolicyError
            If the sums are not of dimension d, of no sane size, or no sums of squares.
        """
        triangle, moment = state["gram"], state["moment"]
        power, weight = float(state["power"]), float(state["weight"])
        fits = np.shape(moment) == (d,) and np.shape(triangle) == (d * (d + 1) // 2,)
        if not fits or not all((np.abs(part) <= LARGEST_SUM).all() for part in (triangle, moment)):
            raise PolicyError(
                f"gram and moment must be within ±{LARGEST_SUM:g} and of dimension {d}, "
                f"got {np.size(moment)}: take another snapshot"
            )
        if not (abs(power) <= LARGEST_SUM and 0.0 <= weight <= LARGEST_SUM and state["n"] >= 0):
            raise PolicyError(
                f"statistics cannot have power={power}, weight={weight}, n={state['n']}: "
                "take another snapshot"
            )
        gram = np.zeros((d, d))
        gram[_lower(d)] = triangle
        gram = gram + np.tril(gram, -1).T
        if not trusted:
            _hold_definite(gram)
        at_ms = None if state["at_ms"] is None else int(state["at_ms"])
        return cls(
            gram=gram,
            moment=np.array(moment),
            power=power,
            weight=weight,
            n=int(state["n"]),
            at_ms=at_ms,
        )


def statistics_of(examples: Examples, half_life_ms: float = 0.0) -> Statistics:
    """Sum up examples.

    A new one adds ``phi phi'``, ``phi r``, ``r²`` and 1; a correction from r' to r adds nothing
    but ``phi (r - r')`` and ``r² - r'²``, so that the sums are those of the right rewards.

    Parameters
    ----------
    examples
        n of them, d_user and d_action features.
    half_life_ms
        The age at which an example counts half; 0: none is forgotten.
    """
    d = (1 + examples.contexts.shape[1]) * (1 + examples.action_features.shape[1])
    if not len(examples):
        return Statistics.empty(d)

    def laid_out(rows: slice) -> FloatArray:
        return crossed(examples.contexts[rows], examples.action_features[rows])

    return _summed(laid_out, d, examples.rewards, examples.previous, examples.at_ms, half_life_ms)


def sums_of(
    phi: FloatArray,
    rewards: FloatArray,
    previous: FloatArray,
    at_ms: IntArray,
    half_life_ms: float = 0.0,
) -> Statistics:
    """Sum up at least one example whose features phi, (n, d), are laid out already.

    As :func:`statistics_of`; ``previous`` is nan where an example is new.
    """
    return _summed(phi.__getitem__, phi.shape[1], rewards, previous, at_ms, half_life_ms)


def _summed(
    laid_out: Callable[[slice], FloatArray],
    d: int,
    rewards: FloatArray,
    previous: FloatArray,
    at_ms: IntArray,
    half_life_ms: float,
) -> Statistics:
    new = np.isnan(previous)
    newest = int(at_ms.max())
    weights = np.ones(len(rewards))
    if half_life_ms:
        weights = np.exp2((at_ms - newest) / half_life_ms)
    before = np.where(new, 0.0, previous)
    gram, moment = np.zeros((d, d)), np.zeros(d)
    for start in range(0, len(rewards), ROWS):
        rows = slice(start, start + ROWS)
        phi = laid_out(rows)  # (rows, d)
        moment += phi.T @ (weights[rows] * (rewards[rows] - before[rows]))
        half = phi
        if half_life_ms or not new[rows].all():  # else all weigh 1
            half = phi[new[rows]] * np.sqrt(weights[rows][new[rows]])[:, None]
        gram += half.T @ half  # the product of a matrix with itself is symmetric to the bit
    return Statistics(
        gram=gram,
        moment=moment,
        power=float(weights @ (rewards**2 - before**2)),
        weight=float(weights[new].sum()),
        n=int(new.sum()),
        at_ms=newest,
    )


def _hold_definite(gram: FloatArray) -> None:
    trace = float(np.trace(gram))
    lifted = gram.copy()
    lifted.flat[:: len(gram) + 1] += INDEFINITE * max(trace, TINY)
    try:
        np.linalg.cholesky(lifted)
    except np.linalg.LinAlgError as error:
        raise PolicyError(
            f"gram must be a sum of squares, with no eigenvalue below -{INDEFINITE:g} of its "
            f"trace {trace}, got {np.linalg.eigvalsh(gram)[0]}: take another snapshot"
        ) from error


@lru_cache(maxsize=8)
def _lower(d: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the lower triangle of a matrix (d, d), row by row."""
    rows, columns = np.tril_indices(d)
    return rows, columns


def _fade(at_ms: int | None, newest_ms: int | None, half_life_ms: float) -> float:
    if not half_life_ms or at_ms is None or newest_ms is None:
        return 1.0
    return float(np.exp2((at_ms - newest_ms) / half_life_ms))
