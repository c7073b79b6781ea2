import numpy as np
import pytest

from schemas.errors import EvaluationError, PropensityError
from streams.core.evaluation import (
    LoggedDecisions,
    estimate_dm,
    estimate_dr,
    estimate_ips,
    estimate_snips,
    importance_weights,
)


def a_log(**changes) -> LoggedDecisions:
    values = {
        "actions": [0, 1, 1],
        "rewards": [1.0, 0.0, 1.0],
        "propensities": [0.5, 0.25, 0.5],
    } | changes
    return LoggedDecisions(**{name: np.array(value) for name, value in values.items()})


HALF = np.full((3, 2), 0.5)


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.0001, np.nan, np.inf])
def test_a_propensity_that_no_draw_can_have_had_is_refused(bad):
    with pytest.raises(PropensityError, match=r"\(0, 1\], got .* in row 1: log the probability"):
        a_log(propensities=[0.5, bad, 0.5])


def test_a_propensity_of_one_is_a_draw():
    assert len(a_log(propensities=[1.0, 1.0, 1.0])) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_no_number_is_refused(bad):
    with pytest.raises(EvaluationError, match=r"reward must be finite, got .* in row 2"):
        a_log(rewards=[0.0, 1.0, bad])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": [1.0, 0.0]}, r"rewards has shape \(2,\), actions has \(3,\)"),
        ({"propensities": [0.5] * 4}, r"propensities has shape \(4,\)"),
        ({"positions": [0, 1]}, "positions has 2 rows, actions has 3"),
        ({"actions": [0.0, 1.0, 1.0]}, "actions must be one row of integers"),
        ({"actions": [[0, 1, 1]]}, "actions must be one row of integers"),
        ({"actions": [0, -1, 1]}, "actions must be 0 or more, got -1 in row 1"),
        ({"positions": [0, 0, -2]}, "positions must be 0 or more, got -2 in row 2"),
        ({"actions": [], "rewards": [], "propensities": []}, "0 decisions"),
    ],
)
def test_columns_that_do_not_fit_are_named(changes, message):
    with pytest.raises(EvaluationError, match=message):
        a_log(**changes)


def test_the_log_keeps_its_own_copy():
    rewards = np.array([1.0, 0.0, 1.0])
    log = a_log()
    log = LoggedDecisions(actions=log.actions, rewards=rewards, propensities=log.propensities)
    rewards[0] = 99.0
    assert log.value == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="read-only"):
        log.rewards[0] = 99.0


def test_weights_are_the_ratio_of_probabilities():
    dist = np.array([[0.25, 0.75], [0.0, 1.0], [1.0, 0.0]])
    assert importance_weights(a_log(), dist).tolist() == [0.5, 4.0, 0.0]
    assert importance_weights(a_log(), dist, clip=1.5).tolist() == [0.5, 1.5, 0.0]


@pytest.mark.parametrize(
    ("dist", "message"),
    [
        (np.full((2, 2), 0.5), r"must have shape \(3, n_actions\) .* got \(2, 2\)"),
        (np.full(3, 1.0), r"got \(3,\)"),
        (np.full((3, 1), 1.0), "the log has action 1, action_dist has 1 actions"),
        (np.full((3, 2), 0.4), "sum to 1 within 1e-06, got 0.8 in row 0"),
        (np.array([[0.5, 0.5], [1.5, -0.5], [1, 0]]), "must hold probabilities, got -0.5"),
        (np.array([[0.5, 0.5], [np.nan, 0.5], [1, 0]]), "must hold probabilities, got nan"),
        (np.full((3, 2, 2), 0.5), "the log has no positions"),
    ],
)
def test_a_policy_that_does_not_fit_the_log_is_refused(dist, message):
    with pytest.raises(EvaluationError, match=message):
        estimate_ips(a_log(), dist)


def test_a_position_that_the_policy_does_not_know_is_refused():
    log = a_log(positions=[0, 1, 2])
    with pytest.raises(EvaluationError, match="position 2, action_dist has 2 positions"):
        estimate_ips(log, np.full((3, 2, 2), 0.5))


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan])
def test_a_clip_that_lets_nothing_through_is_refused(clip):
    with pytest.raises(EvaluationError, match="clip must be above 0"):
        estimate_ips(a_log(), HALF, clip=clip)


def test_predictions_must_cover_every_action_of_every_row():
    with pytest.raises(EvaluationError, match="predicted reward must be finite, got nan in row 2"):
        estimate_dr(a_log(), HALF, np.array([[0.1, 0.2], [0.1, 0.2], [np.nan, 0.2]]))
    with pytest.raises(EvaluationError, match="2 actions, predicted_rewards 3"):
        estimate_dm(a_log(), HALF, np.zeros((3, 3)))


def test_a_policy_that_takes_no_logged_action_cannot_be_valued_by_snips():
    log = a_log(actions=[0, 0, 0])
    never = np.tile([0.0, 1.0], (3, 1))
    with pytest.raises(EvaluationError, match="takes none of the 3 logged actions"):
        estimate_snips(log, never)
    assert estimate_ips(log, never).effective_sample_size == 0.0
