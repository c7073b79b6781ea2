"""Identifiers as types, and the words that records share."""

from typing import Final

__all__ = [
    "BASELINE",
    "CAPPED",
    "HOLDOUT",
    "INELIGIBLE",
    "LOGGED",
    "NO_SEND",
    "POLICY",
    "QUIET_HOURS",
    "TIME_MARKER",
    "UNREACHABLE",
    "AttributeValue",
]

AttributeValue = None | bool | int | float | str | list[str]

NO_SEND: Final = "no-send"  # the action of a decision that nothing is sent for

# Why a decision is what it is.
POLICY: Final = "policy"
BASELINE: Final = "baseline"
LOGGED: Final = "logged"
HOLDOUT: Final = "holdout"
CAPPED: Final = "capped"
QUIET_HOURS: Final = "quiet-hours"
UNREACHABLE: Final = "unreachable"
INELIGIBLE: Final = "ineligible"

# An event or reward of this type carries nothing but its time: the end of a replayed log.
TIME_MARKER: Final = "groundswell.time"
