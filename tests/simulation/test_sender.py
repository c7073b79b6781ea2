import json
from dataclasses import asdict

import msgspec
import numpy as np
import pytest

from schemas.hashing import decision_id
from schemas.records import Decision, Reward, UserEvent
from schemas.wire import Codec
from streams.simulation import avro_contract
from streams.simulation.sender import DEMO_DELAYS, Answers
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 60_000


@pytest.fixture(scope="module")
def company():
    return Company.create(1, 3_000)


@pytest.fixture
def answers(company):
    return Answers(company, np.random.default_rng(1), duplicate_rate=0.3)


def decision(company, user, template=0, wave=0, **changed):
    user_id = str(company.people.ids[user])
    made = Decision(
        decision_id=decision_id("spring", wave, user_id),
        campaign_id="spring",
        campaign_version=1,
        wave=wave,
        user_id=user_id,
        action=company.templates[template].id,
        reason="policy",
        propensity=0.5,
        policy_version=0,
        encoder_version="columns",
        decided_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 10_000,
    )
    return {**msgspec.structs.asdict(made), **changed}


def everyone(company, wave=0):
    return [decision(company, user, user % 8, wave) for user in range(len(company.people))]


def post_all(answers):
    posts = answers.due(LATER_MS)
    for post in posts:
        answers.posted(post)
    return posts


def test_outsiders_reads_what_the_workers_write_and_the_other_way_round(company):
    codec, made = Codec(), decision(company, 3)
    assert avro_contract.decode("Decision", codec.encode("t", Decision(**made))) == made
    reward = Reward(user_id="u1", kind="purchase", occurred_at_ms=NOW_MS, value=9.5)
    event = UserEvent(
        user_id="u1", type="imported", occurred_at_ms=NOW_MS, attributes={"age": 40.0, "pro": True}
    )
    for record in (reward, event):
        raw = avro_contract.encode(type(record).__name__, asdict(record))
        assert raw == codec.encode("t", record)


def test_record_of_another_schema_is_refused_with_the_cure():
    raw = Codec().encode("t", Reward(user_id="u1", kind="click", occurred_at_ms=NOW_MS))
    with pytest.raises(ValueError, match=r"take the \.avsc files of the release"):
        avro_contract.decode("Decision", raw)


def test_feedback_is_what_people_do_each_piece_when_it_happens_or_a_little_later(company, answers):
    decisions = everyone(company)
    answers.take(decisions, {}, NOW_MS)
    posts, at_ms = [], NOW_MS
    while answers.next_ms is not None:
        at_ms = answers.next_ms
        for post in answers.due(at_ms):
            assert 0 <= at_ms - post.reward.occurred_at_ms <= 200
            posts.append(post.reward)
    expected = company.respond(
        [d["decision_id"] for d in decisions],
        np.arange(len(decisions)),
        np.arange(len(decisions)) % 8,
        NOW_MS,
        DEMO_DELAYS,
    ).events()
    key = lambda reward: (reward.reward_id, reward.occurred_at_ms)  # noqa: E731
    assert sorted(set(posts), key=key) == sorted(expected, key=key)
    assert len(posts) > len(expected) > 100
    assert [p.occurred_at_ms for p in posts] != sorted(p.occurred_at_ms for p in posts)


def test_nothing_is_posted_before_it_happened(company, answers):
    answers.take(everyone(company), {}, NOW_MS)
    assert answers.due(NOW_MS) == []


def test_nobody_answers_what_is_not_sent(company, answers):
    late = [decision(company, u, expires_at_ms=NOW_MS - 1) for u in range(500)]
    none = [decision(company, u, wave=1, action="no-send", channel=None) for u in range(500)]
    answers.take(late + none, {}, NOW_MS)
    assert post_all(answers) == []
    assert answers.sent.expired == 500
    assert answers.sent.notifications.total() == 0


def test_decision_that_comes_again_is_sent_once(company, answers):
    answers.take(everyone(company), {}, NOW_MS)
    first = len(post_all(answers))
    answers.take(everyone(company), {}, NOW_MS)
    assert first > 100
    assert post_all(answers) == []
    assert answers.sent.redelivered == len(company.people)
    assert answers.sent.notifications == {0: len(company.people)}


def test_offsets_go_on_only_behind_decisions_that_are_answered(company, answers):
    people = everyone(company)
    answers.take(people[:1500], {("d", 0): 1500}, NOW_MS)
    answers.take([decision(company, 0, wave=1, action="no-send")], {("d", 0): 1501}, NOW_MS)
    assert answers.answered() == {}
    posts = answers.due(LATER_MS)
    for post in posts[:-1]:
        answers.posted(post)
    assert answers.answered() == {}
    answers.posted(posts[-1])
    assert answers.answered() == {("d", 0): 1501}
    assert answers.answered() == {}


def test_truth_counts_each_piece_of_feedback_once_by_wave_and_kind(company, answers, tmp_path):
    for wave in (0, 1):
        answers.take(everyone(company, wave), {}, NOW_MS)
    posts = [post.reward for post in post_all(answers)]
    answers.sent.write(tmp_path / "truth.json")
    told = json.loads((tmp_path / "truth.json").read_text())
    distinct = {reward.reward_id: reward for reward in posts}
    assert sum(sum(kinds.values()) for kinds in told["feedback"].values()) == len(distinct)
    assert told["duplicates"] == len(posts) - len(distinct) > 0
    assert set(told["feedback"]) == {"0", "1"}
    assert set(told["feedback"]["0"]) >= set(REWARD_WEIGHTS)
    clicks = [r for r in distinct.values() if r.kind == "click"]
    assert sum(kinds["click"] for kinds in told["feedback"].values()) == len(clicks)
