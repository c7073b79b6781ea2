"""The work of the wave rows: people with 32 attributes, a campaign of 10 templates."""

import random
from collections.abc import Iterator

from schemas.campaign import Campaign, ContextFeature, Template
from schemas.records import UserEvent

__all__ = ["CAMPAIGN", "FEATURES", "TEMPLATES", "campaign", "people"]

CAMPAIGN = "speed"
TEMPLATES, FEATURES = 10, 32
HOUR_MS = 3_600_000


def people(count: int, at_ms: int) -> Iterator[UserEvent]:
    """Make one event a user that tells all that is known of the user."""
    rng = random.Random(1)
    for number in range(count):
        user = f"user-{number:07d}"
        yield UserEvent(
            user_id=user,
            type="profile",
            occurred_at_ms=at_ms,
            event_id=f"import-{user}",
            attributes={f"f{rank:02d}": round(rng.gauss(0, 1), 6) for rank in range(FEATURES)},
            contacts={"email": f"{user}@example.com"},
        )


def campaign(at_ms: int, waves: int = 1) -> Campaign:
    """Thompson sampling for everybody, in one wave unless told otherwise."""
    return Campaign(
        campaign_id=CAMPAIGN,
        version=1,
        status="active",
        templates=[
            Template(
                id=f"template-{number}",
                channel="email",
                features={"a": number / 10, "b": number % 3 / 2, "c": 7 * number % 10 / 10},
                variables={"subject": f"Subject {number}"},
            )
            for number in range(TEMPLATES)
        ],
        waves=waves,
        wave_deadline_ms=HOUR_MS,
        policy="linear-thompson",
        context=[ContextFeature(attribute=f"f{rank:02d}") for rank in range(FEATURES)],
        expires_after_ms=HOUR_MS,
        attribution_window_ms=HOUR_MS,
        allowed_lateness_ms=1000,
        correction_horizon_ms=2 * HOUR_MS,
        reward_weights={"click": 1.0},
        changed_at_ms=at_ms,
    )
