"""Every eligible action alike: the policy that any other is measured against."""

from typing import ClassVar

import numpy as np

from streams.core.policies.base import ActionSet, BoolArray, FloatArray, Policy
from streams.core.policies.draws import uniform_dist

__all__ = ["Uniform"]


class Uniform(Policy):
    """Choose uniformly among the eligible actions, and learn nothing.

    Examples
    --------
    >>> policy = Uniform(d_user=0, d_action=0, seed=1)
    >>> policy.pull(["news", "offer"], {})
    'offer'
    >>> policy.update("news", {}, 1.0)
    >>> policy.n_learned
    1
    """

    name: ClassVar[str] = "uniform"

    @property
    def tells_apart(self) -> bool:
        """All are alike to it."""
        return True

    def _dist(
        self,
        contexts: FloatArray,  # noqa: ARG002 it looks at no one
        actions: ActionSet,  # noqa: ARG002
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002
        handicap: FloatArray | None = None,  # noqa: ARG002
    ) -> FloatArray:
        return uniform_dist(eligible)
