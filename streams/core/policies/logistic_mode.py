"""The most probable weights of a logistic model, given a normal belief and a chunk of examples."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from streams.core.policies.data import FloatArray
from streams.core.policies.gaussian import Gaussian

__all__ = ["Labelled", "find_mode"]

STEPS = 12
ENOUGH = 1e-9  # a gain in the log posterior, relative to its size, that ends the search


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Examples of a logistic model.

    Attributes
    ----------
    phi
        Features, (n, d).
    labels
        y in [0, 1], (n,).
    weights
        What an example counts for, (n,).
    push
        A term of the log likelihood that is linear in the weights, (d,).
    """

    phi: FloatArray
    labels: FloatArray
    weights: FloatArray
    push: FloatArray


def find_mode(
    belief: Gaussian, precision: FloatArray, chunk: Labelled
) -> tuple[FloatArray, FloatArray]:
    """Find the mode of ``log N(w; belief) + sum of log p(y | w) + push' w``.

    Newton's method. Where a whole step overshoots (weights far out), the step is that of the
    quadratic bound of Jaakkola & Jordan (2000), which cannot.

    Parameters
    ----------
    belief
        N(m, L^-1).
    precision
        L, (d, d).
    chunk
        The examples.

    Returns
    -------
    tuple[FloatArray, FloatArray]
        The mode, (d,), and the curvature of the examples there, (d, d).
    """
    weights = belief.mean
    score = _score(weights, belief.mean, precision, chunk)
    for _ in range(STEPS):
        margins = chunk.phi @ weights
        missed = chunk.weights * (chunk.labels - expit(margins))
        slope = missed @ chunk.phi + chunk.push - precision @ (weights - belief.mean)
        for bend in (_bend(margins), _bound(margins)):
            step = Gaussian.solved(precision + _curvature(chunk, bend), slope).mean
            after = _score(weights + step, belief.mean, precision, chunk)
            if after > score:
                break
        else:
            break
        gain, score, weights = after - score, after, weights + step
        if gain <= ENOUGH * (1.0 + abs(score)):
            break
    return weights, _curvature(chunk, _bend(chunk.phi @ weights))


def _score(weights: FloatArray, mean: FloatArray, precision: FloatArray, chunk: Labelled) -> float:
    margins = chunk.phi @ weights
    likelihood = chunk.weights @ (chunk.labels * margins - np.logaddexp(0.0, margins))
    off = weights - mean
    return float(likelihood + chunk.push @ weights - off @ precision @ off / 2.0)


def _bend(margins: FloatArray) -> FloatArray:
    bend: FloatArray = expit(margins) * expit(-margins)
    return bend


def _bound(margins: FloatArray) -> FloatArray:
    # Jaakkola & Jordan 2000, eq. 9: tanh(z / 2) / (2 z), at most 1 / 4
    size = np.maximum(np.abs(margins), 1e-6)
    bound: FloatArray = np.tanh(size / 2.0) / (2.0 * size)
    return bound


def _curvature(chunk: Labelled, bend: FloatArray) -> FloatArray:
    half = chunk.phi * np.sqrt(chunk.weights * bend)[:, None]
    curvature: FloatArray = half.T @ half
    return curvature
