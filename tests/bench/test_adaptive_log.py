import os

import numpy as np
import pytest

from streams.core.evaluation import LoggedDecisions, estimate_adaptive_dr
from tests.bench.figures import Figure, write_figures
from tests.bench.learning.suite import DEFAULT, in_parallel
from tests.bench.logged_campaign import EVALUATED, TRUTHS, oracle_error, run_campaign

LOGS = int(os.environ.get("GROUNDSWELL_BENCH_LOGS", "1000"))
LOW, HIGH, WIDTH = 0.930, 0.970, 1.5
NORMAL = 1.959964


def valued(seed: int) -> dict[str, tuple[float, float, float, float]]:
    """Value every policy on one log: estimate, low, high, and the oracle's half width."""
    log = run_campaign(DEFAULT, seed)
    rows = np.arange(len(log.actions))
    decisions = LoggedDecisions(
        actions=log.actions, rewards=log.rewards, propensities=log.dist[rows, log.actions]
    )
    found = {}
    for name, policy in EVALUATED.items():
        one = estimate_adaptive_dr(
            decisions,
            policy(log.contexts),
            log.predicted,
            waves=log.waves,
            logging_dist=log.dist,
        )
        found[name] = (one.value, one.low, one.high, NORMAL * oracle_error(log, name))
    return found


@pytest.mark.bench
@pytest.mark.timeout(3_600)
def test_a_log_of_the_default_policy_tells_what_others_would_have_earned():
    """95 % intervals hold the truth in 93 to 97 % of logs, at most 1.5 times an oracle's width."""
    logs = list(in_parallel(valued, [(seed,) for seed in range(LOGS)]))
    figures = []
    for name in EVALUATED:
        value, low, high, oracle = (np.array([log[name][i] for log in logs]) for i in range(4))
        truth = TRUTHS[name][0]
        covered = float(((low <= truth) & (truth <= high)).mean())
        width = float((high - low).mean() / (2.0 * oracle.mean()))
        figures += [
            Figure(
                name=f"{name}: 95 % intervals that hold the true value",
                value=covered * LOGS,
                unit=f"of {LOGS} logs",
                ratio=covered,
                bar=f"{LOW:.0%} to {HIGH:.0%}",
                holds=LOW <= covered <= HIGH,
            ),
            Figure(
                name=f"{name}: width",
                value=float((high - low).mean()),
                unit="reward a decision",
                peer="the interval of who knows all expected rewards and the noise",
                peer_value=float(2.0 * oracle.mean()),
                ratio=width,
                bar=f"<= {WIDTH}",
                holds=width <= WIDTH,
            ),
            Figure(
                name=f"{name}: mean error",
                value=float((value - truth).mean()),
                unit=f"reward a decision, true value {truth:.4f}",
            ),
        ]
    write_figures("bench", "adaptive_log", figures)
    short = [figure.name for figure in figures if figure.holds is False]
    assert not short, f"below their bars: {', '.join(short)}"
