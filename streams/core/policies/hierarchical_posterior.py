"""The posterior of a linear model that actions share, and of what each has of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from streams.core.policies.beliefs import Beliefs
from streams.core.policies.data import FloatArray
from streams.core.policies.gaussian import Gaussian
from streams.core.policies.kept_sums import Stack
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.prior_scale import SWEEPS
from streams.core.policies.shared_linear import NOISE_WEIGHT

__all__ = ["GROUPS", "Hierarchy", "Precisions", "fitted_precisions"]

JITTER = 1e-10  # on a diagonal of ones
SHARED = 3  # of the groups; the others are an action's own
GROUPS = 5  # effects of user, action, both; and an action's own level and effects of the user
# candidate precisions, as factors of the believed one: up to hardly any effect at all
STEPS = tuple(float(10.0**power) for power in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5))
# log10(factor) ~ N(0, BELIEF²): a wide belief, for actions told wholly by their features, or not
# at all, are both common
BELIEF = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """The prior: ``Theta ~ N(mean, s² / shared)``, what is an action's own ``~ N(0, s² / own)``.

    Attributes
    ----------
    mean, shared
        (p, q).
    own
        (p,).
    """

    mean: FloatArray
    shared: FloatArray
    own: FloatArray

    @classmethod
    def of(cls, p: int, q: int, beliefs: Beliefs, factors: Sequence[float]) -> "Precisions":
        """Give the believed precisions, each of :data:`GROUPS` multiplied by its factor."""
        level, both = beliefs.main_precision, beliefs.interaction_precision
        shared = np.full((p, q), both * factors[2])
        shared[1:, 0] = level * factors[0]
        shared[0, 1:] = level * factors[1]
        shared[0, 0] = 1.0
        own = np.full(p, both * factors[4])
        own[0] = level * factors[3]
        mean = np.zeros((p, q))
        mean[0, 0] = beliefs.base_reward
        return cls(mean=mean, shared=shared, own=own)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What the examples say, with each action's own integrated out: it depends on ``own`` alone.

    What retired actions taught was left of them by the same step, with the precisions that held
    when they were folded; it is added, and choosing ``own`` anew does not change it.

    Attributes
    ----------
    inverse, root, half_log_det
        As of :class:`Hierarchy`; half the logarithm of the product of all determinants.
    gram, information
        What is left for Theta, (p q, p q) and (p q,).
    explained
        Of the sum of squares.
    """

    inverse: FloatArray
    root: FloatArray
    half_log_det: float
    gram: FloatArray
    information: FloatArray
    explained: float

    @classmethod
    def of(cls, stack: Stack, own: FloatArray) -> "Alone":
        """Take a Schur complement for each action: a hundred of them cost a hundred small systems.

        Parameters
        ----------
        own
            Precisions of what is an action's own, (p,).
        """
        p, q = len(own), stack.acts.shape[1]
        acts, moments = stack.acts, stack.moments
        # (U + P)^-1 of each action, by Cholesky factors of what has a diagonal of ones
        whole = stack.grams + np.diag(own)  # (K, p, p)
        scale = 1.0 / np.sqrt(np.diagonal(whole, axis1=1, axis2=2))  # (K, p)
        unit = whole * scale[:, :, None] * scale[:, None, :] + JITTER * np.eye(p)
        factor = np.linalg.cholesky(unit)
        root = scale[:, :, None] * np.linalg.inv(factor).transpose(0, 2, 1)
        inverse = root @ root.transpose(0, 2, 1)
        # what is left for Theta: U - U (U + P)^-1 U = P - P (U + P)^-1 P
        left = np.diag(own) - own[:, None] * inverse * own
        left = (left + left.transpose(0, 2, 1)) / 2.0
        solved = (inverse @ moments[:, :, None])[:, :, 0]  # (U + P)^-1 m, (K, p)
        pairs = (acts[:, :, None] * acts[:, None, :]).reshape(len(acts), q * q)
        folded = (left.reshape(len(acts), p * p).T @ pairs).reshape(p, p, q, q)
        gram = folded.transpose(0, 2, 1, 3).reshape(p * q, p * q)
        information = ((own * solved).T @ acts).ravel()
        if stack.taught is not None:
            gram, information = gram + stack.taught.gram, information + stack.taught.moment
        return cls(
            inverse=inverse,
            root=root,
            half_log_det=float(
                np.log(np.diagonal(factor, axis1=1, axis2=2)).sum() - np.log(scale).sum()
            ),
            gram=gram,
            information=information,
            explained=float((moments * solved).sum()),
        )

    def taught(self, stack: Stack, at_ms: int | None) -> Statistics:
        """Give what these examples say of Theta as sums over its p q weights.

        Parameters
        ----------
        stack
            That this was made of.
        at_ms
            The newest decision, which the sums were aged to.
        """
        return Statistics(
            gram=(self.gram + self.gram.T) / 2.0,  # a snapshot holds one half of it
            moment=self.information,
            power=stack.power - self.explained,
            weight=stack.weight,
            n=0,
            at_ms=at_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Theta, and ``w_k = Theta (1, a_k)' + v_k`` of each action that was sent, given Theta.

    Attributes
    ----------
    theta
        Theta, (p q,) row by row; its covariance is to be multiplied by s².
    inverse
        ``(U_k + P)^-1`` with P the diagonal of ``own``, (K, p, p).
    root
        Its factor C with C C' = inverse, (K, p, p).
    shape, rate
        Of the inverse gamma that s² has.
    evidence
        log p(rewards), but for terms that no precision changes.
    own
        (p,).
    """

    stack: Stack
    theta: Gaussian
    inverse: FloatArray
    root: FloatArray
    shape: float
    rate: float
    evidence: float
    own: FloatArray

    @property
    def noise_variance(self) -> float:
        """The noise that is believed in: rate / shape."""
        return self.rate / self.shape

    @classmethod
    def of(
        cls, stack: Stack, prior: Precisions, noise_variance: float, alone: Alone | None = None
    ) -> "Hierarchy":
        """Condition the prior on the examples that were summed up.

        Parameters
        ----------
        alone
            Of the same stack and ``prior.own``, where it is known already.
        """
        own = prior.own
        alone = alone or Alone.of(stack, own)
        flat, mean = prior.shared.ravel(), prior.mean.ravel()
        information = alone.information + flat * mean
        theta = Gaussian.solved(alone.gram + np.diag(flat), information)
        residual = (
            stack.power
            + float((flat * mean) @ mean)
            - alone.explained
            - float(theta.mean @ information)
        )
        shape = (NOISE_WEIGHT + stack.weight) / 2.0
        rate = (noise_variance * NOISE_WEIGHT + max(residual, 0.0)) / 2.0
        evidence = (
            (np.log(flat).sum() + len(stack.acts) * np.log(own).sum()) / 2.0
            - theta.half_log_det
            - alone.half_log_det
            - shape * np.log(rate)
        )
        return cls(
            stack=stack,
            theta=theta,
            inverse=alone.inverse,
            root=alone.root,
            shape=shape,
            rate=rate,
            evidence=float(evidence),
            own=own,
        )

    def own_of(self, key: str, told: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give what an action has of its own where ``Theta (1, a)'`` is told, (m, p).

        Returns
        -------
        tuple[FloatArray, FloatArray]
            Its mean, (m, p), and a factor of its covariance over s², (p, p).
        """
        index = self.stack.place.get(key)
        if index is None:
            return np.zeros_like(told), np.diag(1.0 / np.sqrt(self.own))
        mean = (self.stack.moments[index] - told @ self.stack.grams[index]) @ self.inverse[index]
        return mean, self.root[index]

    def plan(self, key: str, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give mean (p,) and covariance over s² (p, p) of an action's weights."""
        act = np.concatenate([[1.0], features])
        p = len(self.own)
        told = self.theta.mean.reshape(p, -1) @ act  # (p,)
        mean, root = self.own_of(key, told[None, :])
        # w = (I - G U) Theta a + v0, G = (U + P)^-1: the covariance of Theta a goes through G P
        index = self.stack.place.get(key)
        keep = np.eye(p) if index is None else self.inverse[index] * self.own
        wide = np.kron(keep, act[None, :])  # (p, d)
        half = solve_triangular(
            self.theta.factor,
            self.theta.scale[:, None] * wide.T,
            lower=True,
            check_finite=False,
        )  # (d, p)
        cover: FloatArray = half.T @ half + root @ root.T
        return told + mean[0], cover


def fitted_precisions(
    stack: Stack, p: int, q: int, beliefs: Beliefs, factors: tuple[float, ...]
) -> tuple[tuple[float, ...], Hierarchy]:
    """Choose each group's precision by the evidence, one group after the other.

    As :func:`~streams.core.policies.prior_scale.fit_scales`, from the factors that stood before.
    """
    known: dict[tuple[float, ...], Alone] = {}

    def solved(trial: tuple[float, ...]) -> Hierarchy:
        prior = Precisions.of(p, q, beliefs, trial)
        alone = known.get(trial[SHARED:])
        if alone is None:
            alone = known[trial[SHARED:]] = Alone.of(stack, prior.own)
        return Hierarchy.of(stack, prior, beliefs.noise_variance, alone)

    chosen, best = factors, solved(factors)
    score = best.evidence + _belief(chosen)
    for _ in range(SWEEPS):
        before = chosen
        for group in range(GROUPS):
            for step in STEPS:
                if step == chosen[group]:
                    continue
                trial = (*chosen[:group], step, *chosen[group + 1 :])
                joint = solved(trial)
                if joint.evidence + _belief(trial) > score:
                    best, chosen, score = joint, trial, joint.evidence + _belief(trial)
        if chosen == before:
            break
    return chosen, best


def _belief(factors: Sequence[float]) -> float:
    return -float(sum(np.log10(factor) ** 2 for factor in factors)) / (2.0 * BELIEF**2)
