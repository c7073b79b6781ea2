import numpy as np

from streams.core.policies import Examples, LinearThompson
from streams.core.policies.prior_scale import groups_of


def played(strength: float, seed: int = 0, n: int = 4_000) -> Examples:
    """Rewards in which only user and action together matter, by this much."""
    rng = np.random.default_rng(seed)
    x, a = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    return Examples(
        contexts=x,
        actions=("a",) * n,
        action_features=a,
        rewards=0.05 + strength * x[:, 0] * a[:, 0] + rng.normal(0.0, 0.2, n),
        previous=np.full(n, np.nan),
        at_ms=np.zeros(n, dtype=np.int64),
    )


def test_groups_split_all_but_the_constant():
    groups = groups_of(2, 1)
    assert [mask.astype(int).tolist() for mask in groups] == [
        [0, 0, 1, 0, 1, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 1],
    ]


def test_no_effect_is_shrunk_more_than_a_strong_one():
    spreads = []
    for strength in (0.0, 0.1):
        policy = LinearThompson(3, 2)
        policy.learn_many(played(strength))
        inverse = np.linalg.inv(policy.posterior.factor @ policy.posterior.factor.T)
        spreads.append(np.sqrt(inverse[11, 11]) * policy.posterior.scale[11])
    assert spreads[0] < 0.8 * spreads[1]


def test_adapting_beats_a_belief_that_is_far_off():
    errors = {}
    for adapt in (True, False):
        policy = LinearThompson(3, 2, interaction_precision=30_000.0, adapt=adapt)
        policy.learn_many(played(0.1))
        errors[adapt] = abs(policy.posterior.mean[4] - 0.1)  # the weight of x0 a0
    assert errors[True] < 0.4 * errors[False]


def test_a_few_examples_leave_the_belief():
    # without a belief, the evidence of six examples would move it
    adapting, fixed = LinearThompson(3, 2), LinearThompson(3, 2, adapt=False)
    for policy in (adapting, fixed):
        policy.learn_many(played(0.0, n=6))
    np.testing.assert_array_equal(adapting.posterior.mean, fixed.posterior.mean)


def test_nothing_learned_leaves_the_belief():
    adapting, fixed = LinearThompson(3, 2), LinearThompson(3, 2, adapt=False)
    np.testing.assert_array_equal(adapting.posterior.scale, fixed.posterior.scale)
