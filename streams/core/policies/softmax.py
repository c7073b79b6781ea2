"""The more an action is expected to earn, the likelier it is."""

from typing import ClassVar

from streams.core.policies.base import BoolArray, FloatArray
from streams.core.policies.beliefs import FLOOR_SHARE
from streams.core.policies.closed_form import ClosedFormPolicy
from streams.core.policies.draws import floored
from streams.core.policies.exploration import softmax_dist
from streams.core.policies.parameters import Parameter

__all__ = ["TEMPERATURE", "Softmax"]

TEMPERATURE = Parameter(
    name="temperature",
    kind="float",
    default=0.003,
    low=1e-9,
    high=1e9,
    doc="difference in expected reward that makes an action e times as likely",
)


class Softmax(ClosedFormPolicy):
    """Explore by :func:`~streams.core.policies.exploration.softmax_dist`, mixed with a floor.

    Parameters
    ----------
    d_user, d_action
        Features of a context and of an action.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.
    """

    name: ClassVar[str] = "softmax"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        TEMPERATURE,
        FLOOR_SHARE,
        *ClosedFormPolicy.PARAMETERS,
    )

    temperature: float
    floor: float

    def _choice(self, scores: FloatArray, eligible: BoolArray) -> FloatArray:
        return floored(softmax_dist(scores, eligible, self.temperature), eligible, self.floor)
