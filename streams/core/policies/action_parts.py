"""Sums over the users' features for each action: what every linear model can be made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from streams.core.policies.data import Examples, FloatArray
from streams.core.policies.linear_statistics import Statistics, statistics_of

__all__ = ["ActionPart", "crossed_sums", "parts_by_action", "summed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPart:
    """What one action's examples add up to, made in one process and learned in another.

    Attributes
    ----------
    action
        Its id.
    features
        a, (d_action,).
    half_life_ms
        The age at which an example counted half; 0: none was forgotten.
    sums
        Over features (1, x), of dimension 1 + d_user.
    """

    action: str
    features: FloatArray
    half_life_ms: float
    sums: Statistics


def parts_by_action(examples: Examples, half_life_ms: float) -> Iterator[ActionPart]:
    """Sum up examples action by action, in the order of their ids.

    Parameters
    ----------
    examples
        n of them; all of an action have the same features.
    half_life_ms
        The age at which an example counts half; 0: none is forgotten.
    """
    taken = np.array(examples.actions)
    for name in sorted(set(examples.actions)):
        rows = np.flatnonzero(taken == name)
        alone = Examples(
            contexts=examples.contexts[rows],
            actions=(name,) * len(rows),
            action_features=np.zeros((len(rows), 0)),
            rewards=examples.rewards[rows],
            previous=examples.previous[rows],
            at_ms=examples.at_ms[rows],
        )
        yield ActionPart(
            action=name,
            features=examples.action_features[rows[0]],
            half_life_ms=half_life_ms,
            sums=statistics_of(alone, half_life_ms),
        )


def summed(parts: Iterable[ActionPart]) -> list[ActionPart]:
    """Add up parts of the same action, features and half-life, in their order."""
    totals: dict[tuple[str, bytes, float], ActionPart] = {}
    for part in parts:
        key = (part.action, part.features.tobytes(), part.half_life_ms)
        known = totals.get(key)
        if known is not None:
            totals[key] = replace(part, sums=known.sums.plus(part.sums, part.half_life_ms))
        else:
            totals[key] = part
    return list(totals.values())


def crossed_sums(part: ActionPart) -> Statistics:
    """Give the sums over ``phi(x, a) = (1, x) ⊗ (1, a)``, of dimension (1 + d_user)(1 + d_action).

    All examples of an action share a: ``sum of w phi phi' = (sum of w (1, x)(1, x)') ⊗ (1, a)(1,
    a)'``, by the mixed-product property of the Kronecker product.
    """
    act = np.concatenate([[1.0], part.features])
    return Statistics(
        gram=np.kron(part.sums.gram, np.outer(act, act)).astype(np.float64),
        moment=np.kron(part.sums.moment, act).astype(np.float64),
        power=part.sums.power,
        weight=part.sums.weight,
        n=part.sums.n,
        at_ms=part.sums.at_ms,
    )
