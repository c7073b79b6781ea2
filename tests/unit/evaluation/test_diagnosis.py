import numpy as np
import pytest

from schemas.errors import EvaluationError
from streams.core.evaluation import LoggedDecisions, diagnose, estimate_adaptive_dr

LOGGING = np.array([0.5, 0.3, 0.2])


def a_log(rng, n: int, reward) -> LoggedDecisions:
    actions = rng.choice(3, size=n, p=LOGGING)
    rewards = (rng.random(n) < np.asarray(reward)[actions]).astype(float)
    return LoggedDecisions(actions=actions, rewards=rewards, propensities=LOGGING[actions])


def always(dist, n: int):
    return np.broadcast_to(np.asarray(dist, dtype=float), (n, 3))


def test_the_real_log_is_too_small_and_the_sentence_says_by_how_much(recorded_cases):
    case = recorded_cases["men_random_to_bts"]
    diagnosis = diagnose(case.log, case.action_dist)
    assert diagnosis.verdict == "too-small"
    assert not diagnosis.conclusive
    assert diagnosis.logging_value == pytest.approx(0.0046)
    assert diagnosis.rewarded == case.case["clicks_logged"]
    assert diagnosis.estimate.value == pytest.approx(case.value("snipw"), abs=1e-9)
    assert diagnosis.lift_low < 0.0 < diagnosis.lift_high
    assert diagnosis.more_decisions > 100_000
    assert diagnosis.sentence.startswith("The log is too small to tell: the policy is valued at")
    for figure in ("0.0046 ", "10,000 decisions worth 2,467", "46 with a reward", "more decisions"):
        assert figure in diagnosis.sentence
    assert diagnosis.sentence.count(".") == diagnosis.sentence.count("0.") + 1, "one sentence"


def test_a_clear_winner_is_called_one_by_snips_and_by_dr(recorded_cases):
    case = recorded_cases["ipw_learner_softmax"]
    by_snips = diagnose(case.log, case.action_dist)
    by_dr = diagnose(case.log, case.action_dist, case.predicted_rewards)
    for diagnosis, recorded in ((by_snips, "snipw"), (by_dr, "dr")):
        assert diagnosis.verdict == "better"
        assert diagnosis.conclusive
        assert diagnosis.more_decisions == 0
        assert diagnosis.estimate.value == pytest.approx(case.value(recorded), abs=1e-9)
        assert "earns more" in diagnosis.sentence


def test_a_clear_loser_is_called_one():
    log = a_log(np.random.default_rng(1), 5_000, [0.6, 0.3, 0.1])
    assert diagnose(log, always([0.1, 0.2, 0.7], 5_000)).verdict == "worse"


def test_a_policy_equal_to_the_logging_one_is_alike():
    log = a_log(np.random.default_rng(2), 2_000, [0.3, 0.3, 0.3])
    diagnosis = diagnose(log, always(LOGGING, 2_000))
    assert diagnosis.verdict == "alike"
    assert (diagnosis.lift_low, diagnosis.lift_high) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_difference_that_does_not_matter_is_told_from_one_that_is_not_seen():
    log = a_log(np.random.default_rng(3), 20_000, [0.5, 0.5, 0.5])
    near = always([0.4, 0.35, 0.25], 20_000)
    assert diagnose(log, near, relevant_difference=0.1).verdict == "alike"
    assert diagnose(log, near, relevant_difference=0.0001).verdict == "too-small"


def test_a_small_difference_of_a_wide_interval_is_not_yet_alike():
    log = a_log(np.random.default_rng(14), 900, [0.5, 0.5, 0.5])
    diagnosis = diagnose(log, always([0.2, 0.3, 0.5], 900), relevant_difference=0.04)
    assert abs(diagnosis.lift) < 0.04 * diagnosis.logging_value
    assert diagnosis.lift_high - diagnosis.lift_low > 2 * 0.04 * diagnosis.logging_value
    assert diagnosis.verdict == "too-small"


def test_a_difference_has_the_interval_of_paired_decisions():
    # both values come from the same rewards; their own intervals overlap by far
    log = a_log(np.random.default_rng(4), 4_000, [0.2, 0.5, 0.5])
    diagnosis = diagnose(log, always([0.47, 0.32, 0.21], 4_000))
    assert diagnosis.estimate.low < diagnosis.logging_value
    assert diagnosis.verdict == "better"


def test_intervals_of_a_difference_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(5)
    reward, policy = np.array([0.3, 0.5, 0.2]), np.array([0.2, 0.4, 0.4])
    truth = float((policy - LOGGING) @ reward)
    held = 0
    for _ in range(1_000):
        diagnosis = diagnose(a_log(rng, 400, reward), always(policy, 400))
        held += diagnosis.lift_low <= truth <= diagnosis.lift_high
    assert held / 1_000 == pytest.approx(0.95, abs=0.021)  # three binomial errors


def test_few_effective_decisions_are_not_believed_however_clear_they_look():
    log = a_log(np.random.default_rng(6), 150, [0.05, 0.05, 0.99])
    diagnosis = diagnose(log, always([0.0, 0.0, 1.0], 150), min_effective_rewarded=5)
    assert diagnosis.lift_low > 0.0
    assert diagnosis.verdict == "too-small"
    ess = diagnosis.estimate.effective_sample_size
    assert diagnosis.more_decisions == pytest.approx(150 * (200 / ess - 1), abs=1)


def test_few_clicks_are_not_believed_however_many_decisions_there_are():
    rewards = np.zeros(10_000)
    actions = np.random.default_rng(7).choice(3, size=10_000, p=LOGGING)
    rewards[np.flatnonzero(actions == 2)[:12]] = 1.0
    log = LoggedDecisions(actions=actions, rewards=rewards, propensities=LOGGING[actions])
    diagnosis = diagnose(log, always([0.1, 0.1, 0.8], 10_000))
    assert diagnosis.verdict == "too-small"
    assert diagnosis.rewarded == 12
    assert diagnosis.effective_rewarded == pytest.approx(12)
    assert diagnosis.more_decisions == pytest.approx(10_000 * (30 / 12 - 1), abs=1)


def test_a_log_without_clicks_does_not_say_how_many_more_it_needs():
    log = a_log(np.random.default_rng(8), 500, [0.0, 0.0, 0.0])
    diagnosis = diagnose(log, always([0.2, 0.3, 0.5], 500))
    assert diagnosis.verdict == "too-small"
    assert diagnosis.more_decisions is None
    assert "cannot be said" in diagnosis.sentence


def test_the_decisions_asked_for_are_about_enough():
    rng = np.random.default_rng(9)
    reward, policy = [0.30, 0.32, 0.34], [0.2, 0.3, 0.5]
    small = diagnose(a_log(rng, 400, reward), always(policy, 400), relevant_difference=0.05)
    assert small.verdict == "too-small"
    assert 0 < small.more_decisions < 100_000
    n = 4 * (400 + small.more_decisions)  # four times: intervals of half the length
    large = diagnose(a_log(rng, n, reward), always(policy, n), relevant_difference=0.05)
    assert large.conclusive


def test_wrong_propensities_are_noticed():
    log = a_log(np.random.default_rng(10), 5_000, [0.3, 0.5, 0.2])
    wrong = LoggedDecisions(
        actions=log.actions, rewards=log.rewards, propensities=np.full(5_000, 1 / 3)
    )
    diagnosis = diagnose(wrong, always([0.6, 0.2, 0.2], 5_000))
    assert diagnosis.verdict == "misfit"
    assert not diagnosis.conclusive
    assert "contradict" in diagnosis.sentence
    assert "where 1 is expected" in diagnosis.sentence


def test_an_action_that_the_log_never_took_is_noticed():
    actions = np.random.default_rng(11).choice(2, size=5_000)
    log = LoggedDecisions(
        actions=actions, rewards=(actions == 1).astype(float), propensities=np.full(5_000, 0.5)
    )
    diagnosis = diagnose(log, always([0.3, 0.3, 0.4], 5_000))
    assert diagnosis.verdict == "misfit"
    assert diagnosis.mean_weight == pytest.approx(0.6, abs=0.02)


def test_a_policy_that_takes_nothing_logged_is_an_error_that_says_so():
    log = LoggedDecisions(
        actions=np.zeros(50, dtype=int), rewards=np.ones(50), propensities=np.full(50, 0.5)
    )
    with pytest.raises(EvaluationError, match="takes none of the 50 logged actions"):
        diagnose(log, always([0.0, 1.0, 0.0], 50))


@pytest.mark.parametrize("difference", [-0.1, float("nan")])
def test_a_relevant_difference_below_zero_is_refused(difference):
    log = a_log(np.random.default_rng(12), 50, [0.5, 0.5, 0.5])
    with pytest.raises(EvaluationError, match="relevant_difference must be 0 or more"):
        diagnose(log, always(LOGGING, 50), relevant_difference=difference)


def test_a_log_whose_policy_learned_meanwhile_is_judged_by_the_adaptive_estimate():
    rng, n = np.random.default_rng(21), 3_000
    waves = np.repeat([0, 1], n // 2)
    dist = np.where(waves[:, None] == 0, [0.5, 0.3, 0.2], [0.05, 0.05, 0.9])
    actions = (dist.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    rewards = (rng.random(n) < np.array([0.2, 0.2, 0.5])[actions]).astype(float)
    log = LoggedDecisions(
        actions=actions, rewards=rewards, propensities=dist[np.arange(n), actions]
    )
    policy = always([0.6, 0.4, 0.0], n)
    given = {"waves": waves, "logging_dist": dist}
    diagnosis = diagnose(log, policy, **given)
    nothing = np.zeros((n, 3))
    assert diagnosis.estimate == estimate_adaptive_dr(log, policy, nothing, **given)
    assert diagnosis.verdict == "worse"
    assert diagnosis.lift == pytest.approx(diagnosis.estimate.value - log.value)
    # the wave that hardly took these actions counts for little: narrower than without weights
    plain = diagnose(log, policy, nothing)
    assert diagnosis.lift_high - diagnosis.lift_low < plain.lift_high - plain.lift_low
    with pytest.raises(EvaluationError, match="belong together"):
        diagnose(log, policy, waves=waves)
