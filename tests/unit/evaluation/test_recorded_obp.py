import pytest

from streams.core.evaluation import (
    effective_sample_size,
    estimate_dm,
    estimate_dr,
    estimate_ips,
    estimate_snips,
    importance_weights,
)

CASES = ["ipw_learner_softmax", "ipw_learner_greedy", "uniform", "men_random_to_bts"]


@pytest.mark.parametrize("name", CASES)
def test_values_equal_the_ones_obp_recorded(recorded_cases, name):
    case = recorded_cases[name]
    log, dist, predicted = case.log, case.action_dist, case.predicted_rewards
    close = {"abs": 1e-9, "rel": 0}
    assert estimate_ips(log, dist).value == pytest.approx(case.value("ipw"), **close)
    assert estimate_ips(log, dist, clip=5.0).value == pytest.approx(
        case.value("ipw_clip5"), **close
    )
    assert estimate_snips(log, dist).value == pytest.approx(case.value("snipw"), **close)
    assert estimate_dm(log, dist, predicted).value == pytest.approx(case.value("dm"), **close)
    assert estimate_dr(log, dist, predicted).value == pytest.approx(case.value("dr"), **close)


@pytest.mark.parametrize("name", CASES)
def test_intervals_agree_with_obps_bootstrap(recorded_cases, name):
    case = recorded_cases[name]
    log, dist, predicted = case.log, case.action_dist, case.predicted_rewards
    for estimate, recorded in [
        (estimate_ips(log, dist), "ipw"),
        (estimate_dm(log, dist, predicted), "dm"),
        (estimate_dr(log, dist, predicted), "dr"),
    ]:
        _, low, high = case.recorded[recorded]["obp_bootstrap_95"]
        # the recorded percentiles carry their own noise and, for few clicks, skew
        assert estimate.half_width == pytest.approx((high - low) / 2, rel=0.15)
        assert estimate.low == pytest.approx(low, abs=0.25 * (high - low))
        assert estimate.high == pytest.approx(high, abs=0.25 * (high - low))


@pytest.mark.parametrize("name", CASES)
def test_obps_snips_interval_is_that_of_ips_rescaled_and_ours_is_not_wider(recorded_cases, name):
    # obp resamples w_i r_i / mean(w) with the mean held still, so the gain of normalising is lost
    case = recorded_cases[name]
    ips, snips = (each(case.log, case.action_dist) for each in (estimate_ips, estimate_snips))
    mean_weight = importance_weights(case.log, case.action_dist).mean()
    _, low, high = case.recorded["snipw"]["obp_bootstrap_95"]
    assert (high - low) / 2 == pytest.approx(ips.half_width / mean_weight, rel=0.15)
    assert snips.half_width < 1.001 * ips.half_width / mean_weight


def test_weights_of_the_real_log_are_summarised_as_recorded(recorded_cases):
    case = recorded_cases["men_random_to_bts"]
    estimate = estimate_ips(case.log, case.action_dist)
    weights = importance_weights(case.log, case.action_dist)
    assert estimate.n == case.case["n"]
    assert estimate.effective_sample_size == pytest.approx(case.case["ess"], rel=1e-12)
    assert estimate.max_weight == pytest.approx(case.case["max_weight"], rel=1e-12)
    assert weights.mean() == pytest.approx(case.case["mean_weight"], rel=1e-12)
    assert effective_sample_size(weights) == estimate.effective_sample_size


@pytest.mark.parametrize("name", CASES[:3])
def test_weighting_finds_the_truth_that_the_model_alone_misses(recorded_cases, name):
    case = recorded_cases[name]
    log, dist, predicted = case.log, case.action_dist, case.predicted_rewards
    truth = case.case["ground_truth"]
    for estimate in (estimate_ips(log, dist), estimate_snips(log, dist)):
        assert estimate.low <= truth <= estimate.high
    assert abs(estimate_dr(log, dist, predicted).value - truth) < 0.04
    believed = estimate_dm(log, dist, predicted)
    assert truth > believed.high, "the direct method's interval knows nothing of the model's bias"


def test_positions_choose_the_column_of_the_distribution(recorded_cases):
    case = recorded_cases["men_random_to_bts"]
    n = len(case.log)
    selected = case.action_dist[range(n), :, case.log.positions]
    assert estimate_ips(case.log, selected) == estimate_ips(case.log, case.action_dist)
    first_slot = case.action_dist[:, :, 0]
    assert estimate_ips(case.log, first_slot) != estimate_ips(case.log, case.action_dist)
