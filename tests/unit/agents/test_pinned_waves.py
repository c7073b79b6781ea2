"""What the waves of a worker's shards have in common."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from streams.agents.sending import PinnedWaves
from tests.unit.agents.shard import FakeKnown, campaign, frozen, wave_start

SPRING = campaign()


def pinned(of=SPRING, version: int = 0) -> PinnedWaves:
    known = FakeKnown({of.campaign_id: of}, {(of.campaign_id, 0): frozen(of, 0, version)})
    return PinnedWaves(known)


def test_the_shards_of_a_wave_share_the_draws_of_its_policy():
    waves = pinned()
    first, second = (waves.wave(wave_start(SPRING, number)) for number in (0, 1))
    assert first._policy is second._policy
    assert first._policy._kept is not None


def test_the_draws_are_the_same_in_every_worker_and_others_in_the_next_wave():
    def drawn(wave: int) -> np.ndarray:
        two = replace(SPRING, waves=3)
        known = FakeKnown({"spring": two}, {("spring", wave): frozen(two, wave)})
        policy = PinnedWaves(known).wave(wave_start(two, wave=wave))._policy
        return np.concatenate(
            [plan.weights for _, plans, _ in policy._kept.drawn for plan in plans]
        )

    np.testing.assert_array_equal(drawn(0), drawn(0))
    assert (drawn(0) != drawn(1)).any()


def test_draws_go_with_the_last_shard_that_decides():
    waves = pinned()
    starts = [wave_start(SPRING, number) for number in (0, 1)]
    for start in starts:
        waves.wave(start)
    waves.forget(starts[0])
    assert len(waves._policies) == 1
    waves.forget(starts[1])
    assert not len(waves._policies)
    assert not len(waves)


def test_a_shard_that_moves_away_takes_its_waves_along():
    waves = pinned()
    for number in (0, 1):
        waves.wave(wave_start(SPRING, number))
    waves.let_go(1)
    assert len(waves) == 1
    waves.let_go(0)
    assert not len(waves)
    assert not len(waves._policies)
    assert waves.wave(wave_start(SPRING, 1)) is not None, "it may come back"


def test_shards_may_begin_and_end_waves_all_at_once():
    many = 40
    known = FakeKnown({"spring": SPRING})
    for wave in range(many):
        known.snapshots["spring", wave] = frozen(SPRING, wave)
    waves = PinnedWaves(known)
    found: list[set[int]] = []

    def shard(number: int) -> None:
        mine = set()
        for wave in range(many):
            start = wave_start(SPRING, number, wave)
            mine.add(id(waves.wave(start)._policy))
            if wave % 4 == number % 4:
                waves.let_go(number)
            waves.forget(start)
        found.append(mine)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(shard, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert len(found) == 8
    assert not len(waves)
    assert not len(waves._policies)


def test_a_wave_that_is_pinned_to_another_policy_gets_draws_of_its_own():
    known = FakeKnown({"spring": SPRING}, {("spring", 0): frozen(SPRING, 0, 0)})
    waves = PinnedWaves(known)
    before = waves.wave(wave_start(SPRING, 0))
    known.snapshots["spring", 0] = frozen(SPRING, 0, 1)
    after = waves.wave(wave_start(SPRING, 1, policy_version=1))
    assert before._policy is not after._policy


@pytest.mark.parametrize("policy", ["uniform", "river-regressor"])
def test_what_draws_nothing_is_each_shards_own(policy):
    params = {"regressor": "linear_model.LinearRegression"} if policy != "uniform" else {}
    plain = campaign(policy=policy, policy_params=params)
    waves = pinned(plain)
    first, second = (waves.wave(wave_start(plain, number)) for number in (0, 1))
    assert first._policy is not second._policy
