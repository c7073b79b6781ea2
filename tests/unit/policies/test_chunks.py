"""Where it matters how examples are cut into chunks (`chunks_matter`), it matters little."""

import numpy as np
import pytest

from streams.core.policies import create
from tests.unit.policies.conftest import CASES
from tests.unit.policies.test_retired_actions import World

NEAR = 0.1  # mean total variation of choices: at most 0.05 was seen, 0 of policies that add sums up
LOSS = 0.03  # of what a choice earns above chance


def test_which_policies_it_matters_for_is_known():
    found = {
        case for case, (name, params) in CASES.items() if create(name, params, 3, 2).chunks_matter
    }
    assert found == {
        "adaptive-thompson",
        "logistic-thompson",
        "logistic-thompson/forgetting",
        "squarecb/logistic",
    }


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("size", [100, 10])
@pytest.mark.parametrize(
    ("name", "params", "clicks"),
    [
        ("adaptive-thompson", {}, False),
        ("adaptive-thompson", {}, True),
        ("logistic-thompson", {}, True),
        ("squarecb", {"model": "logistic"}, True),
    ],
)
def test_a_waves_examples_teach_nearly_the_same_at_once_and_in_chunks(
    name, params, clicks, size, seed
):
    world = World(clicks, seed)
    templates = world.templates(6)
    wave = world.sends(templates, 2_000)
    at_once, bit_by_bit = (create(name, params, 3, 2) for _ in range(2))
    at_once.learn_many(wave)
    for first in range(0, len(wave), size):
        bit_by_bit.learn_many(wave.taking(slice(first, first + size)))
    people = np.random.default_rng(1).normal(size=(500, 3))
    may = np.ones((len(people), len(templates)), dtype=bool)
    one, other = (
        policy.action_dist(people, templates, may, np.random.default_rng(2))
        for policy in (at_once, bit_by_bit)
    )
    assert np.abs(one - other).sum(axis=1).mean() / 2.0 < NEAR
    assert world.earned(bit_by_bit, templates) == pytest.approx(
        world.earned(at_once, templates), rel=LOSS
    )
