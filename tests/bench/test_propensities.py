import dataclasses

import numpy as np
import pytest
from scipy import stats

from schemas.campaign import ContextFeature, Template
from streams.core.policies import DEFAULT_POLICY
from streams.core.profiles import Profile
from streams.core.waves import Wave, deciding_policy
from tests.bench.figures import Figure, write_figures
from tests.bench.learning.ours import Ours
from tests.bench.learning.worlds import make_world
from tests.unit.agents.shard import NOON, campaign, wave_start

USERS, WAVES, CHUNK = 2_000, 500, 500  # a million decisions
EDGES = np.array([0.0, 0.0025, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0])
SIZES = len(EDGES) - 1
CHANCE = 0.001


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_actions_come_as_often_as_their_propensities_say_in_a_million_decisions():
    """Compare how often actions of each size of logged propensity were taken, as waves decide.

    Nothing is drawn here: decisions and their log come from the code that workers run, each wave
    with draws of the posterior of its own. They are within sampling error but for one run in 1,000:
    of one user exactly one action comes, so that the sizes' counts have the covariance of a sum of
    multinomials.
    """
    policy, templates, d_user = learned_a_little()
    spring = campaign(
        templates=templates,
        context=[ContextFeature(attribute=f"x{rank:02d}") for rank in range(d_user)],
        policy=DEFAULT_POLICY,
        waves=WAVES + 1,
        holdout=0.0,
        baseline_action=None,
        baseline_share=0.0,
    )
    people = company(d_user)
    observed, logged = np.zeros(SIZES), np.zeros(SIZES)
    covariance = np.zeros((SIZES, SIZES))
    for number in range(WAVES):
        start = dataclasses.replace(wave_start(spring), wave=number)
        wave = Wave(start, deciding_policy(start, policy))
        for chunk, first in enumerate(range(0, USERS, CHUNK)):
            choices = wave.decide(people[first : first + CHUNK], chunk, NOON)
            assert len(choices) == CHUNK
            odds = np.array([choice.entry.probabilities for choice in choices])
            ranks = [choice.entry.actions.index(choice.decision.action) for choice in choices]
            sizes = np.digitize(odds, EDGES[1:-1])  # (n, n_actions)
            by_size = np.stack([(odds * (sizes == size)).sum(axis=1) for size in range(SIZES)])
            observed += np.bincount(sizes[np.arange(CHUNK), ranks], minlength=SIZES)
            logged += by_size.sum(axis=1)
            covariance += np.diag(by_size.sum(axis=1)) - by_size @ by_size.T
    assert (logged > 1_000).all(), "not every size of propensity came"
    assert logged.sum() == pytest.approx(USERS * WAVES)
    error = np.sqrt(np.diag(covariance))
    figures = [
        Figure(
            name=f"propensity {EDGES[size]:g} to {EDGES[size + 1]:g}",
            value=observed[size],
            unit=f"decisions, {(observed[size] - logged[size]) / error[size]:+.2f} standard errors",
            peer="logged",
            peer_value=logged[size],
            ratio=observed[size] / logged[size],
        )
        for size in range(SIZES)
    ]
    apart = observed - logged
    squares = float(apart @ np.linalg.pinv(covariance, hermitian=True) @ apart)
    chance = float(stats.chi2.sf(squares, SIZES - 1))  # they sum to the same number
    figures.append(
        Figure(
            name=f"all {USERS * WAVES:,} decisions: chance of a difference as large",
            value=chance,
            unit="p-value, chi-squared",
            bar=f">= {CHANCE}",
            holds=chance >= CHANCE,
        )
    )
    write_figures("bench", "propensities", figures)
    assert chance >= CHANCE


def learned_a_little():
    """The default policy while little is known yet: probabilities of all sizes."""
    world = make_world("linear", 1)
    rng = np.random.default_rng(7)
    d_user = world.contexts.shape[2]
    ours = Ours(world.features, d_user, DEFAULT_POLICY)
    may = np.ones(len(world.features), dtype=bool)
    sent = np.zeros(len(may))
    for wave in range(2):
        x = world.contexts[wave][:400]
        taken, p = ours.decide(x, may, rng)
        means = world.expected(wave, x, sent)[np.arange(len(x)), taken]
        ours.learn(wave, x, taken, p, means + 0.3 * rng.normal(size=len(x)))
    templates = [
        Template(
            id=ours.actions.ids[rank],
            channel="email",
            features={f"a{column:02d}": float(value) for column, value in enumerate(row)},
        )
        for rank, row in enumerate(world.features)
    ]
    return ours.policy, templates, d_user


def company(d_user: int) -> list[tuple[str, Profile]]:
    rows = np.random.default_rng(3).normal(size=(USERS, d_user))
    return [
        (
            f"user-{number:04d}",
            Profile(
                attributes={f"x{rank:02d}": float(value) for rank, value in enumerate(row)},
                contacts={"email": f"{number}@example.com"},
            ),
        )
        for number, row in enumerate(rows)
    ]
