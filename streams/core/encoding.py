"""Profiles to contexts: the columns that a campaign's `context` names."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.hashing import fallback_id, id_hash
from streams.core.policies import ActionSet
from streams.core.policies.no_send import with_no_send
from streams.core.profiles import Profile
from streams.core.segments import AttributeValue

__all__ = ["ContextEncoder", "action_set", "feature_names"]

WIDEST = 3.0  # numbers are held within this many scales of their centre


class ContextEncoder:
    """Makes the context x of a user from the profile.

    Parameters
    ----------
    features
        As the campaign names them: a number becomes (value - center) / scale within -3 and 3, a
        yes/no 0 or 1, `one_of` a column for each value, `buckets` a hashed column; an event
        count log(1 + n). What is missing is 0.
    """

    def __init__(self, features: Sequence[ContextFeature]) -> None:
        self._features = tuple(features)
        self.columns = tuple(name for feature in features for name in _names(feature))

    @cached_property
    def version(self) -> str:
        """What tells columns apart whose contexts mean something else."""
        return "columns-" + fallback_id(*map(repr, self._features))[:12]

    @property
    def d_user(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def encode(
        self,
        attributes: Mapping[str, AttributeValue | list[str]],
        counts: Mapping[str, tuple[int, int]],
    ) -> list[float]:
        """One context, (d_user,)."""
        row: list[float] = []
        for feature in self._features:
            if feature.event is not None:
                row.append(math.log1p(counts.get(feature.event, (0, 0))[0]))
                continue
            assert feature.attribute is not None
            value = attributes.get(feature.attribute)
            if feature.one_of:
                row += [1.0 if _same(value, wanted) else 0.0 for wanted in feature.one_of]
            elif feature.buckets:
                row += _hashed(feature.attribute, value, feature.buckets)
            else:
                row.append(_number(value, feature))
        return row

    def encode_many(self, profiles: Sequence[Profile]) -> NDArray[np.float64]:
        """Contexts, (n_users, d_user), rounded to float32 as the log keeps them."""
        rows = [self.encode(profile.attributes, profile.counts) for profile in profiles]
        return _rounded(rows, self.d_user)


def _rounded(rows: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float32).astype(np.float64).reshape(len(rows), width)


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


def _number(value: AttributeValue | list[str], feature: ContextFeature) -> float:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float):
        return 0.0
    scaled = (float(value) - feature.center) / feature.scale
    return min(max(scaled, -WIDEST), WIDEST)


def feature_names(templates: Sequence[Template]) -> tuple[str, ...]:
    """The names of the actions' features, in the order of their columns."""
    return tuple(sorted({name for template in templates for name in template.features}))


def action_set(campaign: Campaign) -> ActionSet:
    """The campaign's actions a, (n_actions, d_action): templates, then no-send if it competes."""
    names = feature_names(campaign.templates)
    features = np.array(
        [[t.features.get(name, 0.0) for name in names] for t in campaign.templates],
        dtype=np.float64,
    ).reshape(len(campaign.templates), len(names))
    templates = ActionSet(ids=tuple(t.id for t in campaign.templates), features=features)
    return with_no_send(templates) if campaign.no_send else templates
