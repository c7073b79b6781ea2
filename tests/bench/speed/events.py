"""The work of the throughput rows: events about users, the same for all contestants."""

import random
from collections.abc import Iterator

from schemas.records import UserEvent

__all__ = ["KINDS", "PLANS", "user_events"]

KINDS = ("app_open", "viewed", "searched", "added", "removed", "rated", "shared", "bought")
PLANS = ("free", "plus", "pro")
START_MS = 1_790_000_000_000


def user_events(count: int, users: int, seed: int = 1) -> Iterator[UserEvent]:
    """Events of about 100 bytes: an id, a kind and two attributes, users at random."""
    rng = random.Random(seed)
    for number in range(count):
        yield UserEvent(
            user_id=f"user-{rng.randrange(users):07d}",
            type=rng.choice(KINDS),
            occurred_at_ms=START_MS + number,
            event_id=f"{seed:04x}-{number:012x}",
            attributes={"plan": rng.choice(PLANS), "visits": rng.randrange(1000)},
        )
