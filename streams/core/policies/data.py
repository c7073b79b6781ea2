"""What a policy is given: the actions that it may choose from, and the examples that it learns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PolicyError

__all__ = [
    "LARGEST",
    "ActionSet",
    "BoolArray",
    "Examples",
    "FloatArray",
    "IntArray",
    "checked_contexts",
    "checked_handicap",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LARGEST = 1e9  # crossed and squared, features of this size still leave float64 room


def _checked(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> FloatArray:
    """Give ``array`` as float64 of the wanted shape (None: any), finite and of sane size."""
    fits = len(array.shape) == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = tuple("any" if want is None else want for want in shape)
        raise PolicyError(f"{name} must have shape {wanted}, got {array.shape}: reshape or fill it")
    values = np.ascontiguousarray(array, dtype=np.float64)
    if values.size and not float(np.abs(values).max()) <= LARGEST:  # nan is not <= either
        worst = values[~(np.abs(values) <= LARGEST)].flat[0]
        raise PolicyError(
            f"{name} must be finite and within ±{LARGEST:g}, got {worst}: "
            "fill what is missing, clip and scale the rest"
        )
    return values


def checked_contexts(contexts: NDArray[Any], d_user: int) -> FloatArray:
    """Give contexts x as float64 of shape (n, d_user).

    Raises
    ------
    PolicyError
        If the shape is another, or a value is not finite or beyond :data:`LARGEST`.
    """
    return _checked("contexts", np.asarray(contexts), (None, d_user))


def checked_handicap(handicap: NDArray[Any], shape: tuple[int, ...]) -> FloatArray:
    """Give a handicap as float64 of shape (n, n_actions).

    Raises
    ------
    PolicyError
        If the shape is another, or a value is not finite or beyond :data:`LARGEST`.
    """
    return _checked("handicap", np.asarray(handicap), shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSet:
    """The actions that a campaign can take.

    Attributes
    ----------
    ids
        Template ids, unique, in the order of the rows of ``features``.
    features
        Actions a, (n_actions, d_action).

    Raises
    ------
    PolicyError
        If ids repeat or are empty, or the features do not fit them.
    """

    ids: tuple[str, ...]
    features: FloatArray

    def __post_init__(self) -> None:
        if not self.ids or not all(self.ids):
            raise PolicyError(f"action ids must be non-empty words, got {self.ids!r}: name each")
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name in self.ids if self.ids.count(name) > 1)
            raise PolicyError(f"action ids must be unique, got {twice!r} twice: rename one")
        features = _checked("action features", np.asarray(self.features), (len(self.ids), None))
        object.__setattr__(self, "features", features)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def d_action(self) -> int:
        """The number of features of an action."""
        return int(self.features.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Closed outcomes to learn from, and corrections of some learned before.

    Attributes
    ----------
    contexts
        x, (n, d_user), as they were at decision time.
    actions
        The ids of the actions taken, length n.
    action_features
        a, (n, d_action), as they were at decision time.
    rewards
        r, (n,).
    previous
        The reward that this decision was learned with before (then this is a correction), or nan
        (then it is new), (n,).
    at_ms
        When the decisions were made, (n,), milliseconds of event time.

    Raises
    ------
    PolicyError
        If lengths disagree, or a value is not finite or beyond :data:`LARGEST`.
    """

    contexts: FloatArray
    actions: tuple[str, ...]
    action_features: FloatArray
    rewards: FloatArray
    previous: FloatArray
    at_ms: IntArray

    def __post_init__(self) -> None:
        n = len(self.actions)
        checked = {
            "contexts": _checked("contexts", np.asarray(self.contexts), (n, None)),
            "action_features": _checked(
                "action_features", np.asarray(self.action_features), (n, None)
            ),
            "rewards": _checked("rewards", np.asarray(self.rewards), (n,)),
        }
        previous = np.asarray(self.previous, dtype=np.float64)
        known = _checked("previous", np.where(np.isnan(previous), 0.0, previous), (n,))
        checked["previous"] = np.where(np.isnan(previous), np.nan, known)
        for name, values in checked.items():
            object.__setattr__(self, name, values)
        at_ms = np.asarray(self.at_ms)
        if at_ms.shape != (n,) or at_ms.dtype.kind not in "iu":
            raise PolicyError(
                f"at_ms must be whole milliseconds of shape ({n},), "
                f"got {at_ms.dtype} of shape {at_ms.shape}: give int64"
            )
        object.__setattr__(self, "at_ms", at_ms.astype(np.int64))

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def is_new(self) -> BoolArray:
        """Which examples are new rather than corrections, (n,)."""
        return np.isnan(self.previous)

    def taking(self, rows: NDArray[Any] | slice) -> "Examples":
        """Give some of the examples, by index, mask or slice, in that order."""
        return Examples(
            contexts=self.contexts[rows],
            actions=tuple(self.actions[row] for row in np.arange(len(self))[rows]),
            action_features=self.action_features[rows],
            rewards=self.rewards[rows],
            previous=self.previous[rows],
            at_ms=self.at_ms[rows],
        )
