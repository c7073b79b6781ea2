"""A triggered campaign whose feedback takes its time: learned with the window over, or at once.

Periods follow each other without waiting for open windows. A click comes, if it comes, after an
exponential delay, and counts within the attribution window. `close` learns a decision when its
window is over; `decision` at once with reward 0, and corrects it as its click comes.
"""

from dataclasses import dataclass

import numpy as np

from streams.core.policies import ActionSet, Examples, LinearThompson, draw

__all__ = ["Delays", "regret"]

PERIOD_MS = 600_000
D_USER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """The course of a campaign.

    Attributes
    ----------
    mean
        Of a click's delay, in periods.
    window
        Attribution window, in periods.
    """

    mean: float
    window: int = 24
    periods: int = 72
    users: int = 100
    actions: int = 6


def regret(delays: Delays, learn_at: str, seed: int) -> float:
    """Regret a send, by true expectation, over all periods.

    Parameters
    ----------
    learn_at
        ``close`` or ``decision``, as campaigns have it.
    """
    rng = np.random.default_rng([seed, 17])
    actions = ActionSet(
        ids=tuple(f"a{rank}" for rank in range(delays.actions)),
        features=np.eye(delays.actions),
    )
    weights = rng.normal(0.0, 0.08, (delays.actions, D_USER))
    base = rng.uniform(0.1, 0.3, delays.actions)
    policy = LinearThompson(D_USER, delays.actions, draws=64)
    lost, waiting = 0.0, []
    for period in range(delays.periods):
        x = rng.uniform(-1.0, 1.0, (delays.users, D_USER))
        means = np.clip(base + x @ weights.T, 0.01, 0.99)  # (n_users, n_actions)
        may = np.ones(means.shape, dtype=np.bool_)
        chance = np.random.default_rng([seed, period])
        taken = draw(policy.action_dist(x, actions, may, chance), chance)
        rows = np.arange(delays.users)
        lost += float((means.max(axis=1) - means[rows, taken]).mean())
        clicked = rng.random(delays.users) < means[rows, taken]
        comes = period + rng.exponential(delays.mean, delays.users)
        counts = clicked & (comes <= period + delays.window)
        waiting.append((period, x, taken, counts, comes))
        for began, contexts, chosen, counted, at in waiting:
            told = _told(delays, learn_at, period - began, counted, at, period)
            if told is not None:
                rows_told, rewards, previous = told
                policy.learn_many(
                    Examples(
                        contexts=contexts[rows_told],
                        actions=tuple(actions.ids[rank] for rank in chosen[rows_told]),
                        action_features=actions.features[chosen[rows_told]],
                        rewards=rewards,
                        previous=previous,
                        at_ms=np.full(len(rewards), began * PERIOD_MS, dtype=np.int64),
                    )
                )
        waiting = [one for one in waiting if period - one[0] < delays.window]
    return lost / delays.periods


def _told(
    delays: Delays, learn_at: str, age: int, counted: np.ndarray, at: np.ndarray, period: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """What the learner is told at a period's end of those who were decided for `age` ago."""
    if learn_at == "close":
        if age < delays.window:
            return None
        everybody = np.ones(len(counted), dtype=np.bool_)
        return everybody, counted.astype(float), np.full(len(counted), np.nan)
    came = counted & (at <= period + 1)
    if age == 0:
        return np.ones(len(came), dtype=np.bool_), came.astype(float), np.full(len(came), np.nan)
    new = came & (at > period)
    if not new.any():
        return None
    return new, np.ones(new.sum()), np.zeros(new.sum())
