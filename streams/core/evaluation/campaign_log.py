"""A campaign's own log, wave by wave: learned up to a wave, and policies valued on the rest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schemas.errors import EvaluationError
from schemas.ids import POLICY
from schemas.learning import LearningExample
from streams.core.evaluation.held_out import (
    HeldOut,
    Valuation,
    contexts_of,
    foreseen_rewards,
    in_order,
    value_held_out,
)
from streams.core.evaluation.logged import FloatArray
from streams.core.policies import DEFAULT_POLICY, ActionSet, Examples, Policy, create

__all__ = ["CampaignLog"]


@dataclass(frozen=True, kw_only=True)  # no slots: what is foreseen is kept
class CampaignLog:
    """A campaign's closed outcomes, one a decision, in order of time.

    A wave is decided by one frozen snapshot. So a policy that has learned from earlier waves
    alone can be valued on the later ones, which the campaign's own policy decided while it went
    on learning.

    Attributes
    ----------
    first_held_out
        The first wave that is valued on; those before it are learned from.
    left_out
        Outcomes whose contexts another encoder made than the newest, or whose template is no
        longer in the campaign.
    """

    outcomes: tuple[LearningExample, ...]
    actions: ActionSet
    first_held_out: int
    left_out: int

    @classmethod
    def of(
        cls, examples: Iterable[LearningExample], actions: ActionSet, split: float
    ) -> "CampaignLog":
        """Take the newest outcome of each decision, and split them between two waves.

        Parameters
        ----------
        examples
            The campaign's, in the order in which they were logged.
        actions
            That it has now.
        split
            Share of the policy's decisions that is learned from, as near as waves allow; in (0, 1).

        Raises
        ------
        EvaluationError
            If fewer than two waves have outcomes that the policy decided.
        """
        newest = in_order({example.decision_id: example for example in examples}.values())
        versions = [example.encoder_version for example in newest]
        kept = tuple(
            example
            for example in newest
            if example.encoder_version == versions[-1] and _known(example, actions)
        )
        waves = np.array([example.wave for example in kept if example.reason == POLICY])
        later = np.unique(waves)[1:]
        if not len(later):
            count = len(np.unique(waves))
            raise EvaluationError(
                f"the log has {len(waves)} closed decisions of the policy in {count} waves, at "
                "least 2 waves are needed, one to learn from and one to value on: wait for the "
                "next to close"
            )
        apart = [abs(float((waves < wave).mean()) - split) for wave in later]
        return cls(
            outcomes=kept,
            actions=actions,
            first_held_out=int(later[np.argmin(apart)]),
            left_out=len(newest) - len(kept),
        )

    @property
    def d_user(self) -> int:
        """Columns of a context."""
        return len(self.outcomes[-1].context) // 4

    @property
    def n_learned(self) -> int:
        """Outcomes before the first wave that is held out."""
        return sum(example.wave < self.first_held_out for example in self.outcomes)

    def teach(
        self,
        policy: Policy,
        actions: ActionSet | None = None,
        *,
        before: int | None = None,
        since: int = 0,
    ) -> None:
        """Let a policy learn, in order, what waves from `since` on and before another taught.

        Parameters
        ----------
        actions
            With the features that the policy has of them; without them the log's.
        """
        end = self.first_held_out if before is None else before
        for wave in sorted({one.wave for one in self.outcomes if since <= one.wave < end}):
            taught = [one for one in self.outcomes if one.wave == wave]
            policy.learn_many(_examples(taught, actions or self.actions))

    def value(
        self, policy: Policy, rng: np.random.Generator, actions: ActionSet | None = None
    ) -> Valuation:
        """Value a policy, which learned from nothing later than the first part, on the rest.

        Parameters
        ----------
        actions
            As for :meth:`teach`.

        Raises
        ------
        EvaluationError
            If it does not fit the campaign.
        """
        held = HeldOut.of(self._held_out(), self.actions, lambda _: True)
        return value_held_out(policy, actions or self.actions, held, rng, foreseen=self._foreseen)

    def _held_out(self) -> list[LearningExample]:
        return [
            one for one in self.outcomes if one.wave >= self.first_held_out and one.reason == POLICY
        ]

    @cached_property
    def _foreseen(self) -> FloatArray:
        """Rewards that the default policy expects from the waves before each decision's own.

        The same for every policy that is valued, and most of the work.
        """
        held, since = self._held_out(), 0
        contexts = contexts_of(held)
        waves = np.array([one.wave for one in held])
        model = create(DEFAULT_POLICY, {}, self.d_user, self.actions.d_action)
        foreseen = np.zeros((len(held), len(self.actions)))
        for wave in sorted(set(waves.tolist())):
            self.teach(model, before=wave, since=since)
            foreseen[waves == wave] = foreseen_rewards(model, contexts[waves == wave], self.actions)
            since = wave
        return foreseen


def _examples(outcomes: Sequence[LearningExample], actions: ActionSet) -> Examples:
    row = {name: index for index, name in enumerate(actions.ids)}
    return Examples(
        contexts=contexts_of(outcomes),
        actions=tuple(one.action for one in outcomes),
        action_features=actions.features[[row[one.action] for one in outcomes]],
        rewards=np.array([one.reward for one in outcomes]),
        previous=np.full(len(outcomes), np.nan),
        at_ms=np.array([one.decided_at_ms for one in outcomes], dtype=np.int64),
    )


def _known(example: LearningExample, actions: ActionSet) -> bool:
    return example.action in actions.ids and set(example.actions) <= set(actions.ids)
