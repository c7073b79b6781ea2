"""Bayesian linear regression: the posterior of weights and noise, given sums over examples."""

from dataclasses import dataclass

import numpy as np

from streams.core.policies.data import FloatArray
from streams.core.policies.gaussian import Gaussian
from streams.core.policies.linear_statistics import Statistics

__all__ = ["Posterior", "Prior"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is believed before any example: normal weights, inverse gamma noise.

    ``w | s² ~ N(mean, s² diag(1 / precision))`` and ``s² ~ IG(shape, rate)``.

    Attributes
    ----------
    mean
        m0, (d,).
    precision
        lambda, (d,): how many examples with a feature of 1 the prior is worth.
    shape, rate
        alpha0 and beta0: 2 alpha0 is how many examples the prior of the noise is worth, and
        beta0 / alpha0 is its variance.
    """

    mean: FloatArray
    precision: FloatArray
    shape: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior(Gaussian):
    """What is believed after the examples: normal, inverse gamma again.

    The covariance of the weights is that of :class:`Gaussian` times the noise variance s².

    Attributes
    ----------
    shape, rate
        alpha and beta of the noise variance.
    log_evidence
        log p(rewards), but for terms that no prior precision changes.
    """

    shape: float
    rate: float
    log_evidence: float

    @property
    def noise_variance(self) -> float:
        """The noise variance to expect where there is one, else its mode's: beta / alpha."""
        return self.rate / self.shape

    @classmethod
    def of(cls, statistics: Statistics, prior: Prior) -> "Posterior":
        """Condition the prior on the examples that were summed up.

        Raises
        ------
        PolicyError
            If the features are so collinear that rounding leaves nothing to factor.
        """
        # Bishop 2006, Pattern Recognition and Machine Learning, (3.50)-(3.51); Murphy 2007,
        # Conjugate Bayesian analysis of the Gaussian distribution, section 3, for the noise
        information = statistics.moment + prior.precision * prior.mean  # (d,)
        weights = Gaussian.solved(statistics.gram + np.diag(prior.precision), information)
        residual = (
            statistics.power
            + (prior.precision * prior.mean) @ prior.mean
            - weights.mean @ information
        )
        shape = prior.shape + statistics.weight / 2.0
        rate = prior.rate + max(float(residual), 0.0) / 2.0
        log_prior = np.log(prior.precision).sum() / 2.0
        evidence = log_prior - weights.half_log_det - shape * np.log(rate)
        return cls(
            mean=weights.mean,
            scale=weights.scale,
            factor=weights.factor,
            shape=shape,
            rate=rate,
            log_evidence=float(evidence),
        )

    def draws(self, n_draws: int, rng: np.random.Generator, widen: float = 1.0) -> FloatArray:
        """Draw weights.

        Parameters
        ----------
        n_draws
            How many.
        rng
            Where chance comes from.
        widen
            A factor on the spread about the mean: 1 is the posterior itself.

        Returns
        -------
        FloatArray
            w, (n_draws, d).
        """
        normals = self.normals(n_draws, rng)
        noise = self.rate / rng.standard_gamma(self.shape, n_draws)  # s², (n_draws,)
        return self.mean + widen * np.sqrt(noise)[:, None] * normals
