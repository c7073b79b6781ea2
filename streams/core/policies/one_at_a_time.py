"""River's way into a policy: one context at a time, as a dictionary."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from river.bandit.base import ContextualPolicy

from schemas.errors import PolicyError
from streams.core.policies.data import ActionSet, Examples, FloatArray
from streams.core.policies.draws import draw
from streams.core.policies.parameters import nearest

__all__ = ["OneAtATime"]


class OneAtATime(ContextualPolicy, abc.ABC):  # type: ignore[misc,unused-ignore]
    """``pull`` and ``update`` for a policy that decides and learns in chunks.

    Parameters
    ----------
    d_user
        Features of a context.
    d_action
        Features of an action.
    actions
        The actions and their features; may be left out where ``d_action`` is 0.
    columns
        The keys of a context in the order of its vector; one that it lacks is 0, as in River.
    seed
        Of the random stream of ``pull``.

    Raises
    ------
    PolicyError
        If a dimension is negative.
    """

    name: ClassVar[str]

    def __init__(
        self,
        d_user: int,
        d_action: int,
        *,
        actions: ActionSet | None,
        columns: Sequence[str],
        seed: int,
    ) -> None:
        super().__init__()
        for field, value in (("d_user", d_user), ("d_action", d_action)):
            if not value >= 0:
                raise PolicyError(f"{field} must be at least 0, got {value}: count the features")
        self.d_user = d_user
        self.d_action = d_action
        self.actions = actions
        self.columns = tuple(columns)
        self.seed = seed
        self._rng = np.random.default_rng(seed)

    @abc.abstractmethod
    def action_dist(
        self,
        contexts: NDArray[Any],
        actions: ActionSet,
        eligible: NDArray[Any],
        rng: np.random.Generator,
        *,
        handicap: NDArray[Any] | None = None,
    ) -> FloatArray:
        """Give the probabilities that actions are to be drawn from."""

    @abc.abstractmethod
    def learn_many(self, examples: Examples) -> None:
        """Learn a chunk."""

    def update(
        self,
        arm_id: str | int,
        context: Mapping[str, float] | None,
        reward: float,
        *,
        previous: float = math.nan,
        at_ms: int = 0,
    ) -> None:
        """Learn one example, River's way; the words are those of :class:`Examples`."""
        actions = self._actions([arm_id])
        self.learn_many(
            Examples(
                contexts=self._vector(context),
                actions=(str(arm_id),),
                action_features=actions.features[[actions.ids.index(str(arm_id))]],
                rewards=np.array([reward]),
                previous=np.array([previous]),
                at_ms=np.array([at_ms], dtype=np.int64),
            )
        )
        if math.isnan(previous):  # River's ranking and burn-in count decisions, not corrections
            super().update(arm_id, context, reward)

    def _pull(self, arm_ids: Sequence[str | int], context: Mapping[str, float] | None) -> str | int:
        actions = self._actions(arm_ids)
        by_id = {str(arm_id): arm_id for arm_id in arm_ids}
        eligible = np.array([[name in by_id for name in actions.ids]])
        dist = self.action_dist(self._vector(context), actions, eligible, self._rng)
        return by_id[actions.ids[int(draw(dist, self._rng)[0])]]

    def _actions(self, arm_ids: Sequence[str | int]) -> ActionSet:
        ids = tuple(str(arm_id) for arm_id in arm_ids)
        if self.actions is None:
            if self.d_action:
                raise PolicyError(
                    f"policy {self.name!r} needs the {self.d_action} features of {ids}: "
                    "make it with actions=ActionSet(...)"
                )
            return ActionSet(ids=ids, features=np.zeros((len(ids), 0)))
        for name in ids:
            if name not in self.actions.ids:
                raise PolicyError(
                    f"action {name!r} is none of the policy's: {nearest(name, self.actions.ids)}"
                )
        return self.actions

    def _vector(self, context: Mapping[str, float] | None) -> FloatArray:
        if len(self.columns) != self.d_user:
            raise PolicyError(
                f"columns must name {self.d_user} features, got {self.columns}: "
                "make the policy with columns=(...) to give it contexts by name"
            )
        values = context or {}
        return np.array([[float(values.get(name, 0.0)) for name in self.columns]])  # (1, d_user)
