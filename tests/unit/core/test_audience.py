from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.hashing import share_of
from streams.core.audience import Audience, instalment
from streams.core.profiles import Profile, leave
from tests.unit.agents.shard import DAY_MS, NOON, campaign, wave_start

REACHED = {"email": "a@x", "push": "token"}


def audience(**given) -> Audience:
    return Audience(wave_start(campaign(**given)))


def reason(of: Audience, profile: Profile, now_ms: int = NOON, user: str = "ann", **given) -> str:
    return of.membership(user, profile, now_ms, **given).reason


@given(st.integers(1, 1000))
def test_waves_cover_everybody_once(waves):
    parts = [instalment(wave, waves) for wave in range(waves)]
    assert parts[0][0] == 0.0
    assert parts[-1][1] == 1.0
    assert all(before[1] == after[0] for before, after in pairwise(parts))


def test_a_user_is_in_the_instalment_that_the_hash_says():
    place = share_of("spring/wave", "ann")
    for share_from, share_until, expected in (
        (place, 1.0, True),
        (0.0, place, False),
        (0.0, 1.0, True),
    ):
        start = wave_start(campaign(), share_from=share_from, share_until=share_until)
        assert Audience(start).in_instalment("ann") is expected


@pytest.mark.parametrize(
    ("contacts", "left", "eligible"),
    [
        (REACHED, [], [True, True, True]),
        ({"email": "a@x"}, [], [True, True, False]),
        (REACHED, ["email"], [False, False, True]),
        (REACHED, ["email", "push"], [False] * 3),
        (REACHED, [None], [False] * 3),
        ({}, [], [False] * 3),
    ],
)
def test_templates_are_eligible_where_their_channel_reaches_the_user(contacts, left, eligible):
    profile = Profile(contacts=dict(contacts))
    for channel in left:
        leave(profile, channel, 1)
    membership = audience().membership("ann", profile, NOON)
    assert list(membership.eligible) == eligible
    assert membership.reason == ("policy" if any(eligible) else "unreachable")


def test_a_template_paused_since_the_wave_began_is_not_eligible():
    profile = Profile(contacts=REACHED)
    membership = audience().membership("ann", profile, NOON, frozenset({"hello", "ping"}))
    assert (membership.reason, membership.eligible) == ("policy", (False, True, False))
    assert reason(audience(), profile, shut=frozenset({"hello", "offer", "ping"})) == "ineligible"


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        ([], "policy"),
        ([NOON - DAY_MS], "policy"),  # a period ago: it has gone by
        ([NOON - DAY_MS + 1], "policy"),
        ([NOON - DAY_MS + 1, NOON], "capped"),
        ([NOON - DAY_MS, NOON], "policy"),
    ],
)
def test_a_cap_counts_the_sends_within_its_period(sends, expected):
    capped = audience(cap_sends=2, cap_period_ms=DAY_MS)
    assert reason(capped, Profile(contacts=REACHED, sends=sends)) == expected


@pytest.mark.parametrize(
    ("start", "end", "hour", "quiet"),
    [
        (22, 7, 21, False),
        (22, 7, 22, True),
        (22, 7, 0, True),
        (22, 7, 6, True),
        (22, 7, 7, False),
        (12, 14, 12, True),
        (12, 14, 14, False),
        (9, 9, 9, False),
        (None, None, 3, False),
    ],
)
def test_quiet_hours_may_go_over_midnight(start, end, hour, quiet):
    hours = {
        "quiet_from_minute": None if start is None else start * 60,
        "quiet_until_minute": None if end is None else end * 60,
    }
    midnight = NOON - DAY_MS // 2
    for now_ms in (midnight + hour * 3_600_000, midnight + hour * 3_600_000 + 59_999):
        found = reason(audience(**hours), Profile(contacts=REACHED), now_ms)
        assert found == ("quiet-hours" if quiet else "policy")


def test_the_groups_have_their_shares_and_stay_the_same_in_every_wave():
    given_ = {"holdout": 0.1, "baseline_share": 0.2, "baseline_action": "hello", "waves": 2}
    profile = Profile(contacts=REACHED)
    users = [f"user-{rank}" for rank in range(2000)]
    first, second = (Audience(wave_start(campaign(**given_), wave=wave)) for wave in range(2))
    reasons = [reason(first, profile, user=user) for user in users]
    assert reasons == [reason(second, profile, user=user) for user in users]
    assert reasons.count("holdout") / 2000 == pytest.approx(0.1, abs=0.03)
    assert reasons.count("baseline") / 2000 == pytest.approx(0.2, abs=0.03)


def test_the_groups_do_not_follow_the_instalments():
    users = [f"user-{rank}" for rank in range(2000)]
    early = [user for user in users if share_of("spring/wave", user) < 0.1]
    held = sum(share_of("spring/group", user) < 0.5 for user in early)
    assert held / len(early) == pytest.approx(0.5, abs=0.12)


def test_holdout_comes_before_every_other_rule_and_a_cap_before_the_baseline():
    held = audience(holdout=1.0, cap_sends=1)
    assert reason(held, Profile(sends=[NOON])) == "holdout"
    base = {"baseline_share": 1.0, "baseline_action": "ping"}
    full = Profile(contacts=REACHED, sends=[NOON])
    assert reason(audience(**base, cap_sends=1), full) == "capped"
    assert reason(audience(**base), full) == "baseline"


def test_who_cannot_get_the_baseline_action_gets_nothing():
    base = audience(baseline_share=1.0, baseline_action="ping")
    assert reason(base, Profile(contacts={"email": "a@x"})) == "unreachable"


def test_the_segment_is_asked_with_the_time_of_the_decision():
    recent = audience(audience_segment='days_since("open") < 2')
    profile = Profile(counts={"open": (1, NOON - DAY_MS)})
    assert recent.in_segment(profile, NOON)
    assert not recent.in_segment(profile, NOON + DAY_MS)
    assert audience().in_segment(Profile(), NOON)
