"""How large effects are, learned from the data: empirical Bayes for groups of weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streams.core.policies.data import BoolArray
from streams.core.policies.linear_statistics import Statistics
from streams.core.policies.posterior import Posterior, Prior

__all__ = ["ScaledPrior", "fit_scales", "groups_of"]

# candidate precisions, as factors of the believed one
STEPS = tuple(float(10.0**power) for power in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5))
# log10(factor) ~ N(0, BELIEF²): few data leave the precision where it was believed to be
BELIEF = 0.75
SWEEPS = 2


def groups_of(d_user: int, d_action: int) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Say which weights of the crossed features are effects of the user, the action, and of both.

    Returns
    -------
    tuple[BoolArray, BoolArray, BoolArray]
        Masks, each (d,), with d = (1 + d_user)(1 + d_action); the constant is in none.
    """
    of_user, of_action = np.arange(1 + d_user) > 0, np.arange(1 + d_action) > 0
    return (
        np.outer(of_user, ~of_action).ravel(),
        np.outer(~of_user, of_action).ravel(),
        np.outer(of_user, of_action).ravel(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledPrior:
    """A prior whose precision is one number for each group of weights.

    Attributes
    ----------
    base
        The prior with the constant's precision, and anything (positive) elsewhere.
    groups
        Masks over the weights, each (d,).
    precisions
        One a group.
    """

    base: Prior
    groups: tuple[BoolArray, ...]
    precisions: tuple[float, ...]

    def prior(self, factors: Sequence[float]) -> Prior:
        """Give the prior with every group's precision multiplied by its factor."""
        precision = self.base.precision.copy()
        for mask, believed, factor in zip(self.groups, self.precisions, factors, strict=True):
            precision[mask] = believed * factor
        return replace(self.base, precision=precision)


def fit_scales(statistics: Statistics, scaled: ScaledPrior) -> Posterior:
    """Choose each group's precision by the evidence, one group after the other.

    Type II maximum likelihood (MacKay 1992, Bayesian interpolation; Bishop 2006, section 3.5) on
    a grid, with a belief about the precision, so that two examples do not settle it.

    Parameters
    ----------
    statistics
        Sums over the examples.
    scaled
        The prior before, and the groups.

    Returns
    -------
    Posterior
        Under the best prior found. The same input gives the same.
    """
    chosen = [1.0] * len(scaled.groups)
    best = Posterior.of(statistics, scaled.prior(chosen))
    if not statistics.weight:
        return best
    best_score = best.log_evidence
    for _ in range(SWEEPS):
        before = list(chosen)
        for group, mask in enumerate(scaled.groups):
            if not mask.any():
                continue
            for step in STEPS:
                if step == chosen[group]:
                    continue
                trial = [*chosen[:group], step, *chosen[group + 1 :]]
                posterior = Posterior.of(statistics, scaled.prior(trial))
                score = posterior.log_evidence + _belief(trial)
                if score > best_score:
                    best, best_score, chosen = posterior, score, trial
        if chosen == before:
            break
    return best


def _belief(factors: Sequence[float]) -> float:
    return -float(sum(np.log10(factor) ** 2 for factor in factors)) / (2.0 * BELIEF**2)
