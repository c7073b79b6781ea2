"""A campaign's own log: learned up to a wave, valued on the rest, in intervals that hold."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import EvaluationError
from schemas.learning import LearningExample
from streams.core.evaluation import LoggedDecisions, estimate_adaptive_dr
from streams.core.evaluation.campaign_log import CampaignLog
from streams.core.policies import ActionSet, Fixed, LinearThompson, Uniform
from streams.core.policies.state import to_bytes

ACTIONS = ActionSet(ids=("hello", "offer"), features=np.array([[0.0], [1.0]]))
SENDS, DAY_MS = 300, 86_400_000
OFFERS = (0.5, 0.8, 0.95, 0.97)  # by wave: what the campaign's policy thought of offers
EARNS = np.array([0.2, 0.5])


def outcomes(seed: int = 1, waves: int = 4) -> list[LearningExample]:
    rng = np.random.default_rng(seed)
    found = []
    for wave in range(waves):
        offered = OFFERS[wave]
        for n in range(SENDS):
            x = rng.normal(size=2)
            taken = int(rng.random() < offered)
            found.append(
                LearningExample(
                    decision_id=f"{wave}-{n:04d}",
                    campaign_id="spring",
                    campaign_version=1,
                    wave=wave,
                    user_id=f"u{n}",
                    reason="policy",
                    action=ACTIONS.ids[taken],
                    propensity=(1.0 - offered, offered)[taken],
                    propensity_kind="drawn",
                    actions=list(ACTIONS.ids),
                    probabilities=[1.0 - offered, offered],
                    context=x.astype("<f4").tobytes(),
                    reward=float(rng.random() < EARNS[taken]),
                    policy_version=wave,
                    encoder_version="columns",
                    decided_at_ms=wave * DAY_MS + n,
                    closed_at_ms=(wave + 1) * DAY_MS,
                )
            )
    return found


def log_of(examples, split=0.5) -> CampaignLog:
    return CampaignLog.of(examples, ACTIONS, split)


def learned(log: CampaignLog) -> bytes:
    policy = LinearThompson(2, 1)
    log.teach(policy)
    return to_bytes(policy)


def test_policies_are_valued_in_waves_that_they_have_not_learned_from():
    log = log_of(outcomes())
    assert (log.first_held_out, log.n_learned, log.left_out) == (2, 2 * SENDS, 0)
    found = log.value(Fixed(2, 1, action="hello"), np.random.default_rng(0))
    assert found.n == 2 * SENDS
    assert found.adaptive is not None
    assert found.diagnosis is not None
    assert found.diagnosis.estimate == found.adaptive
    assert found.adaptive.low <= EARNS[0] <= found.adaptive.high


def test_the_estimate_is_that_of_the_waves_probabilities():
    log = log_of(outcomes())
    found = log.value(Uniform(2, 1), np.random.default_rng(0))
    held = [one for one in outcomes() if one.wave >= 2]
    dist = np.array([one.probabilities for one in held])
    taken = np.array([ACTIONS.ids.index(one.action) for one in held])
    decisions = LoggedDecisions(
        actions=taken,
        rewards=np.array([one.reward for one in held]),
        propensities=dist[np.arange(len(held)), taken],
    )
    plain = estimate_adaptive_dr(
        decisions,
        np.full(dist.shape, 0.5),
        np.zeros(dist.shape),
        waves=np.array([one.wave for one in held]),
        logging_dist=dist,
    )
    assert found.adaptive is not None
    # what earlier waves foresaw takes from the noise, and little of the value
    assert found.adaptive.half_width < plain.half_width
    assert found.adaptive.value == pytest.approx(plain.value, abs=plain.half_width)


def test_no_reward_of_a_wave_reaches_what_it_is_valued_by():
    before = outcomes()
    after = [replace(one, reward=9.0) if one.wave == 3 else one for one in before]
    assert learned(log_of(before)) == learned(log_of(after))
    fixed = Fixed(2, 1, action="offer")
    found = [log_of(one).value(fixed, np.random.default_rng(0)) for one in (before, after)]
    # terms of the third wave alone move: offers of the fourth wave cannot foresee their own 9
    values = [one.adaptive.value for one in found if one.adaptive is not None]
    assert values[1] > 3.0 > values[0]


def test_baseline_outcomes_teach_and_are_not_valued():
    policy = outcomes()
    baseline = [
        replace(one, decision_id=f"b{one.decision_id}", reason="baseline", propensity=None)
        for one in policy
        if one.action == "hello"
    ]
    log = log_of([*policy, *baseline])
    assert log.value(Uniform(2, 1), np.random.default_rng(0)).n == 2 * SENDS
    assert log.n_learned > 2 * SENDS
    assert learned(log) != learned(log_of(policy))


def test_a_correction_takes_the_place_of_what_it_corrects():
    first = outcomes()
    corrected = [replace(one, reward=one.reward + 1.0) for one in first]
    log = log_of([*first, *corrected])
    assert len(log.outcomes) == len(first)
    value = log.value(Uniform(2, 1), np.random.default_rng(0)).adaptive
    assert value is not None
    assert value.value == pytest.approx(1.0 + EARNS.mean(), abs=value.half_width)


def test_contexts_of_another_encoder_and_templates_that_went_are_left_out():
    mixed = [
        replace(one, encoder_version="older", context=b"") if one.wave == 0 else one
        for one in outcomes()
    ]
    mixed[-1] = replace(mixed[-1], actions=["hello", "gone"])
    log = log_of(mixed)
    assert log.left_out == SENDS + 1
    assert {one.wave for one in log.outcomes} == {1, 2, 3}


def test_actions_that_could_not_be_taken_are_not_given_to_the_policy():
    only = [
        replace(
            one, action="hello", actions=["hello"], probabilities=[1.0], propensity=1.0, reward=0.0
        )
        if int(one.user_id[1:]) % 2
        else one
        for one in outcomes()
    ]
    found = log_of(only).value(Uniform(2, 1), np.random.default_rng(0))
    assert found.adaptive is not None
    assert found.adaptive.low <= EARNS.mean() / 2.0 <= found.adaptive.high


@pytest.mark.parametrize(("split", "first"), [(0.01, 1), (0.3, 1), (0.5, 2), (0.7, 3), (0.99, 3)])
def test_the_split_falls_between_two_waves(split, first):
    assert log_of(outcomes(), split).first_held_out == first


def test_a_log_of_one_wave_is_refused():
    with pytest.raises(EvaluationError, match="300 closed decisions of the policy in 1 waves"):
        log_of(outcomes(waves=1))
    with pytest.raises(EvaluationError, match="0 closed decisions of the policy in 0 waves"):
        log_of([])
