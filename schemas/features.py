"""What an encoder sees of a user: one extraction for training and for serving.

A profile becomes three lists of a hashed name and a number. Which names there are follows from
the profile alone, not from a release: what is logged under one release can be encoded under
another.

=============  ================================================================================
tokens         ``attribute name value`` for texts and yes/no, for each part of a list (weight
               1/sqrt(parts)); ``reach channel``, ``left channel``
events         ``event type``, weight log(1 + count)
numbers        ``number name``; ``count type`` log(1 + count), ``recency type`` log(1 + hours);
               ``sends day``, ``week``, ``month`` log(1 + sends), ``sends last`` log(1 + hours)
=============  ================================================================================

Times are whole hours, so that an encoding is a function of the profile and the hour.
"""

import hashlib
import math
import struct
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log1p
from typing import Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import EncoderError
from schemas.feature_hash import feature_hash, feature_name

__all__ = [
    "FeatureBatch",
    "KnownUser",
    "PlainProfile",
    "Ragged",
    "fingerprint",
    "hash_profiles",
    "number_id",
]

HOUR_MS = 3_600_000
SPANS_MS = (24 * HOUR_MS, 168 * HOUR_MS, 720 * HOUR_MS)  # day, week, month
SEND_IDS = tuple(
    feature_hash(feature_name("sends", span)) for span in ("day", "week", "month", "last")
)
_PACK = msgspec.msgpack.Encoder().encode
LARGEST = 3.0e38  # what float32 holds
_LENGTHS = struct.Struct("<3H")
MOST_STORED = 0xFFFF  # of each list, in a row's bytes

Value = None | bool | int | float | str | Sequence[str]


class KnownUser(Protocol):
    """A folded profile, as `streams.core.profiles.Profile` and `PlainProfile` are."""

    @property
    def attributes(self) -> Mapping[str, Value]:
        """Values by name."""
        ...

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """By kind of event: how often, and when last, in milliseconds."""
        ...

    @property
    def contacts(self) -> Collection[str]:
        """Channels with a contact reference."""
        ...

    @property
    def left(self) -> Mapping[str, int]:
        """Channels that the user left, "" for all of them: since when, in milliseconds."""
        ...

    @property
    def sends(self) -> Sequence[int]:
        """When the user was sent something, in milliseconds."""
        ...


class PlainProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A profile as training data and golden vectors hold it: no user id, no contact reference."""

    attributes: dict[str, bool | int | float | str | tuple[str, ...] | None] = {}
    counts: dict[str, tuple[int, int]] = {}
    contacts: tuple[str, ...] = ()
    left: dict[str, int] = {}
    sends: tuple[int, ...] = ()

    @classmethod
    def of(cls, user: KnownUser) -> Self:
        """Copy what an encoder may see."""
        return cls(
            attributes={
                name: tuple(value) if isinstance(value, list | tuple) else value  # type: ignore[misc]
                for name, value in user.attributes.items()
            },
            counts=dict(user.counts),
            contacts=tuple(sorted(user.contacts)),
            left=dict(user.left),
            sends=tuple(user.sends),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Lists of hashed names and numbers, one list a user.

    Attributes
    ----------
    ids
        32-bit hashes, (n_values,).
    values
        Their weights or numbers, float32, (n_values,).
    starts
        Where each user's list starts, and the end of the last, (n_users + 1,).
    """

    ids: NDArray[np.uint32]
    values: NDArray[np.float32]
    starts: NDArray[np.int64]

    def rows(self, rows: NDArray[np.intp]) -> "Ragged":
        """The lists of these users, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Ragged(ids=self.ids[places], values=self.values[places], starts=starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBatch:
    """The hashed raw features of n users: what learning examples keep of them."""

    tokens: Ragged
    events: Ragged
    numbers: Ragged

    def __len__(self) -> int:
        return len(self.tokens.starts) - 1

    def rows(self, rows: NDArray[np.intp]) -> "FeatureBatch":
        """The features of these users, in this order."""
        return FeatureBatch(
            tokens=self.tokens.rows(rows),
            events=self.events.rows(rows),
            numbers=self.numbers.rows(rows),
        )

    def to_bytes(self) -> list[bytes]:
        """Each user's features: three lengths (u16), then ids (u32) and values (f32) of each list.

        All little-endian. A list longer than 65,535 is cut: no profile may be so large.
        """
        starts, pieces = [], []  # bytes are cut, which costs less than cutting arrays
        for one in (self.tokens, self.events, self.numbers):
            starts.append(one.starts.tolist())
            pieces.append((one.ids.astype("<u4").tobytes(), one.values.astype("<f4").tobytes()))
        rows = []
        for row in range(len(self)):
            parts: list[bytes] = []
            lengths = []
            for (ids, values), at in zip(pieces, starts, strict=True):
                start = at[row]
                end = min(at[row + 1], start + MOST_STORED)
                lengths.append(end - start)
                parts += (ids[4 * start : 4 * end], values[4 * start : 4 * end])
            rows.append(b"".join([_LENGTHS.pack(*lengths), *parts]))
        return rows

    @classmethod
    def from_bytes(cls, rows: Sequence[bytes]) -> Self:
        """Features from `to_bytes`.

        Raises
        ------
        EncoderError
            If a row's length is not the one that it announces.
        """
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))  # (n,)
        header = _LENGTHS.size
        fit = (sizes >= header) & (sizes % 2 == 0)
        if fit.all():
            words = np.frombuffer(b"".join(rows), "<u2")  # all of it is made of these
            at = (np.cumsum(sizes) - sizes) // 2  # (n,)
            lengths = words[at[:, None] + np.arange(header // 2)].astype(np.int64)  # (n, 3)
            fit = sizes == header + 8 * lengths.sum(axis=1)
        if not fit.all():
            raise EncoderError(
                f"hashed features of {sizes[fit.argmin()]} bytes are not what they announce: read "
                "them from learning-examples as they stand there"
            )
        at = at + header // 2
        lists = []
        for number in range(header // 2):
            count = 2 * lengths[:, number]  # words of its ids, and as many of its values
            ids, values = _cut(words, at, count), _cut(words, at + count, count)
            starts = np.concatenate([[0], np.cumsum(lengths[:, number])])
            lists.append(Ragged(ids=ids.view("<u4"), values=values.view("<f4"), starts=starts))
            at = at + 2 * count
        return cls(tokens=lists[0], events=lists[1], numbers=lists[2])


def _cut(
    words: NDArray[np.uint16], at: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """So many words from each of these places, one after the other."""
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    cut: NDArray[np.uint16] = words[np.arange(total) + np.repeat(at - (ends - count), count)]
    return cut


class _Lists:
    """Ragged lists in the making."""

    __slots__ = ("ids", "starts", "values")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.values: list[float] = []
        self.starts: list[int] = [0]

    def end_row(self) -> None:
        self.starts.append(len(self.ids))

    def ragged(self) -> Ragged:
        return Ragged(
            ids=np.array(self.ids, dtype=np.uint32),
            values=np.array(self.values, dtype=np.float32),
            starts=np.array(self.starts, dtype=np.int64),
        )


def hash_profiles(users: Sequence[KnownUser], at_ms: Sequence[int]) -> FeatureBatch:
    """The hashed raw features of n users, each as of its own time.

    Parameters
    ----------
    at_ms
        Milliseconds, (n,): of the decision, or of now.
    """
    tokens, events, numbers = _Lists(), _Lists(), _Lists()
    for user, now_ms in zip(users, at_ms, strict=True):
        hour_ms = now_ms - now_ms % HOUR_MS
        if user.attributes:
            _attributes(user.attributes, tokens, numbers)
        _contacts(user, tokens)
        if user.counts:
            _events(user.counts, hour_ms, events, numbers)
        _sends(user.sends, hour_ms, numbers)
        tokens.end_row()
        events.end_row()
        numbers.end_row()
    return FeatureBatch(tokens=tokens.ragged(), events=events.ragged(), numbers=numbers.ragged())


def fingerprint(user: KnownUser, now_ms: int) -> bytes:
    """What tells users and times apart whose features differ: 16 bytes of BLAKE2b.

    It is of everything that `hash_profiles` looks at, in the order in which it does, and of the
    hour: the same features may have several, other features never have the same one.
    """
    seen = (
        now_ms // HOUR_MS,
        user.attributes,
        user.counts,
        tuple(user.contacts),
        user.left,
        user.sends,
    )
    return hashlib.blake2b(_PACK(seen), digest_size=16).digest()


def number_id(*parts: str) -> int:
    """The hash of a number, as ``number_id("number", "age")``."""
    return feature_hash(feature_name(*parts))


def _attributes(attributes: Mapping[str, Value], tokens: _Lists, numbers: _Lists) -> None:
    ids, values = tokens.ids, tokens.values
    for name, value in attributes.items():
        kind = type(value)
        if kind is str:
            ids.append(_token(name, value))
            values.append(1.0)
        elif kind is float or kind is int:
            if -LARGEST < value < LARGEST:  # type: ignore[operator]  # false for nan
                numbers.ids.append(_named("number", name))
                numbers.values.append(value)  # type: ignore[arg-type]
        elif kind is bool:
            ids.append(_token(name, "true" if value else "false"))
            values.append(1.0)
        elif value:
            ids += [_token(name, part) for part in value]  # type: ignore[union-attr]
            values += [1.0 / math.sqrt(len(value))] * len(value)  # type: ignore[arg-type]


def _contacts(user: KnownUser, tokens: _Lists) -> None:
    left = user.left
    if left:
        tokens.ids += [_named("left", channel) for channel in left]
        tokens.values += [1.0] * len(left)
    if "" not in left:
        reached = [_named("reach", channel) for channel in user.contacts if channel not in left]
        tokens.ids += reached
        tokens.values += [1.0] * len(reached)


def _events(
    counts: Mapping[str, tuple[int, int]], hour_ms: int, events: _Lists, numbers: _Lists
) -> None:
    for kind, (count, last_ms) in counts.items():
        event, counted, recency = _event(kind)
        often = log1p(count)
        events.ids.append(event)
        events.values.append(often)
        numbers.ids += (counted, recency)
        numbers.values += (often, _hours(hour_ms - last_ms))


def _sends(sends: Sequence[int], hour_ms: int, numbers: _Lists) -> None:
    if not sends:
        return
    ordered = sorted(sends)
    numbers.ids += SEND_IDS
    numbers.values += [
        *(log1p(len(ordered) - bisect_left(ordered, hour_ms - span)) for span in SPANS_MS),
        _hours(hour_ms - ordered[-1]),
    ]


def _hours(length_ms: int) -> float:
    """log(1 + whole hours); what is yet to come is now."""
    return log1p(length_ms // HOUR_MS) if length_ms > 0 else 0.0


# Names repeat from user to user: their hashes are kept, within bounds.


@lru_cache(maxsize=1 << 16)
def _token(name: str, value: str) -> int:
    return feature_hash(feature_name("attribute", name, value))


@lru_cache(maxsize=1 << 14)
def _named(kind: str, name: str) -> int:
    return feature_hash(feature_name(kind, name))


@lru_cache(maxsize=1 << 14)
def _event(kind: str) -> tuple[int, int, int]:
    return _named("event", kind), _named("count", kind), _named("recency", kind)
