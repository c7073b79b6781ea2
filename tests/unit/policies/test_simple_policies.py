import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import Fixed, Uniform

RNG = np.random.default_rng(0)


def test_uniform_treats_the_eligible_alike(contexts, actions):
    eligible = np.zeros((60, 4), dtype=bool)
    eligible[:, [0, 3]] = True
    dist = Uniform(3, 2).action_dist(contexts, actions, eligible, RNG)
    np.testing.assert_array_equal(dist, eligible * 0.5)


def test_a_fixed_action_is_taken_where_it_may_be(contexts, actions):
    eligible = np.tile([True, True, True, False], (60, 1))
    eligible[7] = [True, False, True, False]
    dist = Fixed(3, 2, action="b").action_dist(contexts, actions, eligible, RNG)
    assert (np.delete(dist, 7, axis=0) == [0.0, 1.0, 0.0, 0.0]).all()
    assert dist[7].tolist() == [0.5, 0.0, 0.5, 0.0]  # its word is out: any other


def test_a_fixed_order_falls_through_to_the_next(contexts, actions):
    eligible = np.ones((60, 4), dtype=bool)
    eligible[1, 3] = eligible[2, [3, 0]] = False
    dist = Fixed(3, 2, order=["d", "a"]).action_dist(contexts, actions, eligible, RNG)
    assert dist[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert dist[1].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert dist[2].tolist() == [0.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("given", [{}, {"action": "a", "order": ["b"]}])
def test_a_fixed_rule_is_one_action_or_one_order(given):
    with pytest.raises(PolicyError, match="either action or order"):
        Fixed(3, 2, **given)


def test_a_fixed_action_that_the_campaign_has_not_is_named(contexts, actions):
    with pytest.raises(PolicyError, match=r"'bb', which the campaign has not: did you mean 'b'\?"):
        Fixed(3, 2, action="bb").action_dist(contexts, actions, np.ones((60, 4), dtype=bool), RNG)
