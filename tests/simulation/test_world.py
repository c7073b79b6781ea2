import time

import numpy as np
import pytest

from schemas.campaign import ContextFeature
from schemas.errors import CampaignError, SettingsError
from streams.simulation.people import CHANNELS, campaign_features, encode, feature_names
from streams.simulation.responses import Delays, disturb
from streams.simulation.templates import BASELINE_TEMPLATE, FEATURES, TEMPLATES, action_features
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

NOW_MS = 1_700_000_000_000
DEMO = Delays(click_median_s=0.4, click_sigma=0.5, purchase_median_s=0.4, purchase_sigma=0.5)


@pytest.fixture(scope="module")
def company():
    return Company.create(1)


def decide(company, users, templates):
    ids = [f"welcome:1:{company.people.ids[user]}" for user in users]
    return company.respond(ids, users, templates, NOW_MS, DEMO)


@pytest.mark.parametrize("seed", range(1, 21))
def test_every_world_has_about_the_same_to_win(seed):
    company = Company.create(seed)
    rewards, eligible = company.expected_reward(), company.eligible
    reached = eligible.any(axis=1)
    everyone = np.arange(len(company.people))
    uniform = (company.uniform() * rewards).sum(axis=1)[reached].mean()
    oracle = rewards[everyone, company.oracle()][reached].mean()
    single = rewards[everyone, company.best_single()][reached].mean()
    alone = [rewards[eligible[:, a], a].mean() for a in range(len(TEMPLATES))]
    clicks = [company.truth.click[eligible[:, a], a].mean() for a in range(len(TEMPLATES))]

    assert 1.5 <= oracle / uniform <= 2.2
    assert max(single, *alone) <= 1.25 * uniform
    assert min(clicks) >= 0.02
    assert max(clicks) <= 0.06


def test_which_template_is_best_depends_on_the_seed():
    companies = [Company.create(seed, 2_000) for seed in range(8)]
    best = {int(np.bincount(company.best_single()).argmax()) for company in companies}
    assert len(best) >= 4


def test_no_template_is_best_for_most_people(company):
    shares = np.bincount(company.oracle(), minlength=len(TEMPLATES)) / len(company.people)
    assert shares.max() < 0.35
    assert shares.min() > 0.01


def test_the_same_seed_founds_the_same_company(company):
    again = Company.create(1)
    assert np.array_equal(again.truth.click, company.truth.click)
    assert again.people.attributes(7) == company.people.attributes(7)


def test_tastes_are_mostly_but_not_wholly_in_the_attributes(company):
    x = encode(company.people)
    x = np.column_stack([np.ones(len(x)), x])
    odds = np.log(company.truth.click / (1 - company.truth.click))
    explained = x @ np.linalg.lstsq(x, odds - odds.mean(axis=1, keepdims=True))[0]
    share = explained.var() / (odds - odds.mean(axis=1, keepdims=True) - explained).var()
    assert 3 < share < 30


def test_odds_of_a_click_stay_within_what_people_are_like(company):
    odds = company.truth.click / (1 - company.truth.click)
    low, middle, high = np.quantile(odds, [0.05, 0.5, 0.95], axis=0)
    assert (high / middle).max() < 6
    assert (middle / low).max() < 6


def test_channels_reach_the_shares_that_they_should(company):
    assert company.people.reach.mean(axis=0) == pytest.approx([0.97, 0.70, 0.40], abs=0.02)
    contacts = [company.people.contacts(index) for index in range(500)]
    assert {tuple(sorted(one)) for one in contacts} >= {("email",), ("email", "push", "sms")}
    for one in contacts:
        assert set(one) <= set(CHANNELS)
        assert one.get("email", "@example.com").endswith("@example.com")
        assert one.get("sms", "+120055501")[5:10] == "55501"  # a number of fiction


def test_a_person_is_described_as_a_marketer_would(company):
    assert company.people.ids[0] == "u000001"
    known = company.people.attributes(0)
    assert {"plan", "tenure_days", "country", "device", "last_discount_used"} <= known.keys()
    unknown = np.flatnonzero(np.isnan(company.people.columns["age"]))
    assert "age" not in company.people.attributes(int(unknown[0]))


def test_contexts_follow_the_features_that_the_campaign_names(company):
    features = campaign_features()
    assert all(ContextFeature(**feature) for feature in features)
    names, x = feature_names(features), encode(company.people)
    assert x.shape == (len(company.people), len(names))
    assert 6 <= len(names) <= 10
    for index in range(50):
        known = company.people.attributes(index)
        row = dict(zip(names, x[index], strict=True))
        assert row["age"] == pytest.approx(np.clip((known.get("age", 40) - 40) / 15, -3, 3))
        assert row["plan=plus"] == (known["plan"] == "plus")
        assert row["last_discount_used"] == known["last_discount_used"]
    assert np.abs(x).max() <= 3


def test_templates_carry_numeric_features():
    assert len({template.id for template in TEMPLATES}) == 8
    assert BASELINE_TEMPLATE in {template.id for template in TEMPLATES}
    assert action_features().shape == (8, len(FEATURES))
    assert (action_features()[:, :4].sum(axis=1) == 1).all()


def test_expected_reward_is_what_responses_earn(company):
    users = np.repeat(np.arange(len(company.people)), 10)
    templates = company.oracle()[users]
    ids = [f"{row}" for row in range(len(users))]
    weights = {**REWARD_WEIGHTS, "dismiss": -0.2, "unsubscribe": -5.0}
    rewards = company.respond(ids, users, templates, NOW_MS).rewards(weights)
    expected = company.expected_reward(weights)[users, templates]
    assert abs(rewards.mean() - expected.mean()) < 4 * rewards.std() / np.sqrt(len(users))


def test_probabilities_are_those_of_the_truth(company):
    users, templates = np.array([3, 1]), np.array([7, 0, 2])
    click = company.click_probability(users, templates)
    purchase = company.purchase_probability(users, templates)
    expected = click * (1.0 + 2.0 * purchase)
    assert company.expected_reward()[np.ix_(users, templates)] == pytest.approx(expected)


def test_rewards_of_an_unknown_kind_are_refused(company):
    with pytest.raises(CampaignError, match="smile"):
        company.expected_reward({"smile": 1.0})


@pytest.mark.parametrize(("seed", "people"), [(1, 10), (-1, 20_000)])
def test_a_company_that_cannot_be_is_refused(seed, people):
    with pytest.raises(SettingsError):
        Company.create(seed, people)


def test_a_redelivered_decision_gets_the_same_response(company):
    users = np.arange(2_000)
    first = decide(company, users, company.oracle()[users]).events()
    shuffled = np.random.default_rng(0).permutation(users)
    second = decide(company, shuffled, company.oracle()[shuffled]).events()
    assert len(first) > 100
    assert sorted(first, key=lambda event: event.reward_id) == sorted(
        second, key=lambda event: event.reward_id
    )


def test_another_seed_or_decision_gets_another_response(company):
    users, templates = np.arange(2_000), np.zeros(2_000, dtype=np.intp)
    here = decide(company, users, templates)
    there = decide(Company.create(2, 2_000), users, templates)
    assert not np.array_equal(here.at_ms["click"], there.at_ms["click"])


def test_people_act_after_the_send_and_buy_after_the_click(company):
    users = np.arange(len(company.people))
    responses = decide(company, users, company.oracle())
    click, purchase = responses.at_ms["click"], responses.at_ms["purchase"]
    assert (click > NOW_MS).all()
    assert (purchase > click).all()
    assert not (responses.happened["purchase"] & ~responses.happened["click"]).any()
    assert np.median(click - NOW_MS) == pytest.approx(400, rel=0.03)
    events = responses.events()
    assert [event.occurred_at_ms for event in events] == sorted(e.occurred_at_ms for e in events)
    assert {event.kind for event in events} == {"click", "purchase", "dismiss", "unsubscribe"}
    assert all((event.value is not None) == (event.kind == "purchase") for event in events)
    assert responses.happened["unsubscribe"].mean() < 0.003


def test_twenty_thousand_decisions_are_answered_within_a_second(company):
    users, templates = np.arange(len(company.people)), company.oracle()
    started = time.perf_counter()
    decide(company, users, templates).events()
    assert time.perf_counter() - started < 1.0


def test_disorder_repeats_and_reorders_but_loses_nothing(company):
    users = np.arange(len(company.people))
    events = decide(company, users, company.oracle()).events()
    sent = disturb(np.random.default_rng(5), events, duplicate_rate=0.2, disorder_s=3.0)
    times = [at_ms for at_ms, _ in sent]
    order = [event.occurred_at_ms for _, event in sent]
    assert {event.reward_id for _, event in sent} == {event.reward_id for event in events}
    assert len(sent) / len(events) == pytest.approx(1.2, abs=0.05)
    assert times == sorted(times)
    assert order != sorted(order)
    assert all(0 <= at_ms - event.occurred_at_ms <= 3_000 for at_ms, event in sent)


def test_without_disorder_events_are_sent_as_they_happened(company):
    users = np.arange(1_000)
    events = decide(company, users, company.oracle()[users]).events()
    sent = disturb(np.random.default_rng(5), events, duplicate_rate=0.0, disorder_s=0.0)
    assert [event for _, event in sent] == events
