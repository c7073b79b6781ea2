"""What learning at once is worth to a campaign that does not wait for its windows."""

import numpy as np
import pytest

from tests.bench.figures import Figure, write_figures
from tests.bench.learning.delays import Delays, regret

SEEDS = range(10)
QUICK, SLOW = Delays(mean=0.5), Delays(mean=12.0)


@pytest.mark.bench
def test_learning_at_once_loses_less_than_waiting_for_the_window():
    figures = []
    for name, delays, bar in (
        ("clicks within half a period", QUICK, 0.6),
        ("clicks within half the window", SLOW, 1.0),
    ):
        waits, at_once = (
            np.array([regret(delays, learn_at, seed) for seed in SEEDS])
            for learn_at in ("close", "decision")
        )
        ratio = float(np.median(at_once / waits))
        figures.append(
            Figure(
                name=f"learn_at decision, {name}, {len(SEEDS)} seeds",
                value=float(np.median(at_once)),
                unit="regret a send",
                peer="learn_at close",
                peer_value=float(np.median(waits)),
                ratio=ratio,
                bar=f"<= {bar:g}",
                holds=ratio <= bar,
            )
        )
    write_figures("bench", "learn_at", figures)
    assert all(figure.holds for figure in figures), figures
