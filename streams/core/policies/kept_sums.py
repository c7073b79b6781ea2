"""What models with weights for each action keep: sums of each action's examples, which add up."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.data import Examples, FloatArray, IntArray
from streams.core.policies.linear_statistics import Statistics, sums_of
from streams.core.policies.sum_keys import action_of, is_key, key_of, retired_key

__all__ = ["LARGEST_DISJOINT", "MOST_RETIRED", "KeptSums", "Stack", "bounded_actions"]

LARGEST_DISJOINT = 8192  # weights in all: 250 actions over 32 features, 16 over 511
# retired actions whose sums are kept apart, for outcomes on their way; and weights of theirs in all
MOST_RETIRED, LARGEST_RETIRED = 32, 2048


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
        Sums of w r² and of w, over all actions, those folded among them.
    taught
        What retired actions that were folded say of the p q shared weights; None: none were.
    """

    place: Mapping[str, int]
    acts: FloatArray
    grams: FloatArray
    moments: FloatArray
    power: float
    weight: float
    taught: Statistics | None = None


class KeptSums:
    """Sums over the examples of each action, by the features that it was sent with.

    They are additive: sums of parts of the examples, made anywhere and added in any order
    (:meth:`fold`), are the sums of all. Corrections are exact, whenever they come.

    Where actions share weights, sums of one that is retired go on under a key that no action has
    (:meth:`set_aside`): nothing is decided by them alone, and all else is as if it was still
    there, outcomes that come later among it. Of many such, all but those sent last are folded
    into one sum over the shared weights (:meth:`teach`), so that what is kept does not grow with
    the actions that have gone.

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
        self.taught: Statistics | None = None  # by the retired, of the p q weights all share
        self.at_ms: int | None = None  # the newest decision of all, so that the idle ones age too
        self._stack: Stack | None = None

    def __len__(self) -> int:
        return len(self.sums)

    def learn(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Add examples, whose rows were sorted by their keys; corrections exactly.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        self.bounded_with(rows)
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
        keyed = [(key_of(part.action, part.features.tobytes()), part) for part in parts]
        self.bounded_with(key for key, _ in keyed)
        for key, part in keyed:
            self._add(key, part.features, part.sums)

    def fold(self, other: "KeptSums") -> None:
        """Add the sums of other examples.

        Raises
        ------
        PolicyError
            If actions times features are more than :data:`LARGEST_DISJOINT`.
        """
        self.bounded_with(other.sums)
        for key in sorted(other.sums):
            self._add(key, other.features[key], other.sums[key])
        if other.taught is not None:
            self.teach((), other.taught)

    def with_sums(
        self, features: Mapping[str, FloatArray], sums: Mapping[str, Statistics]
    ) -> "KeptSums":
        """Give these sums and others, by key; this one stays as it is."""
        found = KeptSums(self.p - 1, self.q - 1, self.half_life_ms)
        found.sums, found.features, found.at_ms = dict(self.sums), dict(self.features), self.at_ms
        found.taught = self.taught
        for key in sorted(sums):
            found._add(key, features[key], sums[key])
        return found

    def discounted(self, share: float) -> "KeptSums":
        """Give the sums in which every example counts for a share of itself."""
        found = KeptSums(self.p - 1, self.q - 1, self.half_life_ms)
        for key, sums in self.sums.items():
            found._add(key, self.features[key], sums.discounted(share))
        if self.taught is not None:
            found.teach((), self.taught.discounted(share))
        return found

    def stack(self) -> Stack:
        """Give all sums as they stand at the newest decision; kept until something changes."""
        if self._stack is None:
            taught = self.taught
            if taught is not None:
                taught = taught.aged(self.at_ms, self.half_life_ms)
            self._stack = self.stack_of(sorted(self.sums), taught)
        return self._stack

    def stack_of(self, keys: Sequence[str], taught: Statistics | None = None) -> Stack:
        """Give the sums of some keys, and what is told of all, at the newest decision."""
        aged = [self.sums[key].aged(self.at_ms, self.half_life_ms) for key in keys]
        features = np.array([self.features[key] for key in keys])
        counted = aged if taught is None else [*aged, taught]
        return Stack(
            place={key: index for index, key in enumerate(keys)},
            acts=np.hstack([np.ones((len(keys), 1)), features.reshape(len(keys), self.q - 1)]),
            grams=np.array([one.gram for one in aged]).reshape(len(keys), self.p, self.p),
            moments=np.array([one.moment for one in aged]).reshape(len(keys), self.p),
            power=sum(one.power for one in counted),
            weight=sum(one.weight for one in counted),
            taught=taught,
        )

    def of(self, action: str) -> Statistics:
        """Give an action's own sums at the newest decision, whatever its features were."""
        mine = Statistics.empty(self.p)
        for key in sorted(self.sums):
            if action_of(key) == action:
                mine = mine.plus(self.sums[key], self.half_life_ms)
        return mine.aged(self.at_ms, self.half_life_ms)

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.sums = {key: sums.rescaled(factor) for key, sums in self.sums.items()}
        if self.taught is not None:
            self.taught = self.taught.rescaled(factor)
        self._stack = None

    def retire(self, actions: Collection[str]) -> None:
        """Forget the examples of these actions."""
        for key in [key for key in self.sums if action_of(key) in actions]:
            del self.sums[key], self.features[key]
        self._stack = None

    def set_aside(self, actions: Collection[str]) -> None:
        """Keep the sums of these actions where no action finds them, added to earlier ones."""
        for key in sorted(key for key in self.sums if action_of(key) in actions):
            self._add(retired_key(key), self.features.pop(key), self.sums.pop(key))

    def laid_aside(
        self, rows: Mapping[str, IntArray], examples: Examples
    ) -> Mapping[str, IntArray]:
        """Lay corrections of retired actions to the sums that were set aside.

        Where a name has sums of its own again, they are added to these; where what they correct
        was folded already, they are left out: how much of it was an action's own is not known
        any more. Corrections of sends that are new here stay with these: a name may be that of a
        template which was retired, here or where this began.

        Parameters
        ----------
        rows
            Rows of the examples by :func:`~streams.core.policies.sum_keys.keys_of`.
        """
        if self.taught is None and all(action_of(key) for key in self.sums):
            return rows
        found = {}
        for key, mine in rows.items():
            aside = retired_key(key)
            if key in self.sums or (self.taught is None and aside not in self.sums):
                found[key] = mine
                continue
            new = mine[examples.is_new[mine]]
            since_ms = examples.at_ms[new].min() if len(new) else np.iinfo(np.int64).max
            own = examples.at_ms[mine] >= since_ms
            parts = {key: mine[own]}
            if aside in self.sums:
                parts[aside] = mine[~own]
            found.update({one: part for one, part in parts.items() if len(part)})
        return dict(sorted(found.items()))

    def to_fold(self) -> list[str]:
        """Give the keys of retired actions that are too many to be kept apart, oldest first."""
        retired = [key for key in self.sums if not action_of(key)]
        retired.sort(key=lambda key: (self.sums[key].at_ms or 0, key))
        most = max(1, min(MOST_RETIRED, LARGEST_RETIRED // self.p))
        return retired[:-most]

    def teach(self, keys: Collection[str], taught: Statistics) -> None:
        """Keep what examples say of shared weights, in place of the sums of these keys.

        Parameters
        ----------
        taught
            Over p q weights, each action's own integrated out. It fades as sums do.
        """
        for key in keys:
            del self.sums[key], self.features[key]
        before = Statistics.empty(self.p * self.q) if self.taught is None else self.taught
        self.taught = before.plus(taught, self.half_life_ms)
        if taught.at_ms is not None:
            self.at_ms = taught.at_ms if self.at_ms is None else max(self.at_ms, taught.at_ms)
        self._stack = None

    def state(self) -> dict[str, object]:
        """Give the sums of each action, and the features that it was sent with."""
        actions = {
            key: {"sums": self.sums[key].state(), "features": self.features[key]}
            for key in sorted(self.sums)
        }
        taught = None if self.taught is None else self.taught.state()
        return {"at_ms": self.at_ms, "actions": actions, "taught": taught}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave.

        Raises
        ------
        PolicyError
            If there are too many, their dimensions are others, or a key is no action's.
        """
        self.at_ms = None if state["at_ms"] is None else int(state["at_ms"])
        self.sums, self.features, self._stack = {}, {}, None
        self.bounded_with(state["actions"])
        taught = state["taught"]
        self.taught = None if taught is None else Statistics.from_state(taught, self.p * self.q)
        for key, kept in state["actions"].items():
            self.sums[key] = Statistics.from_state(kept["sums"], self.p)
            if np.shape(kept["features"]) != (self.q - 1,):
                raise PolicyError(
                    f"action {key!r} must have {self.q - 1} features, got "
                    f"{np.size(kept['features'])}: take another snapshot"
                )
            if not is_key(key):
                raise PolicyError(f"{key!r} is no key of an action: take another snapshot")
            self.features[key] = np.array(kept["features"])

    def bounded_with(self, keys: Iterable[str]) -> None:
        """Refuse more actions, with these keys, than :func:`bounded_actions` lets by."""
        bounded_actions(sum(bool(action_of(key)) for key in {*self.sums, *keys}), self.p)

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
