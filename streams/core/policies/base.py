"""The policy: a River contextual bandit that also decides for chunks and says with what odds."""

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from river.bandit.base import ContextualPolicy

from schemas.errors import PolicyError
from streams.core.policies.data import (
    ActionSet,
    BoolArray,
    Examples,
    FloatArray,
    IntArray,
    checked_contexts,
)
from streams.core.policies.draws import draw, floored
from streams.core.policies.parameters import Parameter, ParameterValue, checked, nearest

__all__ = [
    "ActionSet",
    "BoolArray",
    "Examples",
    "FloatArray",
    "IntArray",
    "Policy",
    "draw",
    "floored",
]


class Policy(ContextualPolicy, abc.ABC):  # type: ignore[misc,unused-ignore]
    """A stochastic map from context to actions.

    A worker calls :meth:`action_dist`, :func:`draw` and :meth:`learn_many` on chunks. River's
    ``pull`` and ``update`` serve one context at a time, as a dictionary; they need to be told the
    actions, the order of the context's columns, and a seed.

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

    Attributes
    ----------
    n_learned
        Examples learned, corrections not counted.

    Raises
    ------
    PolicyError
        If a dimension or a parameter is out of bounds.
    """

    name: ClassVar[str]
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()

    def __init__(
        self,
        d_user: int,
        d_action: int,
        *,
        actions: ActionSet | None = None,
        columns: Sequence[str] = (),
        seed: int = 0,
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
        self.n_learned = 0
        self._rng = np.random.default_rng(seed)

    def parameters(self) -> dict[str, ParameterValue]:
        """Give every parameter with the value that it has.

        Raises
        ------
        PolicyError
            If one was set to a value that it cannot have.
        """
        given = {parameter.name: getattr(self, parameter.name) for parameter in self.PARAMETERS}
        return checked(self.name, self.PARAMETERS, given)

    # ---- chunks

    def action_dist(
        self,
        contexts: NDArray[Any],
        actions: ActionSet,
        eligible: NDArray[Any],
        rng: np.random.Generator,
    ) -> FloatArray:
        """Give the probabilities that actions are to be drawn from, and logged as propensities.

        Parameters
        ----------
        contexts
            x, (n, d_user).
        actions
            The campaign's actions a, (n_actions, d_action).
        eligible
            Which actions each user may get, (n, n_actions).
        rng
            The chunk's random stream, for policies that estimate by simulation.

        Returns
        -------
        FloatArray
            p, (n, n_actions): a row sums to 1 over its eligible actions, and is exactly 0
            elsewhere; a row with nothing eligible is all 0.

        Raises
        ------
        PolicyError
            If a shape is wrong or a feature is not finite.
        """
        x = checked_contexts(contexts, self.d_user)
        if actions.d_action != self.d_action:
            raise PolicyError(
                f"actions must have {self.d_action} features, got {actions.d_action}: "
                "a campaign's templates keep the features that its policy began with"
            )
        may = np.asarray(eligible)
        if may.shape != (len(x), len(actions)) or may.dtype != np.bool_:
            raise PolicyError(
                f"eligible must be bool of shape {(len(x), len(actions))}, "
                f"got {may.dtype} of shape {may.shape}: one row a user, one column an action"
            )
        if not len(x):
            return np.zeros((0, len(actions)))
        return self._dist(x, actions, may, rng)

    def learn_many(self, examples: Examples) -> None:
        """Learn a chunk; the same as learning its examples one by one.

        Raises
        ------
        PolicyError
            If the examples' dimensions are not the policy's.
        """
        self._check(examples)
        self._learn(examples)

    def state(self) -> dict[str, object]:
        """Give all that is needed to continue elsewhere: what it is, and what it has learned."""
        return {
            "policy": self.name,
            "d_user": self.d_user,
            "d_action": self.d_action,
            "parameters": self.parameters(),
            "n_learned": self.n_learned,
            "learned": self._learned(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make the policy that :meth:`state` described.

        Raises
        ------
        PolicyError
            If the state is another policy's, or does not hang together.
        """
        if state.get("policy") != cls.name:
            raise PolicyError(
                f"a state of policy {cls.name!r} is needed, got {state.get('policy')!r}: "
                "read it with from_bytes, which finds the policy"
            )
        try:
            policy = cls(state["d_user"], state["d_action"], **state["parameters"])
            policy.n_learned = _whole(state["n_learned"])
            policy._restore(state["learned"])
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(
                f"a state of policy {cls.name!r} lacks or garbles {error}: take another snapshot"
            ) from error
        return policy

    # ---- one at a time, River's way

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

    # ---- what a policy defines

    @abc.abstractmethod
    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Give :meth:`action_dist` for inputs that were checked; there is at least one row."""

    def _learn(self, examples: Examples) -> None:
        """Learn examples that were checked; a policy without a model only counts them."""
        self.n_learned += int(examples.is_new.sum())

    def _learned(self) -> dict[str, object]:
        """Give what was learned, in numbers, words and arrays."""
        return {}

    def _restore(self, learned: Mapping[str, Any]) -> None:
        """Take up what :meth:`_learned` gave."""

    def _check(self, examples: Examples) -> None:
        got = (examples.contexts.shape[1], examples.action_features.shape[1])
        if got != (self.d_user, self.d_action):
            raise PolicyError(
                f"examples must have {self.d_user} user and {self.d_action} action features, "
                f"got {got[0]} and {got[1]}: learn only examples of the policy's own encoder"
            )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"n_learned={value!r}")
    return value
