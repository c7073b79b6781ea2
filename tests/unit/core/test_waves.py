import math
from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PropensityError
from schemas.ids import NO_SEND
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import create
from streams.core.profiles import Profile
from streams.core.waves import HOUR_MS, Wave, deciding_policy
from tests.unit.agents.shard import NOON, campaign, wave_start

SPRING = campaign()
PEOPLE = [
    (
        f"user-{rank}",
        Profile(
            attributes={"age": 20 + rank, "plan": ("free", "plus")[rank % 2]},
            contacts={"email": f"{rank}@x"} | ({"push": "t"} if rank % 3 else {}),
        ),
    )
    for rank in range(60)
]


def wave(of=SPRING, policy=None, **given) -> Wave:
    encoder = ContextEncoder(of.context)
    made = policy or create(of.policy, of.policy_params, encoder.d_user, action_set(of).d_action)
    start = wave_start(of, **given)
    return Wave(start, deciding_policy(start, made))


class Dead:
    """Gives nobody any probability."""

    name = "dead"

    def for_last_wave(self):
        return self

    def with_kept_draws(self, _actions, _rng):
        return self

    def action_dist(self, _contexts, _actions, eligible, _rng, **_):
        return np.zeros(eligible.shape)


def test_the_propensity_is_the_probability_of_what_was_drawn():
    for choice in wave().decide(PEOPLE, 0, NOON):
        entry = choice.entry
        assert entry.propensity == entry.probabilities[entry.actions.index(entry.action)]
        assert entry.propensity == choice.decision.propensity
        assert math.fsum(entry.probabilities) == pytest.approx(1.0)
        assert all(p > 0 for p in entry.probabilities)
        assert entry.propensity_kind == "drawn"


def test_only_actions_that_reach_the_user_are_among_the_probabilities():
    for (_, profile), choice in zip(PEOPLE, wave().decide(PEOPLE, 0, NOON), strict=True):
        wanted = ["hello", "offer", "ping"] if "push" in profile.contacts else ["hello", "offer"]
        assert choice.entry.actions == wanted
        assert choice.decision.contact == profile.contacts[choice.decision.channel]


def test_a_chunk_decided_again_gets_the_same_and_other_chunks_waves_and_shards_do_not():
    def actions(*, chunk=0, **given):
        return [c.decision.action for c in wave(**given).decide(PEOPLE, chunk, NOON)]

    assert wave().decide(PEOPLE, 3, NOON) == wave().decide(PEOPLE, 3, NOON)
    others = [
        actions(),
        actions(chunk=1),
        actions(wave=1),
        actions(number=1),
        actions(of=campaign(campaign_id="autumn")),
    ]
    assert len({tuple(each) for each in others}) == 5


def test_the_context_is_kept_as_the_policy_saw_it():
    (choice,) = wave().decide(PEOPLE[:1], 0, NOON)
    kept = np.frombuffer(choice.entry.context, dtype="<f4")
    assert kept.tolist() == pytest.approx([(20 - 45) / 15, 1.0, 0.0, 0.0])


def test_who_is_not_asked_for_keeps_the_others_draws():
    """One random number a user: a rule for one changes nothing for the others."""
    plain = wave(of=campaign(policy="uniform", policy_params={})).decide(PEOPLE, 0, NOON)
    held = campaign(policy="uniform", policy_params={}, holdout=0.3)
    for before, after in zip(plain, wave(of=held).decide(PEOPLE, 0, NOON), strict=True):
        if after.decision.reason == "policy":
            assert after.decision.action == before.decision.action


def test_who_gets_nothing_has_no_entry_channel_or_propensity():
    choices = wave(of=campaign(holdout=1.0)).decide(PEOPLE, 0, NOON)
    assert {(c.decision.action, c.decision.reason) for c in choices} == {("no-send", "holdout")}
    assert {(c.entry, c.decision.channel, c.decision.propensity) for c in choices} == {
        (None, None, None)
    }


def test_the_baseline_is_sent_without_a_propensity_and_is_followed_up():
    base = campaign(baseline_share=1.0, baseline_action="offer")
    for choice in wave(of=base).decide(PEOPLE, 0, NOON):
        assert (choice.decision.action, choice.decision.reason) == ("offer", "baseline")
        assert choice.decision.propensity is None
        assert (choice.entry.propensity_kind, choice.entry.probabilities) == ("unknown", [])


class Last:
    """Says whether it is asked as the policy of a last wave."""

    name = "last"

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def for_last_wave(self):
        return Last(1)

    def with_kept_draws(self, _actions, _rng):
        return self

    def action_dist(self, _contexts, _actions, eligible, _rng, **_):
        dist = np.zeros(eligible.shape)
        dist[:, self._rank] = 1.0
        return dist


def taken(choices) -> set[str]:
    return {choice.decision.action for choice in choices}


def test_the_last_wave_alone_is_decided_without_exploring():
    three = replace(SPRING, waves=3)
    for number, action in ((0, "hello"), (1, "hello"), (2, "offer")):
        assert taken(wave(three, Last(0), wave=number).decide(PEOPLE, 0, NOON)) == {action}


def test_no_period_of_a_trigger_is_the_last():
    triggered = replace(SPRING, trigger_event="cart-abandoned")
    events = {user: "event-1" for user, _ in PEOPLE}
    assert taken(wave(triggered, Last(0)).decide(PEOPLE, 0, NOON, events=events)) == {"hello"}


def test_for_nobody_nothing_is_decided():
    assert wave().decide([], 0, NOON) == []


def test_a_policy_that_leaves_a_user_without_probability_is_a_bug_that_is_named():
    with pytest.raises(PropensityError, match="dead"):
        wave(policy=Dead()).decide(PEOPLE, 0, NOON)


def test_a_decision_says_under_which_versions_it_was_made():
    (choice,) = wave(policy_version=7, encoder_version="e7").decide(PEOPLE[:1], 0, NOON)
    for record in (choice.decision, choice.entry):
        assert (record.policy_version, record.encoder_version) == (7, "e7")
        assert record.decided_at_ms == NOON
    assert choice.decision.campaign_version == SPRING.version
    assert choice.decision.expires_at_ms == NOON + SPRING.expires_after_ms


# ---- no-send as an action, and fatigue


def test_no_send_is_drawn_and_kept_like_a_template_and_goes_nowhere():
    silent = replace(SPRING, no_send=True)
    choices = wave(silent).decide(PEOPLE, 0, NOON)
    quiet = [choice for choice in choices if choice.decision.action == NO_SEND]
    assert 0 < len(quiet) < len(choices)
    for choice in choices:
        assert choice.entry.actions[-1] == NO_SEND
        assert choice.decision.reason == "policy"
        assert choice.decision.propensity == choice.entry.propensity > 0
        assert math.fsum(choice.entry.probabilities) == pytest.approx(1.0)
    for choice in quiet:
        decision = choice.decision
        assert (decision.channel, decision.contact, decision.variables) == (None, None, {})
        assert (choice.entry.action, choice.entry.channel) == (NO_SEND, None)


def test_who_can_be_sent_nothing_is_not_asked_whether_to():
    silent = replace(SPRING, no_send=True)
    (choice,) = wave(silent).decide([("nobody", Profile())], 0, NOON)
    assert (choice.decision.reason, choice.decision.propensity) == ("unreachable", None)
    assert choice.entry is None


def test_a_template_sent_lately_is_chosen_less_and_recovers():
    tired = replace(SPRING, fatigue_size=0.5, fatigue_half_life_ms=HOUR_MS)
    sent_at = {"spring/hello": NOON}
    people = [
        (user, Profile(known.attributes, contacts=known.contacts, sent_at=sent_at))
        for user, known in PEOPLE
    ]

    def share(now_ms: int) -> float:
        choices = wave(tired).decide(people, 0, now_ms)
        return sum(c.entry.probabilities[c.entry.actions.index("hello")] for c in choices) / 60

    rested = wave().decide(people, 0, NOON)
    usual = sum(c.entry.probabilities[c.entry.actions.index("hello")] for c in rested) / 60
    assert share(NOON) < 0.02  # what the floor gives
    assert share(NOON) < share(NOON + 5 * HOUR_MS) < usual
    assert share(NOON + 60 * HOUR_MS) == pytest.approx(usual, abs=0.02)


def test_the_fatigue_of_one_user_or_campaign_is_not_anothers():
    tired = replace(SPRING, fatigue_size=5.0)
    (user, known) = PEOPLE[1]
    other = Profile(known.attributes, contacts=known.contacts, sent_at={"summer/hello": NOON})
    (before,) = wave(tired).decide([(user, known)], 0, NOON)
    (after,) = wave(tired).decide([(user, other)], 0, NOON)
    assert before.entry.probabilities == after.entry.probabilities
