"""Hashed features to the arrays that a release's model takes, the same in training and serving."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ReleaseError
from schemas.feature_hash import ALGORITHM, SEED, feature_hash, feature_name
from schemas.features import FeatureBatch, Ragged

__all__ = ["INPUTS", "EncoderInputs", "NumberInput"]

# Names of the model's inputs, in order. n: users; widths are those of the longest list.
INPUTS: Final = (
    "token_index",  # int64 (n, width)
    "token_weight",  # float32 (n, width), 0 where a list has ended
    "event_index",
    "event_weight",
    "numbers",  # float32 (n, m): places in [-1, 1], 0 where missing
    "known",  # float32 (n, m): 1 where a number is there, else 0
)
MOST_NUMBERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberInput:
    """A number that the model takes, and where its values stand among those of the training data.

    Attributes
    ----------
    name
        Parts of its name, as ``["number", "age"]`` or ``["count", "app_open"]``.
    knots
        Rising values of the number.
    places
        Where each knot stands among all values, in [-1, 1]: between knots a value's place is
        interpolated, beyond them it is that of the last.
    """

    name: list[str]
    knots: list[float]
    places: list[float]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.knots, self.knots[1:], strict=False))
        if not self.name or not self.knots or len(self.knots) != len(self.places) or not rising:
            raise ReleaseError(
                f"number {self.name} needs a name and as many places as rising knots, got "
                f"{len(self.knots)} knots and {len(self.places)} places: export the release anew"
            )
        if not all(math.isfinite(x) for x in (*self.knots, *self.places)):
            raise ReleaseError(f"number {self.name} has a knot or place that is no finite number")


@dataclass(frozen=True, kw_only=True)  # no slots: it keeps its columns once sorted
class EncoderInputs:
    """What a model takes.

    Attributes
    ----------
    bits
        Indices are the low bits of the hash.
    most_tokens, most_events
        Longer lists are cut behind so many, in the order in which the profile has them.
    """

    bits: int
    most_tokens: int
    most_events: int
    numbers: list[NumberInput]
    algorithm: str = ALGORITHM
    seed: int = SEED
    names: list[str] = field(default_factory=lambda: list(INPUTS))

    def __post_init__(self) -> None:
        if (self.algorithm, self.seed) != (ALGORITHM, SEED):
            raise ReleaseError(
                f"features were hashed by {self.algorithm} under seed {self.seed}, here by "
                f"{ALGORITHM} under {SEED}: train with this version's hashing"
            )
        if not 4 <= self.bits <= 24:
            raise ReleaseError(f"bits must be 4 to 24, got {self.bits}: train with other bits")
        for name in ("most_tokens", "most_events"):
            if not 1 <= getattr(self, name) <= 1024:
                raise ReleaseError(f"{name} must be 1 to 1024, got {getattr(self, name)}")
        if len(self.numbers) > MOST_NUMBERS:
            raise ReleaseError(f"a model takes {MOST_NUMBERS} numbers, got {len(self.numbers)}")
        if self.names != list(INPUTS):
            raise ReleaseError(
                f"the inputs must be {', '.join(INPUTS)}, got {', '.join(self.names)}: export the "
                "release with this version"
            )

    @cached_property
    def _columns(self) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
        """Sorted hashes of the numbers' names, and the column of each."""
        ids = np.array(
            [feature_hash(feature_name(*number.name)) for number in self.numbers], dtype=np.uint32
        )
        order = np.argsort(ids)
        return ids[order], order

    def arrays(self, batch: FeatureBatch) -> dict[str, NDArray[Any]]:
        """The model's inputs for n users, by name; see `INPUTS`."""
        token_index, token_weight = self.padded(batch.tokens, self.most_tokens)
        event_index, event_weight = self.padded(batch.events, self.most_events)
        numbers, known = self.places(self.matrix(batch.numbers))
        return {
            "token_index": token_index,
            "token_weight": token_weight,
            "event_index": event_index,
            "event_weight": event_weight,
            "numbers": numbers,
            "known": known,
        }

    def padded(self, lists: Ragged, most: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices and weights, each (n, width): width is that of the longest list, at least 1."""
        lengths = np.diff(lists.starts)
        ids, values = lists.ids, lists.values
        if len(lengths) and lengths.max() > most:
            place = np.arange(len(ids)) - np.repeat(lists.starts[:-1], lengths)
            ids, values = ids[place < most], values[place < most]
            lengths = np.minimum(lengths, most)
        width = int(max(lengths.max(initial=0), 1))
        filled = np.arange(width) < lengths[:, None]
        index = np.zeros(filled.shape, dtype=np.int64)
        weight = np.zeros(filled.shape, dtype=np.float32)
        index[filled] = ids & np.uint32((1 << self.bits) - 1)
        weight[filled] = values
        return index, weight

    def matrix(self, numbers: Ragged) -> NDArray[np.float32]:
        """The numbers that the model takes, as they are, (n, m); nan where missing."""
        ids, columns = self._columns
        n_users = len(numbers.starts) - 1
        values = np.full((n_users, len(ids)), np.nan, dtype=np.float32)
        if len(ids):
            found = np.minimum(np.searchsorted(ids, numbers.ids), len(ids) - 1)
            ours = ids[found] == numbers.ids
            rows = np.repeat(np.arange(n_users), np.diff(numbers.starts))
            values[rows[ours], columns[found[ours]]] = numbers.values[ours]
        return values

    def places(
        self, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where numbers stand among those of the training data, and which are there, (n, m)."""
        known = ~np.isnan(values)
        places = np.zeros(values.shape, dtype=np.float32)
        for column, number in enumerate(self.numbers):
            places[:, column] = np.interp(values[:, column], number.knots, number.places)
        places[~known] = 0.0
        return places, known.astype(np.float32)
