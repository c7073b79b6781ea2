"""The reward model: what a policy believes that each action earns with each user."""

import abc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.best_shares import Plan, shares_of_plans
from streams.core.policies.data import ActionSet, BoolArray, Examples, FloatArray
from streams.core.policies.exploration import greedy_dist

__all__ = ["LARGEST_DIMENSION", "BayesianModel", "RewardModel", "shared_dimension"]

LARGEST_DIMENSION = 512


def shared_dimension(d_user: int, d_action: int) -> int:
    """Give the number of crossed features, (1 + d_user)(1 + d_action).

    Raises
    ------
    PolicyError
        If it is above :data:`LARGEST_DIMENSION`.
    """
    d = (1 + d_user) * (1 + d_action)
    if d > LARGEST_DIMENSION:
        raise PolicyError(
            f"(1 + d_user)(1 + d_action) must be at most {LARGEST_DIMENSION}, "
            f"got (1 + {d_user})(1 + {d_action}) = {d}: project the user's features first"
        )
    return d


class RewardModel(abc.ABC):
    """Expected rewards that are learned from examples."""

    CHUNKS_MATTER: ClassVar[bool] = False
    RESCALES: ClassVar[bool] = False  # it can go on in another unit of reward

    @abc.abstractmethod
    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions), for x, (n, d_user)."""

    @abc.abstractmethod
    def learn(self, examples: Examples) -> None:
        """Learn at least one example; corrections take the place of what they correct."""

    @abc.abstractmethod
    def learned(self) -> dict[str, object]:
        """Give what was learned, in numbers, words and arrays."""

    @abc.abstractmethod
    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up what :meth:`learned` gave."""

    @property
    def tells_apart(self) -> bool:
        """Whether it keeps something for each action alone, whatever the features."""
        return False

    @property
    def half_lives_ms(self) -> tuple[float, ...]:
        """Half-lives that :meth:`learn_sums` needs sums of; empty: it learns examples alone."""
        return ()

    def learn_sums(self, parts: Sequence[ActionPart]) -> None:  # noqa: ARG002 not by default
        """Learn examples that were summed up elsewhere; parts may come in any order.

        Raises
        ------
        PolicyError
            If this kind does not add up.
        """
        raise PolicyError(
            f"a model of kind {type(self).__name__} cannot learn from sums: give it the examples"
        )

    def warm_start(self, source: "RewardModel", discount: float) -> None:
        """Add what another model of the same kind has learned, each example discounted.

        Raises
        ------
        PolicyError
            If the other is of another kind, or this kind does not add up.
        """
        if type(source) is not type(self):
            raise PolicyError(
                f"a warm start needs a model of kind {type(self).__name__}, "
                f"got {type(source).__name__}: start from a campaign with the same policy"
            )
        self._add(source, discount)

    def _add(self, source: Any, discount: float) -> None:  # noqa: ARG002 not by default
        raise PolicyError(
            f"a model of kind {type(self).__name__} cannot be warm-started: its parts do not add up"
        )

    def rescale(self, factor: float) -> None:  # noqa: ARG002 - not by default
        """Go on as if every reward so far had been multiplied by a factor.

        Raises
        ------
        PolicyError
            If this kind does not add up.
        """
        raise PolicyError(
            f"a model of kind {type(self).__name__} cannot be rescaled: its parts do not add up"
        )

    def retire(self, actions: Collection[str]) -> None:  # noqa: B027 most keep nothing for one
        """Drop what is kept for these actions alone."""


class BayesianModel(RewardModel):
    """A reward model that knows how sure it is."""

    @property
    @abc.abstractmethod
    def is_new(self) -> bool:
        """Whether nothing was learned, of this campaign or of one that it began with."""

    @abc.abstractmethod
    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the standard deviation of each expected reward, (n, n_actions)."""

    @abc.abstractmethod
    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], "BayesianModel"]]:
        """Draw each action's weights.

        Parameters
        ----------
        actions
            a, (n_actions, d_action).
        rng
            Where chance comes from.
        draws
            How many.
        widen
            A factor on the spread of the weights.

        Yields
        ------
        tuple[float, Iterable[FloatArray], BayesianModel]
            Of each model that is mixed, how much is made of it, its draws in parts
            (n_actions, 1 + d_user, m), less what all actions share, and itself. Nothing: all
            actions are as good.
        """

    def on_scores(
        self,
        contexts: FloatArray,  # noqa: ARG002 - for models whose scores are no rewards
        actions: ActionSet,  # noqa: ARG002
        handicap: FloatArray,
    ) -> FloatArray:
        """Carry over a handicap in units of reward to the scores that weights give."""
        return handicap

    def shares(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        drawn: Iterable[tuple[float, Iterable[Plan], "BayesianModel"]],
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        """Estimate how often each action is the best, over draws that all users share.

        Parameters
        ----------
        contexts
            x, (n, d_user).
        actions
            a, (n_actions, d_action).
        eligible
            (n, n_actions).
        drawn
            What :meth:`drawn` gave, scaled.
        handicap
            What is taken off the scores, in units of reward, (n, n_actions).

        Returns
        -------
        FloatArray
            (n, n_actions); a row with nothing eligible is all 0.
        """
        mixed = None
        for weight, plans, model in drawn:
            less = None if handicap is None else model.on_scores(contexts, actions, handicap)
            part = weight * shares_of_plans(contexts, eligible, plans, less)
            mixed = part if mixed is None else mixed + part
        if mixed is None:
            return greedy_dist(
                np.zeros(eligible.shape) if handicap is None else -handicap, eligible
            )
        shares: FloatArray = mixed / np.maximum(mixed.sum(axis=1, keepdims=True), 1e-300)
        return shares
