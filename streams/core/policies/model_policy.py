"""A policy that learns what actions earn, and explores by what it knows."""

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from schemas.errors import PolicyError
from streams.core.policies.action_parts import ActionPart
from streams.core.policies.base import Examples, Policy
from streams.core.policies.beliefs import BELIEFS, Beliefs
from streams.core.policies.reward_model import RewardModel

__all__ = ["ModelPolicy"]


class ModelPolicy(Policy, abc.ABC):
    """Learns by a reward model; the subclass says which, and how it explores.

    Attributes
    ----------
    reward_model
        What is believed that each action earns with each user.
    """

    HAS_SCORES: ClassVar[bool] = True

    @abc.abstractmethod
    def _make_model(self) -> RewardModel:
        """Make the model, which has learned nothing yet."""

    def _prepare(self) -> None:
        self.reward_model = self._make_model()

    @property
    def chunks_matter(self) -> bool:
        """Whether the same examples in other chunks leave another state."""
        return self.reward_model.CHUNKS_MATTER

    @property
    def beliefs(self) -> Beliefs:
        """What is believed before any example, as far as the policy has parameters for it."""
        mine = {parameter.name for parameter in self.PARAMETERS}
        known: dict[str, Any] = {
            belief.name: getattr(self, belief.name) for belief in BELIEFS if belief.name in mine
        }
        return Beliefs(**known)

    @property
    def tells_apart(self) -> bool:
        """Whether each action is learned for itself, so that it needs no feature of its own."""
        return self.reward_model.tells_apart

    @property
    def can_rescale(self) -> bool:
        """Whether what was learned can go on in another unit of reward."""
        return self.reward_model.RESCALES

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        self.reward_model.rescale(factor)

    def retire(self, actions: Collection[str]) -> None:
        """Drop what is kept for actions alone that will not come back; shared weights stay."""
        self.reward_model.retire(actions)

    def _learn(self, examples: Examples) -> None:
        self.reward_model.learn(examples)
        super()._learn(examples)

    @property
    def half_lives_ms(self) -> tuple[float, ...]:
        """Half-lives that :meth:`learn_sums` needs sums of; empty: it learns examples alone."""
        return self.reward_model.half_lives_ms

    def _learn_sums(self, parts: Sequence[ActionPart]) -> None:
        self.reward_model.learn_sums(parts)

    def _warm_start(self, source: Policy, discount: float) -> None:
        if not isinstance(source, ModelPolicy):
            raise PolicyError(
                f"policy {source.name!r} has no model to start from: "
                f"start from a campaign with policy {self.name!r}"
            )
        self.reward_model.warm_start(source.reward_model, discount)

    def _learned(self) -> dict[str, object]:
        return self.reward_model.learned()

    def _restore(self, learned: Mapping[str, Any]) -> None:
        self.reward_model.restore(learned)
