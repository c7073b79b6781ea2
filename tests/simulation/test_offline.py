import numpy as np
import pytest

from schemas.errors import SettingsError
from streams.core.policies import DEFAULT_POLICY
from streams.simulation.offline import run_waves
from streams.simulation.templates import BASELINE_TEMPLATE
from streams.simulation.world import Company


@pytest.fixture(scope="module")
def company():
    return Company.create(1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_default_policy_finds_most_of_what_there_is_to_win(seed):
    results = run_waves(Company.create(seed), DEFAULT_POLICY, {}, seed)
    first, last = results[0], results[-1]
    assert len(results) == 6
    assert first.policy == pytest.approx(first.uniform, rel=0.1)
    assert last.policy >= 0.85 * last.oracle
    assert last.policy >= 1.10 * last.best_single


def test_uniform_policy_earns_what_uniform_is_said_to_earn(company):
    for result in run_waves(company, "uniform", {}, 1):
        assert result.policy == pytest.approx(result.uniform)
        assert result.uniform < result.best_single < result.oracle


def test_realised_rewards_agree_with_the_expected_ones(company):
    results = run_waves(company, "uniform", {}, 1)
    expected = np.mean([result.policy for result in results])
    assert np.mean([result.realised for result in results]) == pytest.approx(expected, rel=0.1)


def test_a_fixed_rule_earns_no_more_than_the_best_single_template(company):
    for result in run_waves(company, "fixed", {"action": BASELINE_TEMPLATE}, 1):
        assert result.policy <= 1.02 * result.best_single  # a wave is a sample of the people


def test_waves_share_the_people_and_leave_out_holdout_and_baseline(company):
    everyone = run_waves(company, "uniform", {}, 1, waves=3, holdout=0.0, baseline_share=0.0)
    most = run_waves(company, "uniform", {}, 1, waves=3)
    reachable = company.eligible.any(axis=1).sum()
    assert sum(result.sends for result in everyone) == reachable
    assert sum(result.sends for result in most) == pytest.approx(0.85 * reachable, rel=0.02)


def test_baseline_sends_teach_the_policy_and_are_not_among_its_own(company):
    without, taught = (
        run_waves(
            company, "linear-thompson", {}, 1, waves=2, holdout=0.15 - share, baseline_share=share
        )
        for share in (0.0, 0.15)
    )
    assert without[0] == taught[0]  # the same people, before anything was learned
    assert without[1].sends == taught[1].sends
    assert without[1].policy != taught[1].policy


def test_the_same_seeds_give_the_same_campaign(company):
    assert run_waves(company, "uniform", {}, 4) == run_waves(company, "uniform", {}, 4)
    assert run_waves(company, "uniform", {}, 4) != run_waves(company, "uniform", {}, 5)


@pytest.mark.parametrize("given", [{"waves": 0}, {"holdout": 0.9, "baseline_share": 0.1}])
def test_a_campaign_without_waves_or_people_is_refused(company, given):
    with pytest.raises(SettingsError):
        run_waves(company, "uniform", {}, 1, **given)
