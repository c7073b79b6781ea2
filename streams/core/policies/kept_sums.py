"""What models with weights for each action keep: sums of each action's examples, which add up."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from schemas.errors import PolicyError
from schemas.hashing import id_hash
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.data import ActionSet, Examples, FloatArray, IntArray
from streams.core.policies.linear_statistics import Statistics, sums_of

__all__ = ["LARGEST_DISJOINT", "KeptSums", "Stack", "action_keys", "bounded_actions", "keys_of"]

LARGEST_DISJOINT = 8192  # weights in all: 250 actions over 32 features, 16 over 511


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The sums of all actions, aged alike, in the order of their sorted keys.

    Attributes
    ----------
    place
        The row of each key.
    acts
        ``(1, a)``, (K, q).
    grams, moments
        Sums of w u u' and of w u r with ``u = (1, x)``, (K, p, p) and (K, p).
    power, weight
        Sums of w r² and of w, over all actions.
    """

    place: Mapping[str, int]
    acts: FloatArray
    grams: FloatArray
    moments: FloatArray
    power: float
    weight: float


class KeptSums:
    """Sums over the examples of each action, by the features that it was sent with.

    They are additive: sums of parts of the examples, made anywhere and added in any order
    (:meth:`fold`), are the sums of all. Corrections are exact, whenever they come.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    half_life_ms
        The age at which an example counts half; 0: none is forgotten.
    """

    def __init__(self, d_user: int, d_action: int, half_life_ms: float) -> None:
        self.p, self.q = 1 + d_user, 1 + d_action
        self.half_life_ms = half_life_ms
        # by action and features: should a template's features change, what was its own does too
        self.sums: dict[str, Statistics] = {}
        self.features: dict[str, FloatArray] = {}
        self.at_ms: int | None = None  # the newest decision of all, so that the idle ones age too
        self._stack: Stack | None = None

    def __len__(self) -> int:
        return len(self.sums)

    def learn(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Add examples, whose rows were sorted by :func:`keys_of`; corrections exactly.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        bounded_actions(len(self.sums.keys() | rows.keys()), self.p)
        users = np.hstack([np.ones((len(examples), 1)), examples.contexts])  # (n, p)
        for key, mine in rows.items():
            self._add(key, examples.action_features[mine[0]], self._of(examples, users, mine))

    def learn_sums(self, parts: Sequence[ActionPart]) -> None:
        """Add sums that were made elsewhere.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        keyed = [(_named(part.action, part.features.tobytes()), part) for part in parts]
        bounded_actions(len(self.sums.keys() | {key for key, _ in keyed}), self.p)
        for key, part in keyed:
            self._add(key, part.features, part.sums)

    def fold(self, other: "KeptSums") -> None:
        """Add the sums of other examples.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        bounded_actions(len(self.sums.keys() | other.sums.keys()), self.p)
        for key in sorted(other.sums):
            self._add(key, other.features[key], other.sums[key])

    def with_sums(
        self, features: Mapping[str, FloatArray], sums: Mapping[str, Statistics]
    ) -> "KeptSums":
        """Give these sums and others, by key; this one stays as it is."""
        found = KeptSums(self.p - 1, self.q - 1, self.half_life_ms)
        found.sums, found.features, found.at_ms = dict(self.sums), dict(self.features), self.at_ms
        for key in sorted(sums):
            found._add(key, features[key], sums[key])
        return found

    def discounted(self, share: float) -> "KeptSums":
        """Give the sums in which every example counts for a share of itself."""
        found = KeptSums(self.p - 1, self.q - 1, self.half_life_ms)
        for key, sums in self.sums.items():
            found._add(key, self.features[key], sums.discounted(share))
        return found

    def stack(self) -> Stack:
        """Give all sums as they stand at the newest decision; kept until something changes."""
        if self._stack is None:
            keys = sorted(self.sums)
            aged = [self.sums[key].aged(self.at_ms, self.half_life_ms) for key in keys]
            features = np.array([self.features[key] for key in keys])
            self._stack = Stack(
                place={key: index for index, key in enumerate(keys)},
                acts=np.hstack([np.ones((len(keys), 1)), features.reshape(len(keys), self.q - 1)]),
                grams=np.array([one.gram for one in aged]).reshape(len(keys), self.p, self.p),
                moments=np.array([one.moment for one in aged]).reshape(len(keys), self.p),
                power=sum(one.power for one in aged),
                weight=sum(one.weight for one in aged),
            )
        return self._stack

    def of(self, action: str) -> Statistics:
        """Give an action's own sums at the newest decision, whatever its features were."""
        mine = Statistics.empty(self.p)
        for key in sorted(self.sums):
            if key.split(":", 1)[1] == action:
                mine = mine.plus(self.sums[key], self.half_life_ms)
        return mine.aged(self.at_ms, self.half_life_ms)

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.sums = {key: sums.rescaled(factor) for key, sums in self.sums.items()}
        self._stack = None

    def retire(self, actions: Collection[str]) -> None:
        """Forget the examples of these actions."""
        for key in [key for key in self.sums if key.split(":", 1)[1] in actions]:
            del self.sums[key], self.features[key]
        self._stack = None

    def state(self) -> dict[str, object]:
        """Give the sums of each action, and the features that it was sent with."""
        actions = {
            key: {"sums": self.sums[key].state(), "features": self.features[key]}
            for key in sorted(self.sums)
        }
        return {"at_ms": self.at_ms, "actions": actions}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave.

        Raises
        ------
        PolicyError
            If there are too many, or their dimensions are others.
        """
        self.at_ms = None if state["at_ms"] is None else int(state["at_ms"])
        bounded_actions(len(state["actions"]), self.p)
        self.sums, self.features, self._stack = {}, {}, None
        for key, kept in state["actions"].items():
            self.sums[key] = Statistics.from_state(kept["sums"], self.p)
            if np.shape(kept["features"]) != (self.q - 1,):
                raise PolicyError(
                    f"action {key!r} must have {self.q - 1} features, got "
                    f"{np.size(kept['features'])}: take another snapshot"
                )
            self.features[key] = np.array(kept["features"])

    def _of(self, examples: Examples, users: FloatArray, rows: IntArray) -> Statistics:
        return sums_of(
            users[rows],
            examples.rewards[rows],
            examples.previous[rows],
            examples.at_ms[rows],
            self.half_life_ms,
        )

    def _add(self, key: str, features: FloatArray, sums: Statistics) -> None:
        before = self.sums.get(key, Statistics.empty(self.p))
        after = self.sums[key] = before.plus(sums, self.half_life_ms)
        self.features[key] = features
        if after.at_ms is not None:
            self.at_ms = after.at_ms if self.at_ms is None else max(self.at_ms, after.at_ms)
        self._stack = None


def bounded_actions(n_actions: int, p: int) -> None:
    """Refuse more weights than :data:`LARGEST_DISJOINT`, with p for each action.

    Raises
    ------
    PolicyError
        If there are more.
    """
    if n_actions * p > LARGEST_DISJOINT:
        raise PolicyError(
            f"n_actions (1 + d_user) must be at most {LARGEST_DISJOINT}, got "
            f"{n_actions} x {p}: retire actions that will not come back, "
            "or share one model ('linear-thompson')"
        )


def keys_of(examples: Examples) -> dict[str, IntArray]:
    """Sort the rows of examples by action and the features that it was sent with."""
    found: dict[tuple[str, bytes], list[int]] = {}
    for row, (name, features) in enumerate(
        zip(examples.actions, examples.action_features, strict=True)
    ):
        found.setdefault((name, features.tobytes()), []).append(row)
    named = {_named(*pair): np.array(rows, dtype=np.int64) for pair, rows in found.items()}
    return dict(sorted(named.items()))


def action_keys(actions: ActionSet) -> Iterator[str]:
    """Give the key of each action with the features that it has now."""
    for name, features in zip(actions.ids, actions.features, strict=True):
        yield _named(name, features.tobytes())


@lru_cache(maxsize=4096)
def _named(name: str, features: bytes) -> str:
    return f"{id_hash(features.hex()):x}:{name}"
