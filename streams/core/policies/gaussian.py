"""A normal belief about weights, held so that features of very different sizes do no harm."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from schemas.errors import PolicyError
from streams.core.policies.data import FloatArray

__all__ = ["Gaussian"]

# added to a diagonal of ones, where rounding made the matrix indefinite
JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6)
CELLS = 1 << 20  # numbers held at once when spreads are worked out: 8 MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """``w ~ N(mean, L^-1)``.

    The precision L is held as the Cholesky factor of ``S L S``, where the diagonal S makes its
    diagonal 1.

    Attributes
    ----------
    mean
        m, (d,).
    scale
        The diagonal of S, (d,).
    factor
        C, lower triangular with C C' = S L S, (d, d).
    """

    mean: FloatArray
    scale: FloatArray
    factor: FloatArray

    @classmethod
    def solved(cls, precision: FloatArray, information: FloatArray) -> "Gaussian":
        """Find the mean ``L^-1 b`` for a precision L, (d, d), and information b, (d,).

        Raises
        ------
        PolicyError
            If the features are so collinear that rounding leaves nothing to factor.
        """
        scale = 1.0 / np.sqrt(np.diagonal(precision))
        factor = _factor(precision * scale[:, None] * scale)
        mean = scale * cho_solve((factor, True), scale * information, check_finite=False)
        return Gaussian(mean=mean, scale=scale, factor=factor)

    @property
    def half_log_det(self) -> float:
        """Half the logarithm of the determinant of L."""
        return float(np.log(np.diagonal(self.factor)).sum() - np.log(self.scale).sum())

    def normals(self, n_draws: int, rng: np.random.Generator) -> FloatArray:
        """Draw from N(0, L^-1), (n_draws, d)."""
        white = rng.standard_normal((len(self.mean), n_draws))  # (d, n_draws)
        # C'^-1 z has covariance (C C')^-1, hence S C'^-1 z that of the weights
        spread = solve_triangular(
            self.factor, white, trans="T", lower=True, overwrite_b=True, check_finite=False
        )
        normals: FloatArray = (self.scale[:, None] * spread).T
        return normals

    def variances(self, users: FloatArray, acts: FloatArray) -> FloatArray:
        """Give ``(u ⊗ a)' L^-1 (u ⊗ a)`` for every pair, as sums of squares: never negative.

        Parameters
        ----------
        users
            u, (n, p).
        acts
            a, (n_actions, q), with p q = d.

        Returns
        -------
        FloatArray
            (n, n_actions).
        """
        d = len(self.mean)
        # |C^-1 S (u ⊗ a)|²: C^-1 S once, then a folded in, then u
        half = solve_triangular(self.factor, np.diag(self.scale), lower=True, check_finite=False)
        folded = half.reshape(d, users.shape[1], acts.shape[1])
        variances = np.empty((len(users), len(acts)))
        rows = max(1, CELLS // d)
        for index, act in enumerate(acts):
            projected = folded @ act  # (d, p)
            for start in range(0, len(users), rows):
                block = slice(start, start + rows)
                variances[block, index] = np.square(projected @ users[block].T).sum(axis=0)
        return variances


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
