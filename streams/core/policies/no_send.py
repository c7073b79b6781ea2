"""Sending nothing as an action that competes with the templates, where a campaign allows it."""

import numpy as np

from schemas.errors import PolicyError
from schemas.ids import NO_SEND
from streams.core.policies.data import ActionSet, BoolArray, FloatArray

__all__ = ["with_no_send", "with_no_send_eligible"]


def with_no_send(actions: ActionSet) -> ActionSet:
    """Add an action that sends nothing, and a feature that tells it from the templates.

    The feature is 0 for templates and 1 for no-send, whose other features are 0: so a shared
    model learns what silence earns with whom, apart from what templates earn. A policy for it has
    one action feature more; its examples have the features of this set.

    Parameters
    ----------
    actions
        Templates, (n_actions, d_action).

    Returns
    -------
    ActionSet
        Templates and no-send last, (n_actions + 1, d_action + 1).

    Raises
    ------
    PolicyError
        If a template has its name.

    >>> with_no_send(ActionSet(ids=("news",), features=np.array([[3.0]]))).features
    array([[3., 0.],
           [0., 1.]])
    """
    if NO_SEND in actions.ids:
        raise PolicyError(f"no template can be called {NO_SEND!r}: rename it")
    features: FloatArray = np.zeros((len(actions) + 1, actions.d_action + 1))
    features[:-1, :-1] = actions.features
    features[-1, -1] = 1.0
    return ActionSet(ids=(*actions.ids, NO_SEND), features=features)


def with_no_send_eligible(eligible: BoolArray) -> BoolArray:
    """Let everyone be sent nothing who may be sent something, (n, n_actions + 1)."""
    return np.hstack([eligible, eligible.any(axis=1, keepdims=True)])
