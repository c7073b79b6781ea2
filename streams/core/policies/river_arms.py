# ruff: noqa: SLF001  what River's bandits know of their arms has no public name
"""The odds by which River's context-free bandits pull, and how they learn and unlearn."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from river import bandit, proba, stats
from scipy import special

from schemas.hashing import id_hash
from streams.core.policies.data import FloatArray

__all__ = ["BANDITS", "REWARDS", "arm_dist", "learn_arm", "make_bandit"]

HUGE, TINY = 1e100, 1e-200  # bounds of Exp3's weights
BANDITS = ("ThompsonSampling", "EpsilonGreedy", "UCB", "BayesUCB", "Exp3", "RandomPolicy")
REWARDS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "beta": proba.Beta,
        "gaussian": proba.Gaussian,
        "mean": stats.Mean,
        "ewmean": stats.EWMean,
    }
)


def make_bandit(
    name: str,
    reward: str,
    *,
    epsilon: float,
    decay: float,
    delta: float,
    gamma: float,
    burn_in: int,
) -> bandit.base.Policy:
    """Make a bandit that has learned nothing yet; the words are River's."""
    kept = REWARDS[reward]()
    match name:
        case "ThompsonSampling":
            if not isinstance(kept, proba.base.Distribution):
                kept = proba.Beta()  # it draws from what it keeps
            return bandit.ThompsonSampling(reward_obj=kept, burn_in=burn_in, seed=0)
        case "EpsilonGreedy":
            return bandit.EpsilonGreedy(epsilon, decay, reward_obj=kept, burn_in=burn_in, seed=0)
        case "UCB":
            return bandit.UCB(delta, reward_obj=kept, burn_in=burn_in, seed=0)
        case "BayesUCB":  # it decides by Beta posteriors beside what it keeps
            return bandit.BayesUCB(reward_obj=proba.Beta(), burn_in=burn_in, seed=0)
        case "Exp3":
            return bandit.Exp3(gamma, reward_obj=kept, burn_in=burn_in, seed=0)
    return bandit.RandomPolicy(reward_obj=kept, burn_in=burn_in, seed=0)


def arm_dist(policy: Any, arms: Sequence[str], chunk: int, n_draws: int) -> FloatArray:
    """Give the probability with which the bandit would pull each of some arms.

    Closed form but for Thompson sampling, where it is the share of draws in which an arm is best.
    Each arm has its own random stream, so that the order of arms does not matter.

    Parameters
    ----------
    policy
        One that :func:`make_bandit` made.
    arms
        At least one.
    chunk
        The seed of the chunk.
    n_draws
        For Thompson sampling.

    Returns
    -------
    FloatArray
        p, (len(arms),).
    """
    few = [policy._counts.get(arm, 0) < policy.burn_in for arm in arms]
    if any(few):
        return _alike(np.array(few))
    if isinstance(policy, bandit.ThompsonSampling):
        drawn = np.stack([_drawn(policy, arm, chunk, n_draws) for arm in arms])
        best = drawn == drawn.max(axis=0)  # (len(arms), n_draws)
        shares: FloatArray = (best / best.sum(axis=0)).mean(axis=1)
        return shares
    return CLOSED_FORM[type(policy)](policy, arms)


def _epsilon_greedy(policy: Any, arms: Sequence[str]) -> FloatArray:
    levels = np.array([_level(policy._rewards.get(arm, policy.reward_obj)) for arm in arms])
    share = float(policy.current_epsilon)
    return (1.0 - share) * _alike(levels == levels.max()) + share / len(arms)


def _ucb(policy: Any, arms: Sequence[str]) -> FloatArray:
    bounds = np.array([_upper(policy, arm) for arm in arms])
    return _alike(bounds == bounds.max())


def _bayes_ucb(policy: Any, arms: Sequence[str]) -> FloatArray:
    bounds = np.array([_quantile(policy, arm) for arm in arms])
    return _alike(bounds == bounds.max())


def _exp3(policy: Any, arms: Sequence[str]) -> FloatArray:
    unseen = policy._weights.default_factory()
    weights = np.array([policy._weights.get(arm, unseen) for arm in arms])
    # Auer, Cesa-Bianchi, Freund & Schapire 2002, eq. 1 of Exp3
    dist: FloatArray = (1.0 - policy.gamma) * weights / weights.sum() + policy.gamma / len(arms)
    return dist


def _any(_policy: Any, arms: Sequence[str]) -> FloatArray:
    return np.full(len(arms), 1.0 / len(arms))


CLOSED_FORM: Mapping[type, Callable[[Any, Sequence[str]], FloatArray]] = MappingProxyType(
    {
        bandit.EpsilonGreedy: _epsilon_greedy,
        bandit.UCB: _ucb,
        bandit.BayesUCB: _bayes_ucb,
        bandit.Exp3: _exp3,
        bandit.RandomPolicy: _any,
    }
)


def learn_arm(policy: Any, arm: str, reward: float, previous: float | None) -> None:
    """Let the bandit learn a reward, or that it was another than it was told."""
    if isinstance(policy, bandit.Exp3):
        _learn_exp3(policy, arm, reward, previous)
        return
    kept = policy._rewards[arm]
    if previous is None:
        policy.update(arm, _told(kept, reward))
        return
    posteriors = [kept, *([policy._posteriors[arm]] if hasattr(policy, "_posteriors") else [])]
    for posterior in posteriors:
        if hasattr(posterior, "revert") and _holds(posterior):
            posterior.revert(_told(posterior, previous))
        posterior.update(_told(posterior, reward))


def _learn_exp3(policy: Any, arm: str, reward: float, previous: float | None) -> None:
    # River wants the probabilities of its own last pull; those that it has now for all that it
    # knows stand in for them
    arms = sorted({*policy._weights, arm})
    policy._probabilities = dict(zip(arms, _exp3(policy, arms).tolist(), strict=True))
    policy._weights.setdefault(arm, policy._weights.default_factory())  # it counts from now on
    paid = min(max(reward, 0.0), 1.0)  # Exp3 is for rewards in [0, 1]
    if previous is None:
        policy.update(arm, paid)
    else:
        paid -= min(max(previous, 0.0), 1.0)
        policy._weights[arm] *= math.exp(
            policy.gamma * paid / policy._probabilities[arm] / len(policy._weights)
        )
    largest = max(policy._weights.values())
    if largest > HUGE:  # only their ratios matter, and they would outgrow a float
        unseen = policy._weights.default_factory()
        policy._weights.default_factory = functools.partial(float, max(unseen / largest, TINY))
        for name in arms:
            policy._weights[name] = max(policy._weights[name] / largest, TINY)


def _alike(mask: Any) -> FloatArray:
    return np.asarray(mask / mask.sum(), dtype=np.float64)


def _drawn(policy: Any, arm: str, chunk: int, n_draws: int) -> FloatArray:
    rng = np.random.default_rng((chunk, id_hash(arm)))
    kept = policy._rewards.get(arm, policy.reward_obj)
    if isinstance(kept, proba.Beta):
        return rng.beta(kept.alpha, kept.beta, n_draws)
    return rng.normal(kept.mu, max(kept._var.get(), 0.0) ** 0.5, n_draws)


def _level(kept: Any) -> float:
    return float(kept.mode if isinstance(kept, proba.base.Distribution) else kept.get())


def _upper(policy: Any, arm: str) -> float:
    if arm not in policy._rewards or not policy._counts.get(arm, 0):
        return math.inf
    kept = policy._rewards[arm]
    if isinstance(kept, proba.base.Distribution):
        return float(kept.mode)
    width = math.sqrt(2.0 * math.log(policy._n) / policy._counts[arm])
    return float(kept.get() + policy.delta * width)


def _quantile(policy: Any, arm: str) -> float:
    # Kaufmann, Cappé & Garivier 2012; River's compute_index would leave a trace of having asked
    kept = policy._posteriors.get(arm, proba.Beta())
    return float(special.betaincinv(kept.alpha, kept.beta, 1.0 - 1.0 / (policy._n + 1)))


def _told(kept: Any, reward: float) -> Any:
    return reward > 0.0 if isinstance(kept, proba.Beta) else reward


def _holds(kept: Any) -> bool:
    """Whether something was learned that can be taken back."""
    if isinstance(kept, proba.base.Distribution):
        return bool(kept.n_samples > 0)
    return bool(kept.n > 0)
