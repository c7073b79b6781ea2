import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
from rich.console import Console

from schemas.hashing import decision_id
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.records import Decision, Reward
from streams.commands.demo_screen import waves_table
from streams.simulation.charts import draw_charts
from streams.simulation.figures import Figure, write_figures
from streams.simulation.outcome import Outcome
from streams.simulation.report_page import write_report
from streams.simulation.wave_figures import CampaignLog, Mean
from streams.simulation.world import Company

NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def company():
    return Company.create(1, 3_000)


def write_log(company, wave=0, reason="policy", dist=None, repeat=1):
    """Log a wave in which everyone gets the first template that is eligible."""
    log = CampaignLog(company)
    dist = company.uniform() if dist is None else dist
    for user in range(len(company.people)):
        may = np.flatnonzero(company.eligible[user])
        user_id = str(company.people.ids[user])
        taken = may[0] if len(may) else None
        made = decision(company, wave, user_id, reason, taken, dist[user])
        for _ in range(repeat):
            log.decided(made)
        if taken is not None:
            log.learned(example(company, made, may, dist[user], reward=3.0 * (user % 10 == 0)))
    return log


def decision(company, wave, user_id, reason, taken, probabilities):
    drawn = taken is not None and reason == "policy"
    return Decision(
        decision_id=decision_id("spring", wave, user_id),
        campaign_id="spring",
        campaign_version=1,
        wave=wave,
        user_id=user_id,
        action=NO_SEND if taken is None else company.templates[taken].id,
        reason="unreachable" if taken is None else reason,
        propensity=float(probabilities[taken]) if drawn else None,
        policy_version=wave,
        encoder_version="columns",
        decided_at_ms=NOW_MS,
        expires_at_ms=NOW_MS,
    )


def example(company, made, may, probabilities, reward, previous=None):
    return LearningExample(
        decision_id=made.decision_id,
        campaign_id="spring",
        campaign_version=1,
        wave=made.wave,
        user_id=made.user_id,
        reason=made.reason,
        action=made.action,
        propensity=made.propensity,
        propensity_kind="drawn",
        actions=[company.templates[row].id for row in may],
        probabilities=[float(p) for p in probabilities[may]] if made.propensity else [],
        context=b"",
        reward=reward,
        previous_reward=previous,
        feedback={"click": 1, "purchase": 1} if reward else {},
        policy_version=made.policy_version,
        encoder_version="columns",
        decided_at_ms=NOW_MS,
        closed_at_ms=NOW_MS,
    )


def outcome(waves, **changed):
    given = {
        "waves": waves,
        "sent": {"click": 10, "purchase": 2},
        "counted": {"click": 10, "purchase": 2},
        "repeated": 0,
        "false_propensities": 0,
        "seconds": {"wave 1": 5.0},
    }
    return Outcome(**{**given, **changed})


@pytest.fixture(scope="module")
def uniform_wave(company):
    return write_log(company).figures(0)


def with_policy(wave, number, policy):
    return dataclasses.replace(wave, wave=number, policy=policy)


def test_uniform_policy_earns_what_uniform_earns(company, uniform_wave):
    reached = company.eligible.any(axis=1)
    assert uniform_wave.wave == 1
    assert uniform_wave.decisions == 3_000
    assert uniform_wave.sends == uniform_wave.policy_realised.n == reached.sum()
    assert uniform_wave.policy == pytest.approx(uniform_wave.uniform)
    assert uniform_wave.uniform < uniform_wave.best_single < uniform_wave.oracle
    assert uniform_wave.over_uniform == pytest.approx(1.0)
    assert sum(uniform_wave.shares.values()) == pytest.approx(1.0)


def test_policy_that_knows_the_truth_earns_what_the_oracle_earns(company):
    dist = np.eye(8)[company.oracle()]
    log = CampaignLog(company)
    for user in np.flatnonzero(company.eligible.any(axis=1)):
        best = int(company.oracle()[user])
        made = decision(company, 0, str(company.people.ids[user]), "policy", best, dist[user])
        log.decided(made)
        may = np.flatnonzero(company.eligible[user])
        log.learned(example(company, made, may, dist[user], reward=0.0))
    assert log.figures(0).of_oracle == pytest.approx(1.0)
    assert log.false_propensities() == 0


def test_realised_mean_has_the_interval_of_student(uniform_wave):
    mean = uniform_wave.policy_realised
    assert mean.value == pytest.approx(0.3, abs=0.02)
    half = 1.96 * math.sqrt(9 * 0.1 * 0.9 / mean.n)
    assert mean.high - mean.value == pytest.approx(half, rel=0.03)
    assert mean.value - mean.low == pytest.approx(mean.high - mean.value)


def test_correction_replaces_the_outcome_before_it(company):
    log = write_log(company)
    user = int(np.flatnonzero(company.eligible.all(axis=1))[0])
    may, dist = np.arange(8), company.uniform()[user]
    made = decision(company, 0, str(company.people.ids[user]), "policy", 0, dist)
    before = log.figures(0).policy_realised
    log.learned(example(company, made, may, dist, reward=100.0, previous=0.0))
    after = log.figures(0).policy_realised
    assert after.n == before.n
    assert after.value > before.value
    assert log.repeated == 0


def test_what_was_committed_twice_is_counted(company):
    assert write_log(company, repeat=2).repeated == 3_000


def test_feedback_on_its_way_is_counted_once_for_the_wave_that_it_answers(company):
    log = write_log(company, wave=2)
    user_id = str(company.people.ids[0])
    click = Reward(
        user_id=user_id,
        kind="click",
        occurred_at_ms=NOW_MS,
        reward_id="one",
        decision_id=decision_id("spring", 2, user_id),
    )
    for reward in (click, click, dataclasses.replace(click, reward_id="two", decision_id="none")):
        log.answered(reward)
    assert log.answers(2) == {"click": 1}
    assert log.answers(0) == {}


def test_propensity_that_was_not_logged_is_counted(company):
    log = write_log(company)
    user_id = str(company.people.ids[0])
    made = decision(company, 1, user_id, "policy", 0, np.full(8, 0.125))
    log.decided(made)
    log.learned(example(company, made, np.arange(8), np.full(8, 0.2), reward=0.0))
    assert log.false_propensities() == 1


def test_baseline_is_apart_from_the_policy(company):
    wave = write_log(company, reason="baseline").figures(0)
    assert wave.policy_realised.n == 0
    assert math.isnan(wave.policy)
    assert wave.baseline_realised.n == wave.sends


def test_one_wave_says_that_it_learned_nothing_and_holds_no_bar_against_it(uniform_wave):
    told = outcome([uniform_wave])
    assert told.holds
    first, *others = told.verdict()
    assert first.startswith("One wave learns nothing")
    assert f"{uniform_wave.policy:.4f}" in first
    assert any("NO" in line and "a bar for 6 waves and more" in line for line in others)


def test_six_waves_are_held_to_both_bars(uniform_wave):
    w = uniform_wave
    learned = [with_policy(w, number, 0.95 * w.oracle) for number in range(1, 7)]
    assert outcome(learned).holds
    for short in (0.849 * w.oracle, 1.099 * w.best_single):
        assert not outcome([*learned[:-1], with_policy(w, 6, short)]).holds
    assert outcome([with_policy(w, number, 0.1 * w.oracle) for number in range(1, 6)]).holds


def test_what_was_committed_twice_fails_any_demo(uniform_wave):
    assert not outcome([uniform_wave], repeated=1).holds
    assert not outcome([uniform_wave], false_propensities=1).holds


def test_figures_carry_value_peer_ratio_and_bar(uniform_wave, tmp_path):
    write_figures(tmp_path / "result.json", outcome([uniform_wave]).figures(91.0))
    rows = json.loads((tmp_path / "result.json").read_text())
    assert all(set(row) == {f.name for f in dataclasses.fields(Figure)} for row in rows)
    by_peer = {(row["name"], row["peer"]): row for row in rows}
    oracle = by_peer["wave 1, policy, expected", "oracle, expected"]
    assert oracle["ratio"] == pytest.approx(oracle["value"] / oracle["peer_value"])
    assert (oracle["bar"], oracle["holds"]) == (">= 0.85", False)
    assert by_peer["seconds, all", None]["holds"] is False
    assert by_peer["decisions or outcomes committed twice", None]["holds"] is True


def test_number_that_is_none_is_null(tmp_path):
    write_figures(tmp_path / "result.json", [Figure(name="x", value=math.nan, unit="s")])
    assert json.loads((tmp_path / "result.json").read_text())[0]["value"] is None


@pytest.mark.parametrize(("width", "tables"), [(120, 1), (80, 2)])
def test_table_has_a_row_for_each_wave_and_fits(uniform_wave, width, tables):
    none = Mean(value=math.nan, low=math.nan, high=math.nan, n=0)
    second = dataclasses.replace(uniform_wave, wave=2, baseline_realised=none)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(waves_table([uniform_wave, second], width))
    text = console.export_text()
    rows = [line.split() for line in text.splitlines() if re.match(r"\s+\d+ ", line)]
    assert [row[0] for row in rows] == ["1", "2"] * tables
    assert f"{uniform_wave.oracle:.4f}" in rows[-1]
    assert "none sent" in text
    assert "…" not in text


@pytest.mark.parametrize("waves", [1, 3])
def test_report_is_one_page_with_its_pictures_in_it(uniform_wave, tmp_path, waves):
    told = outcome([with_policy(uniform_wave, n, 0.06 + 0.01 * n) for n in range(1, waves + 1)])
    pictures = draw_charts(tmp_path, told.waves)
    page = tmp_path / "report.html"
    write_report(page, told, seed=1, people=3_000, figures=told.figures(50.0), pictures=pictures)
    html = page.read_text()
    assert html.count("<svg") == 2
    assert not re.search(r'(src|href)="?http', html)
    assert f"{told.last.policy:.4f}" in html
    for name in ("reward_per_send", "template_shares"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.svg").read_text().startswith("<svg")
