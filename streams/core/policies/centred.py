"""What is believed of weights of features less their mean, with a noise that is known."""

from dataclasses import replace

import numpy as np

from streams.core.policies.data import FloatArray
from streams.core.policies.hierarchical_posterior import Alone, Hierarchy, Precisions
from streams.core.policies.kept_sums import Stack
from streams.core.policies.linear_statistics import Statistics

__all__ = ["middle_of", "solved", "taught_by"]

KNOWN = 1e9  # examples that say that the noise of a rate is the rate
TINY = 1e-12


def solved(stack: Stack, prior: Precisions) -> Hierarchy:
    """Give the posterior where s² is 1: a count of rewards varies as its mean does."""
    moved = _moved(stack, middle_of(stack))
    return replace(Hierarchy.of(moved, prior, 1.0), shape=KNOWN, rate=KNOWN)


def taught_by(stack: Stack, own: FloatArray, middle: FloatArray, at_ms: int | None) -> Statistics:
    """Integrate out what is each action's own, and give what is left for Theta.

    It is given for weights of the features themselves, as sums are: their mean moves on.

    Parameters
    ----------
    stack
        Sums of some actions, nothing taught yet.
    own
        Precisions of what is an action's own, (p,).
    middle
        Mean features that effects are believed to be small about, (p - 1,).
    at_ms
        The newest decision, which the sums were aged to.
    """
    moved = _moved(stack, middle)
    return _turned(Alone.of(moved, own).taught(moved, at_ms), _about(-middle))


def middle_of(stack: Stack) -> FloatArray:
    """Give the mean features of those whose rewards are expected, (p - 1,)."""
    seen: FloatArray = stack.grams[:, 0].sum(axis=0)  # (p,)
    middle: FloatArray = seen[1:] / max(float(seen[0]), TINY)
    return middle


def _about(middle: FloatArray) -> FloatArray:
    """Give the matrix that takes (1, x) to (1, x - middle), (p, p)."""
    about = np.eye(1 + len(middle))
    about[1:, 0] = -middle
    return about


def _moved(stack: Stack, middle: FloatArray) -> Stack:
    about = _about(middle)
    taught = None if stack.taught is None else _turned(stack.taught, about)
    return replace(
        stack,
        grams=about @ stack.grams @ about.T,
        moments=stack.moments @ about.T,
        taught=taught,
    )


def _turned(taught: Statistics, about: FloatArray) -> Statistics:
    """Give sums over ``(M u) ⊗ a`` of those over ``u ⊗ a``: ``(M ⊗ I) G (M ⊗ I)'``."""
    p, d = len(about), len(taught.moment)
    half = (about @ taught.gram.reshape(p, -1)).reshape(d, d)
    gram = (about @ half.T.reshape(p, -1)).reshape(d, d)
    return replace(
        taught,
        gram=(gram + gram.T) / 2.0,
        moment=(about @ taught.moment.reshape(p, -1)).ravel(),
    )
