from dataclasses import replace

import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import Examples, create, parts_by_action
from streams.core.policies.action_parts import crossed_sums
from streams.core.policies.linear_statistics import statistics_of
from tests.unit.policies.conftest import D_ACTION, D_USER

DAY_MS = 86_400_000
OFFER = {
    "linear-thompson": {},
    "linear-ucb": {},
    "disjoint-linear-thompson": {},
    "disjoint-linear-ucb": {},
    "epsilon-greedy": {"model": "disjoint-linear"},
    "softmax": {},
    "squarecb": {},
}


def made(name: str, half_life_days: float):
    return create(name, {**OFFER[name], "half_life_days": half_life_days}, D_USER, D_ACTION)


def parts_of(policy, *chunks: Examples):
    return [
        part for chunk in chunks for h in policy.half_lives_ms for part in parts_by_action(chunk, h)
    ]


def close(first: dict, second: dict) -> None:
    """States are equal to 1e-9 of the largest number of each array."""
    assert first.keys() == second.keys()
    for name, mine in first.items():
        theirs = second[name]
        if isinstance(mine, dict):
            close(mine, theirs)
        elif isinstance(mine, np.ndarray | float):
            largest = float(np.max(np.abs(theirs), initial=0.0))
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9 * max(largest, 1e-12))
        else:
            assert mine == theirs


@pytest.mark.parametrize("half_life_days", [0.0, 2.0])
@pytest.mark.parametrize("name", OFFER)
def test_sums_of_parts_leave_the_policy_that_the_examples_one_by_one_do(
    name, half_life_days, examples, part
):
    chunk = examples(n=400)  # every fifth is a correction
    serial, parted = made(name, half_life_days), made(name, half_life_days)
    for row in range(len(chunk)):
        serial.learn_many(part(chunk, slice(row, row + 1)))
    parts = parts_of(parted, *(part(chunk, rows) for rows in (slice(250, 400), slice(0, 250))))
    np.random.default_rng(5).shuffle(parts)
    parted.learn_sums(parts[:3])
    parted.learn_sums(parts[3:])
    assert parted.n_learned == serial.n_learned == 320
    close(parted.state(), serial.state())


@pytest.mark.parametrize("half_life_days", [0.0, 2.0])
def test_a_correction_in_another_part_than_its_example_is_exact(examples, half_life_days):
    first = examples(n=100, corrections=False)
    right = first.rewards + np.linspace(-1.0, 5.0, 100)
    corrections = replace(first, rewards=right, previous=first.rewards)
    parted, known = (made("linear-thompson", half_life_days) for _ in range(2))
    parted.learn_sums([*parts_of(parted, corrections), *parts_of(parted, first)])
    known.learn_many(replace(first, rewards=right))
    close(parted.state(), known.state())


def test_sums_of_an_action_cross_to_the_sums_of_crossed_features(examples):
    chunk = examples(n=200)
    for one in parts_by_action(chunk, 3.0 * DAY_MS):
        rows = np.array(chunk.actions) == one.action
        direct = statistics_of(chunk.taking(rows), 3.0 * DAY_MS)
        crossed = crossed_sums(one)
        np.testing.assert_allclose(crossed.gram, direct.gram, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(crossed.moment, direct.moment, rtol=1e-12, atol=1e-12)
        assert (crossed.gram == crossed.gram.T).all()
        assert (crossed.n, crossed.at_ms) == (direct.n, direct.at_ms)


def test_sums_of_another_policy_or_encoder_are_refused_and_nothing_is_learned(examples):
    policy = made("linear-thompson", 0.0)
    (good, *_) = parts_of(policy, examples())
    for bad in (
        replace(good, half_life_ms=1.0),
        replace(good, features=np.zeros(D_ACTION + 1)),
        next(parts_by_action(replace(examples(), contexts=np.zeros((40, 1))), 0.0)),
    ):
        with pytest.raises(PolicyError, match="add only what the same policy and encoder made"):
            policy.learn_sums([good, bad])
    assert policy.n_learned == 0
    assert not policy.reward_model.sums.weight


@pytest.mark.parametrize("name", ["uniform", "logistic-thompson", "river-bandit"])
def test_what_does_not_add_up_says_so(name, examples):
    policy = create(name, {}, D_USER, D_ACTION)
    assert policy.half_lives_ms == ()
    with pytest.raises(PolicyError, match="cannot learn from sums"):
        policy.learn_sums(list(parts_by_action(examples(), 0.0)))
