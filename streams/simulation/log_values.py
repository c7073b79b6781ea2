"""Values of a log's columns, read as the mapping says.

Each function raises ValueError with what is wrong: the row is a bad one.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.checks import check_time
from schemas.ids import AttributeValue
from streams.simulation.log_files import RawRow
from streams.simulation.log_mapping import AttributeColumn, RewardColumn, TimeColumn

__all__ = [
    "RowReward",
    "attribute_of",
    "probabilities_of",
    "propensity_of",
    "reward_of",
    "text_of",
    "time_of",
    "wave_of",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_S = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
YES = frozenset({"1", "1.0", "true", "yes"})
NEAR = 1e-3  # probabilities that were rounded to three digits still add up
LAST_WAVE = 2**63 - 1
NO = frozenset({"", "0", "0.0", "false", "no"})


@dataclass(frozen=True, slots=True)
class RowReward:
    """What came back for a row's decision."""

    kind: str
    value: float | None
    at_ms: int


def text_of(value: Any) -> str:
    """A value as text; empty for none."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def time_of(raw: RawRow, column: TimeColumn) -> int:
    """A time in milliseconds since 1970."""
    value = raw[column.column]
    if column.unit in PER_S:
        if isinstance(value, datetime):
            raise ValueError(f"{column.column} holds times, no numbers: remove `unit`")
        if isinstance(value, int) or re.fullmatch(r"[+-]?\d{1,20}", text_of(value)):
            return int(value) * 1000 // PER_S[column.unit]  # exact: a float has not enough digits
        return math.floor(number_of(column.column, value) * 1000 / PER_S[column.unit])
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(text_of(value))
        except ValueError:
            raise ValueError(f"{column.column} must be a time, got {text_of(value)!r}") from None
    if value.tzinfo is None:
        if column.unit != "iso-utc":
            raise ValueError(
                f"{column.column} must say its time zone, got {value}: set unit: iso-utc for UTC"
            )
        value = value.replace(tzinfo=UTC)
    return (value - EPOCH) // timedelta(milliseconds=1)


def number_of(name: str, value: Any) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise ValueError(f"{name} must be a number, got {text_of(value)!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")
    return number


def yes_of(name: str, value: Any) -> bool:
    """Whether a value says yes."""
    text = text_of(value).lower()
    if text in YES:
        return True
    if text in NO:
        return False
    raise ValueError(f"{name} must be 1 or 0, got {text!r}")


def reward_of(raw: RawRow, column: RewardColumn, decided_at_ms: int) -> RowReward | None:
    """What a column says came back; None for nothing."""
    given = raw[column.column]
    value: float | None = None
    if column.amount:
        value = number_of(column.column, given) if text_of(given) else 0.0
        if value == 0.0:
            return None
    else:
        try:
            if not yes_of(column.column, given):
                return None
        except ValueError as error:
            raise ValueError(f"{error}: for a sum, set amount: true") from None
    at_ms = decided_at_ms
    if column.time is not None:
        at_ms = time_of(raw, column.time)
        check_time(column.time.column, at_ms)
    return RowReward(column.kind, value, at_ms)


def propensity_of(raw: RawRow, column: str | None) -> float | None:
    """A probability in (0, 1]; None without a column."""
    if column is None:
        return None
    value = number_of(column, raw[column])
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{column} must lie in (0, 1], got {value}")
    return value


def probabilities_of(raw: RawRow, columns: Mapping[str, str], action: str) -> dict[str, float]:
    """Probabilities of the actions that could be taken, by action; they sum to 1 exactly."""
    odds = {}
    for name, column in columns.items():
        odds[name] = number_of(column, raw[column]) if text_of(raw[column]) else 0.0
        if not 0.0 <= odds[name] <= 1.0 + NEAR:
            raise ValueError(f"{column} must lie in [0, 1], got {odds[name]}")
    if action not in odds:
        raise ValueError(f"{action!r} is none of the actions whose probabilities are mapped")
    total = math.fsum(odds.values())
    if abs(total - 1.0) > NEAR:
        raise ValueError(f"probabilities must sum to 1 within {NEAR:g}, got {total:.6g}")
    if odds[action] == 0.0:
        raise ValueError(f"{columns[action]} is 0, but {action!r} was drawn")
    return {name: each / total for name, each in odds.items() if each > 0.0}


def wave_of(raw: RawRow, column: str | None) -> int:
    """Which version of the log's policy decided; -1 without a column."""
    if column is None:
        return -1
    text = text_of(raw[column])
    if not re.fullmatch(r"\d{1,19}", text) or int(text) > LAST_WAVE:
        raise ValueError(f"{column} must be a whole number of 0 or more, got {text!r}")
    return int(text)


def attribute_of(raw: RawRow, column: AttributeColumn) -> AttributeValue:
    """An attribute's value; None for none."""
    value = raw[column.column]
    if value is None or value == "":
        return None
    match column.type:
        case "number":
            return number_of(column.column, value)
        case "boolean":
            return yes_of(column.column, value)
        case "text":
            text = text_of(value)
            if len(text) > 4096:
                raise ValueError(f"{column.column} may have 4096 characters, got {len(text)}")
            return text
