"""Models that have a weight vector for each action, normal about its mean."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from streams.core.policies.data import ActionSet, Examples, FloatArray, IntArray
from streams.core.policies.kept_sums import KeptSums, bounded_actions
from streams.core.policies.reward_model import BayesianModel
from streams.core.policies.shared_linear import with_constant
from streams.core.policies.sum_keys import action_keys, keys_of

__all__ = ["PlanModel"]


class PlanModel(BayesianModel):
    """The reward of action a is ``(1, x) w_a`` plus noise of variance s²."""

    p: int  # weights of an action

    kept: KeptSums
    applies: bool = True  # to the rewards that came
    RESCALES: ClassVar[bool] = True
    COUNTS: ClassVar[bool] = False  # whether a reward's noise grows with its mean

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned yet."""
        return not len(self.kept)

    @property
    def tells_apart(self) -> bool:
        """Each action has weights of its own."""
        return True

    @property
    @abc.abstractmethod
    def noise_variance(self) -> float:
        """The noise that is believed in, s²."""

    @abc.abstractmethod
    def plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights."""

    @abc.abstractmethod
    def drawn_plans(
        self, actions: ActionSet, rng: np.random.Generator, draws: int, widen: float
    ) -> Iterator[FloatArray]:
        """Draw weights, in parts (n_actions, p, m), from one random stream for each action.

        Parameters
        ----------
        widen
            A factor on the spread about the mean.
        """

    def learn(self, examples: Examples) -> None:
        """Learn examples, corrections exactly.

        Raises
        ------
        PolicyError
            If actions times features are more than 8,192.
        """
        self.learn_rows(examples, keys_of(examples))

    @abc.abstractmethod
    def learn_rows(self, examples: Examples, rows: Mapping[str, IntArray]) -> None:
        """Learn examples whose rows were sorted by action."""

    @abc.abstractmethod
    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""

    @abc.abstractmethod
    def fit_scales(self) -> None:
        """Adapt what is believed of the effects' sizes, where enough is new to do so."""

    def foreseen(
        self, examples: Examples, rows: Mapping[str, IntArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Give errors of the expected rewards, (n,), and variances over s² of the rewards, (n,)."""
        error, variance = np.empty(len(examples)), np.empty(len(examples))
        everyone = with_constant(examples.contexts)
        for key, mine in rows.items():
            users = everyone[mine]
            mean, cover = self.plan(key, examples.action_features[mine[0]])
            error[mine] = examples.rewards[mine] - users @ mean
            variance[mine] = 1.0 + np.maximum(((users @ cover) * users).sum(axis=1), 0.0)
        return error, variance

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the expected reward of each action, (n, n_actions)."""
        plans = [
            self.plan(key, a)[0]
            for key, a in zip(action_keys(actions), actions.features, strict=True)
        ]
        expected: FloatArray = with_constant(contexts) @ np.stack(plans, axis=1)
        return expected

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the standard deviation of each expected reward, (n, n_actions)."""
        users, columns = with_constant(contexts), []
        for key, a in zip(action_keys(actions), actions.features, strict=True):
            cover = self.plan(key, a)[1]
            columns.append(np.maximum(((users @ cover) * users).sum(axis=1), 0.0))
        spread: FloatArray = np.sqrt(self.noise_variance * np.stack(columns, axis=1))
        return spread

    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], BayesianModel]]:
        """Draw each action's weights, every action from its own random stream."""
        bounded_actions(len(actions), self.p)
        plans = self.drawn_plans(actions, rng, draws, widen)
        yield 1.0, (plan - plan.mean(axis=0) for plan in plans), self
