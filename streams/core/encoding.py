"""Profiles to contexts: the columns that a campaign's `context` names, and its encoder's z."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.errors import EncoderError
from schemas.features import FeatureBatch, KnownUser
from schemas.hashing import fallback_id, id_hash
from streams.core.glimpses import Attributes
from streams.core.policies import ActionSet, create
from streams.core.policies.no_send import with_no_send
from streams.core.profiles import Profile
from streams.core.segments import AttributeValue

__all__ = [
    "ContextEncoder",
    "LoadedRelease",
    "action_set",
    "each_its_own",
    "feature_names",
    "release_label",
    "told_apart",
]

NUMBERS = frozenset({int, float})  # a yes/no is none
LEAST = 2  # so many numbers are read at once; of fewer each by itself
WIDEST = 3.0  # numbers are held within this many scales of their centre
BETWEEN = "+"  # the columns' version and the release's label


def release_label(encoder_version: str) -> str | None:
    """The label of the release in a context's version; None where no encoder made it."""
    return encoder_version.partition(BETWEEN)[2] or None


class LoadedRelease(Protocol):
    """A profile encoder's release, as a worker has loaded it."""

    @property
    def version(self) -> str:
        """Label: name@version."""
        ...

    @property
    def z_size(self) -> int:
        """Number of columns of an encoding."""
        ...

    def encode_profiles(
        self, users: Sequence[KnownUser], now_ms: int
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        """Encodings z of profiles as of a time in milliseconds, (n, z_size), and their features.

        The features are `FeatureBatch.to_bytes`.
        """
        ...

    def encode_features(self, features: FeatureBatch) -> NDArray[np.float32]:
        """Encodings z of hashed features, (n, z_size)."""
        ...


class ContextEncoder:
    """Makes the context x of a user from the profile: the campaign's columns, then z.

    Parameters
    ----------
    features
        As the campaign names them: a number becomes (value - center) / scale within -3 and 3, a
        yes/no 0 or 1, `one_of` a column for each value, `buckets` a hashed column; an event
        count log(1 + n). What is missing is 0.
    release
        Of the campaign's encoder; None where it has none.
    """

    def __init__(
        self, features: Sequence[ContextFeature], release: LoadedRelease | None = None
    ) -> None:
        self._features = tuple(features)
        self._release = release
        named = tuple(name for feature in features for name in _names(feature))
        self._named = len(named)
        self._numbers = _Numbers(self._features)
        z_size = 0 if release is None else release.z_size
        self.columns = (*named, *(f"z{number}" for number in range(z_size)))

    @cached_property
    def version(self) -> str:
        """What tells columns apart whose contexts mean something else."""
        columns = "columns-" + fallback_id(*map(repr, self._features))[:12]
        return columns if self._release is None else columns + BETWEEN + self._release.version

    @property
    def attributes(self) -> frozenset[str] | None:
        """Those of a profile that are read; None for all, which an encoder reads."""
        if self._release is not None:
            return None
        return frozenset(f.attribute for f in self._features if f.attribute is not None)

    @property
    def d_user(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def encode(
        self,
        attributes: Mapping[str, AttributeValue | list[str]],
        counts: Mapping[str, tuple[int, int]],
    ) -> list[float]:
        """The campaign's columns for one user, (n_columns,)."""
        row: list[float] = self._encoded([attributes], [counts])[0].tolist()
        return row

    def encode_many(
        self, profiles: Sequence[Profile], now_ms: int = 0
    ) -> tuple[NDArray[np.float64], list[bytes]]:
        """Contexts and hashed raw features of n users as of a time in milliseconds.

        Returns
        -------
        contexts
            (n_users, d_user), rounded to float32 as the log keeps them.
        features
            `FeatureBatch.to_bytes`, from which another release can encode the same users; empty
            bytes for a campaign without an encoder.
        """
        named = self._encoded([p.attributes for p in profiles], [p.counts for p in profiles])
        contexts = named.astype(np.float32).astype(np.float64)  # (n_users, n_columns)
        if self._release is None:
            return contexts, [b""] * len(profiles)
        z, features = self._release.encode_profiles(profiles, now_ms)  # (n_users, z_size)
        return np.hstack([contexts, z]).astype(np.float64), features

    def encode_again(
        self, contexts: NDArray[np.float64], features: Sequence[bytes]
    ) -> NDArray[np.float64]:
        """Contexts that another release made, as this one makes them.

        Parameters
        ----------
        contexts
            (n_users, d), the campaign's columns first; what follows is another release's z.
        features
            Hashed raw features of the same users.

        Returns
        -------
        NDArray
            (n_users, d_user).

        Raises
        ------
        EncoderError
            If a row has no features: it was logged without an encoder.
        """
        named = contexts[:, : self._named]
        if self._release is None:
            return named
        if not all(features):
            raise EncoderError(
                f"an example without hashed features cannot be encoded by {self._release.version}:"
                " it was logged before the campaign had an encoder"
            )
        z = self._release.encode_features(FeatureBatch.from_bytes(features))
        return np.hstack([named, z]).astype(np.float64)

    def _encoded(
        self,
        attributes: Sequence[Mapping[str, AttributeValue | list[str]]],
        counts: Sequence[Mapping[str, tuple[int, int]]],
    ) -> NDArray[np.float64]:
        """The campaign's columns, (n_users, n_columns), feature by feature: a chunk at once."""
        contexts = np.empty((len(attributes), self._named))
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
        self._of: dict[type, Callable[[Any], tuple[Any, ...]]] = {}

    def encode(
        self, attributes: Sequence[Mapping[str, AttributeValue | list[str]]]
    ) -> NDArray[np.float64] | None:
        """(n_users, n_numbers); None where somebody lacks one, or has something else there."""
        if len(self._names) < LEAST or not attributes:
            return None
        try:
            rows = list(map(self._rows(type(attributes[0])), attributes))
        except KeyError:
            return None
        values = list(chain.from_iterable(rows))
        if not NUMBERS.issuperset(map(type, values)):
            return None
        numbers = np.array(values, np.float64).reshape(-1, len(self.columns))
        return _scaled(numbers, self._center, self._scale)

    def _rows(self, kind: type) -> Callable[[Any], tuple[Any, ...]]:
        """What gives the values of a user's attributes, which are of this kind."""
        if kind not in self._of:
            if issubclass(kind, Attributes):
                self._of[kind] = kind.rows(self._names)
            else:
                self._of[kind] = itemgetter(*self._names)
        return self._of[kind]


def _is_number(feature: ContextFeature) -> bool:
    return feature.event is None and not feature.one_of and not feature.buckets


def _column(
    feature: ContextFeature,
    attributes: Sequence[Mapping[str, AttributeValue | list[str]]],
    counts: Sequence[Mapping[str, tuple[int, int]]],
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


def feature_names(templates: Sequence[Template]) -> tuple[str, ...]:
    """The names of the actions' features, in the order of their columns."""
    return tuple(sorted({name for template in templates for name in template.features}))


def told_apart(campaign: Campaign) -> Campaign:
    """Give templates without features one each, if the policy can tell them apart by these alone.

    A policy that learns each action for itself needs none: so a new template changes no feature,
    and comes to a campaign that runs.

    Raises
    ------
    PolicyError
        If there is no such policy.
    """
    if any(template.features for template in campaign.templates):
        return campaign
    if create(campaign.policy, campaign.policy_params, d_user=0, d_action=0).tells_apart:
        return campaign
    templates = [replace(one, features={one.id: 1.0}) for one in campaign.templates]
    return replace(campaign, templates=templates)


def each_its_own(templates: Sequence[Template]) -> bool:
    """Whether :func:`told_apart` gave each its only feature."""
    return all(template.features == {template.id: 1.0} for template in templates)


def action_set(campaign: Campaign) -> ActionSet:
    """The campaign's actions a, (n_actions, d_action): templates, then no-send if it competes."""
    names = feature_names(campaign.templates)
    features = np.array(
        [[t.features.get(name, 0.0) for name in names] for t in campaign.templates],
        dtype=np.float64,
    ).reshape(len(campaign.templates), len(names))
    templates = ActionSet(ids=tuple(t.id for t in campaign.templates), features=features)
    return with_no_send(templates) if campaign.no_send else templates
