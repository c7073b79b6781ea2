import numpy as np
import pytest

from streams.core.policies import DEFAULT_POLICY
from streams.simulation.offline import run_waves
from streams.simulation.world import Company
from tests.bench.figures import Figure, write_figures

SEEDS = range(1, 21)
OF_ORACLE, OVER_SINGLE, ENOUGH = 0.92, 1.10, 18


@pytest.mark.bench
def test_six_waves_win_most_of_what_there_is_in_eighteen_of_twenty_worlds():
    figures, runs = [], {}
    for seed in SEEDS:
        runs[seed] = run_waves(Company.create(seed), DEFAULT_POLICY, {}, seed)
        last = runs[seed][-1]
        figures += [
            Figure(
                name=f"seed {seed}, wave {last.wave}",
                value=last.policy,
                unit="reward per send",
                peer=peer,
                peer_value=peer_value,
                ratio=last.policy / peer_value,
            )
            for peer, peer_value in (("oracle", last.oracle), ("best single", last.best_single))
        ]
    won = {
        seed: waves[-1].policy >= OF_ORACLE * waves[-1].oracle
        and waves[-1].policy >= OVER_SINGLE * waves[-1].best_single
        for seed, waves in runs.items()
    }
    for wave in range(6):
        ratios = [waves[wave].policy / waves[wave].oracle for waves in runs.values()]
        figures.append(
            Figure(
                name=f"wave {wave + 1}, median of {len(SEEDS)} seeds",
                value=float(np.median([waves[wave].policy for waves in runs.values()])),
                unit="reward per send",
                peer="oracle",
                peer_value=float(np.median([waves[wave].oracle for waves in runs.values()])),
                ratio=float(np.median(ratios)),
            )
        )
    figures.append(
        Figure(
            name=f"seeds with {OF_ORACLE:.0%} of the oracle and {OVER_SINGLE:.0%} of the best "
            "single template in the last wave",
            value=float(sum(won.values())),
            unit=f"of {len(SEEDS)} seeds",
            bar=f">= {ENOUGH}",
            holds=sum(won.values()) >= ENOUGH,
        )
    )
    write_figures("bench", "demo_seeds", figures)
    assert sum(won.values()) >= ENOUGH, [seed for seed, one in won.items() if not one]
