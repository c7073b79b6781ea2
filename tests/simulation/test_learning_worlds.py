"""The learning bench in small: its worlds, its protocol, and that ours learn in it."""

import numpy as np
import pytest

from tests.bench.learning.ours import Ours
from tests.bench.learning.peers import make_peer
from tests.bench.learning.waves import regrets
from tests.bench.learning.worlds import HALF, WAVES, WORLDS, available, make_world


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "100 actions"])
def test_a_world_is_the_same_again_and_chance_alone_earns_less(name):
    if name not in available():
        pytest.skip("GROUNDSWELL_TEST_DATA names no folder of recorded data")
    world, again = make_world(name, 1), make_world(name, 1)
    np.testing.assert_array_equal(world.contexts, again.contexts)
    uniform = make_peer("uniform", {}, world.features, world.contexts.shape[2], 1)
    regret = regrets(world, uniform, 1)
    assert regret.shape == (WAVES,)
    assert (regret > 0.0).all()


def test_clicks_are_rare_and_the_newcomer_comes_at_half_time():
    world = make_world("clicks", 1)
    means = world.expected(0, world.contexts[0], np.zeros(len(world.features)))
    assert 0.02 <= means.min() < means.max() <= 0.10
    assert sorted(make_world("newcomer", 1).opens)[-2:] == [0, HALF]


@pytest.mark.parametrize("policy", ["linear-thompson", "adaptive-thompson"])
def test_ours_learn_in_a_linear_world(policy):
    world = make_world("3 actions", 1)
    regret = regrets(world, Ours(world.features, world.contexts.shape[2], policy), 1)
    assert regret[-1] < 0.25 * regret[0]
