import numpy as np
import pytest

from schemas.errors import PolicyError
from schemas.ids import NO_SEND
from streams.core.policies import ActionSet, Examples, LinearThompson
from streams.core.policies.no_send import with_no_send, with_no_send_eligible


def test_who_may_be_sent_something_may_be_left_alone():
    may = np.array([[True, False], [False, False]])
    assert with_no_send_eligible(may).tolist() == [[True, False, True], [False, False, False]]


def test_a_template_cannot_have_its_name():
    with pytest.raises(PolicyError, match="no template can be called"):
        with_no_send(ActionSet(ids=(NO_SEND,), features=np.zeros((1, 0))))


def test_those_whom_every_template_annoys_are_left_alone():
    rng = np.random.default_rng(0)
    actions = with_no_send(ActionSet(ids=("a", "b"), features=np.array([[1.0], [-1.0]])))
    policy = LinearThompson(1, 2)
    n = 6_000
    x = rng.choice([-1.0, 1.0], size=(n, 1))
    taken = rng.integers(3, size=n)
    annoyed = (x[:, 0] < 0.0) & (taken < 2)
    policy.learn_many(
        Examples(
            contexts=x,
            actions=tuple(actions.ids[index] for index in taken),
            action_features=actions.features[taken],
            rewards=np.where(taken == 2, 0.0, np.where(annoyed, -0.1, 0.1))
            + rng.normal(0.0, 0.1, n),
            previous=np.full(n, np.nan),
            at_ms=np.zeros(n, dtype=np.int64),
        )
    )
    dist = policy.action_dist(
        np.array([[-1.0], [1.0]]), actions, np.ones((2, 3), dtype=bool), np.random.default_rng(1)
    )
    assert dist[0, 2] > 0.95
    assert dist[1, 2] < 0.05
