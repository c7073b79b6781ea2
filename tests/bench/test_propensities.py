import numpy as np
import pytest
from scipy import stats

from streams.core.policies import DEFAULT_POLICY, draw
from tests.bench.figures import Figure, write_figures
from tests.bench.learning.ours import Ours
from tests.bench.learning.worlds import make_world

USERS, TIMES = 20_000, 50  # a million draws
EDGES = np.array([0.0, 0.0025, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0])
CHANCE = 0.001


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_actions_come_as_often_as_their_propensities_say_in_a_million_draws():
    """Compare counts by size of propensity; within sampling error but for one run in 1,000."""
    world = make_world("linear", 1)
    rng = np.random.default_rng(7)
    ours = Ours(world.features, world.contexts.shape[2], DEFAULT_POLICY)
    may = np.ones(len(world.features), dtype=bool)
    sent = np.zeros(len(may))
    for wave in range(2):
        x = world.contexts[wave][:400]  # little is known yet: probabilities of all sizes
        taken, p = ours.decide(x, may, rng)
        means = world.expected(wave, x, sent)[np.arange(len(x)), taken]
        ours.learn(wave, x, taken, p, means + 0.3 * rng.normal(size=len(x)))
    people = rng.normal(size=(USERS, world.contexts.shape[2]))
    dist = ours.policy.action_dist(people, ours.actions, np.tile(may, (USERS, 1)), rng)
    counts = np.zeros(dist.shape)
    rows = np.arange(USERS)
    for _ in range(TIMES):
        np.add.at(counts, (rows, draw(dist, rng)), 1.0)
    sizes = np.digitize(dist, EDGES[1:-1])
    figures, squares = [], 0.0
    for size in range(len(EDGES) - 1):
        these = sizes == size
        logged = float(dist[these].sum() * TIMES)
        if not logged:
            continue
        observed = float(counts[these].sum())
        error = np.sqrt(float((dist[these] * (1.0 - dist[these])).sum() * TIMES))
        squares += ((observed - logged) / error) ** 2
        figures.append(
            Figure(
                name=f"propensity {EDGES[size]:g} to {EDGES[size + 1]:g}",
                value=observed,
                unit=f"draws, {(observed - logged) / error:+.2f} standard errors",
                peer="logged",
                peer_value=logged,
                ratio=observed / logged,
            )
        )
    # of one user no more than one action comes: sums of sizes are a little correlated, which makes
    # the test milder, not stricter
    chance = float(stats.chi2.sf(squares, len(figures) - 1))
    figures.append(
        Figure(
            name=f"all {USERS * TIMES:,} draws: chance of a difference as large",
            value=chance,
            unit="p-value, chi-squared",
            bar=f">= {CHANCE}",
            holds=chance >= CHANCE,
        )
    )
    write_figures("bench", "propensities", figures)
    assert chance >= CHANCE
