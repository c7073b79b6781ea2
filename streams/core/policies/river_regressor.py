"""Any River regressor, and a choice by what it expects."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from river import base

from streams.core.policies.base import ActionSet, BoolArray, FloatArray
from streams.core.policies.beliefs import BASE_REWARD, FLOOR_SHARE
from streams.core.policies.draws import floored
from streams.core.policies.epsilon_greedy import EPSILON
from streams.core.policies.exploration import epsilon_greedy_dist, inverse_gap_dist, softmax_dist
from streams.core.policies.model_policy import ModelPolicy
from streams.core.policies.parameters import Parameter
from streams.core.policies.river_catalogue import check_regressor, make_regressor
from streams.core.policies.river_model import VIEWS, RiverModel
from streams.core.policies.softmax import TEMPERATURE
from streams.core.policies.squarecb import GAMMA_EXPONENT, GAMMA_SCALE, gamma_of

__all__ = ["RiverRegressor"]


class RiverRegressor(ModelPolicy):
    """Explore in closed form over :class:`~streams.core.policies.river_model.RiverModel`.

    Examples are learned one after the other in the order of the log: in another order, a
    regressor is another. Corrections are not exact. It cannot be warm-started. Of River's Bayesian
    regression only the mean is used: its ``with_dist`` adds the noise to the spread. Which
    regressors there are, what they can be made of, and which are left out and why:
    :mod:`~streams.core.policies.river_parts`.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Examples
    --------
    >>> policy = RiverRegressor(
    ...     d_user=0, d_action=0, regressor="tree.HoeffdingTreeRegressor", seed=1
    ... )
    >>> for _ in range(20):
    ...     policy.update("offer", {}, 1.0)
    >>> policy.pull(["news", "offer"], {})
    'offer'
    """

    FINITE: ClassVar[bool] = False  # River keeps infinities, as where nothing was seen yet
    name: ClassVar[str] = "river-regressor"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="regressor",
            kind="str",
            default="linear_model.BayesianLinearRegression",
            doc="a regressor of River's for one target, as tree.HoeffdingTreeRegressor",
        ),
        Parameter(
            name="options",
            kind="list",
            default=[],
            doc="its parameters as name=value: numbers, words, or parts as optim.Adam(lr=0.01)",
        ),
        Parameter(
            name="view",
            kind="str",
            default="crossed",
            choices=VIEWS,
            doc="user: one for each action; both: one over user and action; crossed: and products",
        ),
        Parameter(
            name="standardise",
            kind="bool",
            default=True,
            doc="centre and scale features and rewards by what was seen so far",
        ),
        Parameter(
            name="corrections",
            kind="bool",
            default=True,
            doc="learn a corrected reward as one more example, rather than leave it out",
        ),
        Parameter(
            name="explore",
            kind="str",
            default="epsilon-greedy",
            choices=("epsilon-greedy", "softmax", "squarecb"),
            doc="how probabilities are made of expected rewards",
        ),
        EPSILON,
        TEMPERATURE,
        GAMMA_SCALE,
        GAMMA_EXPONENT,
        replace(FLOOR_SHARE, doc=f"{FLOOR_SHARE.doc}, for softmax and squarecb"),
        BASE_REWARD,
        Parameter(
            name="model_seed",
            kind="int",
            default=0,
            low=0,
            high=2**31 - 1,
            doc="seed of regressors that draw",
        ),
    )

    regressor: str
    options: list[str]
    view: str
    standardise: bool
    corrections: bool
    explore: str
    epsilon: float
    temperature: float
    gamma_scale: float
    gamma_exponent: float
    floor: float
    base_reward: float
    model_seed: int

    def _make_model(self) -> RiverModel:
        def make() -> base.Regressor:
            return make_regressor(
                self.regressor, self.options, standardise=self.standardise, seed=self.model_seed
            )

        check_regressor(
            self.regressor, self.options, standardise=self.standardise, seed=self.model_seed
        )
        return RiverModel(
            self.d_user,
            self.d_action,
            make=make,
            view=self.view,
            base_reward=self.base_reward,
            corrections=self.corrections,
        )

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002 nothing is simulated
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        scores = self.reward_model.expected(contexts, actions)
        if handicap is not None:
            scores = scores - handicap
        match self.explore:
            case "epsilon-greedy":
                return epsilon_greedy_dist(scores, eligible, self.epsilon)
            case "softmax":
                dist = softmax_dist(scores, eligible, self.temperature)
            case _:
                gamma = gamma_of(self.gamma_scale, self.gamma_exponent, self.n_learned)
                dist = inverse_gap_dist(scores, eligible, gamma)
        return floored(dist, eligible, self.floor)
