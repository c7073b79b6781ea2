"""Worlds whose truth is known: who comes, what may be sent to them, and what it earns."""

import csv
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["SENDS", "WAVES", "WORLDS", "World", "available", "make_world"]

WAVES, SENDS = 10, 2_000
D_USER, D_ACTION = 6, 4
EFFECT, NOISE = 0.06, 0.3  # standard deviations of what actions differ by, and of a reward
HALF = WAVES // 2

Array = np.ndarray
Expected = Callable[[int, Array, Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One draw of a world.

    Attributes
    ----------
    contexts
        x of each wave, (WAVES, n, d_user).
    features
        Actions a, (n_actions, d_action).
    opens
        The first wave that an action may be sent in, (n_actions,).
    expected
        Gives expected rewards, (n, n_actions), for a wave, its contexts, and how often each action
        was sent before that wave, (n_actions,).
    noise
        Standard deviation of a reward; None: rewards are clicks.
    luck
        What chance adds, the same for every contestant, (WAVES, n): normal, or uniform for clicks.
    """

    name: str
    contexts: Array
    features: Array
    opens: Array
    expected: Expected
    noise: float | None
    luck: Array

    def rewards(self, wave: int, means: Array) -> Array:
        """Give what the people of a wave answer, (n,), where they were expected to earn `means`."""
        if self.noise is None:
            return (self.luck[wave] < means).astype(np.float64)
        return means + self.noise * self.luck[wave]


def _crossed(features: Array, weights: Array) -> Array:
    """Give ``(1, x) W (1, a)'`` as a function of x, with W of shape (1 + d_user, 1 + d_action)."""
    acts = np.hstack([np.ones((len(features), 1)), features])
    return weights @ acts.T  # (1 + d_user, n_actions): a linear map for each action


def _scores(contexts: Array, plan: Array) -> Array:
    return plan[0] + contexts @ plan[1:]


def _plan(rng: np.random.Generator, features: Array) -> Array:
    """Draw what each action is worth to each user, by its features; they differ by about 1."""
    d_user, d_action = D_USER, features.shape[1]
    weights = rng.normal(size=(1 + d_user, 1 + d_action))
    weights[0] *= 0.7  # what all users like
    weights[1:, 1:] *= 0.4
    weights[1:, 0] *= 0.5
    weights[0, 0] = 0.0
    return _crossed(features, weights) / 1.6


def _linear(rng: np.random.Generator, features: Array) -> Expected:
    plan = _plan(rng, features)
    return lambda wave, contexts, sent: 0.2 + EFFECT * _scores(contexts, plan)


def _partly_linear(rng: np.random.Generator, features: Array) -> Expected:
    """Add a level of each action's own, which its features say nothing of."""
    plan = _plan(rng, features)
    plan[0] += 0.3 * rng.normal(size=len(features))
    return lambda wave, contexts, sent: 0.2 + EFFECT * _scores(contexts, plan)


def _clicks(rng: np.random.Generator, features: Array) -> Expected:
    plan = _plan(rng, features)

    def expected(wave: int, contexts: Array, sent: Array) -> Array:
        odds = np.exp(np.log(0.045 / 0.955) + 0.35 * _scores(contexts, plan))
        return np.clip(odds / (1.0 + odds), 0.02, 0.10)

    return expected


def _disjoint(rng: np.random.Generator, features: Array) -> Expected:
    """Make what an action earns nothing to do with its features."""
    plan = rng.normal(size=(1 + D_USER, len(features))) * 0.4
    return lambda wave, contexts, sent: 0.2 + EFFECT * _scores(contexts, plan)


def _turning(rng: np.random.Generator, features: Array) -> Expected:
    plans = _plan(rng, features), _plan(rng, features)
    return lambda wave, contexts, sent: 0.2 + EFFECT * _scores(contexts, plans[wave >= HALF])


def _wearing(rng: np.random.Generator, features: Array) -> Expected:
    """Let an action lose what it has over the others as it is sent again and again."""
    plan = _plan(rng, features)

    def expected(wave: int, contexts: Array, sent: Array) -> Array:
        worn = 2.0 * (1.0 - np.exp2(-sent / 3_000.0))
        return 0.2 + EFFECT * (_scores(contexts, plan) - worn)

    return expected


@cache
def _bank(folder: str) -> tuple[Array, Array, Array]:
    """Read the bank's customers: contexts, actions, and fitted weights of a logistic model.

    The actions are calls by (mobile or not) and season; what is known only after the call (its
    duration) is left out.
    """
    with (Path(folder) / "bank_marketing" / "bank.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    numbers = np.array(
        [
            [
                float(row["age"]),
                np.arcsinh(float(row["balance"]) / 100.0),
                np.log1p(float(row["previous"])),
                row["housing"] == "yes",
                row["loan"] == "yes",
                row["marital"] == "married",
                row["education"] == "tertiary",
                row["poutcome"] == "success",
            ]
            for row in rows
        ],
        dtype=np.float64,
    )
    contexts = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    seasons = ("dec jan feb", "mar apr may", "jun jul aug", "sep oct nov")
    season = np.array(
        [next(i for i, months in enumerate(seasons) if row["month"] in months) for row in rows]
    )
    mobile = np.array([row["contact"] == "cellular" for row in rows], dtype=np.int64)
    features = np.array(
        [[float(m), *(float(s == t) for t in (1, 2, 3))] for m in (0, 1) for s in range(4)]
    )
    taken = features[4 * mobile + season]
    users, acts = (np.hstack([np.ones((len(part), 1)), part]) for part in (contexts, taken))
    phi = (users[:, :, None] * acts[:, None, :]).reshape(len(rows), -1)
    bought = np.array([row["y"] == "yes" for row in rows], dtype=np.float64)
    weights, ridge = np.zeros(phi.shape[1]), 10.0 * np.ones(phi.shape[1])
    ridge[0] = 0.0
    for _ in range(30):  # Newton's method for ridge logistic regression
        p = 1.0 / (1.0 + np.exp(-phi @ weights))
        slope = phi.T @ (bought - p) - ridge * weights
        curve = (phi * (p * (1.0 - p))[:, None]).T @ phi + np.diag(ridge)
        weights += np.linalg.solve(curve, slope)
    return contexts, features, _crossed(features, weights.reshape(users.shape[1], -1))


def _bank_world(name: str, rng: np.random.Generator) -> World:
    people, features, plan = _bank(os.environ["GROUNDSWELL_TEST_DATA"])
    who = rng.integers(len(people), size=(WAVES, SENDS))
    return World(
        name=name,
        contexts=people[who],
        features=features,
        opens=np.zeros(len(features), dtype=np.int64),
        expected=lambda wave, contexts, sent: 1.0 / (1.0 + np.exp(-_scores(contexts, plan))),
        noise=None,
        luck=rng.random((WAVES, SENDS)),
    )


TRUTHS: Mapping[str, tuple[int, Callable[[np.random.Generator, Array], Expected]]] = {
    "linear": (10, _linear),
    "clicks": (10, _clicks),
    "disjoint": (10, _disjoint),
    "tastes turn": (10, _turning),
    "wearing out": (10, _wearing),
    "newcomer": (10, _linear),
    "3 actions": (3, _partly_linear),
    "30 actions": (30, _partly_linear),
    "100 actions": (100, _partly_linear),
}
WORLDS = (*TRUTHS, "bank")


def available() -> list[str]:
    """Name the worlds that can be made here; the bank's needs its recorded data."""
    folder = os.environ.get("GROUNDSWELL_TEST_DATA")
    return [name for name in WORLDS if name != "bank" or folder]


def make_world(name: str, seed: int) -> World:
    """Draw a world; the same name and seed give the same."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if name == "bank":
        return _bank_world(name, rng)
    n_actions, truth = TRUTHS[name]
    features = rng.normal(size=(n_actions, D_ACTION))
    opens = np.zeros(n_actions, dtype=np.int64)
    expected = truth(rng, features)
    contexts = rng.normal(size=(WAVES, SENDS, D_USER))
    if name == "newcomer":  # the action that would be the best for most comes at half time
        best = expected(0, contexts[0], np.zeros(n_actions)).argmax(axis=1)
        opens[np.bincount(best, minlength=n_actions).argmax()] = HALF
    clicks = truth is _clicks
    return World(
        name=name,
        contexts=contexts,
        features=features,
        opens=opens,
        expected=expected,
        noise=None if clicks else NOISE,
        luck=rng.random((WAVES, SENDS)) if clicks else rng.normal(size=(WAVES, SENDS)),
    )
