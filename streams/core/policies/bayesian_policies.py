"""Two ways to explore by how sure a model is: draws from its posterior, or an upper bound."""

import abc
from dataclasses import replace
from typing import ClassVar

import numpy as np

from streams.core.policies.base import ActionSet, BoolArray, FloatArray
from streams.core.policies.beliefs import DRAWS, EXPLORATION, FLOOR_SHARE
from streams.core.policies.draws import floored
from streams.core.policies.exploration import greedy_dist
from streams.core.policies.model_policy import ModelPolicy
from streams.core.policies.parameters import Parameter
from streams.core.policies.reward_model import BayesianModel

__all__ = ["ThompsonPolicy", "UpperBoundPolicy"]


class ThompsonPolicy(ModelPolicy, abc.ABC):
    """Choose each action as often as it is believed to be the best one for this user.

    Probabilities are the shares of posterior draws in which an action wins, mixed with a floor.
    The draws are shared by a chunk, and the draw of an action is from the very probabilities that
    are returned: they are exact propensities, not estimates of them.

    References
    ----------
    .. [1] Agrawal & Goyal 2013, Thompson Sampling for Contextual Bandits with Linear Payoffs.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (DRAWS, FLOOR_SHARE, EXPLORATION)

    draws: int
    floor: float
    exploration: float
    reward_model: BayesianModel

    @abc.abstractmethod
    def _make_model(self) -> BayesianModel:
        """Make the model, which has learned nothing yet."""

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        shares = self.reward_model.shares(
            contexts,
            actions,
            eligible,
            rng,
            draws=self.draws,
            widen=self.exploration,
            handicap=handicap,
        )
        return floored(shares, eligible, self.floor)


class UpperBoundPolicy(ModelPolicy, abc.ABC):
    """Choose the action with the largest ``expected + exploration * spread``, mixed with a floor.

    All that chance decides is the floor, and a tie: without a floor, propensities are 1 and the
    log cannot value another policy.

    References
    ----------
    .. [1] Li, Chu, Langford & Schapire 2010, A Contextual-Bandit Approach to Personalized News
       Article Recommendation, eq. 5; ``exploration`` is its alpha, over the learned noise.
    .. [2] Abbasi-Yadkori, Pál & Szepesvári 2011, Improved Algorithms for Linear Stochastic
       Bandits.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        FLOOR_SHARE,
        replace(
            EXPLORATION,
            default=1.0,
            doc="standard deviations that are added to an expected reward; 0 is greedy",
        ),
    )

    floor: float
    exploration: float
    reward_model: BayesianModel

    @abc.abstractmethod
    def _make_model(self) -> BayesianModel:
        """Make the model, which has learned nothing yet."""

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002 nothing is simulated
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        scores = self.reward_model.expected(contexts, actions)
        scores = scores + self.exploration * self.reward_model.spread(contexts, actions)
        if handicap is not None:
            scores = scores - handicap
        return floored(greedy_dist(scores, eligible), eligible, self.floor)
