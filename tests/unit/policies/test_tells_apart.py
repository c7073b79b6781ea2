"""Which policies learn each action for itself, and so need no features of actions."""

import numpy as np
import pytest

from streams.core.policies import ActionSet, Examples, create
from tests.unit.policies.conftest import CASES

BOTH = ActionSet(ids=("a", "b"), features=np.zeros((2, 0)))
ALIKE = {"uniform"}  # it knows actions by their names, and sends all the same


@pytest.mark.parametrize("case", CASES)
def test_a_policy_says_whether_it_tells_actions_apart_that_have_no_features(case):
    name, params = CASES[case]
    if name == "fixed":
        params = {"action": "a"}
    policy = create(name, params, d_user=0, d_action=0)
    rewards = np.tile([0.9, 0.1], 200)
    policy.learn_many(
        Examples(
            contexts=np.zeros((400, 0)),
            actions=BOTH.ids * 200,
            action_features=np.zeros((400, 0)),
            rewards=np.where(np.random.default_rng(1).random(400) < rewards, 1.0, 0.0),
            previous=np.full(400, np.nan),
            at_ms=np.full(400, 1_700_000_000_000, dtype=np.int64),
        )
    )
    (dist,) = policy.action_dist(
        np.zeros((1, 0)), BOTH, np.ones((1, 2), dtype=np.bool_), np.random.default_rng(2)
    )
    if policy.tells_apart and name not in ALIKE:
        assert dist[0] > dist[1] + 0.05
    else:
        assert dist[0] == pytest.approx(0.5)
