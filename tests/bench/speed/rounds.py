"""Contestants in turns, and what is told of them."""

import statistics
from collections.abc import Callable, Mapping
from typing import TypeVar

from tests.bench.figures import Figure

__all__ = ["interleaved", "median_ratio", "spread"]

T = TypeVar("T")


def interleaved(contestants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every contestant in each round, in turns: what the machine does meets them alike.

    Each is run once before that, for nothing: a broker is slow until its code is compiled.
    """
    results: dict[str, list[T]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            results[name].append(contestants[name]())
    return results


def median_ratio(
    name: str, unit: str, ours: list[float], peer: str, theirs: list[float], least: float | None
) -> Figure:
    """Our median over the peer's; of a bar, whether it holds."""
    value, other = statistics.median(ours), statistics.median(theirs)
    return Figure(
        name=name,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=other,
        ratio=value / other,
        bar=None if least is None else f">= {least:g}",
        holds=None if least is None else value / other >= least,
    )


def spread(values: list[float]) -> str:
    """The least and the largest of what was measured, for a unit's text."""
    return f"{min(values):,.0f} to {max(values):,.0f}"
