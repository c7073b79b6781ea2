"""What policies that explore in closed form have in common: expected rewards, and a choice."""

import abc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.base import ActionSet, BoolArray, FloatArray
from streams.core.policies.beliefs import BELIEFS, Beliefs
from streams.core.policies.disjoint_linear import DisjointLinear
from streams.core.policies.logistic import SharedLogistic
from streams.core.policies.model_policy import ModelPolicy
from streams.core.policies.parameters import Parameter
from streams.core.policies.reward_model import RewardModel
from streams.core.policies.shared_linear import SharedLinear

__all__ = ["MODEL", "MODELS", "ClosedFormPolicy"]

MODELS: Mapping[str, Callable[[int, int, Beliefs], RewardModel]] = MappingProxyType(
    {
        "linear": SharedLinear,
        "disjoint-linear": lambda d_user, _d_action, beliefs: DisjointLinear(d_user, beliefs),
        "logistic": SharedLogistic,
    }
)
MODEL = Parameter(
    name="model",
    kind="str",
    default="linear",
    choices=tuple(MODELS),
    doc="what expects rewards: linear, disjoint-linear (one an action) or logistic",
)


class ClosedFormPolicy(ModelPolicy, abc.ABC):
    """Explore by a formula over the expected rewards of any reward model."""

    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (MODEL, *BELIEFS)

    model: str

    def _make_model(self) -> RewardModel:
        beliefs = self.beliefs
        if self.model == "logistic" and not 0.0 < beliefs.base_reward < 1.0:
            raise PolicyError(
                f"policy {self.name!r}, parameter 'base_reward' must lie between 0 and 1 for "
                f"model 'logistic', got {beliefs.base_reward}: give a probability"
            )
        return MODELS[self.model](self.d_user, self.d_action, beliefs)

    @abc.abstractmethod
    def _choice(self, scores: FloatArray, eligible: BoolArray) -> FloatArray:
        """Turn scores into probabilities, both (n, n_actions)."""

    def _dist(
        self,
        contexts: FloatArray,
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002 nothing is simulated
        handicap: FloatArray | None = None,
    ) -> FloatArray:
        scores = self.reward_model.expected(contexts, actions)
        return self._choice(scores if handicap is None else scores - handicap, eligible)
