"""Sums of examples on their way from a shard to the learner."""

import numpy as np

from schemas.campaign import Campaign
from schemas.errors import BadRecordError, PolicyError
from schemas.learning import LearningUpdate, Sums
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import ActionPart, Statistics

__all__ = ["added", "packed", "packed_bytes", "sums_in"]


def packed(action: str, half_life_ms: float, sums: Statistics) -> Sums:
    """Sums as they stand in a record; they contain an example or a correction."""
    assert sums.at_ms is not None
    state = sums.state()
    return Sums(
        action=action,
        half_life_ms=half_life_ms,
        gram=np.asarray(state["gram"], dtype="<f8").tobytes(),
        moment=sums.moment.astype("<f8").tobytes(),
        power=sums.power,
        weight=sums.weight,
        n=sums.n,
        at_ms=sums.at_ms,
    )


def packed_bytes(width: int) -> int:
    """About how many bytes sums over contexts of so many columns take."""
    return 8 * ((1 + width) * (2 + width) // 2 + (1 + width) + 8)


def added(before: Sums | None, part: ActionPart) -> Sums:
    """Sums with others of the same action and half-life added."""
    total = part.sums
    if before is not None:
        known = _unpacked(before, len(part.sums.moment))
        total = known.plus(part.sums, part.half_life_ms)
    return packed(part.action, part.half_life_ms, total)


def sums_in(
    update: LearningUpdate, campaign: Campaign, *, trusted: bool = False
) -> list[ActionPart]:
    """The sums of an update, as the policy learns them.

    Parameters
    ----------
    trusted
        Whether they were checked before.

    Raises
    ------
    GroundswellError
        If they are another encoder's or action's, not of the context's dimension, or no sums.
    """
    if not update.sums:
        return []
    encoder, known = ContextEncoder(campaign.context), action_set(campaign)
    if update.encoder_version != encoder.version:
        raise BadRecordError(
            f"sums for campaign {campaign.campaign_id} are of encoder {update.encoder_version}, "
            f"it has {encoder.version}: they cannot be added up"
        )
    rows = {name: row for row, name in enumerate(known.ids)}
    parts = []
    for one in update.sums:
        if one.action not in rows:
            raise BadRecordError(
                f"sums for campaign {campaign.campaign_id} name the template {one.action!r}, "
                "which it does not have"
            )
        parts.append(
            ActionPart(
                action=one.action,
                features=known.features[rows[one.action]],
                half_life_ms=one.half_life_ms,
                sums=(_unpacked if trusted else _checked)(one, 1 + encoder.d_user),
            )
        )
    return parts


def _checked(one: Sums, dimension: int) -> Statistics:
    """Sums that may come from anywhere: what is no sum of squares would stop the learner."""
    sizes = (len(one.gram), len(one.moment))
    if sizes != (4 * dimension * (dimension + 1), 8 * dimension):
        raise BadRecordError(
            f"sums of template {one.action!r} have columns of {sizes[0]} and {sizes[1]} bytes: "
            f"they are not of dimension {dimension}"
        )
    try:
        return _unpacked(one, dimension, trusted=False)
    except PolicyError as error:
        raise BadRecordError(f"sums of template {one.action!r}: {error}") from error


def _unpacked(one: Sums, dimension: int, *, trusted: bool = True) -> Statistics:
    return Statistics.from_state(
        {
            "gram": np.frombuffer(one.gram, dtype="<f8").astype(np.float64),
            "moment": np.frombuffer(one.moment, dtype="<f8").astype(np.float64),
            "power": one.power,
            "weight": one.weight,
            "n": one.n,
            "at_ms": one.at_ms,
        },
        dimension,
        trusted=trusted,
    )
