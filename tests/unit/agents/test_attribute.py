import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from schemas.campaign import ContextFeature
from schemas.ids import TIME_MARKER
from schemas.records import Reward
from schemas.topics import LEARNING_EXAMPLES, LEARNING_UPDATES
from streams.agents.attribute import Attribute
from streams.agents.close import MOST_DUE, CloseDue
from streams.agents.running_waves import load_wave
from streams.agents.state import (
    CLOSE,
    TOGETHER,
    ledger_key,
    load_ledger,
    profile_key,
    put_timers,
    read_timers,
    wave_key,
)
from streams.core.encoding import ContextEncoder
from streams.core.learning import add_tallies, examples_in, fold_updates
from streams.core.ledger import Ledger
from streams.core.profiles import Profile
from streams.core.warm_start import first_policy
from tests.unit.agents.shard import (
    NOON,
    SHARDS,
    MemoryShard,
    add_people,
    campaign,
    clock,
    decided,
    incoming,
    raw,
    refusals,
    sent,
    users_of,
)

SPRING = campaign()
CLOSES = NOON + 110_000  # the window and its lateness
ANN, BOB = users_of(0, 2)


def joining(now_ms: int = NOON) -> Attribute:
    return Attribute(SHARDS, clock(now_ms))


def wave_of(*users: str, of=SPRING, **start) -> tuple[MemoryShard, dict]:
    """A shard that has decided for users, and their decisions."""
    shard = MemoryShard()
    add_people(shard, users)
    decisions = {d.user_id: d for d in decided(shard, of, **start)}
    assert set(decisions) == set(users)
    return shard, decisions


def click(decision=None, after_ms: int = 1000, kind: str = "click", **given) -> Reward:
    user = decision.user_id if decision else ANN
    usual = {
        "user_id": user,
        "kind": kind,
        "occurred_at_ms": NOON + after_ms,
        "decision_id": decision.decision_id if decision else None,
    }
    return Reward(**{**usual, **given})


def close(shard: MemoryShard, now_ms: int = CLOSES):
    shard.now_ms = now_ms
    return shard.run(CloseDue(clock()))


def profile(shard: MemoryShard, user: str = ANN) -> Profile:
    found = shard.load(profile_key(user), Profile)
    load_ledger(shard.begin(), user, found)
    return found


# ---- closing


def test_a_decision_closes_when_event_time_has_passed_its_window_and_lateness():
    shard, decisions = wave_of(ANN)
    shard.apply(
        joining(), [click(decisions[ANN]), click(decisions[ANN], 2000, "purchase", value=8)]
    )
    assert close(shard, CLOSES - 1) == []
    (example,) = sent(close(shard, CLOSES), LEARNING_EXAMPLES)
    assert example.decision_id == decisions[ANN].decision_id
    assert example.reward == 1.0 + 2.0 + 0.25 * 8
    assert example.previous_reward is None
    assert example.feedback == {"click": 1, "purchase": 1}
    assert example.closed_at_ms == CLOSES
    assert close(shard, CLOSES + 1) == []


def test_the_learner_is_told_of_each_close_and_of_what_is_still_open():
    shard, decisions = wave_of(ANN, BOB)
    shard.apply(joining(), [click(decisions[ANN])])
    (update,) = sent(close(shard), LEARNING_UPDATES)
    assert (update.decided, update.open, update.deciding) == (2, 0, False)
    assert len(update.rewards) == 16
    assert sum(tally.closed for tally in update.tallies) == 2
    assert sum(tally.reward_sum for tally in update.tallies) == 1.0


def test_what_never_arrived_is_left_out_of_learning_and_of_caps():
    shard, decisions = wave_of(ANN, BOB)
    shard.apply(joining(), [click(decisions[ANN], kind="failed"), click(decisions[BOB])])
    assert profile(shard).sends == []
    outputs = close(shard)
    assert [e.user_id for e in sent(outputs, LEARNING_EXAMPLES)] == [BOB]
    updates = sent(outputs, LEARNING_UPDATES)
    assert updates[-1].open == 0
    assert sum(t.undelivered for update in updates for t in update.tallies) == 1
    assert sum(len(update.rewards) for update in updates) == 8


def test_a_failed_send_takes_only_itself_from_the_cap():
    shard, decisions = wave_of(ANN)
    decided(shard, campaign(campaign_id="autumn"))
    assert profile(shard).sends == [NOON, NOON]
    failures = [click(decisions[ANN], at, "failed") for at in (1, 2)]
    shard.apply(joining(), failures)
    assert profile(shard).sends == [NOON]
    shard.apply(joining(), [click(decisions[ANN], 3, "delivered")])
    assert profile(shard).sends == [NOON, NOON]


# ---- correcting


def test_feedback_after_the_close_corrects_and_after_the_horizon_is_refused():
    shard, decisions = wave_of(ANN)
    close(shard)
    outputs = shard.apply(joining(), [click(decisions[ANN])])
    (example,) = sent(outputs, LEARNING_EXAMPLES)
    assert (example.reward, example.previous_reward) == (1.0, 0.0)
    (update,) = sent(outputs, LEARNING_UPDATES)
    assert sum(tally.closed for tally in update.tallies) == 0
    close(shard, NOON + 999_999)
    assert refusals(shard.apply(joining(), [click(decisions[ANN], 1001)])) == []
    close(shard, NOON + 1_000_000)
    (why,) = refusals(shard.apply(joining(), [click(decisions[ANN], 1002)]))
    assert "no decision" in why


def test_feedback_on_what_never_arrived_is_told_to_nobody():
    shard, decisions = wave_of(ANN)
    shard.apply(joining(), [click(decisions[ANN], kind="failed")])
    close(shard)
    assert shard.apply(joining(), [click(decisions[ANN])]) == []


def test_corrections_of_one_batch_start_from_each_other():
    shard, decisions = wave_of(ANN)
    close(shard)
    late = [click(decisions[ANN], 1), click(decisions[ANN], 2, "purchase")]
    examples = sent(shard.apply(joining(), late), LEARNING_EXAMPLES)
    assert [(e.previous_reward, e.reward) for e in examples] == [(0.0, 1.0), (1.0, 3.0)]


def test_a_flood_is_closed_in_parts_and_no_update_exceeds_its_topic():
    columns = [
        ContextFeature(attribute="a", buckets=255),
        ContextFeature(attribute="b", buckets=256),
    ]
    wide = campaign(context=columns, policy="uniform", policy_params={})
    users = users_of(0, 2 * MOST_DUE + 300)
    shard, decisions = wave_of(*users, of=wide)
    shard.now_ms = CLOSES
    closing, closed = CloseDue(clock()), []
    for more in (True, True, False):
        closed.append(len(sent(shard.step(closing), LEARNING_EXAMPLES)))
        assert shard.more is more
    assert closed == [MOST_DUE, MOST_DUE, 300]
    flood = shard.apply(joining(), [click(decisions[user]) for user in users])
    updates = sent(flood, LEARNING_UPDATES)
    assert sum(len(update.rewards) // 8 for update in updates) == len(users)
    assert sum(t.reward_sum for update in updates for t in update.tallies) == len(users)


# ---- whom feedback answers


def test_feedback_without_an_id_is_credited_to_the_last_touch_once():
    shard, _ = wave_of(ANN)
    feedback = click(user_id=ANN)
    shard.apply(joining(), [feedback, feedback])
    (example,) = sent(close(shard), LEARNING_EXAMPLES)
    assert example.reward == 1.0


def test_feedback_of_a_user_with_no_decision_counts_in_the_profile_alone():
    shard = MemoryShard()
    shard.apply(joining(), [click(user_id=ANN)] * 2)
    assert shard.outputs == []
    assert profile(shard).event_count("click") == 1


def test_feedback_is_credited_under_the_definition_that_the_decision_was_made_under():
    shard, decisions = wave_of(ANN)
    decided(shard, campaign(campaign_id="spring", version=2, reward_weights={"click": 9}), wave=0)
    shard.apply(joining(), [click(decisions[ANN])])
    (example,) = sent(close(shard), LEARNING_EXAMPLES)
    assert (example.reward, example.campaign_version) == (1.0, 1)


def test_a_reward_too_large_to_learn_is_refused_and_stops_nothing():
    shard, decisions = wave_of(ANN)
    before = dict(shard.store.pairs)
    hostile = click(decisions[ANN], kind="purchase", value=1.7e308)
    (why,) = refusals(shard.apply(joining(), [hostile]))
    assert "too large" in why
    assert shard.store.pairs == before
    (example,) = sent(close(shard), LEARNING_EXAMPLES)
    assert example.reward == 0.0


def test_kinds_that_a_sender_makes_up_do_not_grow_the_state_or_the_report():
    shard, decisions = wave_of(ANN)
    made_up = [click(decisions[ANN], at, f"{'x' * 100}-{at}") for at in range(3000)]
    shard.apply(joining(), made_up)
    shard.apply(joining(), [click(decisions[ANN], 5000)])
    outputs = close(shard)
    (update,) = sent(outputs, LEARNING_UPDATES)
    assert [tally.feedback for tally in update.tallies] == [{"(other)": 3000, "click": 1}]
    assert max(map(len, shard.store.pairs.values())) < 65_536


# ---- unsubscribing


@pytest.mark.parametrize("closed", [False, True])
def test_who_unsubscribes_from_a_decision_leaves_its_channel(closed):
    shard, decisions = wave_of(ANN)
    if closed:
        close(shard)
    shard.apply(joining(), [click(decisions[ANN], kind="unsubscribe")])
    other = {"email": "push", "push": "email"}[decisions[ANN].channel]
    assert profile(shard).unsubscribed(decisions[ANN].channel)
    assert not profile(shard).unsubscribed(other)


def test_who_unsubscribes_by_a_link_beyond_the_horizon_is_not_written_to_again():
    shard, decisions = wave_of(ANN)
    close(shard, NOON + 10**7)
    close(shard, NOON + 10**8)
    assert shard.load(ledger_key(ANN), Ledger).entries == []
    late = click(decisions[ANN], 2 * 10**7, "unsubscribe")
    assert refusals(shard.apply(joining(NOON + 10**8), [late])) == []
    assert profile(shard).unsubscribed("email")
    assert profile(shard).unsubscribed("push")


def test_who_unsubscribes_before_a_contact_is_known_stays_out():
    shard = MemoryShard()
    shard.apply(joining(), [click(user_id=ANN, kind="unsubscribe")])
    shard.apply(joining(), [click(user_id=BOB, kind="unsubscribe", channel="push")])
    add_people(shard, [ANN, BOB])
    assert [profile(shard).reachable(channel) for channel in ("email", "push")] == [False, False]
    assert [profile(shard, BOB).reachable(c) for c in ("email", "push")] == [True, False]


# ---- bad records


def test_unreadable_impossible_and_misplaced_records_are_refused():
    shard = MemoryShard()
    future = click(user_id=ANN, after_ms=2 * 86_400_000)
    elsewhere = click(user_id=users_of(1, 1)[0])
    whys = refusals(shard.apply(joining(), [b"garbage", future, elsewhere]))
    assert [why.split()[0] for why in whys] == ["not", "early:", "user"]
    assert shard.store.pairs == {}


def test_an_unknown_decision_is_refused_each_time_it_is_named():
    shard, _ = wave_of(ANN)
    stranger = click(user_id=ANN, decision_id="nobody's")
    assert len(refusals(shard.apply(joining(), [stranger, stranger]))) == 2


def test_time_markers_move_time_and_nothing_else():
    shard = MemoryShard()
    shard.apply(joining(), [click(user_id=ANN, kind=TIME_MARKER, after_ms=77)], "rewards")
    assert shard.times == {"rewards": NOON + 77}
    assert shard.store.pairs == {}


def test_times_far_ahead_do_not_move_time():
    shard = MemoryShard()
    feedback = [click(user_id=ANN, after_ms=at) for at in (300_001, 5, 1)]
    shard.apply(joining(), feedback, "rewards")
    assert shard.times == {"rewards": NOON + 5}


# ---- state


def test_nothing_is_left_of_a_wave_that_nothing_can_correct():
    shard, decisions = wave_of(ANN, BOB)
    shard.apply(joining(), [click(decisions[ANN])])
    close(shard)
    assert load_wave(shard.begin(), wave_key("spring", 0)).held == 2
    close(shard, NOON + 1_000_000)
    assert [key[:1] for key in shard.keys(b"")] == [b"d", b"l", b"l", b"p", b"p"]
    assert shard.load(ledger_key(ANN), Ledger) == Ledger(sends=[NOON])
    assert decided(shard, SPRING) == []  # and it is not started again


@pytest.mark.parametrize("nothing", ["no-send", "undelivered"])
def test_no_ledger_is_left_of_who_got_nothing(nothing):
    if nothing == "no-send":
        silent = campaign(policy="fixed", policy_params={"action": "no-send"}, no_send=True)
        shard, _ = wave_of(ANN, BOB, of=silent)
    else:
        shard, decisions = wave_of(ANN, BOB)
        failed = [click(decisions[user], kind="failed") for user in (ANN, BOB)]
        shard.apply(joining(), failed)
    assert len(shard.keys(b"l")) == 2
    close(shard)
    assert len(shard.keys(b"l")) == 2
    close(shard, NOON + 1_000_000)
    assert shard.keys(b"l") == []


def test_decisions_of_one_time_stand_under_few_timers_and_each_is_closed_and_forgotten():
    users = users_of(0, 2 * MOST_DUE + 1)
    shard = MemoryShard()
    add_people(shard, users)
    decided(shard, SPRING, chunk=TOGETHER + 1)
    chunks = -(-len(users) // (TOGETHER + 1))
    assert len(shard.keys(b"t")) == 2 * chunks - 1  # all but the last need two
    shard.now_ms = CLOSES
    first = sent(shard.step(CloseDue(clock())), LEARNING_EXAMPLES)
    assert MOST_DUE <= len(first) < MOST_DUE + TOGETHER
    assert shard.more
    others = sent(shard.run(CloseDue(clock())), LEARNING_EXAMPLES)
    assert sorted(e.user_id for e in [*first, *others]) == sorted(users)
    assert len(shard.keys(b"t")) <= 2 * chunks
    close(shard, NOON + 1_000_000)
    assert [key[:1] for key in shard.keys(b"")].count(b"t") == 0
    ledgers = [shard.load(key, Ledger) for key in shard.keys(b"l")]
    assert ledgers == [Ledger(sends=[NOON])] * len(users)


def test_decisions_that_close_together_are_forgotten_each_at_its_own_time():
    shard, _ = wave_of(ANN)
    shard.now_ms = NOON + 5000
    (second,) = decided(shard, campaign(campaign_id="autumn"))
    assert second.decided_at_ms == NOON + 5000
    close(shard, CLOSES + 5000)
    assert all(entry.closed for entry in shard.load(ledger_key(ANN), Ledger).entries)
    close(shard, NOON + SPRING.correction_horizon_ms)
    (kept,) = shard.load(ledger_key(ANN), Ledger).entries
    assert kept.decision_id == second.decision_id
    close(shard, NOON + 5000 + SPRING.correction_horizon_ms)
    assert shard.load(ledger_key(ANN), Ledger).entries == []


def test_a_decision_that_is_made_again_leaves_those_that_are_due_with_it():
    tx = MemoryShard().begin()
    put_timers(tx, CLOSES, CLOSE, [(ANN, "a"), (BOB, "b"), ("cem", "c")])
    put_timers(tx, CLOSES, CLOSE, [(ANN, "a")])
    put_timers(tx, CLOSES, CLOSE, [(ANN, "a"), ("dan", "d")])
    (pair,) = tx.scan(b"t")
    assert [t.decision_id for t in read_timers(*pair)] == ["a", "b", "c", "d"]


def test_splitting_a_batch_anywhere_gives_the_same_state_and_examples():
    users = users_of(0, 6)
    shard, decisions = wave_of(*users)
    start = dict(shard.store.pairs)
    rng = random.Random(3)
    feedback = [
        click(decisions[rng.choice(users)], rng.randrange(120_000), kind, value=1.0)
        for kind in rng.choices(["click", "purchase", "failed", "unsubscribe"], k=40)
    ]
    whole = None
    for size in (40, 1, 7):
        shard = MemoryShard()
        shard.store.pairs = dict(start)
        for first in range(0, 40, size):
            shard.apply(joining(), feedback[first : first + size])
        close(shard)
        result = (shard.store.pairs, raw(shard.outputs))
        whole = whole or result
        assert result == whole


@given(st.permutations(range(12)), st.integers(0, 12))
@settings(deadline=None, max_examples=25)
def test_any_order_around_the_close_gives_the_same_final_rewards(order, before):
    users = users_of(0, 3)
    shard, decisions = wave_of(*users)
    kinds = ["click", "purchase", "dismiss", "click"]
    feedback = [
        click(decisions[user], 1000 * rank, kind, reward_id=f"{user}-{rank}")
        for user in users
        for rank, kind in enumerate(kinds)
    ]
    ordered = [feedback[rank] for rank in order]
    shard.apply(joining(), ordered[:before] * 2)
    close(shard)
    shard.apply(joining(), ordered[before:] + ordered)
    final = {e.user_id: e.reward for e in sent(shard.outputs, LEARNING_EXAMPLES)}
    assert final == dict.fromkeys(users, 4.0)
    told = sum(
        tally.reward_sum
        for update in sent(shard.outputs, LEARNING_UPDATES)
        for tally in update.tallies
    )
    assert told == 12.0
    counts = [t.feedback for u in sent(shard.outputs, LEARNING_UPDATES) for t in u.tallies]
    assert sum(count.get("click", 0) for count in counts) == 6


def test_a_record_keeps_its_bytes_and_origin_in_the_dead_letters():
    shard = MemoryShard()
    (letter,) = shard.apply(joining(), [b"garbage"], "rewards")
    headers = dict(letter.headers)
    assert letter.value == b"garbage"
    assert letter.key == incoming(b"garbage").key
    assert headers["kafka_dlt-original-topic"] == b"rewards"
    assert headers["kafka_dlt-original-offset"] == b"0"


@pytest.mark.parametrize(
    ("verdict", "given"),
    [
        ("credited", {}),
        ("outside", {"after_ms": 10_000_000}),
        ("duplicate", {"reward_id": "twice"}),
        ("unmatched", {"user_id": BOB, "decision_id": None}),
        ("unknown", {"decision_id": "f" * 32}),
        ("early", {"after_ms": 400_000}),
    ],
)
def test_feedback_is_counted_by_what_became_of_it(verdict, given):
    shard, decisions = wave_of(ANN)
    before = REGISTRY.get_sample_value("groundswell_feedback_total", {"verdict": verdict}) or 0
    reward = click(decisions[ANN], **given)
    shard.apply(joining(), [reward], "rewards")
    if verdict == "duplicate":
        shard.apply(joining(), [reward], "rewards")
    after = REGISTRY.get_sample_value("groundswell_feedback_total", {"verdict": verdict})
    assert after == before + 1


# ---- no-send that was chosen, and what was sent last


def test_what_comes_after_no_send_is_its_reward_and_it_counts_against_no_cap():
    silent = campaign(no_send=True, templates=SPRING.templates[:1], cap_sends=1)
    users = users_of(0, 40)
    shard, decisions = wave_of(*users, of=silent)
    quiet = [d for d in decisions.values() if d.action == "no-send"]
    assert quiet
    shard.apply(joining(), [click(None, user_id=quiet[0].user_id, kind="purchase")])
    close(shard)
    examples = {e.user_id: e for e in sent(shard.outputs, LEARNING_EXAMPLES)}
    assert set(examples) == set(users)
    assert examples[quiet[0].user_id].reward == 2.0
    assert {examples[d.user_id].reward for d in quiet[1:]} == {0.0}
    assert {examples[d.user_id].action for d in quiet} == {"no-send"}
    updates = sent(shard.outputs, LEARNING_UPDATES)
    assert sum(len(u.rewards) // 8 for u in updates) == len(users)
    assert all(examples_in(u, silent) is not None for u in updates if u.rewards)
    for decision in decisions.values():
        sends = profile(shard, decision.user_id).sends
        assert sends == ([] if decision.action == "no-send" else [NOON])


def test_a_send_that_did_not_arrive_was_not_the_last_one():
    tired = campaign(fatigue_size=0.1, templates=SPRING.templates[:1])
    shard, first = wave_of(ANN, of=tired)
    assert profile(shard).sent_at == {"spring/hello": NOON}
    shard.now_ms = NOON + 5000
    (second,) = decided(shard, tired, wave=1, share_from=0.0, share_until=1.0)
    assert profile(shard).sent_at == {"spring/hello": NOON + 5000}
    failed = click(second, 6000, "failed")
    shard.apply(joining(NOON + 6000), [failed])
    assert profile(shard).sent_at == {"spring/hello": NOON}
    shard.apply(joining(NOON + 6000), [click(first[ANN], 6000, "failed")])
    assert profile(shard).sent_at == {}
    shard.apply(joining(NOON + 7000), [click(second, 7000, "delivered")])
    assert profile(shard).sent_at == {"spring/hello": NOON + 5000}


def test_what_was_sent_last_is_kept_only_where_repetition_matters():
    shard, _ = wave_of(ANN, of=SPRING)
    assert profile(shard).sent_at == {}


# ---- decisions that are learned at once


NOW = campaign(learn_at="decision", learning="examples", templates=SPRING.templates[:1])


def taught(shard: MemoryShard) -> list[tuple[float, float]]:
    """What the learner was told: rewards, and what they correct."""
    updates = sent(shard.outputs, LEARNING_UPDATES)
    return [
        (reward, previous)
        for update in updates
        for reward, previous in zip(
            np.frombuffer(update.rewards), np.frombuffer(update.previous), strict=True
        )
    ]


def test_a_decision_is_learned_at_once_and_corrected_by_all_that_comes():
    shard, decisions = wave_of(ANN, BOB, of=NOW)
    assert [reward for reward, _ in taught(shard)] == [0.0, 0.0]
    shard.apply(joining(), [click(decisions[ANN])])
    shard.apply(joining(), [click(decisions[ANN], 2000, "purchase", value=4.0)])
    assert taught(shard)[2:] == [(1.0, 0.0), (4.0, 1.0)]
    close(shard)
    assert len(taught(shard)) == 4  # the learner knew all of it
    shard.apply(joining(CLOSES), [click(decisions[BOB])])
    assert taught(shard)[4:] == [(1.0, 0.0)]


def test_the_log_and_the_report_of_what_is_learned_at_once_are_those_of_what_waits():
    logs, reports = [], []
    for of in (NOW, campaign(learning="examples", templates=SPRING.templates[:1])):
        shard, decisions = wave_of(ANN, BOB, of=of)
        shard.apply(joining(), [click(decisions[ANN])])
        close(shard)
        shard.apply(joining(CLOSES), [click(decisions[BOB])])
        logs.append(sent(shard.outputs, LEARNING_EXAMPLES))
        tallies = [t for u in sent(shard.outputs, LEARNING_UPDATES) for t in u.tallies]
        reports.append(add_tallies(tallies))
    assert logs[0] == logs[1]
    assert reports[0] == reports[1]


def test_what_never_arrived_is_taken_back_as_far_as_it_earned():
    shard, decisions = wave_of(ANN, of=NOW)
    shard.apply(joining(), [click(decisions[ANN]), click(decisions[ANN], 2000, "failed")])
    close(shard)
    assert taught(shard)[1:] == [(1.0, 0.0), (0.0, 1.0)]
    assert sent(shard.outputs, LEARNING_EXAMPLES) == []


def test_learned_at_once_and_in_parts_the_sums_are_those_of_the_examples():
    policies = []
    for learning in ("examples", "parts"):
        of = replace(NOW, learning=learning, policy_params={"draws": 16, "adapt": False})
        policy = first_policy(of, ContextEncoder(of.context))
        half_lives = list(policy.half_lives_ms) if learning == "parts" else None
        shard, decisions = wave_of(ANN, BOB, of=of, half_lives_ms=half_lives)
        shard.apply(joining(), [click(decisions[ANN])])
        close(shard)
        shard.apply(joining(CLOSES), [click(decisions[BOB])])
        shard.now_ms = NOON + 10_000_000
        shard.run(CloseDue(clock(shard.now_ms)))
        fold_updates(policy, sent(shard.outputs, LEARNING_UPDATES), of)
        policies.append(policy)
    for name in ("moment", "gram"):
        mine, theirs = (policy.reward_model.learned()[name] for policy in policies)
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert policies[0].n_learned == policies[1].n_learned == 2
