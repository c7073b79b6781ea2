"""Ten million updates, and features that are nearly or altogether the same."""

from dataclasses import replace

import numpy as np
import pytest

from streams.core.policies import (
    ActionSet,
    Examples,
    LinearThompson,
    LogisticThompson,
    Statistics,
)
from streams.core.policies.beliefs import Beliefs
from streams.core.policies.hierarchical_linear import HierarchicalLinear
from streams.core.policies.linear_statistics import statistics_of
from streams.core.policies.log_linear import LogLinear

CHUNK, CHUNKS = 1_000, 10_000


def chunk_of(x, a, rewards, at_ms=None) -> Examples:
    n = len(x)
    return Examples(
        contexts=x,
        actions=("a",) * n,
        action_features=a,
        rewards=rewards,
        previous=np.full(n, np.nan),
        at_ms=np.zeros(n, dtype=np.int64) if at_ms is None else at_ms,
    )


@pytest.mark.parametrize("half_life_days", [0.0, 0.5])
def test_ten_million_updates_leave_the_posterior_definite(half_life_days):
    rng = np.random.default_rng(0)
    policy = LinearThompson(2, 1, half_life_days=half_life_days)
    # sums of ten chunks of which one feature nearly repeats another, added 1,000 times each
    parts = []
    for _ in range(10):
        x = rng.normal(size=(CHUNK, 2))
        x[:, 1] = x[:, 0] * 1e3 + 1e-3 * x[:, 1]
        a = rng.normal(size=(CHUNK, 1))
        rewards = 0.05 + 0.02 * x[:, 0] * a[:, 0] + rng.normal(0.0, 0.2, CHUNK)
        half_life_ms = policy.beliefs.half_life_ms
        parts.append(statistics_of(chunk_of(x, a, rewards), half_life_ms))
    for step in range(CHUNKS):
        policy.reward_model.fold(replace(parts[step % 10], at_ms=step * 60_000))
    assert policy.reward_model.sums.n == CHUNK * CHUNKS
    gram = policy.reward_model.sums.gram
    assert (gram == gram.T).all()
    posterior = policy.posterior
    assert (np.diagonal(posterior.factor) > 0.0).all()
    assert np.isfinite(posterior.draws(64, rng)).all()
    assert posterior.noise_variance == pytest.approx(0.04, rel=0.1)


def test_ten_million_updates_leave_what_actions_have_of_their_own_definite():
    rng = np.random.default_rng(5)
    model = HierarchicalLinear(2, 1, Beliefs(half_life_days=0.5))
    a = rng.normal(size=(10, 1))
    parts = []
    for _ in range(10):
        x = rng.normal(size=(CHUNK, 2))
        x[:, 1] = x[:, 0] * 1e3 + 1e-3 * x[:, 1]
        taken = rng.integers(len(a), size=CHUNK)
        rewards = 0.05 + 0.02 * x[:, 0] * a[taken, 0] + rng.normal(0.0, 0.2, CHUNK)
        part = HierarchicalLinear(2, 1, Beliefs(half_life_days=0.5))
        part.learn(replace(chunk_of(x, a[taken], rewards), actions=tuple(map(str, taken))))
        parts.append(part.kept)
    for step in range(CHUNKS):
        part = parts[step % 10]
        for key, sums in part.sums.items():
            part.sums[key] = replace(sums, at_ms=step * 60_000)
        model.kept.fold(part)
    assert sum(sums.n for sums in model.kept.sums.values()) == CHUNK * CHUNKS
    hierarchy = model.hierarchy
    assert (np.diagonal(hierarchy.theta.factor) > 0.0).all()
    assert np.isfinite(hierarchy.root).all()
    assert model.noise_variance == pytest.approx(0.04, rel=0.1)


def test_sums_of_ten_million_examples_stay_those_of_the_definition():
    rng = np.random.default_rng(1)
    examples = chunk_of(
        rng.normal(size=(CHUNK, 1)), rng.normal(size=(CHUNK, 1)), rng.normal(size=CHUNK)
    )
    part = statistics_of(examples)
    total = Statistics.empty(4)
    for _ in range(CHUNKS):
        total = total.plus(part)
    np.testing.assert_allclose(total.gram, CHUNKS * part.gram, rtol=1e-10)
    np.testing.assert_allclose(total.moment, CHUNKS * part.moment, rtol=1e-10)


@pytest.mark.parametrize("kind", [LinearThompson, LogisticThompson])
@pytest.mark.parametrize("size", [1e9, 1e5, 1e-9])
def test_features_of_one_column_are_no_reason_to_fail(kind, size):
    policy = kind(3, 2)
    rng = np.random.default_rng(2)
    for _ in range(20):
        x = np.repeat(rng.normal(size=(200, 1)), 3, axis=1) * size
        a = np.repeat(rng.normal(size=(200, 1)), 2, axis=1)
        policy.learn_many(chunk_of(np.clip(x, -1e9, 1e9), a, (rng.random(200) < 0.1) * 1.0))
    model = policy.reward_model
    assert np.isfinite(model.posterior.mean).all()
    assert np.isfinite(model.posterior.normals(16, rng)).all()


def test_logistic_curvature_stays_definite_over_many_chunks():
    policy = LogisticThompson(2, 1)
    rng = np.random.default_rng(3)
    for _ in range(300):
        x = rng.normal(size=(1_000, 2))
        clicks = (rng.random(1_000) < 0.03) * 1.0
        policy.learn_many(chunk_of(x, rng.normal(size=(1_000, 1)), clicks))
    eigenvalues = np.linalg.eigvalsh(policy.reward_model.sums.gram)
    assert eigenvalues.min() > 0.0
    none = policy.reward_model.posterior.mean[1:]
    assert np.abs(none).max() < 0.05  # nothing matters in this world
    assert policy.reward_model.posterior.mean[0] == pytest.approx(np.log(0.03 / 0.97), abs=0.05)


def test_ten_million_updates_leave_what_is_believed_of_rates_definite():
    rng = np.random.default_rng(6)
    model, parts = LogLinear(2, 1, Beliefs()), []
    a = rng.normal(size=(10, 1))
    for _ in range(10):
        x = rng.normal(size=(CHUNK, 2))
        x[:, 1] = x[:, 0] + 1e-6 * x[:, 1]  # one feature nearly repeats another
        taken = rng.integers(len(a), size=CHUNK)
        rates = 0.05 * np.exp(0.3 * x[:, 0] * a[taken, 0])
        clicks = (rng.random(CHUNK) < rates).astype(np.float64)
        part = LogLinear(2, 1, Beliefs())
        part.learn(replace(chunk_of(x, a[taken], clicks), actions=tuple(map(str, taken))))
        parts.append(part.kept)
    for step in range(CHUNKS):
        model.kept.fold(parts[step % 10])
    model.came = {key: (0.05 * sums.n, 0.05 * sums.n) for key, sums in model.kept.sums.items()}
    for _ in range(20):
        model._since = CHUNK * CHUNKS
        model.fit_scales()
    assert (np.diagonal(model.hierarchy.theta.factor) > 0.0).all()
    assert np.isfinite(model.hierarchy.root).all()
    actions = ActionSet(ids=tuple(map(str, range(10))), features=a)
    middle = model.expected(np.zeros((1, 2)), actions)
    np.testing.assert_allclose(middle, 0.05, rtol=0.2)
