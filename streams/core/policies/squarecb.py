"""Inverse gap weighting: the further an action falls behind, the rarer it is."""

from typing import ClassVar

from streams.core.policies.base import BoolArray, FloatArray
from streams.core.policies.beliefs import FLOOR_SHARE
from streams.core.policies.closed_form import ClosedFormPolicy
from streams.core.policies.draws import floored
from streams.core.policies.exploration import inverse_gap_dist
from streams.core.policies.parameters import Parameter

__all__ = ["GAMMA_EXPONENT", "GAMMA_SCALE", "SquareCB", "gamma_of"]

GAMMA_SCALE = Parameter(
    name="gamma_scale",
    kind="float",
    default=100.0,
    low=0.0,
    high=1e9,
    doc="gamma after one example; larger is greedier, in proportion to 1 / reward's size",
)
GAMMA_EXPONENT = Parameter(
    name="gamma_exponent",
    kind="float",
    default=0.5,
    low=0.0,
    high=1.0,
    doc="gamma grows as examples to this power; 0 keeps it as it is",
)


def gamma_of(scale: float, exponent: float, n_learned: int) -> float:
    """Give gamma after so many examples: ``scale * n ** exponent``.

    Foster & Rakhlin 2020, theorem 1, has gamma in proportion to the root of the number of rounds;
    it is fixed for a snapshot, as all that a wave decides by. Examples are the campaign's own: a
    warm start sharpens what is expected, not gamma.

    >>> gamma_of(10.0, 0.5, 400)
    200.0
    """
    return float(scale * max(n_learned, 1) ** exponent)


class SquareCB(ClosedFormPolicy):
    """Explore by :func:`~streams.core.policies.exploration.inverse_gap_dist`, with a floor.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    References
    ----------
    .. [1] Foster & Rakhlin 2020, Beyond UCB: Optimal and Efficient Contextual Bandits with
       Regression Oracles, Alg. 1.
    """

    name: ClassVar[str] = "squarecb"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        GAMMA_SCALE,
        GAMMA_EXPONENT,
        FLOOR_SHARE,
        *ClosedFormPolicy.PARAMETERS,
    )

    gamma_scale: float
    gamma_exponent: float
    floor: float

    def _choice(self, scores: FloatArray, eligible: BoolArray) -> FloatArray:
        gamma = gamma_of(self.gamma_scale, self.gamma_exponent, self.n_learned)
        return floored(inverse_gap_dist(scores, eligible, gamma), eligible, self.floor)
