"""Rewards of any size brought to a size that is fixed until the next snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.data import LARGEST, Examples, FloatArray, IntArray

__all__ = ["RewardScale"]

ACCURACY = 0.01  # of a quantile, relative
GROWTH = (1.0 + ACCURACY) / (1.0 - ACCURACY)
SMALLEST = 1e-9  # rewards below count as nothing
BUCKETS = 1 + int(np.ceil(np.log(LARGEST / SMALLEST) / np.log(GROWTH)))
ENOUGH = 100  # rewards that a quantile is believed from


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardScale:
    """Clip rewards at a quantile of their size, and divide by it.

    One purchase of a thousand would else outweigh a thousand clicks. Within a version the clip
    does not move, so that all that a snapshot holds was measured alike; rewards seen meanwhile are
    counted in buckets that grow by 2 % [1]_, and :meth:`advanced` sets the next version's clip.

    A learner makes ``scale.applied(examples)`` of what it learns, and ``scale.observed(examples)``
    of the scale. When it takes a snapshot it advances, and multiplies what its linear model has
    learned by ``old.scale / new.scale`` (:meth:`SharedLinear.rescale`). A correction is exact if
    both rewards lie within the clips of both versions; else it is off by what one clip cuts and
    the other does not.

    Attributes
    ----------
    quantile
        Of the sizes of rewards other than 0.
    version
        How often it has advanced.
    clip
        Rewards are held within plus and minus this; infinite in version 0.
    scale
        What they are divided by.
    counts
        Rewards seen by size, (BUCKETS,).

    Raises
    ------
    PolicyError
        If the quantile is none, or counts do not fit.

    References
    ----------
    .. [1] Masson, Rim & Lee 2019, DDSketch: A fast and fully-mergeable quantile sketch with
       relative-error guarantees.

    >>> scale = RewardScale(quantile=0.9)
    >>> scale.transformed(np.array([500.0]))
    array([500.])
    """

    quantile: float = 0.99
    version: int = 0
    clip: float = np.inf
    scale: float = 1.0
    counts: IntArray = field(default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64))

    def __post_init__(self) -> None:
        if not 0.5 <= self.quantile <= 1.0:
            raise PolicyError(
                f"quantile must lie in [0.5, 1], got {self.quantile}: "
                "give the share of rewards that is not to be clipped"
            )
        fits = np.shape(self.counts) == (BUCKETS,) and self.version >= 0
        if not (fits and self.clip > 0.0 and 0.0 < self.scale < np.inf):
            raise PolicyError(
                f"a reward scale cannot have version={self.version}, clip={self.clip}, "
                f"scale={self.scale}, {np.size(self.counts)} buckets: take another snapshot"
            )

    def transformed(self, rewards: FloatArray) -> FloatArray:
        """Give clipped and scaled rewards, (n,); nan stays nan."""
        small: FloatArray = np.clip(rewards, -self.clip, self.clip) / self.scale
        return small

    def applied(self, examples: Examples) -> Examples:
        """Give the examples with their rewards, and those they correct, clipped and scaled."""
        return replace(
            examples,
            rewards=self.transformed(examples.rewards),
            previous=self.transformed(examples.previous),
        )

    def observed(self, examples: Examples) -> Self:
        """Count the examples' rewards; a correction moves its count. The scale stays."""
        counts = self.counts + _counted(examples.rewards)
        counts -= _counted(examples.previous[~examples.is_new])
        return replace(self, counts=np.maximum(counts, 0))

    def advanced(self) -> Self:
        """Give the next version, clipped at the quantile of what was seen so far.

        With fewer than 100 rewards other than 0, clip and scale stay.
        """
        total = int(self.counts.sum())
        if total < ENOUGH:
            return replace(self, version=self.version + 1)
        rank = self.quantile * (total - 1)
        bucket = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        # the middle of (GROWTH^(i-1), GROWTH^i], in relative terms
        size = SMALLEST * GROWTH**bucket * 2.0 / (GROWTH + 1.0)
        return replace(self, version=self.version + 1, clip=size, scale=size)

    def state(self) -> dict[str, object]:
        """Give it as numbers and arrays, empty buckets left out."""
        held = np.flatnonzero(self.counts)
        return {
            "quantile": self.quantile,
            "version": self.version,
            "clip": self.clip,
            "scale": self.scale,
            "buckets": held.astype(np.int64),
            "counts": self.counts[held],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take up what :meth:`state` gave.

        Raises
        ------
        PolicyError
            If it does not hang together.
        """
        counts = np.zeros(BUCKETS, dtype=np.int64)
        try:
            counts[state["buckets"]] = state["counts"]
            return cls(
                quantile=float(state["quantile"]),
                version=int(state["version"]),
                clip=float(state["clip"]),
                scale=float(state["scale"]),
                counts=counts,
            )
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"a reward scale's state lacks or garbles {error}: take another snapshot"
            ) from error


def _counted(rewards: FloatArray) -> IntArray:
    sizes = np.abs(rewards)
    sizes = sizes[sizes >= SMALLEST]
    index = np.ceil(np.log(sizes / SMALLEST) / np.log(GROWTH)).astype(np.int64)
    return np.bincount(np.clip(index, 0, BUCKETS - 1), minlength=BUCKETS).astype(np.int64)
