"""What a company in a box would have logged, as rows that an encoder is trained on."""

import math
from collections.abc import Iterator

import numpy as np

from schemas.features import PlainProfile
from schemas.training_rows import TrainingRow
from streams.simulation.people import People
from streams.simulation.world import Company

__all__ = ["company_profile", "company_rows"]

HOUR_MS = 3_600_000


def company_rows(
    company: Company, decisions: int, seed: int, from_ms: int, until_ms: int
) -> Iterator[TrainingRow]:
    """Decisions of a policy that chooses at random among what reaches a person, oldest first.

    Parameters
    ----------
    from_ms, until_ms
        When they are decided, evenly.
    """
    rng = np.random.default_rng((company.seed, seed, 5))  # another stream than the waves'
    reached = np.flatnonzero(company.eligible.any(axis=1))
    users = rng.choice(reached, decisions)
    chances = np.cumsum(company.uniform()[users], axis=1)
    templates = (rng.random((decisions, 1)) * chances[:, -1:] >= chances).sum(axis=1)
    times = np.linspace(from_ms, until_ms, decisions).astype(np.int64)
    responses = company.respond(
        [f"log:{seed}:{number}" for number in range(decisions)], users, templates, times
    )
    happened = responses.happened
    for number, (user, template, at_ms) in enumerate(
        zip(users.tolist(), templates.tolist(), times.tolist(), strict=True)
    ):
        weekly = float(company.people.columns["weekly_sessions"][user])
        active = rng.random() < 1.0 - math.exp(-weekly / 7.0)  # within a day
        yield TrainingRow(
            at_ms=at_ms,
            profile=company_profile(rng, company.people, user, at_ms),
            action=company.templates[template].id,
            clicked=float(happened["click"][number]),
            purchased=float(happened["purchase"][number]),
            unsubscribed=float(happened["unsubscribe"][number]),
            next_event="app_open" if active else "",
        )


def company_profile(
    rng: np.random.Generator, people: People, user: int, at_ms: int
) -> PlainProfile:
    """What a shard would have folded of a person: the import, and what the app told since."""
    imported_ms = at_ms - int(rng.exponential(48.0) * HOUR_MS) - 1
    counts = {"imported": (1, imported_ms)}
    for kind in ("app_open", "viewed"):
        often = int(rng.poisson(1.0))
        if often:
            counts[kind] = (often, int(rng.integers(imported_ms, at_ms)))
    sends = sorted(rng.integers(imported_ms, at_ms, int(rng.poisson(1.0))).tolist())
    return PlainProfile(
        attributes=dict(people.attributes(user)),
        counts=counts,
        contacts=tuple(sorted(people.contacts(user))),
        sends=tuple(sends),
    )
