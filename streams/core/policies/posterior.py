"""Bayesian linear regression: the posterior of weights and noise, given sums over examples."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from schemas.errors import PolicyError
from streams.core.policies.data import FloatArray
from streams.core.policies.linear_statistics import Statistics

__all__ = ["Posterior", "Prior"]

# added to a diagonal of ones, where rounding made the matrix indefinite
JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)


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
class Posterior:
    """What is believed after the examples: normal, inverse gamma again.

    The precision ``L`` of the weights is held as the Cholesky factor of ``S L S``, where the
    diagonal S makes its diagonal 1, so that features of very different sizes do no harm.

    Attributes
    ----------
    mean
        m, (d,).
    scale
        The diagonal of S, (d,).
    factor
        C, lower triangular with C C' = S L S, (d, d).
    shape, rate
        alpha and beta of the noise variance.
    log_evidence
        log p(rewards), but for terms that no prior precision changes.
    """

    mean: FloatArray
    scale: FloatArray
    factor: FloatArray
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
        precision = statistics.gram + np.diag(prior.precision)  # (d, d)
        scale = 1.0 / np.sqrt(np.diagonal(precision))
        factor = _factor(precision * scale[:, None] * scale)
        information = statistics.moment + prior.precision * prior.mean  # (d,)
        mean = scale * cho_solve((factor, True), scale * information, check_finite=False)
        residual = (
            statistics.power + (prior.precision * prior.mean) @ prior.mean - mean @ information
        )
        shape = prior.shape + statistics.weight / 2.0
        rate = prior.rate + max(float(residual), 0.0) / 2.0
        half_log_det = np.log(np.diagonal(factor)).sum() - np.log(scale).sum()
        evidence = np.log(prior.precision).sum() / 2.0 - half_log_det - shape * np.log(rate)
        return cls(
            mean=mean,
            scale=scale,
            factor=factor,
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
        normal = rng.standard_normal((len(self.mean), n_draws))  # (d, n_draws)
        noise = self.rate / rng.standard_gamma(self.shape, n_draws)  # s², (n_draws,)
        # C'^-1 z has covariance (C C')^-1, hence S C'^-1 z that of the weights, over s²
        spread = solve_triangular(
            self.factor, normal, trans="T", lower=True, overwrite_b=True, check_finite=False
        )
        return self.mean + widen * (np.sqrt(noise) * (self.scale[:, None] * spread)).T


def _factor(unit: FloatArray) -> FloatArray:
    for jitter in JITTERS:
        try:
            factor: FloatArray = cholesky(
                unit + jitter * np.eye(len(unit)), lower=True, check_finite=False
            )
        except LinAlgError:
            continue
        return factor
    raise PolicyError(
        f"{len(unit)} features are collinear beyond what a jitter of {JITTERS[-1]} mends: "
        "scale them to about 1, or drop those that repeat others"
    )
