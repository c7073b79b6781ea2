"""Policies: stochastic maps from context to actions that learn, and say with what odds they chose.

Nothing here knows of Kafka, clocks or global random state.
"""

from streams.core.policies.action_parts import ActionPart, parts_by_action
from streams.core.policies.adaptive_thompson import AdaptiveThompson
from streams.core.policies.base import ActionSet, Examples, Policy, draw, floored
from streams.core.policies.disjoint_policies import DisjointLinearThompson, DisjointLinearUcb
from streams.core.policies.epsilon_greedy import EpsilonGreedy
from streams.core.policies.fatigue import recovering
from streams.core.policies.fixed import Fixed
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.linear_thompson import LinearThompson
from streams.core.policies.linear_ucb import LinearUcb
from streams.core.policies.logistic_thompson import LogisticThompson
from streams.core.policies.parameters import Parameter, ParameterValue
from streams.core.policies.registry import DEFAULT_POLICY, POLICIES, create, validate
from streams.core.policies.reward_scale import RewardScale
from streams.core.policies.river_bandit import RiverBandit
from streams.core.policies.river_regressor import RiverRegressor
from streams.core.policies.softmax import Softmax
from streams.core.policies.squarecb import SquareCB
from streams.core.policies.state import from_bytes, to_bytes
from streams.core.policies.uniform import Uniform

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "ActionPart",
    "ActionSet",
    "AdaptiveThompson",
    "DisjointLinearThompson",
    "DisjointLinearUcb",
    "EpsilonGreedy",
    "Examples",
    "Fixed",
    "LinearThompson",
    "LinearUcb",
    "LogisticThompson",
    "Parameter",
    "ParameterValue",
    "Policy",
    "RewardScale",
    "RiverBandit",
    "RiverRegressor",
    "Softmax",
    "SquareCB",
    "Statistics",
    "Uniform",
    "create",
    "draw",
    "floored",
    "from_bytes",
    "parts_by_action",
    "recovering",
    "to_bytes",
    "validate",
]
