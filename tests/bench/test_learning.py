import os
import time

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from tests.bench.figures import BUILD, Figure, write_figures
from tests.bench.learning.peers import PEERS
from tests.bench.learning.pictures import draw_curves
from tests.bench.learning.ratios import geometric_mean, over_best_peer
from tests.bench.learning.suite import DEFAULT, OURS, Results, run_suite
from tests.bench.learning.worlds import WORLDS, available

SEEDS = int(os.environ.get("GROUNDSWELL_BENCH_SEEDS", "20"))
FIRST = 101  # settings were chosen on the seeds below
MEAN_BAR, WORLD_BAR = 1.00, 1.08
HELD = (DEFAULT,)  # held to the bars; the others are there to compare


@pytest.mark.bench
@pytest.mark.timeout(3_600)
def test_regret_beside_peers_that_are_tuned_for_each_world():
    """Measure, keep the figures and the pictures, and fail where a bar does not hold."""
    began = time.monotonic()
    results = run_suite(available(), range(FIRST, FIRST + SEEDS))
    minutes = (time.monotonic() - began) / 60.0
    figures = [
        *_figures(results),
        Figure(
            name="worlds run",
            value=float(len(results)),
            unit=f"of {len(WORLDS)}, {_left_out(results)}",
        ),
        Figure(name="time taken", value=minutes, unit="minutes"),
    ]
    write_figures("bench", "learning", figures)
    _print_ratios(results)
    for world, runs in results.items():
        curves = {
            name: np.array([seeds[seed] for seed in sorted(seeds)])
            for name, seeds in runs.items()
            if name in HELD or (name in PEERS and name != "uniform")
        }
        draw_curves(BUILD / "bench" / "learning", world, curves, frozenset(PEERS))
    assert all(np.isfinite(one.ratio) for one in figures if one.ratio is not None)
    for world, runs in results.items():
        worst = over_best_peer(DEFAULT, {**runs}, ("uniform",))
        assert worst.value < 0.8, f"{DEFAULT} does not learn in world {world!r}"
    short = [figure.name for figure in figures if figure.holds is False]
    assert not short, f"below their bars: {', '.join(short)}"


def _left_out(results: Results) -> str:
    missing = sorted(set(WORLDS) - set(results))
    if not missing:
        return "none left out"
    return f"without {', '.join(missing)}: set GROUNDSWELL_TEST_DATA to the folder of its data"


def _figures(results: Results) -> list[Figure]:
    peers, figures = tuple(PEERS), []
    for name in OURS:
        mean, (low, high) = geometric_mean(name, results, peers)
        held = name in HELD
        figures.append(
            Figure(
                name=f"{name}: geometric mean of {len(results)} worlds",
                value=mean,
                unit=f"regret over the best peer's, {low:.3f} to {high:.3f}",
                ratio=mean,
                bar=f"<= {MEAN_BAR:.2f}" if held else None,
                holds=mean <= MEAN_BAR if held else None,
            )
        )
    for world, runs in results.items():
        for name in (*OURS, *PEERS):
            one = over_best_peer(name, runs, peers)
            held = name in HELD
            figures.append(
                Figure(
                    name=f"{world}: {name}",
                    value=one.regret,
                    unit=f"regret of {one.n_seeds} seeds, ratio {one.low:.2f} to {one.high:.2f}",
                    peer=one.peer,
                    peer_value=one.peer_regret,
                    ratio=one.value,
                    bar=f"<= {WORLD_BAR}" if held else None,
                    holds=one.value <= WORLD_BAR if held else None,
                )
            )
    return figures


def _print_ratios(results: Results) -> None:
    table = Table(title=f"regret over the best peer's, {SEEDS} seeds", title_justify="left")
    table.add_column("contestant")
    for world in results:
        table.add_column(world, justify="right")
    table.add_column("geometric mean", justify="right")
    for name in (*OURS, *PEERS):
        ratios = [over_best_peer(name, runs, tuple(PEERS)).value for runs in results.values()]
        mean = float(np.exp(np.mean(np.log(ratios))))
        table.add_row(name, *(f"{value:.2f}" for value in ratios), f"{mean:.3f}")
    Console(width=180).print(table)
