"""Rewards of any size brought to a size that is fixed until the next snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.data import LARGEST, FloatArray, IntArray

__all__ = ["RewardScale"]

ACCURACY = 0.01  # of a quantile, relative
GROWTH = (1.0 + ACCURACY) / (1.0 - ACCURACY)
SMALLEST = 1e-9  # rewards below count as nothing
BUCKETS = 1 + int(np.ceil(np.log(LARGEST / SMALLEST) / np.log(GROWTH)))
MOST_CLIPS = 4096  # of waves that differ; of older waves corrections are not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardScale:
    """Clip rewards at a quantile of their size, and divide by it.

    One purchase of a thousand would else outweigh a thousand clicks. A learner shows a scale the
    rewards that have come (:meth:`observed`), advances it (:meth:`advanced`), multiplies what its
    model has learned by ``old.scale / new.scale`` (:meth:`Policy.rescale`), and only then learns
    what the new scale makes of the rewards: so those of the first batch are clipped too. Within a
    version nothing moves, so that all that a snapshot holds is measured alike. Rewards are counted
    in buckets that grow by 2 % [1]_.

    The clip that a wave's rewards are first learned with is that wave's for good, while later
    waves get the clip of what was seen by then. So what a correction takes back is what was
    learned, and a refund leaves nothing, whatever the clip is by now. Not exact are corrections of
    rewards that were learned before there was a scale, and of waves before the last 4,096 that
    moved the clip.

    Attributes
    ----------
    quantile
        Of the sizes of rewards other than 0.
    version
        How often it has advanced.
    clip
        Rewards of new waves are held within plus and minus this; infinite before any came.
    scale
        What they are divided by.
    counts
        Rewards seen by size, (BUCKETS,).
    ends, clips
        The last wave that each clip is of, rising, and the clips, (k,) and (k,).

    Raises
    ------
    PolicyError
        If the quantile is none, or counts do not fit.

    References
    ----------
    .. [1] Masson, Rim & Lee 2019, DDSketch: A fast and fully-mergeable quantile sketch with
       relative-error guarantees.

    >>> rewards, new = np.array([2.0, 2.0, 9.0]), np.full(3, np.nan)
    >>> scale = RewardScale(quantile=0.9).observed(rewards, new).advanced(wave=0)
    >>> scale.transformed(rewards, wave=0)
    array([1., 1., 1.])
    """

    quantile: float = 0.99
    version: int = 0
    clip: float = np.inf
    scale: float = 1.0
    counts: IntArray = field(default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64))
    ends: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    clips: FloatArray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not 0.5 <= self.quantile <= 1.0:
            raise PolicyError(
                f"quantile must lie in [0.5, 1], got {self.quantile}: "
                "give the share of rewards that is not to be clipped"
            )
        fits = np.shape(self.counts) == (BUCKETS,) and self.version >= 0
        fits &= np.shape(self.ends) == np.shape(self.clips) == (np.size(self.clips),)
        fits &= bool((np.diff(self.ends) > 0).all() and (self.clips > 0.0).all())
        fits &= bool((np.asarray(self.counts) >= 0).all())
        if not (fits and self.clip > 0.0 and 0.0 < self.scale < np.inf):
            raise PolicyError(
                f"a reward scale cannot have version={self.version}, clip={self.clip}, "
                f"scale={self.scale}, {np.size(self.counts)} buckets, waves {self.ends} with clips "
                f"{self.clips}: take another snapshot"
            )

    def transformed(self, rewards: FloatArray, wave: int) -> FloatArray:
        """Give a wave's rewards, or what they were told to be before, clipped and scaled, (n,).

        nan stays nan.
        """
        place = int(np.searchsorted(self.ends, wave))
        clip = self.clip if place == len(self.ends) else self.clips[place]
        small: FloatArray = np.clip(np.clip(rewards, -clip, clip) / self.scale, -LARGEST, LARGEST)
        return small

    def observed(self, rewards: FloatArray, previous: FloatArray) -> Self:
        """Count rewards, (n,); a correction moves its count. Clip and scale stay.

        Parameters
        ----------
        rewards, previous
            As they came, and as they were told to be before: nan where they are new.
        """
        counts = self.counts + _counted(rewards)
        counts -= _counted(previous[~np.isnan(previous)])
        return replace(self, counts=np.maximum(counts, 0))

    def advanced(self, wave: int) -> Self:
        """Give the next version, clipped at the quantile of what was seen so far.

        Of few rewards the largest counts as the next one down: of less than 100, where 99 % are
        not to be clipped. Where none was seen yet, nothing is clipped.

        Parameters
        ----------
        wave
            The newest wave that has been seen: up to this one, those without a clip get this one.
        """
        total, size = int(self.counts.sum()), self.clip
        if total:
            rank = self.quantile * (total - 1)
            bucket = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
            # the middle of (GROWTH^(i-1), GROWTH^i], in relative terms
            size = SMALLEST * GROWTH**bucket * 2.0 / (GROWTH + 1.0)
        if not np.isfinite(size):
            return replace(self, version=self.version + 1)
        ends, clips = self.ends, self.clips
        if not len(ends) or wave > ends[-1]:
            same = len(clips) and clips[-1] == size  # it serves further waves
            ends = np.append(ends[:-1] if same else ends, wave)[-MOST_CLIPS:]
            clips = (clips if same else np.append(clips, size))[-MOST_CLIPS:]
        return replace(
            self, version=self.version + 1, clip=size, scale=size, ends=ends, clips=clips
        )

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
            "ends": self.ends,
            "clips": self.clips,
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
                ends=np.array(state["ends"], dtype=np.int64),
                clips=np.array(state["clips"], dtype=np.float64),
            )
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"a reward scale's state lacks or garbles {error}: take another snapshot"
            ) from error


def _counted(rewards: FloatArray) -> IntArray:
    sizes = np.abs(rewards)
    sizes = sizes[sizes >= SMALLEST]
    index = np.ceil(np.log(sizes / SMALLEST) / np.log(GROWTH)).astype(np.int64)
    return np.bincount(np.clip(index, 0, BUCKETS - 1), minlength=BUCKETS).astype(np.int64)
