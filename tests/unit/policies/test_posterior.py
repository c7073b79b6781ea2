import numpy as np
import pytest
from scipy import stats

from streams.core.policies import Examples, LinearThompson
from streams.core.policies.linear_statistics import crossed, statistics_of
from streams.core.policies.posterior import Posterior, Prior


@pytest.fixture
def chunk(examples):
    return examples(n=50, corrections=False)


@pytest.fixture
def prior():
    return Prior(
        mean=np.linspace(-0.1, 0.1, 12), precision=np.linspace(1.0, 9.0, 12), shape=1.5, rate=0.2
    )


def test_the_mean_is_the_ridge_solution(chunk):
    policy = LinearThompson(3, 2, adapt=False)
    policy.learn_many(chunk)
    phi = crossed(chunk.contexts, chunk.action_features)
    # (1, x) ⊗ (1, a): the first three are the constant and the action's, then each x and its own
    penalty = np.diag([1.0, 100, 100] + 3 * [100.0, 300, 300])
    ridge = np.linalg.solve(
        phi.T @ phi + penalty, phi.T @ chunk.rewards + penalty @ np.array([0.03] + [0.0] * 11)
    )
    np.testing.assert_allclose(policy.posterior.mean, ridge, rtol=1e-9, atol=1e-12)


def test_the_noise_is_the_inverse_gamma_of_the_residuals(chunk, prior):
    phi = crossed(chunk.contexts, chunk.action_features)
    posterior = Posterior.of(statistics_of(chunk), prior)
    residual = chunk.rewards - phi @ posterior.mean
    shift = posterior.mean - prior.mean
    assert posterior.shape == 1.5 + 25.0
    assert posterior.rate == pytest.approx(
        0.2 + (residual @ residual + shift @ (prior.precision * shift)) / 2.0, rel=1e-9
    )
    assert posterior.noise_variance == pytest.approx(posterior.rate / posterior.shape)


def test_the_evidence_is_the_student_density_of_the_rewards(chunk, prior):
    phi = crossed(chunk.contexts, chunk.action_features)
    sums = statistics_of(chunk)

    def density(precision):
        shape = prior.rate / prior.shape * (np.eye(50) + phi @ np.diag(1.0 / precision) @ phi.T)
        return stats.multivariate_t(phi @ prior.mean, shape, df=2 * prior.shape).logpdf(
            chunk.rewards
        )

    def evidence(precision):
        other = Prior(mean=prior.mean, precision=precision, shape=prior.shape, rate=prior.rate)
        return Posterior.of(sums, other).log_evidence

    tight, loose = np.full(12, 100.0), np.full(12, 2.0)
    assert evidence(tight) - evidence(loose) == pytest.approx(
        density(tight) - density(loose), rel=1e-7
    )


def test_draws_have_the_posterior_spread(chunk, prior):
    posterior = Posterior.of(statistics_of(chunk), prior)
    draws = posterior.draws(40_000, np.random.default_rng(1))
    phi = crossed(chunk.contexts, chunk.action_features)
    expected = np.linalg.inv(phi.T @ phi + np.diag(prior.precision))
    expected *= posterior.rate / (posterior.shape - 1.0)  # E[s²] of the inverse gamma
    np.testing.assert_allclose(draws.mean(axis=0), posterior.mean, atol=1.5e-3)
    scale = np.sqrt(np.diagonal(expected))
    np.testing.assert_allclose(
        np.cov(draws.T) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.04
    )


def test_no_exploration_draws_the_mean(chunk, prior):
    posterior = Posterior.of(statistics_of(chunk), prior)
    draws = posterior.draws(5, np.random.default_rng(1), widen=0.0)
    np.testing.assert_array_equal(draws, np.tile(posterior.mean, (5, 1)))


def test_repeated_features_are_no_reason_to_fail():
    x = np.ones((30, 3)) * 1e6
    gram = statistics_of(
        Examples(
            contexts=x,
            actions=("a",) * 30,
            action_features=np.ones((30, 2)) * 1e6,
            rewards=np.ones(30),
            previous=np.full(30, np.nan),
            at_ms=np.zeros(30, dtype=np.int64),
        )
    )
    weak = Prior(mean=np.zeros(12), precision=np.full(12, 1e-3), shape=1.0, rate=1.0)
    posterior = Posterior.of(gram, weak)
    assert np.isfinite(posterior.draws(10, np.random.default_rng(0))).all()
