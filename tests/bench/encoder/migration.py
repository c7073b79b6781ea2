"""What a new release costs a campaign: the waves before and after `promote` and `rollback`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streams.core.encoding import LoadedRelease
from streams.core.profiles import Profile
from streams.simulation.world import Company
from tests.bench.encoder.campaign import MemoryCampaign

__all__ = ["Migrated", "migrate"]

AFTER = 2  # waves with the new release, before the rollback


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """Rewards a send as shares of the oracle's of the same people.

    Attributes
    ----------
    before
        The last wave before `promote`.
    after
        The first wave after it.
    stayed
        What the old pair would have earned of the people of `after`.
    reset
        What the new release's policy would have earned of them, had it begun anew.
    rolled_back
        The first wave after `rollback`.
    """

    before: float
    after: float
    stayed: float
    reset: float
    rolled_back: float


def migrate(
    company: Company,
    profiles: Sequence[Profile],
    releases: Mapping[str, LoadedRelease],
    *,
    policy: str,
    seed: int,
    at_ms: int,
    waves: int = 6,
) -> Migrated:
    """Run a campaign through a promotion and a rollback; each person is in one wave.

    Parameters
    ----------
    releases
        The old and the new one, by label.
    waves
        Before `promote`.
    """
    old, new = releases
    loop = MemoryCampaign(company, profiles, releases, policy=policy, at_ms=at_ms)
    order = np.random.default_rng((seed, 3)).permutation(len(profiles))
    members = iter(np.array_split(order, waves + AFTER + 1))
    loop.roles(live=old)
    loop.begin()
    for _ in range(waves - 1):
        loop.run(next(members))
    loop.roles(live=old, shadow=new)
    loop.warm(new)
    loop.roles(live=new, previous=old)  # the last wave before keeps the pair that it began with
    before = loop.run(next(members))
    first = next(members)
    stayed = loop.would_earn(first, old)
    reset = loop.would_earn(first, new, reset=True)
    after = loop.run(first)
    for _ in range(AFTER - 2):
        loop.run(next(members))
    loop.roles(live=old, previous=new)
    last = loop.run(next(members))
    rolled_back = loop.run(next(members))
    labels = [each.labels for each in (before, after, last, rolled_back)]
    assert labels == [{old}, {new}, {new}, {old}], labels
    return Migrated(
        before=before.share(),
        after=after.share(),
        stayed=stayed.share(),
        reset=reset.share(),
        rolled_back=rolled_back.share(),
    )
