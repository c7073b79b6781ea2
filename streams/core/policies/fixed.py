"""A fixed rule: today's traditional method, one action for everyone who may get it."""

from typing import ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.base import ActionSet, BoolArray, FloatArray, Policy
from streams.core.policies.draws import uniform_dist
from streams.core.policies.parameters import Parameter, nearest

__all__ = ["Fixed"]


class Fixed(Policy):
    """Choose the first eligible action of a declared order; where none is, any eligible one.

    Parameters
    ----------
    d_user, d_action
        As for every policy; neither matters here.
    action
        The one action to take. Either this or ``order`` is given.
    order
        Action ids, the most wanted first.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.

    Raises
    ------
    PolicyError
        If both or neither of ``action`` and ``order`` is given, or an id is none of the
        campaign's.

    Examples
    --------
    >>> both = ActionSet(ids=("news", "offer"), features=np.zeros((2, 0)))
    >>> policy = Fixed(d_user=0, d_action=0, order=["offer", "news"], actions=both)
    >>> policy.pull(["news", "offer"], {}), policy.pull(["news"], {})
    ('offer', 'news')
    """

    name: ClassVar[str] = "fixed"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(name="action", kind="str", default="", doc="the one action to take"),
        Parameter(name="order", kind="list", default=[], doc="action ids, the most wanted first"),
    )

    action: str
    order: list[str]

    def _prepare(self) -> None:
        if bool(self.action) == bool(self.order):
            raise PolicyError(
                f"policy 'fixed' takes either action or order, got action={self.action!r} and "
                f"order={self.order!r}: give the one action, or the order to try them in"
            )

    @property
    def tells_apart(self) -> bool:
        """Actions are known by their names."""
        return True

    def _dist(
        self,
        contexts: FloatArray,  # noqa: ARG002 a rule looks at no one
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,  # noqa: ARG002
        handicap: FloatArray | None = None,  # noqa: ARG002
    ) -> FloatArray:
        dist = uniform_dist(eligible)
        open_rows = np.ones(len(eligible), dtype=np.bool_)
        for name in self.order or [self.action]:
            if name not in actions.ids:
                raise PolicyError(
                    f"policy 'fixed' wants action {name!r}, which the campaign has not: "
                    f"{nearest(name, actions.ids)}"
                )
            index = actions.ids.index(name)
            taken = open_rows & eligible[:, index]
            dist[taken] = 0.0
            dist[taken, index] = 1.0
            open_rows &= ~taken
        return dist
