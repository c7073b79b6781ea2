"""The wave protocol: decide for 2,000 at a time, and learn what came of it before the next."""

import zlib
from typing import Protocol

import numpy as np

from tests.bench.learning.worlds import World

__all__ = ["Contestant", "regrets"]


class Contestant(Protocol):
    """What decides and learns; actions are numbers, in the order of the world's features."""

    def decide(
        self, contexts: np.ndarray, may: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose an action for each user, and say how probable it was.

        Parameters
        ----------
        contexts
            x, (n, d_user).
        may
            Which actions are open, (n_actions,).
        rng
            Where chance comes from.

        Returns
        -------
        tuple[np.ndarray, np.ndarray]
            Indices of actions, (n,), and propensities, (n,).
        """

    def learn(
        self, wave: int, contexts: np.ndarray, taken: np.ndarray, p: np.ndarray, rewards: np.ndarray
    ) -> None:
        """Learn what a wave earned."""


def regrets(world: World, contestant: Contestant, seed: int) -> np.ndarray:
    """Run all waves, and give the regret of each, by true expectation, in total over its sends.

    The best is the best for that user in that wave, given what this contestant sent before.
    """
    rng = np.random.default_rng((seed, zlib.crc32(world.name.encode()), 1))
    sent = np.zeros(len(world.features))
    regret = np.zeros(len(world.contexts))
    for wave, contexts in enumerate(world.contexts):
        may = world.opens <= wave
        means = world.expected(wave, contexts, sent)  # (n, n_actions)
        taken, p = contestant.decide(contexts, may, rng)
        if not may[taken].all():
            raise ValueError(f"{world.name}: wave {wave} was sent actions that are not open")
        got = means[np.arange(len(contexts)), taken]
        regret[wave] = (means[:, may].max(axis=1) - got).sum()
        contestant.learn(wave, contexts, taken, p, world.rewards(wave, got))
        sent += np.bincount(taken, minlength=len(sent))
    return regret
