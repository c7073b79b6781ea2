"""A campaign's own columns of a context: what its features make of attributes and event counts."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import ContextFeature
from schemas.hashing import id_hash
from streams.core.glimpses import Attributes
from streams.core.segments import AttributeValue

__all__ = ["Columns", "Counts", "Given"]

NUMBERS = frozenset({int, float})  # a yes/no is none
LEAST = 2  # so many numbers are read at once; of fewer each by itself
WIDEST = 3.0  # numbers are held within this many scales of their centre

Given = Mapping[str, AttributeValue | list[str]] | Attributes  # attributes by name
Counts = Mapping[str, tuple[int, int]]  # by kind of event: how often, and when last


class Columns:
    """The columns that features name, in their order (`ContextEncoder` says what each holds).

    Attributes
    ----------
    names
        One a column.
    attributes
        Those that are read.
    """

    def __init__(self, features: Sequence[ContextFeature]) -> None:
        self._features = tuple(features)
        self._numbers = _Numbers(self._features)
        self.names = tuple(name for feature in features for name in _names(feature))
        self.attributes = frozenset(f.attribute for f in features if f.attribute is not None)

    def encode(self, attributes: Sequence[Given], counts: Sequence[Counts]) -> NDArray[np.float64]:
        """(n_users, n_columns), feature by feature: a chunk at once."""
        contexts = np.empty((len(attributes), len(self.names)))
        plain = self._numbers.encode(attributes)  # (n_users, n_numbers) or None
        if plain is not None:
            contexts[:, self._numbers.columns] = plain
        at = 0
        for feature in self._features:
            width = len(_names(feature))
            if plain is None or not _is_number(feature):
                column = np.asarray(_column(feature, attributes, counts), np.float64)
                contexts[:, at : at + width] = np.reshape(column, (-1, width))
            at += width
        return contexts


class _Numbers:
    """The features that are numbers as they come: all of them at once, where each user has them."""

    def __init__(self, features: Sequence[ContextFeature]) -> None:
        ends = np.cumsum([len(_names(feature)) for feature in features])
        found = [(f, end - 1) for f, end in zip(features, ends, strict=True) if _is_number(f)]
        self.columns = [int(column) for _, column in found]
        self._center = np.array([feature.center for feature, _ in found])
        self._scale = np.array([feature.scale for feature, _ in found])
        self._names = [str(feature.attribute) for feature, _ in found]

    def encode(self, attributes: Sequence[Given]) -> NDArray[np.float64] | None:
        """(n_users, n_numbers); None where somebody lacks one, or has something else there."""
        if len(self._names) < LEAST or not attributes:
            return None
        kind: type = type(attributes[0])
        of: Callable[[Any], tuple[Any, ...]] = (
            kind.rows(self._names) if issubclass(kind, Attributes) else itemgetter(*self._names)
        )
        try:
            rows = list(map(of, attributes))
        except KeyError:
            return None
        values = list(chain.from_iterable(rows))
        if not NUMBERS.issuperset(map(type, values)):
            return None
        numbers = np.array(values, np.float64).reshape(-1, len(self.columns))
        return _scaled(numbers, self._center, self._scale)


def _is_number(feature: ContextFeature) -> bool:
    return feature.event is None and not feature.one_of and not feature.buckets


def _column(
    feature: ContextFeature,
    attributes: Sequence[Given],
    counts: Sequence[Counts],
) -> object:
    """What a feature makes of each user: a number, or a row of them."""
    if feature.event is not None:
        kind = feature.event
        return [math.log1p(counted.get(kind, (0, 0))[0]) for counted in counts]
    name = feature.attribute
    assert name is not None
    values = [given.get(name) for given in attributes]
    if feature.one_of:
        return [[_same(value, one) for one in feature.one_of] for value in values]
    if feature.buckets:
        return [_hashed(name, value, feature.buckets) for value in values]
    return _numbers(values, feature)


def _names(feature: ContextFeature) -> list[str]:
    name = feature.attribute or f"events({feature.event})"
    if feature.one_of:
        return [f"{name}={value}" for value in feature.one_of]
    if feature.buckets:
        return [f"{name}#{bucket}" for bucket in range(feature.buckets)]
    return [name]


def _same(value: AttributeValue | list[str], wanted: str) -> bool:
    if isinstance(value, list | tuple):
        return wanted in value
    return value is not None and _text(value) == wanted


def _text(value: AttributeValue | list[str]) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hashed(name: str, value: AttributeValue | list[str], buckets: int) -> list[float]:
    row = [0.0] * buckets
    for part in value if isinstance(value, list | tuple) else [value]:
        if part is not None:
            row[id_hash(f"{name}={_text(part)}") % buckets] = 1.0
    return row


def _numbers(
    values: Sequence[AttributeValue | list[str]], feature: ContextFeature
) -> NDArray[np.float64]:
    """Numbers scaled, yes/no as 1 and 0, and 0 for anything else; (n_users,)."""
    if NUMBERS.issuperset(map(type, values)):
        return _scaled(np.array(values, np.float64), feature.center, feature.scale)
    plain = [type(value) in NUMBERS for value in values]
    usable = [value if is_plain else 0.0 for value, is_plain in zip(values, plain, strict=True)]
    scaled = _scaled(np.array(usable, np.float64), feature.center, feature.scale)
    others = [float(value) if isinstance(value, bool) else 0.0 for value in values]
    return np.where(plain, scaled, others)


def _scaled(
    numbers: NDArray[np.float64],
    center: NDArray[np.float64] | float,
    scale: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # what overflows is held within the bounds too
        scaled: NDArray[np.float64] = (numbers - center) / scale
    return np.clip(scaled, -WIDEST, WIDEST)
