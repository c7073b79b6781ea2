"""Learning in memory, beside River's and Vowpal Wabbit's; decoding is left out for all."""

import time

import numpy as np
import pytest
from river.bandit import LinUCBDisjoint

from streams.core.policies import ActionSet, Examples
from streams.core.policies.registry import create
from tests.bench.figures import Figure
from tests.bench.speed.rounds import interleaved, median_ratio
from tests.bench.speed.test_events import write

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1_800)]

D, ACTIONS, CHUNK = 64, 10, 4096  # features, actions, examples learned at once (a block)
OURS, RIVER, VW = 40_960, 1_500, 20_000  # examples, by how long each takes
ROUNDS = 5
# Names, policies, context columns and action features: a disjoint model of 64 columns for each
# action, as River's and Vowpal Wabbit's; the shared model with d = (1 + 15)(1 + 3) = 64; and the
# shared model over all 64 columns, whose d of 260 is no peer's: it is told, not held.
OURS_BY_NAME = {
    "disjoint-linear-ucb, 64 columns": ("disjoint-linear-ucb", D, 3),
    "linear-thompson, d = 64": ("linear-thompson", 15, 3),
    "linear-thompson, 64 columns, d = 260": ("linear-thompson", D, 3),
}
HELD = ("disjoint-linear-ucb, 64 columns", "linear-thompson, d = 64")
BARS = {"River LinUCBDisjoint.update": 20.0, "Vowpal Wabbit learn, parsed examples": 3.0}


def examples(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    contexts = rng.normal(size=(count, D)).astype(np.float32).astype(np.float64)
    taken = rng.integers(ACTIONS, size=count)
    weights = rng.normal(size=(ACTIONS, D)) / np.sqrt(D)
    rewards = (contexts * weights[taken]).sum(axis=1) + 0.1 * rng.normal(size=count)
    return contexts, taken, rewards


def learn_ours(name: str) -> float:
    policy_name, columns, d_action = OURS_BY_NAME[name]
    contexts, taken, rewards = examples(OURS)
    contexts = np.ascontiguousarray(contexts[:, :columns])
    rng = np.random.default_rng(2)
    ids = tuple(f"a{number}" for number in range(ACTIONS))
    known = ActionSet(ids=ids, features=rng.normal(size=(ACTIONS, d_action)))
    policy = create(policy_name, {}, columns, d_action)
    chunks = [
        Examples(
            contexts=contexts[first : first + CHUNK],
            actions=tuple(ids[row] for row in taken[first : first + CHUNK]),
            action_features=known.features[taken[first : first + CHUNK]],
            rewards=rewards[first : first + CHUNK],
            previous=np.full(CHUNK, np.nan),
            at_ms=np.full(CHUNK, 1_790_000_000_000),
        )
        for first in range(0, OURS, CHUNK)
    ]
    began = time.perf_counter()
    for chunk in chunks:
        policy.learn_many(chunk)
    policy.action_dist(  # what was put off until it is needed is part of learning
        contexts[:1], known, np.ones((1, ACTIONS), np.bool_), np.random.default_rng(3)
    )
    return OURS / (time.perf_counter() - began)


def learn_river() -> float:
    contexts, taken, rewards = examples(RIVER)
    # burn_in's place in the signature is reward_scaler's: named, so that updates work
    policy = LinUCBDisjoint(alpha=1.0, burn_in=0, seed=1)
    given = [{f"f{k}": float(v) for k, v in enumerate(row)} for row in contexts]
    policy.pull(list(range(ACTIONS)), given[0])
    began = time.perf_counter()
    for context, arm, reward in zip(given, taken.tolist(), rewards.tolist(), strict=True):
        policy.update(arm, context, reward)
    return RIVER / (time.perf_counter() - began)


def learn_vw() -> float:
    from vowpalwabbit import pyvw

    contexts, taken, rewards = examples(VW)
    workspace = pyvw.Workspace(f"--cb_explore {ACTIONS} --epsilon 0.05 --quiet")
    lines = [
        f"{arm + 1}:{-reward:.6f}:0.1 | " + " ".join(f"f{k}:{v:.6f}" for k, v in enumerate(row))
        for row, arm, reward in zip(contexts, taken, rewards, strict=True)
    ]
    parsed = [workspace.parse(line, pyvw.LabelType.CONTEXTUAL_BANDIT) for line in lines]
    began = time.perf_counter()
    for example in parsed:
        workspace.learn(example)
    rate = VW / (time.perf_counter() - began)
    for example in parsed:
        workspace.finish_example(example)
    workspace.finish()
    return rate


def test_learning_in_chunks_beside_river_and_vowpal_wabbit():
    runs = interleaved(
        {
            **{name: lambda name=name: learn_ours(name) for name in OURS_BY_NAME},
            "River LinUCBDisjoint.update": learn_river,
            "Vowpal Wabbit learn, parsed examples": learn_vw,
        },
        ROUNDS,
    )
    figures: list[Figure] = [
        median_ratio(
            name, "examples/s", runs[name], peer, runs[peer], bar if name in HELD else None
        )
        for name in OURS_BY_NAME
        for peer, bar in BARS.items()
    ]
    write("speed-learning", figures)
