"""One kind of model with long and short memories, weighed by how well each foresaw what came."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.data import ActionSet, BoolArray, Examples, FloatArray
from streams.core.policies.kept_sums import bounded_actions
from streams.core.policies.plans import PlanModel
from streams.core.policies.reward_model import BayesianModel
from streams.core.policies.sum_keys import keys_of

__all__ = ["MixedMemory"]

PART = 500  # examples
TILT = 10.0  # how far a reward's noise may be from the mean's
TINY = 1e-12
SHARE = 0.005  # of the weight is given out anew at each part, so that none is out for good


class MixedMemory(BayesianModel):
    """A mixture of models, each weighted by the likelihood of every chunk before it was learned.

    A chunk is taken in parts, so that a short memory that has seen the first of it is weighed by
    the rest. After each, some of the weight is shared out as it was at first: what was best once
    may be so no more (fixed share [1]_). Corrections are learned by all, and weigh nothing.

    Parameters
    ----------
    members
        Models that have learned nothing yet; the first forgets nothing.
    prior
        What is made of each before anything was seen; positive. Where one does not apply, the
        others share what is its.

    References
    ----------
    .. [1] Herbster & Warmuth 1998, Tracking the Best Expert.
    """

    CHUNKS_MATTER: ClassVar[bool] = True
    RESCALES: ClassVar[bool] = True

    def __init__(self, members: Sequence[PlanModel], prior: Sequence[float]) -> None:
        self.members = tuple(members)
        self._log_prior = np.log(np.asarray(prior) / np.sum(prior))
        self.log_weights = self._log_prior.copy()

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned yet."""
        return self.members[0].is_new

    @property
    def tells_apart(self) -> bool:
        """Whether its members do."""
        return all(member.tells_apart for member in self.members)

    @property
    def weights(self) -> FloatArray:
        """How much is made of each member; they sum to 1."""
        logs = np.where(self._apply, self.log_weights, -np.inf)
        weights: FloatArray = np.exp(logs - np.logaddexp.reduce(logs))
        return weights

    @property
    def _apply(self) -> BoolArray:
        return np.array([member.applies for member in self.members])

    def learn(self, examples: Examples) -> None:
        """Learn part by part; before each, weigh the members by its new examples."""
        n_parts = -(-len(examples) // PART)
        for rows in np.array_split(np.arange(len(examples)), n_parts):
            part = examples.taking(rows)
            new = part.taking(part.is_new)
            if len(new):
                self._weigh(new)
            by_action = keys_of(part)
            for member in self.members:
                member.learn_rows(part, by_action)
        for member in self.members:
            member.fit_scales()

    def _weigh(self, new: Examples) -> None:
        apply = self._apply
        logs = (self.log_weights + self._log_likelihoods(new))[apply]
        logs -= np.logaddexp.reduce(logs)
        prior = self._log_prior[apply]
        prior = prior - np.logaddexp.reduce(prior)
        share = SHARE * len(new) / PART
        self.log_weights[apply] = np.logaddexp(np.log1p(-share) + logs, np.log(share) + prior)

    def _log_likelihoods(self, new: Examples) -> FloatArray:
        """Give how probable the examples were to each member, each example by itself.

        With one noise for all: that of clicks moves with their rate, and a short memory must not
        win by following it. Where rewards are counted, who is likely to give one has the larger
        noise, and is weighed by that.
        """
        rows = keys_of(new)
        found = [member.foreseen(new, rows) for member in self.members]
        tilt = np.ones(len(new))
        for member, (error, _) in zip(self.members, found, strict=True):
            if member.applies and member.COUNTS:
                means = np.maximum(new.rewards - error, 0.0)
                tilt = np.clip(means / max(float(means.mean()), TINY), 1.0 / TILT, TILT)
        found = [(error, variance * tilt) for error, variance in found]
        seen = min(float((error**2 / variance).mean()) for error, variance in found)
        noise = max(seen, self.members[0].noise_variance)
        return np.array(
            [
                -float((error**2 / (noise * variance) + np.log(variance)).sum()) / 2.0
                for error, variance in found
            ]
        )

    def expected(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the mixture's mean, (n, n_actions)."""
        means = np.stack([member.expected(contexts, actions) for member in self.members])
        expected: FloatArray = np.einsum("m,mna->na", self.weights, means)
        return expected

    def spread(self, contexts: FloatArray, actions: ActionSet) -> FloatArray:
        """Give the mixture's standard deviation, (n, n_actions)."""
        means = np.stack([member.expected(contexts, actions) for member in self.members])
        spreads = np.stack([member.spread(contexts, actions) for member in self.members])
        apart = means - np.einsum("m,mna->na", self.weights, means)
        variance = np.einsum("m,mna->na", self.weights, spreads**2 + apart**2)
        spread: FloatArray = np.sqrt(variance)
        return spread

    def drawn(
        self, actions: ActionSet, rng: np.random.Generator, *, draws: int, widen: float
    ) -> Iterator[tuple[float, Iterable[FloatArray], BayesianModel]]:
        """Draw from each member: as if one were drawn by its weight, then drawn from.

        Before any example all actions are as good, and chosen alike: draws from the prior would
        send only what has the largest features, and learn less of what features do not tell.
        """
        bounded_actions(len(actions), self.members[0].p)
        if self.is_new:
            return
        for weight, member in zip(self.weights, self.members, strict=True):
            if weight * draws < 1.0:  # none of its draws would be among them
                continue
            for share, plans, model in member.drawn(actions, rng, draws=draws, widen=widen):
                yield weight * share, plans, model

    def rescale(self, factor: float) -> None:
        """Go on as if every reward so far had been multiplied by a factor."""
        for member in self.members:
            member.rescale(factor)

    def retire(self, actions: Collection[str]) -> None:
        """Forget what is kept for these actions alone."""
        for member in self.members:
            member.retire(actions)

    def learned(self) -> dict[str, object]:
        """Give the weights, and what each member has learned."""
        return {
            "log_weights": self.log_weights,
            "members": [member.learned() for member in self.members],
        }

    def restore(self, learned: Mapping[str, Any]) -> None:
        """Take up the weights, and what each member has learned.

        Raises
        ------
        PolicyError
            If there are more or fewer members, or a weight is not finite.
        """
        logs, kept = np.array(learned["log_weights"]), learned["members"]
        n = len(self.members)
        if logs.shape != (n,) or len(kept) != n or not np.isfinite(logs).all():
            raise PolicyError(
                f"a mixture of {n} must have as many finite weights, got {logs}: "
                "take another snapshot"
            )
        self.log_weights = logs
        for member, own in zip(self.members, kept, strict=True):
            member.restore(own)

    def _add(self, source: "MixedMemory", discount: float) -> None:
        for member, other in zip(self.members, source.members, strict=True):
            member.warm_start(other, discount)
        self.log_weights = source.log_weights.copy()
