"""What a campaign's waves earned and, as the truth is known here, what they could have earned."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.ids import BASELINE, NO_SEND, POLICY
from schemas.learning import LearningExample
from schemas.records import Decision, Reward
from streams.core.evaluation.intervals import student_t
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

__all__ = ["CampaignLog", "Mean", "WaveFigures"]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean of n rewards with its 95 % interval; all nan where nothing was sent."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, rewards: NDArray[np.float64]) -> "Mean":
        """Average rewards r, (n,)."""
        if len(rewards) < 2:
            value = float(rewards[0]) if len(rewards) else math.nan
            return cls(value=value, low=math.nan, high=math.nan, n=len(rewards))
        low, high = student_t(rewards, CONFIDENCE)
        return cls(value=float(rewards.mean()), low=low, high=high, n=len(rewards))


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFigures:
    """One wave. Rewards are per send; the expected ones are of the people that the policy sent to.

    Attributes
    ----------
    wave
        From 1, as people count.
    decisions, sends
        Everyone who was decided for; those who were sent something.
    feedback
        Sends with a click, purchase, dismissal or unsubscription.
    policy_realised, baseline_realised
        What the sends of each group happened to earn.
    policy
        Under the logged probabilities that the actions were drawn from, floor included.
    uniform, best_single, oracle
        A random template that reaches the person; the best choice without looking at the person;
        the best template of each person.
    shares
        Mean logged probability of each template.
    """

    wave: int
    policy_version: int
    decisions: int
    sends: int
    feedback: Mapping[str, int]
    policy_realised: Mean
    baseline_realised: Mean
    policy: float
    uniform: float
    best_single: float
    oracle: float
    shares: Mapping[str, float]

    @property
    def of_oracle(self) -> float:
        """The policy's share of what the oracle earns."""
        return self.policy / self.oracle

    @property
    def over_single(self) -> float:
        """The policy's earnings over the best single template's."""
        return self.policy / self.best_single

    @property
    def over_uniform(self) -> float:
        """The policy's earnings over a random template's."""
        return self.policy / self.uniform


class CampaignLog:
    """Gathers a campaign's committed decisions and learning examples.

    Parameters
    ----------
    weights
        The campaign's reward by kind of feedback.
    """

    def __init__(self, company: Company, weights: Mapping[str, float] = REWARD_WEIGHTS) -> None:
        self._company = company
        self._expected = company.expected_reward(weights)  # (n, k)
        self._single = company.best_single(weights)  # (n,)
        self._oracle = company.oracle(weights)  # (n,)
        self._uniform = company.uniform()  # (n, k)
        self._users = {str(user): row for row, user in enumerate(company.people.ids)}
        self._templates = {template.id: row for row, template in enumerate(company.templates)}
        self._decisions: dict[str, Decision] = {}
        self._examples: dict[str, LearningExample] = {}
        self._closed: Counter[int] = Counter()
        self._decided: Counter[int] = Counter()
        self._answers: dict[int, dict[str, str]] = {}
        self.repeated = 0

    def decided(self, decision: Decision) -> None:
        """Take a decision; its second coming is counted, for there must be none."""
        if decision.decision_id in self._decisions:
            self.repeated += 1
            return
        self._decisions[decision.decision_id] = decision
        self._decided[decision.wave] += 1

    def learned(self, example: LearningExample) -> None:
        """Take an outcome; a correction replaces the one before."""
        if example.previous_reward is None:
            self.repeated += example.decision_id in self._examples
            self._closed[example.wave] += 1
        self._examples[example.decision_id] = example

    def answered(self, reward: Reward) -> None:
        """Take feedback on its way to its decision, for those who watch."""
        decision = self._decisions.get(reward.decision_id or "")
        if decision is not None and reward.reward_id is not None:
            self._answers.setdefault(decision.wave, {})[reward.reward_id] = reward.kind

    def answers(self, wave: int) -> Counter[str]:
        """Count what came back to a wave (from 0) so far, by kind."""
        return Counter(self._answers.get(wave, {}).values())

    def counts(self, wave: int) -> tuple[int, int]:
        """How many decisions, and how many closed outcomes, were read of a wave (from 0)."""
        return self._decided[wave], self._closed[wave]

    def feedback(self) -> Counter[str]:
        """Count all feedback that was credited, by kind."""
        total: Counter[str] = Counter()
        for example in self._examples.values():
            total.update(example.feedback)
        return total

    def false_propensities(self) -> int:
        """Count decisions whose propensity is not the logged probability of their action."""
        return sum(
            example.reason == POLICY
            and self._decisions[key].propensity
            != example.probabilities[example.actions.index(example.action)]
            for key, example in self._examples.items()
            if key in self._decisions
        )

    def figures(self, wave: int) -> WaveFigures:
        """Compute a wave's figures.

        Parameters
        ----------
        wave
            From 0, as records have it.
        """
        decisions = [d for d in self._decisions.values() if d.wave == wave]
        examples = [e for e in self._examples.values() if e.wave == wave]
        feedback: Counter[str] = Counter()
        for example in examples:
            feedback.update(kind for kind, count in example.feedback.items() if count)
        mine = [e for e in examples if e.reason == POLICY and e.probabilities]
        users = np.array([self._users[e.user_id] for e in mine], dtype=np.intp)  # (n,)
        dist = self._probabilities(mine)  # (n, k)
        expected = self._expected[users]  # (n, k)
        rows = np.arange(len(users))
        return WaveFigures(
            wave=wave + 1,
            policy_version=decisions[0].policy_version if decisions else -1,
            decisions=len(decisions),
            sends=sum(d.action != NO_SEND for d in decisions),
            feedback=feedback,
            policy_realised=_realised(mine),
            baseline_realised=_realised([e for e in examples if e.reason == BASELINE]),
            policy=_mean((dist * expected).sum(axis=1)),
            uniform=_mean((self._uniform[users] * expected).sum(axis=1)),
            best_single=_mean(expected[rows, self._single[users]]),
            oracle=_mean(expected[rows, self._oracle[users]]),
            shares={
                template.id: _mean(dist[:, row])
                for row, template in enumerate(self._company.templates)
            },
        )

    def _probabilities(self, examples: Sequence[LearningExample]) -> NDArray[np.float64]:
        dist = np.zeros((len(examples), len(self._templates)))
        for row, example in enumerate(examples):
            columns = [self._templates[action] for action in example.actions]
            dist[row, columns] = example.probabilities
        return dist


def _realised(examples: Sequence[LearningExample]) -> Mean:
    return Mean.of(np.array([example.reward for example in examples], dtype=np.float64))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan
