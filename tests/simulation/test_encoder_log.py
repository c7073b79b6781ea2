"""What the company in a box would have logged: its truth, seen through random choices."""

import numpy as np
import pytest

from schemas.features import hash_profiles
from streams.simulation.encoder_log import company_rows
from streams.simulation.world import Company

FROM_MS, UNTIL_MS = 1_700_000_000_000, 1_702_000_000_000
N = 6_000


@pytest.fixture(scope="module")
def company():
    return Company.create(5, 2_000)


@pytest.fixture(scope="module")
def rows(company):
    return list(company_rows(company, N, 1, FROM_MS, UNTIL_MS))


def test_the_same_seed_logs_the_same_and_another_one_something_else(company, rows):
    assert list(company_rows(company, 300, 1, FROM_MS, UNTIL_MS)) == list(
        company_rows(company, 300, 1, FROM_MS, UNTIL_MS)
    )
    assert list(company_rows(company, 300, 2, FROM_MS, UNTIL_MS)) != rows[:300]


def test_decisions_come_in_order_and_profiles_know_nothing_of_later(rows):
    times = [row.at_ms for row in rows]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (FROM_MS, UNTIL_MS)
    for row in rows:
        assert all(last_ms < row.at_ms for _, last_ms in row.profile.counts.values())
        assert all(sent_ms < row.at_ms for sent_ms in row.profile.sends)


def test_a_template_goes_only_to_whom_its_channel_reaches(company, rows):
    channels = {template.id: template.channel for template in company.templates}
    assert {row.action for row in rows} == set(channels)
    assert all(channels[row.action] in row.profile.contacts for row in rows)


def test_clicks_are_as_often_as_the_truth_has_them(company, rows):
    reached = company.eligible.any(axis=1)
    chance = (company.uniform() * company.expected_reward({"click": 1.0})).sum(axis=1)[reached]
    clicked = np.array([row.clicked for row in rows])
    deviation = np.sqrt(chance.mean() * (1 - chance.mean()) / N)
    assert abs(clicked.mean() - chance.mean()) < 4 * deviation
    assert all(row.clicked or not row.purchased for row in rows)  # who does not click buys nothing
    assert 0.0 < np.mean([row.purchased for row in rows]) < clicked.mean()


def test_the_log_of_a_company_with_curved_tastes_has_the_same_people(company, rows):
    curved = Company.create(5, 2_000, curved=True)
    other = list(company_rows(curved, N, 1, FROM_MS, UNTIL_MS))
    known = [hash_profiles([r.profile], [r.at_ms]).to_bytes() for r in (rows[9], other[9])]
    assert known[0] == known[1]
    assert [row.clicked for row in rows] != [row.clicked for row in other]
