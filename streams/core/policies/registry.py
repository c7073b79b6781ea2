"""Policies by name, as a campaign's definition asks for them."""

from collections.abc import Mapping
from typing import Any

from schemas.errors import PolicyError
from streams.core.policies.adaptive_thompson import AdaptiveThompson
from streams.core.policies.base import Policy
from streams.core.policies.disjoint_policies import DisjointLinearThompson, DisjointLinearUcb
from streams.core.policies.epsilon_greedy import EpsilonGreedy
from streams.core.policies.fixed import Fixed
from streams.core.policies.linear_thompson import LinearThompson
from streams.core.policies.linear_ucb import LinearUcb
from streams.core.policies.logistic_thompson import LogisticThompson
from streams.core.policies.parameters import ParameterValue, checked, nearest
from streams.core.policies.river_bandit import RiverBandit
from streams.core.policies.river_regressor import RiverRegressor
from streams.core.policies.softmax import Softmax
from streams.core.policies.squarecb import SquareCB
from streams.core.policies.uniform import Uniform

__all__ = ["DEFAULT_POLICY", "POLICIES", "create", "policy_class", "validate"]

POLICIES: Mapping[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        LinearThompson,
        LinearUcb,
        DisjointLinearThompson,
        DisjointLinearUcb,
        LogisticThompson,
        AdaptiveThompson,
        EpsilonGreedy,
        Softmax,
        SquareCB,
        RiverRegressor,
        RiverBandit,
        Uniform,
        Fixed,
    )
}


DEFAULT_POLICY = AdaptiveThompson.name  # of a campaign that says nothing of its policy


def policy_class(name: str) -> type[Policy]:
    """Give the policy of that name.

    Raises
    ------
    PolicyError
        If there is none.
    """
    if not isinstance(name, str) or name not in POLICIES:  # a snapshot may say anything
        raise PolicyError(f"there is no policy {name!r}: {nearest(str(name), POLICIES)}")
    return POLICIES[name]


def create(name: str, params: Mapping[str, ParameterValue], d_user: int, d_action: int) -> Policy:
    """Make a policy that has learned nothing yet.

    Parameters
    ----------
    name
        One of :data:`POLICIES`.
    params
        Its parameters; those left out have their defaults.
    d_user, d_action
        Features of a context and of an action.

    Raises
    ------
    PolicyError
        If the name, a parameter or a dimension cannot be used.

    >>> create("uniform", {}, d_user=3, d_action=2).name
    'uniform'
    """
    policy = policy_class(name)
    values: dict[str, Any] = dict(checked(name, policy.PARAMETERS, params))
    return policy(d_user, d_action, **values)


def validate(name: str, params: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Check a policy's parameters before there is a policy, and give them with the defaults.

    Raises
    ------
    PolicyError
        If the name or a parameter cannot be used.
    """
    return create(name, params, d_user=0, d_action=0).parameters()
