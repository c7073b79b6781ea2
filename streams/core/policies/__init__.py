"""Policies: stochastic maps from context to actions that learn, and say with what odds they chose.

Nothing here knows of Kafka, clocks or global random state.
"""

from streams.core.policies.base import ActionSet, Examples, Policy, draw, floored
from streams.core.policies.fixed import Fixed
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.linear_thompson import LinearThompson
from streams.core.policies.parameters import Parameter, ParameterValue
from streams.core.policies.registry import POLICIES, create, validate
from streams.core.policies.state import from_bytes, to_bytes
from streams.core.policies.uniform import Uniform

__all__ = [
    "POLICIES",
    "ActionSet",
    "Examples",
    "Fixed",
    "LinearThompson",
    "Parameter",
    "ParameterValue",
    "Policy",
    "Statistics",
    "Uniform",
    "create",
    "draw",
    "floored",
    "from_bytes",
    "to_bytes",
    "validate",
]
