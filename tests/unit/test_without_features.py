"""Campaigns whose templates have no features: told apart, and joined by new ones as they run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.campaign import Campaign
from schemas.errors import CampaignError, PolicyError
from schemas.topics import SEND_DECISIONS
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.definition import check_taken
from streams.commands.campaign_file import parse_campaign
from streams.core.encoding import ContextEncoder, action_set, told_apart
from streams.core.evaluation.campaign_log import CampaignLog
from streams.core.learning import fold_updates
from streams.core.policies import DEFAULT_POLICY, create, from_bytes, to_bytes
from streams.core.schedule import CampaignState
from streams.core.warm_start import check_warm_start, first_policy, warm_start
from streams.kafka.campaign_client import check_change
from tests.unit.agents.shard import (
    FakeKnown,
    MemoryShard,
    add_people,
    clock,
    frozen,
    sent,
    update,
    users_of,
    wave_start,
)
from tests.unit.evaluation.test_campaign_log import outcomes

NONE = ContextEncoder([])
EARNS = {"a": 0.1, "b": 0.3, "c": 0.6}
APART = [
    DEFAULT_POLICY,
    "disjoint-linear-thompson",
    "disjoint-linear-ucb",
    "{name: epsilon-greedy, params: {model: disjoint-linear}}",
    "{name: squarecb, params: {model: disjoint-linear}}",
    "{name: river-regressor, params: {view: user}}",
    "river-bandit",
    "uniform",
]
TOGETHER = [
    "linear-thompson",
    "linear-ucb",
    "logistic-thompson",
    "epsilon-greedy",
    "softmax",
    "squarecb",
    "river-regressor",
]


def simple(templates: str = "ab", policy: str = DEFAULT_POLICY, more: str = "") -> Campaign:
    """The simplest file there is; a template in capitals is paused."""
    rows = (
        f"  - {{id: {one.lower()}, channel: email{', status: paused' if one.isupper() else ''}}}\n"
        for one in templates
    )
    text = f"campaign: hello\nwaves: 3\npolicy: {policy}\n{more}templates:\n{''.join(rows)}"
    return parse_campaign(text.encode(), "hello.yaml", Path(), 7)


def answers(of: Campaign, wave: int, each: int = 1_000):
    """What a wave earned, every template sent as often."""
    names = [one.id for one in of.templates]
    index = np.arange(each * len(names)) % len(names)
    means = np.array([EARNS[name] for name in names])[index]
    rewards = (np.random.default_rng(wave).random(len(index)) < means).astype(float)
    return update(
        list(rewards),
        wave=wave,
        campaign_id="hello",
        actions=names,
        action_index=index.astype("<i4").tobytes(),
        contexts=b"",
    )


def shares(of: Campaign, policy) -> dict[str, float]:
    """How often each template is sent."""
    actions = action_set(of)
    may = np.array([[one.status == "active" for one in of.templates]] * 200)
    dist = policy.action_dist(np.zeros((200, 0)), actions, may, np.random.default_rng(1))
    return dict(zip(actions.ids, dist.mean(axis=0).tolist(), strict=True))


@pytest.mark.parametrize("policy", APART)
def test_templates_without_features_have_none_where_each_is_learned_for_itself(policy):
    assert [one.features for one in simple(policy=policy).templates] == [{}, {}]


@pytest.mark.parametrize("policy", TOGETHER)
def test_a_model_for_all_gets_a_feature_for_each(policy):
    assert [one.features for one in simple(policy=policy).templates] == [{"a": 1.0}, {"b": 1.0}]


def test_features_that_were_given_stay_as_they_are():
    given = simple(more="")
    one = replace(given.templates[0], features={"price": 0.5})
    for policy in ("linear-thompson", DEFAULT_POLICY):
        mixed = replace(given, policy=policy, templates=[one, *given.templates[1:]])
        assert told_apart(mixed) is mixed
    with pytest.raises(PolicyError, match="no policy 'linear'"):
        told_apart(replace(given, policy="linear"))


@pytest.mark.parametrize("policy", APART)
def test_a_template_comes_to_a_campaign_that_has_started(policy):
    present = simple(policy=policy)
    state = CampaignState(present, version=1)
    for new in (simple("abc", policy), simple("aBc", policy), simple("cba", policy)):
        check_change(present, new, started=True)
        check_taken(state, new)
    with pytest.raises(CampaignError, match="templates b, which are missing: give them status"):
        check_change(present, simple("ac", policy), started=True)
    retired = replace(
        present, templates=[present.templates[0], replace(present.templates[1], status="retired")]
    )
    check_change(present, retired, started=True)
    with pytest.raises(CampaignError, match="retired the templates b"):
        check_change(retired, present, started=True)


@pytest.mark.parametrize("policy", TOGETHER)
def test_a_model_for_all_takes_no_further_template_and_says_what_would(policy):
    told = (
        "template features gained c: keep that, or give the campaign a new name, with features "
        "that say what its templates share, or with a policy that learns each apart "
        rf"\({DEFAULT_POLICY}\): {policy} knows them by their features alone"
    )
    with pytest.raises(CampaignError, match=told):
        check_change(simple(policy=policy), simple("abc", policy), started=True)
    check_change(simple(policy=policy), simple("aB", policy), started=True)


@pytest.mark.parametrize("policy", [name for name in APART if name != "uniform"])
def test_a_template_that_came_later_is_sent_learned_and_kept(policy):
    before, after = simple(policy=policy), simple("abc", policy)
    learned = first_policy(before, NONE)
    assert fold_updates(learned, [answers(before, 0)], before) == 2_000
    assert shares(before, learned)["b"] > shares(before, learned)["a"]

    learned = from_bytes(to_bytes(learned))
    assert shares(after, learned)["c"] > 0.0
    fold_updates(learned, [answers(after, 1)], after)
    found = shares(after, learned)
    assert max(found, key=found.__getitem__) == "c"
    again = from_bytes(to_bytes(learned))
    assert shares(after, again) == found

    paused = simple("abC", policy)
    assert shares(paused, again)["c"] == 0.0
    fold_updates(again, [answers(after, 2)], paused)  # what is on its way still comes
    again.retire(["c"])
    assert shares(paused, again)["b"] > shares(paused, again)["a"]


@pytest.mark.parametrize("no_send", ["", "no_send: yes\n"])
def test_a_wave_is_decided_with_the_template_that_came(no_send):
    before, after = simple(more=no_send), simple("abc", more=no_send)
    learned = first_policy(before, NONE)
    fold_updates(learned, [answers(before, 0)], before)
    shard, users = MemoryShard(), users_of(0, 400)
    add_people(shard, users)
    snapshot = replace(frozen(after, 1, version=1), state=to_bytes(learned))
    known = FakeKnown({"hello": after}, {("hello", 1): snapshot})
    start = wave_start(after, wave=1, policy_version=1)
    shard.apply(StartWaves(), [start], "wave-starts")
    outputs = shard.run(DecideChunk(known, 200, clock()))
    taken = [one.action for one in sent(outputs, SEND_DECISIONS)]
    assert len(taken) > 100  # a third of them
    assert {"b", "c"} <= set(taken)


def test_a_campaign_begins_with_what_another_learned_of_the_same_templates():
    source, young = simple("ab"), replace(simple("bc"), campaign_id="young")
    learned = first_policy(source, NONE)
    fold_updates(learned, [answers(source, 0)], source)
    policy = warm_start(young, source, learned, NONE)
    expected = policy.reward_model.expected(np.zeros((1, 0)), action_set(young))[0]
    assert expected[0] == pytest.approx(EARNS["b"], abs=0.05)
    assert EARNS["a"] < expected[1] < EARNS["b"]  # as an average template


def test_a_warm_start_is_refused_where_templates_are_told_by_other_features():
    young = replace(simple("bc", "linear-thompson"), campaign_id="young")
    with pytest.raises(CampaignError, match="have the features a, b, these b, c: a warm start"):
        check_warm_start(young, simple("ab", "linear-thompson"))
    featured = replace(
        simple(), templates=[replace(one, features={"price": 1.0}) for one in simple().templates]
    )
    with pytest.raises(CampaignError, match=r"have the features price, these \(none\)"):
        check_warm_start(replace(simple(), campaign_id="young"), featured)


def test_any_policy_is_valued_on_the_log_of_a_campaign_without_features():
    two = simple()
    names = dict(zip(("hello", "offer"), ("a", "b"), strict=True))
    log = CampaignLog.of(
        [
            replace(one, action=names[one.action], actions=["a", "b"], campaign_id="hello")
            for one in outcomes()
        ],
        action_set(two),
        0.5,
    )
    for name in ("linear-thompson", DEFAULT_POLICY):
        actions = action_set(told_apart(replace(two, policy=name)))
        policy = create(name, {}, log.d_user, actions.d_action)
        log.teach(policy, actions)
        found = log.value(policy, np.random.default_rng(0), actions)
        assert found.adaptive is not None
        assert found.adaptive.value == pytest.approx(0.5, abs=0.08)  # it sends offers
