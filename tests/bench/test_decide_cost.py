import cProfile
import pstats
import time
from pathlib import Path

import numpy as np
import pytest

from streams.core.policies import DEFAULT_POLICY, ActionSet, Examples, create
from tests.bench.figures import BUILD, Figure, write_figures

USERS, TIMES = 2_000, 3
N_ACTIONS = (10, 50, 100)
CROSSED = {16: (3, 3), 64: (7, 7), 256: (15, 15)}  # features: (1 + d_user)(1 + d_action)
POLICIES = (DEFAULT_POLICY, "linear-thompson", "linear-ucb")


def learned(name: str, n_actions: int, d_user: int, d_action: int, rng: np.random.Generator):
    actions = ActionSet(
        ids=tuple(f"action-{k}" for k in range(n_actions)),
        features=rng.normal(size=(n_actions, d_action)),
    )
    policy = create(name, {}, d_user, d_action)
    taken = rng.integers(n_actions, size=4_000)
    policy.learn_many(
        Examples(
            contexts=rng.normal(size=(len(taken), d_user)),
            actions=tuple(actions.ids[k] for k in taken),
            action_features=actions.features[taken],
            rewards=0.05 + 0.3 * rng.normal(size=len(taken)),
            previous=np.full(len(taken), np.nan),
            at_ms=np.zeros(len(taken), dtype=np.int64),
        )
    )
    return policy, actions


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_what_a_decision_costs_by_actions_and_features():
    """Record the cost of a user in a chunk of 2,000, and profile the dearest."""
    rng = np.random.default_rng(0)
    figures, last = [], None
    for name in POLICIES:
        for n_actions in N_ACTIONS:
            for crossed, (d_user, d_action) in CROSSED.items():
                policy, actions = learned(name, n_actions, d_user, d_action, rng)
                x = rng.normal(size=(USERS, d_user))
                may = np.ones((USERS, n_actions), dtype=bool)
                policy.action_dist(x[:10], actions, may[:10], rng)  # what is worked out once
                spent = []
                for _ in range(TIMES):
                    began = time.perf_counter()
                    dist = policy.action_dist(x, actions, may, rng)
                    spent.append(time.perf_counter() - began)
                np.testing.assert_allclose(dist.sum(axis=1), 1.0)
                figures.append(
                    Figure(
                        name=f"{name}: {n_actions} actions, {crossed} features",
                        value=1e6 * float(np.median(spent)) / USERS,
                        unit="microseconds a user",
                    )
                )
                if name == DEFAULT_POLICY:
                    last = (policy, actions, x, may)
    write_figures("bench", "decide-cost", figures)
    assert last is not None
    _profile(BUILD / "bench" / "decide-profile.txt", *last)


def _profile(path: Path, policy, actions, x, may) -> None:
    profile = cProfile.Profile()
    profile.enable()
    policy.action_dist(x, actions, may, np.random.default_rng(0))
    profile.disable()
    with path.open("w") as out:
        pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(20)
