"""A small campaign whose truth is known, decided by a policy that learns, and its log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from streams.core.policies import ActionSet, Examples, create, draw

__all__ = ["EVALUATED", "N_WAVES", "SENDS", "TRUTHS", "CampaignLog", "oracle_error", "run_campaign"]

N_WAVES, SENDS = 5, 600
N_ACTIONS, D_USER, D_ACTION, NOISE = 4, 3, 2, 0.3
DAY_MS = 86_400_000

_world = np.random.default_rng(20)
FEATURES = _world.normal(size=(N_ACTIONS, D_ACTION))
WEIGHTS = 0.06 * _world.normal(size=(1 + D_USER, 1 + D_ACTION))
WEIGHTS[0, 0] = 0.2
TASTE = 2.0 * _world.normal(size=(1 + D_USER, N_ACTIONS))


def _with_constant(x: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(x), 1)), x])


def _expected(x: np.ndarray) -> np.ndarray:
    return _with_constant(x) @ WEIGHTS @ _with_constant(FEATURES).T


def _softmax(x: np.ndarray) -> np.ndarray:
    odds = np.exp(_with_constant(x) @ TASTE)
    return odds / odds.sum(axis=1, keepdims=True)


# other policies, which never saw a log
EVALUATED: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda x: np.full((len(x), N_ACTIONS), 1.0 / N_ACTIONS),
    "one action for all": lambda x: np.tile(np.eye(N_ACTIONS)[1], (len(x), 1)),
    "softmax of a taste": _softmax,
}


def _truth(policy: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Give mean and variance over people of what a policy earns with each."""
    people = np.random.default_rng(5).normal(size=(400_000, D_USER))
    earned = (policy(people) * _expected(people)).sum(axis=1)
    return float(earned.mean()), float(earned.var())


TRUTHS = {name: _truth(policy) for name, policy in EVALUATED.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignLog:
    """All decisions, (n,) with n = N_WAVES SENDS, and what each wave's snapshot foresaw."""

    contexts: np.ndarray
    dist: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    predicted: np.ndarray
    waves: np.ndarray


def run_campaign(policy_name: str, seed: int) -> CampaignLog:
    """Let a policy decide and learn wave by wave."""
    rng = np.random.default_rng((seed, 1))
    actions = ActionSet(ids=tuple(f"action-{k}" for k in range(N_ACTIONS)), features=FEATURES)
    policy = create(policy_name, {}, D_USER, D_ACTION)
    everyone = np.ones((SENDS, N_ACTIONS), dtype=bool)
    parts: list[tuple[np.ndarray, ...]] = []
    for wave in range(N_WAVES):
        x = rng.normal(size=(SENDS, D_USER))
        decides = policy.for_last_wave() if wave == N_WAVES - 1 else policy
        dist = decides.action_dist(x, actions, everyone, rng)
        taken = draw(dist, rng)
        rewards = _expected(x)[np.arange(SENDS), taken] + NOISE * rng.normal(size=SENDS)
        predicted = policy.reward_model.expected(x, actions)
        parts.append((x, dist, taken, rewards, predicted, np.full(SENDS, wave)))
        policy.learn_many(
            Examples(
                contexts=x,
                actions=tuple(actions.ids[k] for k in taken),
                action_features=FEATURES[taken],
                rewards=rewards,
                previous=np.full(SENDS, np.nan),
                at_ms=np.full(SENDS, (wave + 1) * DAY_MS),
            )
        )
    x, dist, taken, rewards, predicted, waves = (
        np.concatenate([part[field] for part in parts]) for field in range(6)
    )
    return CampaignLog(
        contexts=x, dist=dist, actions=taken, rewards=rewards, predicted=predicted, waves=waves
    )


def oracle_error(log: CampaignLog, name: str) -> float:
    """Give the standard error of one who knows every expected reward and the noise.

    It corrects nothing but noise, and weighs each wave by one over its true variance: no unbiased
    estimate by waves has less.
    """
    ratio = (EVALUATED[name](log.contexts) ** 2 / log.dist).sum(axis=1)
    spread = np.array([ratio[log.waves == wave].mean() for wave in range(N_WAVES)])
    variances = TRUTHS[name][1] + NOISE**2 * spread
    return float(1.0 / np.sqrt((SENDS / variances).sum()))
