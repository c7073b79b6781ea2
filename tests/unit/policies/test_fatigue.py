import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, LinearThompson, LogisticThompson, recovering
from streams.core.policies.fatigue import NEVER

TWO = ActionSet(ids=("a", "b"), features=np.array([[1.0], [-1.0]]))
BOTH = np.ones((1, 2), dtype=bool)


def test_half_is_recovered_after_the_half_life():
    hours = np.array([[0.0, 36.0, 72.0, NEVER]])
    np.testing.assert_allclose(recovering(hours, 0.02, 36.0), [[0.02, 0.01, 0.005, 0.0]])


def test_no_size_is_no_handicap():
    assert (recovering(np.array([[0.0, NEVER]]), 0.0, 24.0) == 0.0).all()


def test_what_was_never_sent_loses_nothing_and_long_ago_underflows_to_it():
    loss = recovering(np.array([[1e9, NEVER]]), 0.02, 1e-3)
    assert (loss == 0.0).all()


@pytest.mark.parametrize(
    ("hours", "size", "half_life", "says"),
    [
        (-1.0, 0.1, 24.0, "at least 0, got -1.0: give infinity"),
        (float("nan"), 0.1, 24.0, "at least 0, got nan"),
        (1.0, -0.1, 24.0, "size must be at least 0, got -0.1"),
        (1.0, float("inf"), 24.0, "size must be at least 0, got inf"),
        (1.0, 0.1, 0.0, "half_life_hours must be above 0, got 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(hours, size, half_life, says):
    with pytest.raises(PolicyError, match=says):
        recovering(np.array([[hours]]), size, half_life)


def test_a_handicap_of_another_shape_is_refused():
    policy = LinearThompson(0, 1)
    for handicap, says in (
        (np.zeros((1, 3)), "handicap must have shape"),
        (np.full((1, 2), np.nan), "handicap must be finite"),
    ):
        with pytest.raises(PolicyError, match=says):
            policy.action_dist(
                np.zeros((1, 0)), TWO, BOTH, np.random.default_rng(0), handicap=handicap
            )


@pytest.mark.parametrize("kind", [LinearThompson, LogisticThompson])
def test_odds_return_as_an_action_recovers(kind):
    policy = kind(0, 1, draws=4_096, floor=0.0)
    shares = []
    for hours in (0.0, 24.0, 96.0, NEVER):
        handicap = recovering(np.array([[hours, NEVER]]), 0.02, 24.0)
        dist = policy.action_dist(
            np.zeros((1, 0)), TWO, BOTH, np.random.default_rng(1), handicap=handicap
        )
        shares.append(dist[0, 0])
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[3] == pytest.approx(0.5, abs=0.03)


def test_the_odds_under_a_handicap_are_those_of_the_shifted_belief():
    """One weight, two actions at a distance of 2: P(2 w > h) is a Student's tail."""
    policy = LinearThompson(0, 1, draws=16_384, floor=0.0, exploration=1.0, adapt=False)
    rng = np.random.default_rng(2)
    weights = policy.posterior.draws(200_000, rng)[:, 1]
    handicap = np.array([[0.015, 0.0]])
    dist = policy.action_dist(
        np.zeros((1, 0)), TWO, BOTH, np.random.default_rng(1), handicap=handicap
    )
    assert dist[0, 0] == pytest.approx((2.0 * weights > 0.015).mean(), abs=0.012)
