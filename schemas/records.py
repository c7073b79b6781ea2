"""The records of the company's side of the loop: events, rewards, decisions.

Each is one Avro schema of the same name in `schemas/avro`, whose field docs give the units.
"""

from dataclasses import dataclass, field

import msgspec

from schemas.checks import (
    check_finite,
    check_probabilities,
    check_propensity,
    check_text,
    check_time,
    check_values,
)
from schemas.ids import AttributeValue

__all__ = ["Decision", "LoggedDecision", "Reward", "UserEvent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """Something that happened to, or is known of, one user."""

    user_id: str
    type: str
    occurred_at_ms: int
    event_id: str | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    contacts: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text("user_id", self.user_id, 256)
        check_text("type", self.type, 128)
        check_time("occurred_at_ms", self.occurred_at_ms)
        if self.event_id is not None:
            check_text("event_id", self.event_id, 256)
        if self.attributes:
            check_values("attributes", self.attributes, 200)
        if self.contacts:
            check_values("contacts", self.contacts, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """What a user did with a notification, or what a sender reports of it."""

    user_id: str
    kind: str
    occurred_at_ms: int
    reward_id: str | None = None
    value: float | None = None
    decision_id: str | None = None
    campaign_id: str | None = None
    channel: str | None = None

    def __post_init__(self) -> None:
        check_text("user_id", self.user_id, 256)
        check_text("kind", self.kind, 128)
        check_time("occurred_at_ms", self.occurred_at_ms)
        check_finite("value", self.value)
        for name in ("reward_id", "decision_id", "campaign_id", "channel"):
            text = getattr(self, name)
            if text is not None:
                check_text(name, text, 256)


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one user gets of one campaign's wave."""

    decision_id: str
    campaign_id: str
    campaign_version: int
    wave: int
    user_id: str
    action: str
    reason: str
    policy_version: int
    encoder_version: str
    decided_at_ms: int
    expires_at_ms: int
    channel: str | None = None
    contact: str | None = None
    propensity: float | None = None
    variables: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_propensity(self.propensity)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedDecision:
    """A decision of another system, replayed from its log: learned from, never sent."""

    decision_id: str
    campaign_id: str
    wave: int
    user_id: str
    action: str
    propensity_kind: str
    decided_at_ms: int
    propensity: float | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    learn: bool = True
    probabilities: dict[str, float] = field(default_factory=dict)
    policy_version: int = -1

    def __post_init__(self) -> None:
        for name in ("decision_id", "campaign_id", "user_id", "action"):
            check_text(name, getattr(self, name), 256)
        check_propensity(self.propensity)
        check_probabilities(self.probabilities, self.action, self.propensity)
        check_time("decided_at_ms", self.decided_at_ms)
        check_values("attributes", self.attributes, 200)
