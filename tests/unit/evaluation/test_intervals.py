import math

import numpy as np
import pytest

from schemas.errors import EvaluationError
from streams.core.evaluation import (
    Estimate,
    LoggedDecisions,
    effective_sample_size,
    empirical_bernstein,
    estimate_dr,
    estimate_ips,
    estimate_snips,
    student_t,
)

N_ACTIONS = 4
REPETITIONS = 1_500


class World:
    """Two kinds of user, four actions, a known logging policy, a known truth."""

    logging = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])  # (n_kinds, n_actions)
    policy = np.array([[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]])
    reward = np.array([[0.1, 0.3, 0.5, 0.7], [0.6, 0.4, 0.3, 0.1]])
    truth = float((policy * reward).sum(axis=1).mean())
    largest_weight = float((policy / logging).max())

    def draw(self, rng: np.random.Generator, n: int) -> tuple[LoggedDecisions, np.ndarray]:
        kinds = rng.integers(0, 2, n)
        cumulative = self.logging[kinds].cumsum(axis=1)
        actions = (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)
        rewards = (rng.random(n) < self.reward[kinds, actions]).astype(float)
        log = LoggedDecisions(
            actions=actions, rewards=rewards, propensities=self.logging[kinds, actions]
        )
        return log, kinds


def share_that_holds_the_truth(estimate, n: int, seed: int) -> float:
    world, rng = World(), np.random.default_rng(seed)
    held = 0
    for _ in range(REPETITIONS):
        log, kinds = world.draw(rng, n)
        result = estimate(log, world.policy[kinds], kinds)
        held += result.low <= world.truth <= result.high
    return held / REPETITIONS


# the binomial error of a share of 0.95 in 1,500 is 0.0056: three of them
AROUND_95 = pytest.approx(0.95, abs=0.017)


def test_ips_intervals_hold_the_truth_as_often_as_they_say():
    assert share_that_holds_the_truth(lambda log, pi, _: estimate_ips(log, pi), 400, 11) == (
        AROUND_95
    )


def test_snips_intervals_hold_the_truth_as_often_as_they_say():
    assert share_that_holds_the_truth(lambda log, pi, _: estimate_snips(log, pi), 400, 12) == (
        AROUND_95
    )


def test_dr_intervals_hold_the_truth_though_the_model_is_wrong():
    wrong = World.reward[::-1] * 0.5 + 0.2

    def estimate(log, pi, kinds):
        return estimate_dr(log, pi, wrong[kinds])

    assert share_that_holds_the_truth(estimate, 400, 13) == AROUND_95


def test_an_interval_of_80_percent_holds_the_truth_in_80_percent():
    share = share_that_holds_the_truth(
        lambda log, pi, _: estimate_snips(log, pi, confidence=0.8), 400, 14
    )
    assert share == pytest.approx(0.8, abs=0.031)


def test_empirical_bernstein_holds_the_truth_where_the_t_interval_does_not():
    # one click in 200: most small logs have none or one, and the t interval is far too narrow
    rng = np.random.default_rng(15)
    interval = empirical_bernstein(0.0, 1.0)
    held_t = held_bernstein = 0
    for _ in range(REPETITIONS):
        terms = (rng.random(200) < 0.005).astype(float)
        low, high = student_t(terms, 0.95)
        held_t += low <= 0.005 <= high
        low, high = interval(terms, 0.95)
        held_bernstein += low <= 0.005 <= high
    assert held_t / REPETITIONS < 0.8
    assert held_bernstein / REPETITIONS >= 0.95


def test_empirical_bernstein_is_the_published_bound():
    terms = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    low, high = empirical_bernstein(0.0, 2.0)(terms, 0.9)
    log_term = math.log(2 / 0.05)
    half = math.sqrt(2 * 0.3 * log_term / 5) + 7 * 2.0 * log_term / (3 * 4)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), rel=1e-12)


def test_ips_takes_an_interval_that_is_given_to_it():
    log, kinds = World().draw(np.random.default_rng(16), 2_000)
    bernstein = estimate_ips(
        log, World.policy[kinds], interval=empirical_bernstein(0.0, World.largest_weight)
    )
    normal = estimate_ips(log, World.policy[kinds])
    assert bernstein.value == normal.value
    assert bernstein.low < normal.low < normal.high < bernstein.high


def test_empirical_bernstein_refuses_a_term_beyond_its_bounds():
    with pytest.raises(EvaluationError, match=r"reach \[0, 3\], the bounds are \[0, 2\]: widen"):
        empirical_bernstein(0.0, 2.0)(np.array([0.0, 3.0]), 0.95)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_empirical_bernstein_needs_bounds(low, high):
    with pytest.raises(EvaluationError, match="bounds must be finite and in order"):
        empirical_bernstein(low, high)


def test_student_t_is_the_textbook_interval():
    # t quantile 2.776 for 4 degrees of freedom; s = 1.5811, n = 5
    low, high = student_t(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.95)
    assert (low, high) == pytest.approx((3 - 1.963243, 3 + 1.963243), abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1.0, 1.0, 1.0, 1.0], 4.0), ([4.0, 0.0, 0.0, 0.0], 1.0), ([3.0, 1.0], 1.6), ([0.0], 0.0)],
)
def test_the_effective_sample_size_counts_what_weights_are_worth(weights, expected):
    assert effective_sample_size(np.array(weights)) == pytest.approx(expected)


def test_the_effective_sample_size_ignores_the_scale_of_weights():
    weights = np.random.default_rng(17).exponential(size=50)
    assert effective_sample_size(weights * 7) == pytest.approx(effective_sample_size(weights))


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_outside_0_and_1_is_refused(confidence):
    log, kinds = World().draw(np.random.default_rng(18), 50)
    with pytest.raises(EvaluationError, match=r"confidence must lie in \(0, 1\)"):
        estimate_snips(log, World.policy[kinds], confidence=confidence)


def test_one_decision_has_no_interval():
    log = LoggedDecisions(
        actions=np.array([0]), rewards=np.array([1.0]), propensities=np.array([0.5])
    )
    with pytest.raises(EvaluationError, match="at least 2 decisions, got 1"):
        estimate_ips(log, np.array([[0.5, 0.5]]))


def test_an_estimate_outside_its_interval_is_refused():
    with pytest.raises(EvaluationError, match="must lie in its interval"):
        Estimate(
            value=math.nan,
            low=0.0,
            high=1.0,
            confidence=0.95,
            n=2,
            effective_sample_size=2.0,
            max_weight=1.0,
        )
