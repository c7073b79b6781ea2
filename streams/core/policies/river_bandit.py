"""Any River bandit that looks at no context, with the odds that River does not give."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.base import ActionSet, BoolArray, Examples, FloatArray, Policy
from streams.core.policies.beliefs import DRAWS, FLOOR_SHARE
from streams.core.policies.draws import floored
from streams.core.policies.parameters import Parameter
from streams.core.policies.plain_objects import as_plain
from streams.core.policies.plain_reader import from_plain
from streams.core.policies.river_arms import BANDITS, REWARDS, arm_dist, learn_arm, make_bandit

__all__ = ["RiverBandit"]


class RiverBandit(Policy):
    """One of River's bandits; every user is the same to it.

    It learns by River's own ``update``, example by example. Its ``pull`` is not called: the
    probabilities that it would pull by are worked out instead (see
    :func:`~streams.core.policies.river_arms.arm_dist`), mixed with a floor, and drawn from. They
    are River's but for ties, which are shared alike rather than given to the first, and for
    actions below ``burn_in``, among which they are shared alike too.

    A correction is exact for every bandit but Exp3, and for ``reward="ewmean"``, where it is
    learned as one more example.

    Parameters
    ----------
    d_user, d_action
        As for every policy; neither matters here.
    actions, columns, seed
        As for every policy, for ``pull`` and ``update``.
    settings
        Values of :attr:`PARAMETERS`, which say what each means.

    Examples
    --------
    >>> policy = RiverBandit(d_user=0, d_action=0, bandit="UCB", delta=0.1, floor=0.0)
    >>> for _ in range(20):
    ...     policy.update("news", {}, 0.0)
    ...     policy.update("offer", {}, 1.0)
    >>> policy.pull(["news", "offer"], {})
    'offer'
    """

    FINITE: ClassVar[bool] = False  # River keeps infinities, as where nothing was seen yet
    name: ClassVar[str] = "river-bandit"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            name="bandit",
            kind="str",
            default="ThompsonSampling",
            choices=BANDITS,
            doc="the bandit of river.bandit",
        ),
        Parameter(
            name="reward",
            kind="str",
            default="beta",
            choices=tuple(REWARDS),
            doc="what it keeps of an action: beta (above 0 or not), gaussian, mean or ewmean",
        ),
        Parameter(
            name="epsilon",
            kind="float",
            default=0.1,
            low=0.0,
            high=1.0,
            doc="of EpsilonGreedy: how often it explores",
        ),
        Parameter(
            name="decay",
            kind="float",
            default=0.0,
            low=0.0,
            high=1.0,
            doc="of EpsilonGreedy: how fast epsilon falls with examples",
        ),
        Parameter(
            name="delta",
            kind="float",
            default=1.0,
            low=0.0,
            high=1e6,
            doc="of UCB: the confidence level",
        ),
        Parameter(
            name="gamma",
            kind="float",
            default=0.1,
            low=1e-6,
            high=1.0,
            doc="of Exp3: the share of uniform draws, and how fast it learns",
        ),
        Parameter(
            name="burn_in",
            kind="int",
            default=0,
            low=0,
            high=1_000_000,
            doc="examples that an action gets before the bandit has a say",
        ),
        DRAWS,
        FLOOR_SHARE,
    )

    bandit: str
    reward: str
    epsilon: float
    decay: float
    delta: float
    gamma: float
    burn_in: int
    draws: int
    floor: float

    def _prepare(self) -> None:
        self._bandit = make_bandit(
            self.bandit,
            self.reward,
            epsilon=self.epsilon,
            decay=self.decay,
            delta=self.delta,
            gamma=self.gamma,
            burn_in=self.burn_in,
        )

    @property
    def tells_apart(self) -> bool:
        """Each action is an arm."""
        return True

    def retire(self, actions: Collection[str]) -> None:
        """Drop what is kept for actions that will not come back."""
        for name in actions:
            for kept in ("_rewards", "_counts", "_weights", "_posteriors", "_probabilities"):
                getattr(self._bandit, kept, {}).pop(name, None)

    def _dist(
        self,
        contexts: FloatArray,  # noqa: ARG002 every user is the same to it
        actions: ActionSet,
        eligible: BoolArray,
        rng: np.random.Generator,
        handicap: FloatArray | None = None,  # noqa: ARG002 it has no scores
    ) -> FloatArray:
        chunk = int(rng.integers(1 << 62))
        kinds, which = np.unique(eligible, axis=0, return_inverse=True)
        dists = np.zeros(kinds.shape)
        for row, may in enumerate(kinds):
            arms = [name for name, can in zip(actions.ids, may, strict=True) if can]
            if arms:
                dists[row, may] = arm_dist(self._bandit, arms, chunk, self.draws)
        return floored(dists[which.ravel()], eligible, self.floor)

    def _learn(self, examples: Examples) -> None:
        for arm, reward, previous in zip(
            examples.actions, examples.rewards.tolist(), examples.previous.tolist(), strict=True
        ):
            learn_arm(self._bandit, arm, reward, None if np.isnan(previous) else previous)
        super()._learn(examples)

    def _learned(self) -> dict[str, object]:
        return {"bandit": as_plain(self._bandit)}

    def _restore(self, learned: Mapping[str, Any]) -> None:
        bandit = from_plain(learned["bandit"])
        if type(bandit) is not type(self._bandit):
            raise PolicyError(
                f"the state is a {type(bandit).__name__}, not a {self.bandit}: "
                "take another snapshot"
            )
        self._bandit = bandit
