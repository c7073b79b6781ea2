import numpy as np
import pytest

from schemas.errors import EvaluationError
from streams.core.evaluation import LoggedDecisions, estimate_adaptive_dr, estimate_dr

WAVES, SENDS = 5, 400
ROWS = np.repeat(np.arange(WAVES), SENDS)


def two_waves():
    """Give three decisions of two waves, with a policy and predictions to value them by."""
    log = LoggedDecisions(
        actions=np.array([0, 1, 1]),
        rewards=np.array([1.0, 0.0, 2.0]),
        propensities=np.array([0.5, 0.5, 0.25]),
    )
    mine = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    theirs = np.array([[0.5, 0.5], [0.5, 0.5], [0.75, 0.25]])
    predicted = np.array([[0.5, 0.0], [0.5, 1.0], [0.0, 1.0]])
    return log, mine, theirs, predicted


def test_each_wave_weighs_by_what_its_own_probabilities_add_to_the_variance():
    log, mine, theirs, predicted = two_waves()
    found = estimate_adaptive_dr(
        log, mine, predicted, waves=np.array([3, 3, 7]), logging_dist=theirs
    )
    # terms: 0.5 + 2 (1 - 0.5), 0.75 + 1 (0 - 1), 1 + 4 (2 - 1); l: (2 + 1) / 2, and 4
    terms, h = np.array([1.5, -0.25, 5.0]), np.array([1.5, 1.5, 4.0]) ** -0.5
    value = (h * terms).sum() / h.sum()
    assert found.value == pytest.approx(value)
    error = np.sqrt(((h * (terms - value)) ** 2).sum()) / h.sum()
    assert found.half_width == pytest.approx(4.302653 * error, rel=1e-6)  # t of 2 degrees, 97.5 %


def test_a_single_wave_is_valued_as_without_weights():
    log, mine, theirs, predicted = two_waves()
    theirs[2] = [0.75, 0.25]
    one = estimate_adaptive_dr(log, mine, predicted, waves=np.zeros(3, int), logging_dist=theirs)
    assert one.value == pytest.approx(estimate_dr(log, mine, predicted).value)


def give_up_after_bad_luck(seed):
    """Log two equal actions; after each wave the one that looks worse is hardly sent any more."""
    rng = np.random.default_rng(seed)
    actions, rewards = np.zeros(WAVES * SENDS, int), np.zeros(WAVES * SENDS)
    dist, predicted = np.full((WAVES * SENDS, 2), 0.5), np.zeros((WAVES * SENDS, 2))
    for wave in range(WAVES):
        rows = wave == ROWS
        if wave:
            before = wave > ROWS
            means = [rewards[before & (actions == a)].mean() for a in (0, 1)]
            dist[rows] = 0.01
            dist[rows, int(np.argmax(means))] = 0.99
            predicted[rows] = means
        actions[rows] = rng.random(SENDS) < dist[rows, 1]
        rewards[rows] = rng.normal(size=SENDS)
    log = LoggedDecisions(
        actions=actions,
        rewards=rewards,
        propensities=dist[np.arange(len(actions)), actions],
    )
    return log, dist, predicted


def test_intervals_cover_on_a_log_whose_policy_gave_up_after_bad_luck():
    """Of 400 logs with a true value of 0, within four standard errors of 95 %."""
    covered = []
    for seed in range(400):
        log, dist, predicted = give_up_after_bad_luck(seed)
        mine = np.tile([0.0, 1.0], (len(log), 1))
        found = estimate_adaptive_dr(log, mine, predicted, waves=ROWS, logging_dist=dist)
        covered.append(found.low <= 0.0 <= found.high)
    assert abs(np.mean(covered) - 0.95) <= 4.0 * np.sqrt(0.95 * 0.05 / 400)


def test_the_interval_is_narrower_than_that_of_the_plain_mean():
    log, dist, predicted = give_up_after_bad_luck(3)
    mine = np.tile([0.5, 0.5], (len(log), 1))
    found = estimate_adaptive_dr(log, mine, predicted, waves=ROWS, logging_dist=dist)
    assert found.half_width < 0.75 * estimate_dr(log, mine, predicted).half_width


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"waves": np.zeros(2, int)}, r"waves must be \(3,\) of integers, got \(2,\)"),
        ({"waves": np.zeros(3)}, "of integers, got .* of float64: give the wave"),
        ({"logging_dist": np.full((3, 2), 0.5)}, "the action of row 2 0.5, its propensity is 0.25"),
        ({"logging_dist": np.full((3, 3), 1 / 3)}, "action_dist has 2 actions, logging_dist 3"),
    ],
)
def test_what_does_not_fit_the_log_is_refused(change, message):
    log, mine, theirs, predicted = two_waves()
    given = {"waves": np.zeros(3, int), "logging_dist": theirs, **change}
    with pytest.raises(EvaluationError, match=message):
        estimate_adaptive_dr(log, mine, predicted, **given)


def test_an_action_that_the_log_could_not_take_is_refused():
    log = LoggedDecisions(
        actions=np.array([0, 0]), rewards=np.zeros(2), propensities=np.array([1.0, 0.5])
    )
    with pytest.raises(EvaluationError, match="takes an action in row 0 that the log could not"):
        estimate_adaptive_dr(
            log,
            np.full((2, 2), 0.5),
            np.zeros((2, 2)),
            waves=np.zeros(2, int),
            logging_dist=np.array([[1.0, 0.0], [0.5, 0.5]]),
        )
