"""Regret relative to the best peer's, world by world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.bench.learning.suite import Results

__all__ = ["Ratio", "geometric_mean", "over_best_peer"]

Seeds = Mapping[int, np.ndarray]
RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Regret over a peer's, in total over the seeds that both were run with.

    Attributes
    ----------
    regret, peer_regret
        Mean over these seeds.
    low, high
        A 95 % bootstrap interval of the ratio, over seeds.
    """

    peer: str
    regret: float
    peer_regret: float
    value: float
    low: float
    high: float
    n_seeds: int


def ratio(mine: Seeds, peer: str, theirs: Seeds) -> Ratio:
    """Compare two contestants."""
    shared = sorted(mine.keys() & theirs.keys())
    a = np.array([mine[seed].sum() for seed in shared])
    b = np.array([theirs[seed].sum() for seed in shared])
    picks = np.random.default_rng(0).integers(len(shared), size=(RESAMPLES, len(shared)))
    low, high = np.quantile(a[picks].sum(axis=1) / b[picks].sum(axis=1), [0.025, 0.975])
    return Ratio(
        peer=peer,
        regret=float(a.mean()),
        peer_regret=float(b.mean()),
        value=float(a.sum() / b.sum()),
        low=float(low),
        high=float(high),
        n_seeds=len(shared),
    )


def over_best_peer(name: str, world: Mapping[str, Seeds], peers: Sequence[str]) -> Ratio:
    """Compare a contestant with the peer that it looks worst beside, itself left out."""
    found = [ratio(world[name], peer, world[peer]) for peer in peers if peer != name]
    return max(found, key=lambda one: one.value)


def geometric_mean(
    name: str, results: Results, peers: Sequence[str]
) -> tuple[float, tuple[float, float]]:
    """Give the mean of the logarithms of a contestant's ratios, as a ratio, with an interval.

    The interval takes the worlds as they are, and errors of their ratios as independent.
    """
    ratios = [over_best_peer(name, world, peers) for world in results.values()]
    logs = np.log([one.value for one in ratios])
    errors = np.array([np.log(one.high / one.low) / (2 * 1.96) for one in ratios])
    half = 1.96 * float(np.sqrt((errors**2).sum())) / len(ratios)
    middle = float(logs.mean())
    return float(np.exp(middle)), (float(np.exp(middle - half)), float(np.exp(middle + half)))
