from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.campaign import ContextFeature, Template
from schemas.errors import PropensityError
from schemas.ids import TIME_MARKER
from schemas.records import LoggedDecision
from schemas.topics import LEARNING_EXAMPLES, LEARNING_UPDATES
from streams.agents.close import CloseDue
from streams.agents.logged import LARGEST_LEDGER, EnterLogged
from streams.agents.running_waves import RunningWave, load_wave
from streams.agents.state import ledger_key, wave_key
from streams.core.ledger import Ledger
from tests.unit.agents.shard import (
    NOON,
    SHARDS,
    FakeKnown,
    MemoryShard,
    campaign,
    clock,
    raw,
    refusals,
    sent,
    users_of,
)

LOG = campaign(status="logged")
ANN, BOB = users_of(0, 2)


def entering(of=LOG, now_ms: int | None = None) -> EnterLogged:
    return EnterLogged(FakeKnown({"spring": of} if of else {}), SHARDS, clock(now_ms))


def logged(number: int = 0, **given) -> LoggedDecision:
    usual = {
        "decision_id": f"row-{number}",
        "campaign_id": "spring",
        "wave": 0,
        "user_id": ANN,
        "action": "hello",
        "propensity_kind": "given",
        "propensity": 0.25,
        "decided_at_ms": NOON + number,
        "attributes": {"age": 45 + 15 * number, "plan": "plus"},
    }
    return LoggedDecision(**{**usual, **given})


def marker(**given) -> LoggedDecision:
    return logged(action=TIME_MARKER, decision_id="end", **given)


def running(shard: MemoryShard, wave: int = 0) -> RunningWave | None:
    return load_wave(shard.begin(), wave_key("spring", wave))


def test_a_logged_decision_is_opened_as_if_made_here_and_never_sent():
    shard = MemoryShard()
    outputs = shard.apply(entering(), [logged()])
    assert [output.topic for output in outputs] == [LEARNING_UPDATES]
    (update,) = sent(outputs, LEARNING_UPDATES)
    assert (update.decided, update.open, update.deciding, update.policy_version) == (1, 1, True, -1)
    (entry,) = shard.load(ledger_key(ANN), Ledger).entries
    assert (entry.reason, entry.propensity, entry.propensity_kind) == ("logged", 0.25, "given")
    assert entry.channel == "email"
    shard.now_ms = NOON + 110_000
    (example,) = sent(shard.run(CloseDue(clock())), LEARNING_EXAMPLES)
    assert example.decision_id == "row-0"


def test_all_probabilities_and_the_version_of_a_logged_decision_come_into_the_log():
    shard = MemoryShard()
    hello, offer = (template.id for template in LOG.templates[:2])
    odds = {hello: 0.25, offer: 0.75}
    shard.apply(entering(), [logged(probabilities=odds, policy_version=3)])
    shard.now_ms = NOON + 110_000
    (example,) = sent(shard.run(CloseDue(clock())), LEARNING_EXAMPLES)
    assert dict(zip(example.actions, example.probabilities, strict=True)) == odds
    assert example.policy_version == 3
    (why,) = refusals(
        shard.apply(entering(), [logged(2, probabilities={hello: 0.25, "gone": 0.75})])
    )
    assert "has no template 'gone'" in why


def test_probabilities_that_contradict_the_draw_are_refused():
    with pytest.raises(PropensityError, match=r"sum to 1 within 0\.001, got a sum of 0\.75"):
        logged(probabilities={"hello": 0.25, "offer": 0.5})
    with pytest.raises(PropensityError, match=r"give 'hello' 0\.5, its propensity is 0\.25"):
        logged(probabilities={"hello": 0.5, "offer": 0.5})


def test_a_repeated_decision_is_entered_once():
    shard = MemoryShard()
    shard.apply(entering(), [logged(), logged()])
    assert sent(shard.apply(entering(), [logged()]), LEARNING_UPDATES) == []
    assert running(shard).decided == 1


def test_the_same_id_in_another_wave_is_a_repetition_and_begins_no_wave():
    shard = MemoryShard()
    shard.apply(entering(), [logged()])
    assert shard.apply(entering(), [logged(wave=1)]) == []
    assert running(shard, 1) is None


def test_a_marker_ends_the_wave_in_its_shard_and_is_no_decision():
    shard = MemoryShard()
    outputs = shard.apply(entering(), [logged(), marker()])
    (update,) = sent(outputs, LEARNING_UPDATES)
    assert (update.decided, update.open, update.deciding) == (1, 1, False)
    assert sum(tally.decisions for tally in update.tallies) == 1


def test_a_marker_where_nothing_was_decided_leaves_only_a_mark():
    shard = MemoryShard()
    (update,) = sent(shard.apply(entering(), [marker()]), LEARNING_UPDATES)
    assert (update.decided, update.deciding) == (0, False)
    assert [key[:1] for key in shard.keys(b"")] == [b"d"]
    assert shard.apply(entering(), [marker()]) == []
    (why,) = refusals(shard.apply(entering(), [logged()]))
    assert "has ended" in why


def test_a_log_that_is_replayed_again_behind_its_horizon_is_refused():
    shard = MemoryShard()
    shard.apply(entering(), [logged(), marker()])
    shard.now_ms = NOON + 1_000_000
    shard.run(CloseDue(clock()))
    shard.run(CloseDue(clock()))
    assert running(shard) is None
    assert len(refusals(shard.apply(entering(), [logged()]))) == 1


def test_a_wave_keeps_the_definition_under_which_its_first_decision_came():
    shard = MemoryShard()
    shard.apply(entering(), [logged(1)])
    changed = replace(LOG, version=2, context=[ContextFeature(attribute="plan", buckets=64)])
    shard.apply(entering(changed), [logged(2)])
    entries = shard.load(ledger_key(ANN), Ledger).entries
    assert len({len(entry.context) for entry in entries}) == 1
    assert len({entry.encoder_version for entry in entries}) == 1
    assert entries[0].context != entries[1].context  # another age


@pytest.mark.parametrize(
    ("of", "given", "why"),
    [
        (None, {}, "unknown"),
        (campaign(), {}, "not logged"),
        (LOG, {"action": "nothing"}, "no template"),
        (LOG, {"user_id": users_of(1, 1)[0]}, "belongs into partition 1"),
        (LOG, {"wave": -1}, "wave"),
        (LOG, {"wave": 1000}, "wave"),
        (LOG, {"wave": 2**31}, "wave"),
        (replace(LOG, policy="nonsense"), {}, "cannot be learned"),
        (
            replace(LOG, attribution_window_ms=2**62, correction_horizon_ms=2**63 - 1),
            {},
            "ten years",
        ),
        (
            replace(
                LOG, context=[ContextFeature(attribute=f"a{i}", buckets=256) for i in range(3)]
            ),
            {},
            "columns",
        ),
    ],
)
def test_what_no_campaign_can_take_is_refused_and_changes_nothing(of, given, why):
    shard = MemoryShard()
    (told,) = refusals(shard.apply(entering(of), [logged(**given)]))
    assert why in told
    assert shard.store.pairs == {}


def test_unreadable_records_are_refused():
    assert len(refusals(MemoryShard().apply(entering(), [b"", b"\0", None]))) == 3


def test_a_user_that_stands_for_many_does_not_outgrow_the_state():
    names = [Template(id=f"{'t' * 110}{rank}", channel="email", features={}) for rank in range(200)]
    many = replace(LOG, templates=names)
    shard = MemoryShard()
    action = names[0].id
    told: list[str] = []
    for first in range(0, 400, 100):
        rows = [logged(first + rank, action=action) for rank in range(100)]
        told += refusals(shard.apply(entering(many), rows))
    assert "leave out users that stand for many" in told[-1]
    assert LARGEST_LEDGER < len(shard.store.pairs[ledger_key(ANN)]) < 2 * LARGEST_LEDGER
    assert running(shard).decided == 400 - len(told)


def test_time_moves_with_the_decisions_also_with_those_that_are_refused():
    shard = MemoryShard()
    shard.apply(entering(), [logged(5), logged(9, action="nothing")], "logged-decisions")
    assert shard.times == {"logged-decisions": NOON + 9}


def test_what_is_not_to_be_learned_is_in_the_log_but_not_in_the_updates():
    shard = MemoryShard()
    shard.apply(entering(), [logged(1, learn=False), logged(2)])
    shard.now_ms = NOON + 10**6
    outputs = shard.run(CloseDue(clock()))
    assert [e.learn for e in sent(outputs, LEARNING_EXAMPLES)] == [False, True]
    assert sum(len(u.rewards) // 8 for u in sent(outputs, LEARNING_UPDATES)) == 1


@given(st.integers(1, 7))
@settings(deadline=None, max_examples=7)
def test_splitting_a_batch_anywhere_gives_the_same_state(size):
    rows = [logged(i, user_id=(ANN, BOB)[i % 2], wave=i % 3) for i in range(8)]
    rows += [rows[2], *(marker(wave=wave) for wave in range(3)), rows[7]]
    whole, parts = MemoryShard(), MemoryShard()
    whole.apply(entering(), rows)
    for first in range(0, len(rows), size):
        parts.apply(entering(), rows[first : first + size])
    assert parts.store.pairs == whole.store.pairs
    for shard in (whole, parts):
        shard.now_ms = NOON + 10**6
        shard.outputs = []
        shard.run(CloseDue(clock()))
    assert raw(parts.outputs) == raw(whole.outputs)


def test_a_decision_of_tomorrow_is_refused_where_the_wall_clock_counts_and_moves_no_time():
    shard = MemoryShard()
    soon, impossible = logged(1, decided_at_ms=NOON + 600_000), logged(2, decided_at_ms=2 * NOON)
    (why,) = refusals(shard.apply(entering(now_ms=NOON), [soon, impossible], "logged"))
    assert "clock" in why
    assert shard.times == {}
    replayed = MemoryShard()
    assert refusals(replayed.apply(entering(), [soon, impossible], "logged")) == []
    assert replayed.times == {"logged": 2 * NOON}
