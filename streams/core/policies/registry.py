"""Policies by name, as a campaign's definition asks for them."""

from collections.abc import Mapping

from schemas.errors import PolicyError
from streams.core.policies.base import Policy
from streams.core.policies.fixed import Fixed
from streams.core.policies.linear_thompson import LinearThompson
from streams.core.policies.parameters import ParameterValue, checked, nearest
from streams.core.policies.uniform import Uniform

__all__ = ["POLICIES", "create", "policy_class", "validate"]

POLICIES: Mapping[str, type[Policy]] = {
    policy.name: policy for policy in (LinearThompson, Uniform, Fixed)
}


def policy_class(name: str) -> type[Policy]:
    """Give the policy of that name.

    Raises
    ------
    PolicyError
        If there is none.
    """
    if name not in POLICIES:
        raise PolicyError(f"there is no policy {name!r}: {nearest(name, POLICIES)}")
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
    values: dict[str, object] = dict(checked(name, policy_class(name).PARAMETERS, params))
    return policy_class(name)(d_user, d_action, **values)  # type: ignore[arg-type]


def validate(name: str, params: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Check a policy's parameters before there is a policy, and give them with the defaults.

    Raises
    ------
    PolicyError
        If the name or a parameter cannot be used.
    """
    return create(name, params, d_user=0, d_action=0).parameters()
