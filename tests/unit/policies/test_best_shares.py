import numpy as np
import pytest

from streams.core.policies import best_shares as module
from streams.core.policies.best_shares import best_shares, plans_of, scaled


def slowly(contexts, actions, eligible, weights):
    """Count who wins, one draw and one user at a time."""
    wins = np.zeros(eligible.shape)
    for theta in weights.reshape(len(weights), 1 + contexts.shape[1], -1):
        for row, x in enumerate(contexts):
            scores = [
                np.r_[1.0, x] @ theta @ np.r_[1.0, a] if may else -np.inf
                for a, may in zip(actions, eligible[row], strict=True)
            ]
            if eligible[row].any():
                wins[row, int(np.argmax(scores))] += 1.0
    return wins / len(weights)


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    eligible = rng.random((25, 5)) < 0.6
    eligible[0] = False
    return {
        "contexts": rng.normal(size=(25, 3)),
        "actions": rng.normal(size=(5, 2)),
        "eligible": eligible,
        "weights": rng.normal(size=(40, 12)),
    }


@pytest.mark.parametrize("cells", [1 << 18, 64])
def test_shares_are_those_of_counting(scene, cells, monkeypatch):
    monkeypatch.setattr(module, "CELLS", cells)
    monkeypatch.setattr(module, "WEIGHTS", cells)
    np.testing.assert_allclose(best_shares(**scene), slowly(**scene), atol=1e-12)


def test_what_all_actions_share_does_not_blur_small_differences(scene):
    weights = scene["weights"].copy()
    weights.reshape(40, 4, 3)[:, :, 0] += 1e9  # the level and the users' effects
    np.testing.assert_array_equal(
        best_shares(**scene), best_shares(**{**scene, "weights": weights})
    )


def test_a_large_feature_that_all_actions_share_does_not_either(scene):
    moved = {**scene, "actions": scene["actions"] + 1e6}
    np.testing.assert_allclose(best_shares(**moved), best_shares(**scene), atol=1.0 / 40)


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_the_size_of_weights_does_not_matter(scene, size):
    scaled = {**scene, "weights": scene["weights"] * size}
    np.testing.assert_allclose(best_shares(**scaled), best_shares(**scene), atol=1.0 / 40)


def test_weights_of_nothing_make_all_alike(scene):
    scene["weights"] = np.zeros((40, 12))
    eligible = scene["eligible"]
    alike = eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(best_shares(**scene), alike)


def test_actions_that_cannot_be_told_apart_share_alike(scene):
    scene["actions"] = np.zeros((5, 2))
    scene["eligible"] = np.ones((25, 5), dtype=bool)
    np.testing.assert_allclose(best_shares(**scene), 0.2)


@pytest.mark.parametrize("size", [1e-30, 1e9])
def test_the_size_of_features_does_not_matter(scene, size):
    scene["contexts"] = np.where(scene["contexts"] > 0.0, size, -size)
    shares = best_shares(**scene)
    np.testing.assert_allclose(shares.sum(axis=1), scene["eligible"].any(axis=1), atol=1e-12)


def test_draws_lie_in_memory_as_the_products_with_all_users_want_them(scene):
    (plan,) = scaled(plans_of(scene["weights"], scene["actions"]))
    assert plan.weights.flags.c_contiguous
