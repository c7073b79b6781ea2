"""Two ways to explore by how sure a model is: draws from its posterior, or an upper bound."""

import abc
import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.base import ActionSet, BoolArray, FloatArray
from streams.core.policies.beliefs import DRAWS, EXPLORATION, EXPLORE_LAST_WAVE, FLOOR_SHARE
from streams.core.policies.best_shares import Plan, scaled
from streams.core.policies.draws import floored
from streams.core.policies.exploration import greedy_dist
from streams.core.policies.model_policy import ModelPolicy
from streams.core.policies.parameters import Parameter
from streams.core.policies.reward_model import BayesianModel

__all__ = ["ThompsonPolicy", "UpperBoundPolicy"]

MOST_KEPT = 16 << 20  # bytes of draws


@dataclass(frozen=True, slots=True)
class Kept:
    """Draws for some actions: of each model that is mixed its weight, its plans, and itself."""

    actions: tuple[str, ...]
    drawn: list[tuple[float, list[Plan], BayesianModel]]


class ThompsonPolicy(ModelPolicy, abc.ABC):
    """Choose each action as often as it is believed to be the best one for this user.

    Probabilities are the shares of posterior draws in which an action wins, mixed with a floor.
    The draws are shared by a chunk, and the draw of an action is from the very probabilities that
    are returned: they are exact propensities, not estimates of them.

    A campaign's last wave is decided by what is expected to be best, with the same floor, once
    anything was learned: with no wave after it nothing is won by exploring.

    References
    ----------
    .. [1] Agrawal & Goyal 2013, Thompson Sampling for Contextual Bandits with Linear Payoffs.
    """

    SHARED: ClassVar[bool] = True  # what is worked out when asked for is the same each time
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        DRAWS,
        FLOOR_SHARE,
        EXPLORATION,
        EXPLORE_LAST_WAVE,
    )

    draws: int
    floor: float
    exploration: float
    explore_last_wave: bool
    reward_model: BayesianModel
    _kept: Kept | None = None
    _explores: bool = True

    @abc.abstractmethod
    def _make_model(self) -> BayesianModel:
        """Make the model, which has learned nothing yet."""

    def with_kept_draws(self, actions: ActionSet, rng: np.random.Generator) -> "ThompsonPolicy":
        """Give a policy that decides as this one does now, from draws that are made once.

        Many small chunks are decided as one large chunk would be. Where the draws would take more
        than 16 MiB each chunk still has its own.
        """
        if not self._explores:
            return self
        kept, left = Kept(actions.ids, []), MOST_KEPT
        each = self.draws * len(actions) * (1 + self.d_user) * np.dtype(np.float32).itemsize
        for weight, plans, model in self._drawn(actions, rng):
            left -= each
            if left < 0:
                return self
            kept.drawn.append((weight, list(plans), model))
        frozen = copy.copy(self)
        frozen._kept = kept  # noqa: SLF001 - its own
        return frozen

    def for_last_wave(self) -> "ThompsonPolicy":
        """Give a policy that takes what is expected to be best, where anything was learned."""
        if self.explore_last_wave or self.reward_model.is_new:
            return self
        last = copy.copy(self)
        last._explores = False  # noqa: SLF001 - its own
        return last

    def _drawn(
        self, actions: ActionSet, rng: np.random.Generator
    ) -> Iterator[tuple[float, Iterable[Plan], BayesianModel]]:
        made = self.reward_model.drawn(actions, rng, draws=self.draws, widen=self.exploration)
        return ((weight, scaled(plans), model) for weight, plans, model in made)

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        if self._kept is not None and self._kept.actions != actions.ids:
            raise PolicyError(
                f"draws were kept for {list(self._kept.actions)}, not for {list(actions.ids)}: "
                "decide for the actions that they were kept for"
            )
        if not self._explores:
            best = _best(self.reward_model.expected(contexts, actions), eligible, handicap)
            return floored(best, eligible, self.floor_now)
        drawn = self._drawn(actions, rng) if self._kept is None else self._kept.drawn
        shares = self.reward_model.shares(contexts, actions, eligible, drawn, handicap)
        return floored(shares, eligible, self.floor_now)

    @property
    def floor_now(self) -> float:
        """The share of decisions that is uniform, after what was learned so far."""
        return self.floor


class UpperBoundPolicy(ModelPolicy, abc.ABC):
    """Choose the action with the largest ``expected + exploration * spread``, mixed with a floor.

    All that chance decides is the floor, and a tie: without a floor, propensities are 1 and the
    log cannot value another policy. In a campaign's last wave the spread adds nothing, as for
    :class:`ThompsonPolicy`.

    References
    ----------
    .. [1] Li, Chu, Langford & Schapire 2010, A Contextual-Bandit Approach to Personalized News
       Article Recommendation, eq. 5; ``exploration`` is its alpha, over the learned noise.
    .. [2] Abbasi-Yadkori, Pál & Szepesvári 2011, Improved Algorithms for Linear Stochastic
       Bandits.
    """

    SHARED: ClassVar[bool] = True
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        FLOOR_SHARE,
        replace(
            EXPLORATION,
            default=1.0,
            doc="standard deviations that are added to an expected reward; 0 is greedy",
        ),
        EXPLORE_LAST_WAVE,
    )

    floor: float
    exploration: float
    explore_last_wave: bool
    reward_model: BayesianModel

    @abc.abstractmethod
    def _make_model(self) -> BayesianModel:
        """Make the model, which has learned nothing yet."""

    def for_last_wave(self) -> "UpperBoundPolicy":
        """Give a policy that takes what is expected to be best, where anything was learned."""
        if self.explore_last_wave or self.reward_model.is_new:
            return self
        last = copy.copy(self)
        last.exploration = 0.0
        return last

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002 nothing is simulated
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        scores = self.reward_model.expected(contexts, actions)
        if self.exploration:
            scores = scores + self.exploration * self.reward_model.spread(contexts, actions)
        return floored(_best(scores, eligible, handicap), eligible, self.floor)


def _best(scores: FloatArray, eligible: BoolArray, handicap: FloatArray | None) -> FloatArray:
    """Give each user's best eligible action everything, less what is taken off its score."""
    return greedy_dist(scores if handicap is None else scores - handicap, eligible)
