import cProfile
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.core.policies import DEFAULT_POLICY, ActionSet, Examples, create
from tests.bench.figures import BUILD, Figure, write_figures

USERS, TIMES = 500, 9  # a worker's chunk
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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, the median of several, and what came of it."""
    spent = []
    for _ in range(TIMES):
        began = time.perf_counter()
        made = work()
        spent.append(time.perf_counter() - began)
    return float(np.median(spent)), made


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_what_a_decision_costs_by_actions_and_features():
    """Record the cost of a user in a worker's chunk, and of a wave's draws; profile the dearest."""
    rng = np.random.default_rng(0)
    figures, last = [], None
    for name in POLICIES:
        for n_actions in N_ACTIONS:
            for crossed, (d_user, d_action) in CROSSED.items():
                policy, actions = learned(name, n_actions, d_user, d_action, rng)
                x = rng.normal(size=(USERS, d_user))
                may = np.ones((USERS, n_actions), dtype=bool)
                policy.action_dist(x[:10], actions, may[:10], rng)  # what is worked out once
                once_s, decides = timed(lambda: policy.with_kept_draws(actions, rng))  # noqa: B023
                spent_s, dist = timed(lambda: decides.action_dist(x, actions, may, rng))  # noqa: B023
                np.testing.assert_allclose(dist.sum(axis=1), 1.0)
                what = f"{name}: {n_actions} actions, {crossed} features"
                figures.append(
                    Figure(name=what, value=1e6 * spent_s / USERS, unit="microseconds a user")
                )
                if decides is not policy:
                    figures.append(
                        Figure(
                            name=f"{what}, draws", value=1e3 * once_s, unit="milliseconds a wave"
                        )
                    )
                if name == DEFAULT_POLICY:
                    last = (decides, actions, x, may)
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
