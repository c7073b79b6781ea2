"""Profiles to contexts: the columns that a campaign's `context` names, and its encoder's z."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.errors import EncoderError
from schemas.features import FeatureBatch, KnownUser
from schemas.hashing import fallback_id
from streams.core.columns import Columns, Counts, Given
from streams.core.policies import ActionSet, create
from streams.core.policies.no_send import with_no_send
from streams.core.profiles import Profile

__all__ = [
    "ContextEncoder",
    "LoadedRelease",
    "action_set",
    "each_its_own",
    "feature_names",
    "release_label",
    "told_apart",
]

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
        self._named = Columns(self._features)
        z_size = 0 if release is None else release.z_size
        self.columns = (*self._named.names, *(f"z{number}" for number in range(z_size)))

    @cached_property
    def version(self) -> str:
        """What tells columns apart whose contexts mean something else."""
        columns = "columns-" + fallback_id(*map(repr, self._features))[:12]
        return columns if self._release is None else columns + BETWEEN + self._release.version

    @property
    def attributes(self) -> frozenset[str] | None:
        """Those of a profile that are read; None for all, which an encoder reads."""
        return self._named.attributes if self._release is None else None

    @property
    def d_user(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def encode(
        self,
        attributes: Given,
        counts: Counts,
    ) -> list[float]:
        """The campaign's columns for one user, (n_columns,)."""
        row: list[float] = self._named.encode([attributes], [counts])[0].tolist()
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
        named = self._named.encode([p.attributes for p in profiles], [p.counts for p in profiles])
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
        named = contexts[:, : len(self._named.names)]
        if self._release is None:
            return named
        if not all(features):
            raise EncoderError(
                f"an example without hashed features cannot be encoded by {self._release.version}:"
                " it was logged before the campaign had an encoder"
            )
        z = self._release.encode_features(FeatureBatch.from_bytes(features))
        return np.hstack([named, z]).astype(np.float64)


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
