import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import BadRecordError, PolicyError
from schemas.learning import LearningUpdate, Tally
from streams.core.learning import (
    BLOCK,
    Outcome,
    add_tallies,
    decision_tally,
    example_of,
    examples_in,
    fold_updates,
    outcome_tally,
    undelivered_tally,
    update_columns,
)
from streams.core.ledger import Entry
from streams.core.policies import create, to_bytes
from tests.unit.agents.shard import NOON, campaign, update

SPRING = campaign(policy_params={"draws": 16, "half_life_days": 2.0})


def outcome(
    number: int = 0, reward: float = 1.0, previous: float | None = None, **given
) -> Outcome:
    rng = np.random.default_rng(number)
    entry = Entry(
        **{
            "decision_id": f"d{number}",
            "campaign_id": "spring",
            "wave": 0,
            "action": ("hello", "offer", "ping")[number % 3],
            "reason": "policy",
            "propensity": 0.5,
            "propensity_kind": "drawn",
            "actions": ["hello", "offer"],
            "probabilities": [0.5, 0.5],
            "context": rng.random(4).astype("<f4").tobytes(),
            "decided_at_ms": NOON + 977 * number,
            "policy_version": 3,
            "encoder_version": "e",
            "channel": "email",
            "counts": {"click": 1},
            **given,
        }
    )
    return Outcome(
        user_id="ann",
        entry=entry,
        reward=reward,
        previous=previous,
        known=previous,
        at_ms=NOON + 5,
        kind="click" if previous is not None else None,
    )


def told(outcomes) -> LearningUpdate:
    return replace(update(), **update_columns(outcomes))


def learned(groups) -> tuple[bytes, int]:
    policy = create(SPRING.policy, SPRING.policy_params, 4, 2)
    new = fold_updates(policy, [told(group) for group in groups], SPRING)
    return to_bytes(policy), new


# ---- the way to the learner


def test_what_is_told_is_what_is_learned():
    outcomes = [outcome(0, 1.5), outcome(1, -2.0, previous=0.25), outcome(4, 0.0)]
    examples = examples_in(told(outcomes), SPRING)
    assert examples.actions == ("hello", "offer", "offer")
    assert examples.rewards.tolist() == [1.5, -2.0, 0.0]
    assert np.isnan(examples.previous).tolist() == [True, False, True]
    assert examples.previous[1] == 0.25
    assert examples.at_ms.tolist() == [NOON, NOON + 977, NOON + 4 * 977]
    assert examples.action_features.tolist() == [[0.0, 1.0], [0.5, 0.0], [0.5, 0.0]]
    contexts = np.frombuffer(b"".join(o.entry.context for o in outcomes), dtype="<f4")
    assert examples.contexts.ravel().tolist() == contexts.tolist()


def test_what_is_not_to_be_learned_is_not_told():
    columns = update_columns([outcome(0, learn=False), outcome(1)])
    assert columns["actions"] == ["offer"]
    assert len(columns["rewards"]) == 8
    assert examples_in(told([outcome(0, learn=False)]), SPRING) is None


def test_columns_that_do_not_fit_are_refused():
    good = update_columns([outcome(0), outcome(1)])
    for name in ("action_index", "contexts", "rewards", "previous", "decided_at_ms"):
        for column in (good[name][:-1], good[name][: len(good[name]) // 2]):
            with pytest.raises(BadRecordError, match="lengths"):
                examples_in(replace(update(), **{**good, name: column}), SPRING)
    with pytest.raises(BadRecordError, match="nothing"):
        examples_in(replace(update(), **{**good, "actions": ["hello", "nothing"]}), SPRING)
    with pytest.raises(PolicyError):
        examples_in(told([outcome(0, math.nan)]), SPRING)


# ---- folding


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.booleans()), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
)
@settings(deadline=None, max_examples=30)
def test_any_regrouping_of_the_same_outcomes_gives_the_same_bytes(given_, cuts):
    outcomes = [
        outcome(rank, reward, previous=0.5 if late else None)
        for rank, (reward, late) in enumerate(given_)
    ]
    edges = [0, *sorted(cuts), len(outcomes)]
    groups = [outcomes[edges[i] : edges[i + 1]] for i in range(len(edges) - 1)]
    whole = learned([outcomes])
    assert learned(groups) == whole
    assert learned([[each] for each in outcomes]) == whole
    assert whole[1] == sum(not late for _, late in given_)


@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_groups_across_the_edge_of_a_block_give_the_same_bytes(n):
    outcomes = [outcome(rank, float(rank % 5)) for rank in range(n)]
    whole = learned([outcomes])
    assert whole[1] == n
    for size in (1000, BLOCK - 3):
        assert learned([outcomes[at : at + size] for at in range(0, n, size)]) == whole


def test_another_order_is_another_state():
    outcomes = [outcome(rank, float(rank)) for rank in range(20)]
    assert learned([outcomes])[0] != learned([outcomes[::-1]])[0]


def test_a_correction_makes_the_policy_as_if_the_reward_had_been_known():
    pairs = [(outcome(0, 0.0), outcome(0, 1.0, previous=0.0)), (outcome(1, 2.0), None)]
    corrected = [first for first, _ in pairs] + [late for _, late in pairs if late]
    exact = create("linear-thompson", {"draws": 16}, 4, 2)
    known = create("linear-thompson", {"draws": 16}, 4, 2)
    assert fold_updates(exact, [told(corrected)], SPRING) == 2
    assert fold_updates(known, [told([outcome(0, 1.0), outcome(1, 2.0)])], SPRING) == 2
    assert exact.posterior.mean == pytest.approx(known.posterior.mean, abs=1e-12)


def test_nothing_told_teaches_nothing():
    empty = create(SPRING.policy, SPRING.policy_params, 4, 2)
    assert learned([]) == (to_bytes(empty), 0)
    assert learned([[], []]) == (to_bytes(empty), 0)


# ---- the log and the report


def test_the_log_keeps_an_outcome_with_its_probabilities_and_context():
    late = outcome(3, 2.5, previous=1.0)
    example = example_of(late, 9)
    assert (example.reward, example.previous_reward, example.closed_at_ms) == (2.5, 1.0, NOON + 5)
    assert (example.campaign_version, example.wave, example.user_id) == (9, 0, "ann")
    entry = late.entry
    for name in ("decision_id", "action", "propensity", "probabilities", "context", "learn"):
        assert getattr(example, name) == getattr(entry, name)
    late.entry.counts["click"] = 99
    assert example.feedback == {"click": 1}


def test_a_correction_adds_only_what_is_new_to_the_report():
    first = outcome_tally(outcome(0, 1.0))
    late = outcome_tally(outcome(0, 3.0, previous=1.0))
    (both,) = add_tallies([decision_tally("policy", "hello"), first, late])
    assert both == Tally(
        reason="policy",
        action="hello",
        decisions=1,
        closed=1,
        feedback={"click": 2},
        reward_sum=3.0,
        reward_square_sum=9.0,
    )


def test_tallies_are_added_by_reason_and_action_in_a_fixed_order():
    tallies = [
        decision_tally("policy", "offer"),
        decision_tally("holdout", "no-send"),
        decision_tally("policy", "hello"),
        decision_tally("policy", "offer"),
        undelivered_tally(outcome(1).entry),
    ]
    summed = add_tallies(tallies)
    assert summed == add_tallies(tallies[::-1])
    assert [(t.reason, t.action, t.decisions, t.undelivered) for t in summed] == [
        ("holdout", "no-send", 1, 0),
        ("policy", "hello", 1, 0),
        ("policy", "offer", 2, 1),
    ]
    assert tallies[0] == decision_tally("policy", "offer")  # what is added stays as it was
