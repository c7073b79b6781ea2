import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import Reward
from streams.core.ledger import (
    MOST_FEEDBACK,
    OTHER,
    Credit,
    Entry,
    Ledger,
    Verdict,
    close_entry,
    counted_as,
    credit,
    find_entry,
    is_full,
    is_repeated,
    prune,
    reward_of,
)
from streams.core.profiles import MOST_IDS
from tests.unit.agents.shard import DAY_MS, campaign

SPRING = campaign()  # a window of 100 s, click: 1, purchase: 2 and 0.25 of its value


def entry(decision_id: str = "d1", **given) -> Entry:
    return Entry(
        **{
            "decision_id": decision_id,
            "campaign_id": "spring",
            "wave": 0,
            "action": "hello",
            "reason": "policy",
            "propensity": 0.5,
            "propensity_kind": "drawn",
            "actions": ["hello", "offer"],
            "probabilities": [0.5, 0.5],
            "context": b"",
            "decided_at_ms": 1_000_000,
            "policy_version": 0,
            "encoder_version": "e",
            "channel": "email",
            **given,
        }
    )


def reward(after_ms: int = 0, kind: str = "click", **given) -> Reward:
    return Reward(
        **{"user_id": "ann", "kind": kind, "occurred_at_ms": 1_000_000 + after_ms, **given}
    )


def found(entries: list[Entry], feedback: Reward, **campaigns) -> str | None:
    """The decision that feedback is credited to."""
    answered = find_entry(
        Ledger(entries=entries), feedback, lambda e: campaigns.get(e.campaign_id, SPRING)
    )
    return answered.decision_id if answered else None


# ---- which decision


def test_feedback_answers_the_decision_that_it_names_and_no_other():
    entries = [entry("d1"), entry("d2")]
    assert found(entries, reward(decision_id="d1", channel="push", campaign_id="autumn")) == "d1"
    assert found(entries, reward(decision_id="d3")) is None


def test_without_a_name_feedback_answers_the_last_decision_before_it():
    entries = [entry("d2", decided_at_ms=1_002_000), entry("d1"), entry("d3", decided_at_ms=10**7)]
    assert found(entries, reward(1999)) == "d1"
    assert found(entries, reward(2000)) == "d2"
    assert found(entries, reward(-1)) is None


def test_last_touch_passes_over_a_decision_whose_window_is_over():
    brief = campaign(campaign_id="brief", attribution_window_ms=1000)
    entries = [entry("long"), entry("brief", campaign_id="brief", decided_at_ms=1_050_000)]
    assert found(entries, reward(51_000), brief=brief) == "brief"
    assert found(entries, reward(51_001), brief=brief) == "long"
    assert found(entries, reward(100_001), brief=brief) is None


def test_last_touch_keeps_to_the_channel_and_the_campaign_that_feedback_names():
    entries = [entry("mail"), entry("app", channel="push", decided_at_ms=1_000_500)]
    assert found(entries, reward(900)) == "app"
    assert found(entries, reward(900, channel="email")) == "mail"
    assert found(entries, reward(900, channel="sms")) is None
    entries = [entry("spring"), entry("autumn", campaign_id="autumn", decided_at_ms=1_000_500)]
    assert found(entries, reward(900, campaign_id="spring")) == "spring"


def test_feedback_on_its_way_past_the_close_answers_the_decision_that_was_open_then():
    closed = entry("d2", decided_at_ms=1_000_500)
    close_entry(closed, SPRING)
    assert found([entry("d1"), closed], reward(900)) == "d2"


# ---- what it is worth


@pytest.mark.parametrize(
    ("after_ms", "verdict"),
    [
        (0, Verdict.CREDITED),
        (100_000, Verdict.CREDITED),
        (100_001, Verdict.OUTSIDE),
        (-300_000, Verdict.CREDITED),  # clocks differ
        (-300_001, Verdict.OUTSIDE),
    ],
)
def test_click_after_the_window_earns_nothing(after_ms, verdict):
    answered = entry()
    assert credit(answered, reward(after_ms, decision_id="d1"), SPRING).verdict is verdict
    assert reward_of(answered, SPRING) == (1.0 if verdict is Verdict.CREDITED else 0.0)


def test_a_purchase_earns_its_occurrence_and_its_value():
    answered = entry()
    for value in (10.0, None, -2.0):
        credit(answered, reward(kind="purchase", value=value), SPRING)
    assert reward_of(answered, SPRING) == 3 * 2.0 + 0.25 * 8.0


def test_a_kind_without_a_weight_is_counted_and_earns_nothing():
    answered = entry()
    credit(answered, reward(kind="dismiss", value=5.0), SPRING)
    assert answered.counts == {"dismiss": 1}
    assert reward_of(answered, SPRING) == 0.0


def test_kinds_that_senders_make_up_are_counted_under_one_name():
    answered = entry()
    for rank in range(1000):
        credit(answered, reward(kind=f"click:/page/{rank}", value=1.0), SPRING)
    assert answered.counts == {OTHER: 1000}
    assert answered.values == {}
    named = campaign(reward_weights={"scroll": 0.0}, value_weights={"tip": 1.0})
    assert [counted_as(kind, named) for kind in ("scroll", "tip", "click", "x")] == [
        "scroll",
        "tip",
        "click",
        OTHER,
    ]


@pytest.mark.parametrize("value", [1e10, -1e10, 1e155, 1.7e308])
@pytest.mark.parametrize("times", [1, 3])
def test_a_reward_too_large_to_learn_is_not_counted(value, times):
    answered = entry()
    credit(answered, reward(), SPRING)
    for _ in range(times):
        verdict = credit(answered, reward(kind="purchase", value=value), SPRING).verdict
        assert verdict is Verdict.TOO_LARGE
    assert (answered.counts, answered.values) == ({"click": 1}, {})
    assert reward_of(answered, SPRING) == 1.0


def test_infinite_sums_of_opposite_signs_are_too_large_as_well():
    wild = campaign(value_weights={"purchase": 1e308, "refund": 1e308})
    answered = entry(values={"refund": -1e300})
    feedback = reward(kind="purchase", value=1e300)
    assert credit(answered, feedback, wild).verdict is Verdict.TOO_LARGE


def test_small_amounts_add_up_without_a_rounding_error_of_their_order():
    weights = {f"k{rank}": 0.1 for rank in range(10)}
    answered = entry(counts=dict.fromkeys(weights, 1))
    assert reward_of(answered, campaign(reward_weights=weights)) == 1.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["click", "purchase", "dismiss", "made-up"]),
            st.integers(-400_000, 200_000),
            st.sampled_from([None, 1.0, 2.5, -4.0]),
        ),
        max_size=10,
    ),
    st.integers(0, 10),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=60)
def test_any_order_duplication_and_time_of_the_close_give_the_same_reward(given_, at, random):
    rewards = [
        reward(after_ms, kind, value=value, reward_id=f"r{rank}", decision_id="d1")
        for rank, (kind, after_ms, value) in enumerate(given_)
    ]
    plain = _final(rewards, len(rewards))
    other = rewards + [random.choice(rewards) for _ in rewards]
    random.shuffle(other)
    assert _final(other, at) == plain


def _final(rewards, close_after: int) -> tuple[float, dict[str, int]]:
    ledger, told = Ledger(entries=[entry()]), math.nan
    for rank, feedback in enumerate([*rewards, None]):
        if rank == min(close_after, len(rewards)):
            close_entry(ledger.entries[0], SPRING)
            told = ledger.entries[0].learned
        if feedback is None or is_repeated(ledger, feedback):
            continue
        answered = find_entry(ledger, feedback, lambda _entry: SPRING)
        result = credit(answered, feedback, SPRING)
        if result.verdict is Verdict.CORRECTED:
            assert result.previous == told  # a correction starts from what was told before
            told = result.now
    return told, ledger.entries[0].counts


# ---- closing and correcting


def test_feedback_after_the_close_corrects_the_reward_from_what_was_learned():
    answered = entry()
    credit(answered, reward(), SPRING)
    assert close_entry(answered, SPRING)
    assert answered.learned == 1.0
    late = credit(answered, reward(5, kind="purchase"), SPRING)
    assert late == Credit(Verdict.CORRECTED, 1.0, 3.0)
    assert credit(answered, reward(6), SPRING) == Credit(Verdict.CORRECTED, 3.0, 4.0)


def test_a_repeated_id_is_known_and_without_one_user_decision_kind_and_time_are_the_id():
    ledger = Ledger()
    assert not is_repeated(ledger, reward(reward_id="r1"))
    assert is_repeated(ledger, reward(500, kind="purchase", reward_id="r1"))
    plain = [reward(1), reward(2), reward(1, kind="dismiss"), reward(1, decision_id="d1")]
    assert [is_repeated(ledger, each) for each in [*plain, *plain]] == [False] * 4 + [True] * 4


def test_a_decision_that_failed_to_arrive_is_closed_without_a_reward():
    answered = entry()
    assert credit(answered, reward(kind="failed"), SPRING).verdict is Verdict.UNDELIVERED
    credit(answered, reward(), SPRING)
    assert not close_entry(answered, SPRING)
    assert answered.closed
    assert answered.learned == 0.0


def test_a_decision_without_a_receipt_counts_as_delivered():
    assert close_entry(entry(), SPRING)


def test_of_receipts_the_newest_counts_whatever_came_first():
    failed, arrived = reward(10, kind="failed"), reward(20, kind="delivered")
    for order in ([failed, arrived], [arrived, failed], [failed, arrived, failed]):
        answered = entry()
        for receipt in order:
            credit(answered, receipt, SPRING)
        assert answered.delivered is True
    bounced = entry()
    credit(bounced, reward(10, kind="delivered"), SPRING)
    assert credit(bounced, reward(20, kind="failed"), SPRING).verdict is Verdict.UNDELIVERED
    assert bounced.delivered is False


def test_of_receipts_of_one_time_the_better_counts():
    for order in (["failed", "delivered"], ["delivered", "failed"]):
        answered = entry()
        for kind in order:
            credit(answered, reward(10, kind=kind), SPRING)
        assert answered.delivered is True


def test_a_send_fails_once_however_often_its_sender_says_so():
    answered = entry()
    verdicts = [credit(answered, reward(at, kind="failed"), SPRING).verdict for at in (1, 2, 3)]
    assert verdicts == [Verdict.UNDELIVERED, Verdict.RECEIPT, Verdict.RECEIPT]
    assert credit(answered, reward(4, kind="delivered"), SPRING).verdict is Verdict.DELIVERED


def test_a_receipt_after_the_close_changes_nothing():
    answered = entry()
    close_entry(answered, SPRING)
    assert credit(answered, reward(kind="failed"), SPRING).verdict is Verdict.TOO_LATE
    assert answered.delivered is None


# ---- state


def test_ids_are_kept_until_the_last_decision_is_forgotten():
    ledger = Ledger(entries=[entry("d1"), entry("d2")])
    is_repeated(ledger, reward(reward_id="r1"))
    prune(ledger, "d1")
    assert [e.decision_id for e in ledger.entries] == ["d2"]
    assert is_repeated(ledger, reward(reward_id="r1"))
    prune(ledger, "d2")
    assert ledger == Ledger()


def test_ids_are_kept_as_long_as_a_decision_can_be_corrected_that_they_may_answer():
    ledger = Ledger(entries=[entry("d1"), entry("d2", decided_at_ms=1_000_000 + DAY_MS)])
    rewards = [reward(number, reward_id=f"r{number}") for number in range(2000)]
    assert not any(is_repeated(ledger, one) for one in rewards)
    assert all(is_repeated(ledger, one) for one in rewards)
    late = reward(DAY_MS + 5, reward_id="late")
    assert not is_repeated(ledger, late)
    prune(ledger, "d1")  # what answered it cannot count again: its decision is gone
    assert len(ledger.seen) == 1
    assert is_repeated(ledger, late)


def test_ids_are_bounded_and_what_is_dropped_is_known():
    ledger, alone = Ledger(entries=[entry("d1")]), Ledger()
    for number in range(MOST_FEEDBACK):
        assert not is_full(ledger)
        is_repeated(ledger, reward(number, reward_id=f"r{number}"))
        is_repeated(alone, reward(number, reward_id=f"r{number}"))
    assert is_full(ledger)
    assert not is_full(alone)  # nothing that could be credited twice
    assert len(alone.seen) == MOST_IDS
    is_repeated(ledger, reward(MOST_FEEDBACK, reward_id="one more"))
    assert len(ledger.seen) == MOST_FEEDBACK
    assert is_repeated(ledger, reward(1, reward_id="r1"))
    assert not is_repeated(ledger, reward(0, reward_id="r0"))


def test_a_ledger_survives_its_bytes():
    answered = entry(context=b"\0\1\xff", propensity=None)
    credit(answered, reward(kind="purchase", value=2.5), SPRING)
    ledger = Ledger(entries=[answered])
    is_repeated(ledger, reward())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ledger), type=Ledger) == ledger
