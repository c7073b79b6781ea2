import numpy as np
import pytest

from schemas.errors import PropensityError
from streams.core.policies import draw, floored


def test_the_floor_leaves_every_eligible_action_its_share():
    eligible = np.array([[True, True, True, False], [False] * 4])
    dist = floored(np.array([[1.0, 0.0, 0.0, 0.0], [0.0] * 4]), eligible, 0.03)
    np.testing.assert_allclose(dist[0], [0.98, 0.01, 0.01, 0.0])
    assert (dist[1] == 0.0).all()


def test_the_default_floor_is_two_percent():
    dist = floored(np.array([[1.0, 0.0]]), np.ones((1, 2), dtype=bool))
    np.testing.assert_allclose(dist, [[0.99, 0.01]])


@pytest.mark.parametrize("floor", [-0.01, 1.01, np.nan])
def test_a_floor_is_a_share(floor):
    with pytest.raises(PropensityError, match="floor must lie in"):
        floored(np.array([[1.0]]), np.array([[True]]), floor)


def test_what_has_no_probability_is_never_drawn():
    dist = np.tile([0.0, 0.5, 0.0, 0.5, 0.0], (20_000, 1))
    drawn = draw(dist, np.random.default_rng(0))
    assert set(np.unique(drawn)) == {1, 3}
    assert abs((drawn == 1).mean() - 0.5) < 0.02


def test_the_smallest_random_number_draws_the_first_that_is_possible():
    class Zeros:
        def random(self, n):
            return np.zeros(n)

    assert draw(np.array([[0.0, 0.4, 0.6]]), Zeros()).tolist() == [1]


def test_a_certain_action_is_always_drawn():
    assert (draw(np.tile([0.0, 0.0, 1.0], (1_000, 1)), np.random.default_rng(0)) == 2).all()


def test_a_row_of_zeros_draws_nothing_and_leaves_the_others_alone():
    dist = np.array([[0.3, 0.7], [0.0, 0.0], [0.3, 0.7]])
    drawn = draw(dist, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    assert drawn[1] == -1
    assert (drawn[[0, 2]] >= 0).all()


@pytest.mark.parametrize("row", [[0.5, 0.4], [0.6, 0.6], [1.5, -0.5], [np.nan, 1.0]])
def test_what_is_no_distribution_is_not_drawn_from(row):
    with pytest.raises(PropensityError, match="probabilit"):
        draw(np.array([row]), np.random.default_rng(0))
