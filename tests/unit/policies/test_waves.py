"""Six waves with a known truth: does the default policy find out what to send to whom?"""

import numpy as np
import pytest

from streams.core.policies import ActionSet, Examples, LinearThompson, Uniform, create, draw

D_USER, D_ACTION, N_ACTIONS, SENDS, WAVES = 6, 6, 8, 2_800, 6
ACTIONS = ActionSet(
    ids=tuple("abcdefgh"), features=np.random.default_rng(0).normal(size=(N_ACTIONS, D_ACTION))
)


def truth(x: np.ndarray, seed: int) -> np.ndarray:
    """Click rates of about 1 to 10 %, linear in user, action and both, (n, 8)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.006, (1 + D_USER, 1 + D_ACTION))
    weights[0, 0] = 0.045
    users = np.hstack([np.ones((len(x), 1)), x])
    acts = np.hstack([np.ones((N_ACTIONS, 1)), ACTIONS.features])
    return np.clip(users @ weights @ acts.T, 0.002, 0.3)


def run(policy, seed: int) -> np.ndarray:
    """Give each wave's share of what the best action would have earned over a random one, (6,)."""
    rng = np.random.default_rng(seed)
    gained = []
    for wave in range(WAVES):
        x = rng.normal(size=(SENDS, D_USER))
        rates = truth(x, seed)
        eligible = rng.random((SENDS, N_ACTIONS)) < 0.8
        eligible[:, 0] = True
        dist = np.vstack(
            [
                policy.action_dist(x[rows], ACTIONS, eligible[rows], rng)
                for rows in np.split(np.arange(SENDS), 7)
            ]
        )
        taken = draw(dist, rng)
        clicks = rng.random(SENDS) < rates[np.arange(SENDS), taken]
        policy.learn_many(
            Examples(
                contexts=x,
                actions=tuple(ACTIONS.ids[index] for index in taken),
                action_features=ACTIONS.features[taken],
                rewards=clicks.astype(np.float64),
                previous=np.full(SENDS, np.nan),
                at_ms=np.full(SENDS, wave * 86_400_000),
            )
        )
        earned = (dist * rates).sum(axis=1).mean()
        random = (rates * eligible).sum(axis=1) / eligible.sum(axis=1)
        best = np.where(eligible, rates, 0.0).max(axis=1).mean()
        gained.append((earned - random.mean()) / (best - random.mean()))
    return np.array(gained)


@pytest.fixture(scope="module")
def gains() -> np.ndarray:
    return np.mean([run(LinearThompson(D_USER, D_ACTION), seed) for seed in range(5)], axis=0)


def test_the_first_wave_knows_nothing(gains):
    assert abs(gains[0]) < 0.05


def test_one_wave_already_tells_a_good_deal(gains):
    assert gains[1] > 0.4


def test_within_five_waves_it_comes_near_the_best_possible(gains):
    assert gains[4:].mean() > 0.75


def test_it_gets_better_as_it_learns(gains):
    assert gains[1] < gains[3] < gains[5]


@pytest.mark.parametrize(
    ("name", "params", "least"),
    [
        ("linear-ucb", {}, 0.75),
        ("disjoint-linear-thompson", {}, 0.7),
        ("disjoint-linear-ucb", {}, 0.7),
        ("logistic-thompson", {}, 0.75),
        ("epsilon-greedy", {}, 0.65),
        ("softmax", {}, 0.75),
        ("squarecb", {}, 0.75),
        ("squarecb", {"model": "disjoint-linear"}, 0.7),
        ("squarecb", {"model": "logistic"}, 0.7),
        ("river-regressor", {"view": "user"}, 0.6),
        ("river-bandit", {}, 0.2),  # it looks at no one
    ],
)
def test_every_policy_that_learns_finds_out_a_good_deal_of_it(name, params, least):
    assert run(create(name, params, D_USER, D_ACTION), 0)[4:].mean() > least


def test_uniform_gains_nothing():
    assert np.abs(run(Uniform(D_USER, D_ACTION), 0)).max() < 1e-9


def test_a_template_never_sent_is_scored_by_its_features():
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(5_000, 1)), rng.normal(size=(5_000, 1))
    policy = LinearThompson(1, 1)
    policy.learn_many(
        Examples(
            contexts=x,
            actions=("old",) * 5_000,
            action_features=a,
            rewards=0.05 + 0.05 * (x * a)[:, 0] + rng.normal(0.0, 0.2, 5_000),
            previous=np.full(5_000, np.nan),
            at_ms=np.zeros(5_000, dtype=np.int64),
        )
    )
    unseen = ActionSet(ids=("new", "newer"), features=np.array([[1.5], [-1.5]]))
    dist = policy.action_dist(
        np.array([[1.0], [-1.0]]), unseen, np.ones((2, 2), dtype=bool), np.random.default_rng(0)
    )
    assert dist[0, 0] > 0.9
    assert dist[1, 1] > 0.9
    np.testing.assert_allclose(
        policy.expected(np.array([[1.0]]), unseen), [[0.125, -0.025]], atol=0.02
    )
