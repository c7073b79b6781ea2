"""What an encoding earns of people of whom nothing is known, among people who are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.core.encoding import LoadedRelease
from streams.core.profiles import Profile
from streams.simulation.world import Company
from tests.bench.encoder.campaign import MemoryCampaign

__all__ = ["GROUPS", "Cold", "cold_start", "never_seen", "without_history"]

KNOWN, NOTHING, UNSEEN = GROUPS = ("known", "without history", "attributes never seen")
STRANGE = 0.1  # of the people, for each of the two strange groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """Reward a send as a share of the oracle's, by group; the same people in both campaigns."""

    encoded: dict[str, float]
    without: dict[str, float]


def without_history(known: Profile) -> Profile:
    """The same person, of whom there is nothing but how to reach them."""
    return Profile(contacts=dict(known.contacts))


def never_seen(known: Profile, number: int) -> Profile:
    """The same person, described in words and numbers that no training row had."""
    return Profile(
        attributes={
            "moon": f"phase-{number % 29}",
            "shoe": 36.0 + number % 12,
            "guild": ["x", "y"],
        },
        counts={"rang-the-bell": (1 + number % 3, 0)},
        contacts=dict(known.contacts),
    )


def cold_start(
    company: Company,
    profiles: Sequence[Profile],
    release: LoadedRelease,
    *,
    policy: str,
    seed: int,
    at_ms: int,
    waves: int = 6,
) -> Cold:
    """Run a campaign with the release and one without context, for the same waves of people."""
    rng = np.random.default_rng((seed, 11))
    group = rng.choice(3, len(profiles), p=(1 - 2 * STRANGE, STRANGE, STRANGE))
    seen = [
        (known, without_history(known), never_seen(known, number))[group[number]]
        for number, known in enumerate(profiles)
    ]
    order = np.array_split(rng.permutation(len(profiles)), waves)
    shares = []
    for encoder in ("people", None):
        loop = MemoryCampaign(
            company, seen, {release.version: release}, policy=policy, at_ms=at_ms, encoder=encoder
        )
        loop.roles(live=release.version)
        loop.begin()
        runs = [loop.run(users) for users in order]
        users, expected, oracle = (
            np.concatenate([getattr(run, name) for run in runs])
            for name in ("users", "expected", "oracle")
        )
        shares.append(
            {
                name: float(
                    expected[group[users] == kind].mean() / oracle[group[users] == kind].mean()
                )
                for kind, name in enumerate(GROUPS)
            }
        )
    return Cold(encoded=shares[0], without=shares[1])
