"""The policy: a River contextual bandit that also decides for chunks and says with what odds."""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import PolicyError
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.data import (
    ActionSet,
    BoolArray,
    Examples,
    FloatArray,
    IntArray,
    checked_contexts,
    checked_handicap,
)
from streams.core.policies.draws import draw, floored
from streams.core.policies.one_at_a_time import OneAtATime
from streams.core.policies.parameters import Parameter, ParameterValue, checked

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

WIDEST = 1_000_000  # columns that a snapshot is believed to be of
# what a state that does not hang together makes Python raise
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,  # that of endless recursion among them
    TypeError,
    ValueError,
)


class Policy(OneAtATime, abc.ABC):
    """A stochastic map from context to actions.

    A worker calls :meth:`action_dist`, :func:`draw` and :meth:`learn_many` on chunks; River's
    ``pull`` and ``update`` serve one context at a time.

    Actions come and go without a word to the policy: its :class:`ActionSet` may have grown or
    shrunk since the last. One that is paused is not eligible; what was learned of it stays.

    Parameters
    ----------
    d_user
        Features of a context.
    d_action
        Features of an action.
    actions
        The actions and their features; may be left out where ``d_action`` is 0.
    columns, seed
        Of ``pull`` and ``update``: see :class:`OneAtATime`.
    settings
        Values of :attr:`PARAMETERS`, each an attribute; those left out have their defaults.

    Attributes
    ----------
    n_learned
        Examples learned, corrections not counted.

    Raises
    ------
    PolicyError
        If a dimension or a parameter is out of bounds.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()
    HAS_SCORES: ClassVar[bool] = False  # in units of reward, which a handicap can be taken from
    SHARED: ClassVar[bool] = False  # several threads may decide with one at a time
    FINITE: ClassVar[bool] = True  # no state of it holds an infinity, or nan

    def __init__(
        self,
        d_user: int,
        d_action: int,
        *,
        actions: ActionSet | None = None,
        columns: Sequence[str] = (),
        seed: int = 0,
        **settings: ParameterValue,
    ) -> None:
        super().__init__(d_user, d_action, actions=actions, columns=columns, seed=seed)
        self.n_learned = 0
        for name, value in checked(self.name, self.PARAMETERS, settings).items():
            setattr(self, name, value)
        self._prepare()

    def parameters(self) -> dict[str, ParameterValue]:
        """Give every parameter with the value that it has.

        Raises
        ------
        PolicyError
            If one was set to a value that it cannot have.
        """
        given = {parameter.name: getattr(self, parameter.name) for parameter in self.PARAMETERS}
        return checked(self.name, self.PARAMETERS, given)

    @property
    def chunks_matter(self) -> bool:
        """Whether the same examples in other chunks leave another state."""
        return False

    @property
    def settings(self) -> dict[str, ParameterValue]:
        """The parameters under the name that River's ``clone`` looks for."""
        return self.parameters()

    # ---- chunks

    def action_dist(
        self,
        contexts: NDArray[Any],
        actions: ActionSet,
        eligible: NDArray[Any],
        rng: np.random.Generator,
        *,
        handicap: NDArray[Any] | None = None,
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
        handicap
            What is taken off each action's score before the choice, in units of reward,
            (n, n_actions); see :mod:`streams.core.policies.fatigue`.

        Returns
        -------
        FloatArray
            p, (n, n_actions): a row sums to 1 over its eligible actions, and is exactly 0
            elsewhere; a row with nothing eligible is all 0.

        Raises
        ------
        PolicyError
            If a shape is wrong, a feature is not finite, or the policy has no scores to take a
            handicap from.
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
        if handicap is not None and not self.HAS_SCORES:
            raise PolicyError(
                f"policy {self.name!r} has no scores to take a handicap from: "
                "leave fatigue out, or choose a policy with a reward model"
            )
        less = None if handicap is None else checked_handicap(handicap, may.shape)
        if not len(x):
            return np.zeros((0, len(actions)))
        return self._dist(x, actions, may, rng, less)

    def with_kept_draws(self, actions: ActionSet, rng: np.random.Generator) -> "Policy":  # noqa: ARG002 - for those that simulate
        """Give a policy that decides for these actions as this one does now, many times over.

        What is estimated by simulation is simulated once, with this random stream. What this
        policy learns later, the other need not follow.
        """
        return self

    def for_last_wave(self) -> "Policy":
        """Give the policy that decides a campaign's last wave as this one would.

        What a campaign's last wave teaches comes too late for it: who explores only to learn need
        not do so there.
        """
        return self

    def learn_many(self, examples: Examples) -> None:
        """Learn a chunk; the same as learning its examples one by one.

        A policy for which that does not hold says so (:attr:`chunks_matter`).

        Raises
        ------
        PolicyError
            If the examples' dimensions are not the policy's.
        """
        self._check(examples)
        if len(examples):
            self._learn(examples)

    @property
    def half_lives_ms(self) -> tuple[float, ...]:
        """Half-lives, in milliseconds, that :meth:`learn_sums` needs sums of (0: none forgotten).

        Empty: the policy cannot be learned in parts.
        """
        return ()

    @property
    def same_in_parts(self) -> bool:
        """Whether sums leave the same policy as their examples do, but for rounding."""
        return True

    def learn_sums(self, parts: Sequence[ActionPart]) -> None:
        """Learn examples that were summed up, here or elsewhere.

        The same as learning the examples themselves, but for rounding, in whatever order the
        parts come.

        Parameters
        ----------
        parts
            Of each action at most one a half-life and source.

        Raises
        ------
        PolicyError
            If the policy has no model that adds up, or the sums are not of its dimensions or
            half-lives.
        """
        if not self.half_lives_ms:
            raise PolicyError(
                f"policy {self.name!r} cannot learn from sums: give it the examples one by one"
            )
        for part in parts:
            got = (len(part.sums.moment) - 1, len(part.features))
            if got != (self.d_user, self.d_action) or part.half_life_ms not in self.half_lives_ms:
                raise PolicyError(
                    f"sums must be of {self.d_user} user and {self.d_action} action features and "
                    f"half-lives {self.half_lives_ms} ms, got {got[0]} and {got[1]} and "
                    f"{part.half_life_ms}: add only what the same policy and encoder made"
                )
        self._learn_sums(parts)
        first = self.half_lives_ms[0]
        self.n_learned += sum(part.sums.n for part in parts if part.half_life_ms == first)

    def warm_start(self, source: "Policy", discount: float) -> None:
        """Take over what another campaign's policy has learned, as if it were seen here.

        Parameters
        ----------
        source
            A policy of the same kind, over the same columns of contexts and action features in
            the same order. That they mean the same is for the caller to know.
        discount
            What one of its examples counts for, in [0, 1].

        Raises
        ------
        PolicyError
            If the discount is no share, or the source's model is another.
        """
        if not 0.0 <= discount <= 1.0:
            raise PolicyError(
                f"discount must lie in [0, 1], got {discount}: "
                "say what an example of the other campaign counts for"
            )
        theirs = (source.d_user, source.d_action, source.columns or self.columns)
        if theirs != (self.d_user, self.d_action, self.columns or theirs[2]):
            raise PolicyError(
                f"a warm start needs the same columns, got {source.d_user} user and "
                f"{source.d_action} action features {source.columns} for {self.d_user} and "
                f"{self.d_action} {self.columns}: start from a campaign with the same context"
            )
        if discount:
            self._warm_start(source, discount)

    @property
    def tells_apart(self) -> bool:
        """Whether each action is learned for itself, so that it needs no feature of its own."""
        return False

    @property
    def can_rescale(self) -> bool:
        """Whether :meth:`rescale` is there for it."""
        return False

    def rescale(self, factor: float) -> None:  # noqa: ARG002 - no model here
        """Go on as if every reward so far had been multiplied by a factor.

        Raises
        ------
        PolicyError
            If the policy has no model that adds up.
        """
        raise PolicyError(f"policy {self.name!r} cannot be rescaled: it has no model that adds up")

    def retire(self, actions: Collection[str]) -> None:
        """Drop what is kept for actions alone that will not come back; shared weights stay."""

    # ---- state

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
            values: dict[str, Any] = dict(checked(cls.name, cls.PARAMETERS, state["parameters"]))
            d_user, d_action = (
                _whole(name, state[name], WIDEST) for name in ("d_user", "d_action")
            )
            policy = cls(d_user, d_action, **values)
            policy.n_learned = _whole("n_learned", state["n_learned"])
            if cls.FINITE:
                _hold_finite("learned", state["learned"])
            policy._restore(state["learned"])
        except FAILURES as error:
            raise PolicyError(
                f"a state of policy {cls.name!r} lacks or garbles {error}: take another snapshot"
            ) from error
        return policy

    # ---- what a policy defines

    @abc.abstractmethod
    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        """Give :meth:`action_dist` for inputs that were checked; there is at least one row."""

    def _prepare(self) -> None:
        """Set up what depends on the parameters, which are attributes by now."""

    def _learn(self, examples: Examples) -> None:
        """Learn examples that were checked; a policy without a model only counts them."""
        self.n_learned += int(examples.is_new.sum())

    def _learn_sums(self, parts: Sequence[ActionPart]) -> None:
        """Learn sums that were checked; called only where :attr:`half_lives_ms` has any."""

    def _warm_start(self, source: "Policy", discount: float) -> None:  # noqa: ARG002 no model here
        raise PolicyError(
            f"policy {self.name!r} cannot be warm-started: it has no model that adds up"
        )

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


def _whole(field: str, value: object, most: float = np.inf) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise PolicyError(
            f"{field} must be a whole number in [0, {most:g}], got {value!r}: take another snapshot"
        )
    return value


def _hold_finite(field: str, value: object) -> None:
    """Refuse a state in which any number is infinite or nan, and say where."""
    match value:
        case dict():
            for name, item in value.items():
                _hold_finite(f"{field}.{name}", item)
        case list() | tuple():
            for index, item in enumerate(value):
                _hold_finite(f"{field}[{index}]", item)
        case float() | np.ndarray() if not np.isfinite(value).all():
            worst = np.ravel(value)[~np.isfinite(np.ravel(value))][0]
            raise PolicyError(f"{field} must be finite, got {worst}: take another snapshot")
