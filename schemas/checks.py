"""The bounds that records hold themselves to, each with its message."""

import math
import re
from collections.abc import Iterable, Mapping

from schemas.errors import BadRecordError, CampaignError, GroundswellError, PropensityError

__all__ = [
    "LAST_TIME_MS",
    "check_finite",
    "check_name",
    "check_probabilities",
    "check_propensity",
    "check_share",
    "check_text",
    "check_time",
    "check_values",
]

LAST_TIME_MS = 253_402_300_800_000  # the year 10000: above it a time is microseconds
LONGEST_TEXT = 4096  # characters of an attribute's value
NEAR = 1e-3  # probabilities that were rounded to three digits still add up
SMALLEST = -(2**63)  # Avro's long
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_text(
    field: str, text: str, most: int, error: type[GroundswellError] = BadRecordError
) -> None:
    """A text of 1 to `most` bytes of UTF-8 without control characters."""
    if text.isascii() and text.isprintable() and 1 <= len(text) <= most:
        return  # nearly all: records are checked one by one as they come
    size = len(text.encode("utf-8", "surrogatepass"))  # half a pair is not printable, see below
    if not 1 <= size <= most:
        raise error(f"{field} must have 1 to {most} bytes, got {size}: shorten it or leave it out")
    if not text.isprintable():
        raise error(f"{field} must be printable text, got {text[:40]!r}: remove control characters")


def check_name(field: str, name: str) -> None:
    """A name that can stand in a key, a file name and a URL."""
    if not _NAME.fullmatch(name):
        raise CampaignError(
            f"{field} must be 1 to 128 letters, digits, dots, dashes or underscores, "
            f"got {name[:40]!r}: rename it"
        )


def check_time(field: str, at_ms: int) -> None:
    """A time in milliseconds between 1970 and the year 10000."""
    if not 0 <= at_ms < LAST_TIME_MS:
        raise BadRecordError(
            f"{field} must lie in [0, {LAST_TIME_MS}) milliseconds since 1970, "
            f"got {at_ms}: send UTC milliseconds"
        )


def check_finite(
    field: str, value: float | None, error: type[GroundswellError] = BadRecordError
) -> None:
    """A number that is neither NaN nor infinite, or nothing."""
    if value is not None and not math.isfinite(value):
        raise error(f"{field} must be a finite number, got {value}: leave it out instead")


def check_share(field: str, share: float) -> None:
    """A share between 0 and 1."""
    if not 0.0 <= share <= 1.0:
        raise CampaignError(f"{field} must lie in [0, 1], got {share}: 0.05 means 5 %")


def check_propensity(propensity: float | None) -> None:
    """A probability that something can have been drawn with."""
    if propensity is not None and not 0.0 < propensity <= 1.0:
        raise PropensityError(
            f"propensity must lie in (0, 1], got {propensity}: "
            "log the probability the action was drawn with"
        )


def check_probabilities(
    probabilities: Mapping[str, float], action: str, propensity: float | None
) -> None:
    """What an action was drawn from, by action: sums to 1, and holds the action's propensity."""
    if not probabilities:
        return
    least, total = min(probabilities.values()), math.fsum(probabilities.values())
    if not (least >= 0.0 and abs(total - 1.0) <= NEAR):  # nan fails
        raise PropensityError(
            f"probabilities must be 0 or more and sum to 1 within {NEAR:g}, got a sum of "
            f"{total:.6g} and {least:.6g} as the least: log those of all actions that could be "
            "taken"
        )
    mine = probabilities.get(action, 0.0)
    if propensity is None or not abs(mine - propensity) <= NEAR * propensity:
        raise PropensityError(
            f"probabilities give {action!r} {mine:.6g}, its propensity is {propensity}: "
            "log the probabilities that the action was drawn from"
        )


def check_values(field: str, values: Mapping[str, object], most: int) -> None:
    """Named values: finite numbers, texts and lists of texts, at most `most` of them."""
    if len(values) > most:
        raise BadRecordError(f"{field} may have {most} entries, got {len(values)}: send fewer")
    for name, value in values.items():
        if not (name.isascii() and name.isprintable() and 1 <= len(name) <= 128):
            check_text(f"name in {field}", name, 128)
        parts: Iterable[object] = value if isinstance(value, list) else (value,)
        for part in parts:
            if isinstance(part, str):
                if not (part.isascii() and len(part) <= LONGEST_TEXT):
                    _check_value_text(f"{field}.{name}", part)
            elif isinstance(part, float):
                if not math.isfinite(part):
                    check_finite(f"{field}.{name}", part)
            elif isinstance(part, int) and not SMALLEST <= part < -SMALLEST:
                raise BadRecordError(
                    f"{field}.{name} must fit 64 bits, got {part}: send it as a text"
                )


def _check_value_text(field: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise BadRecordError(
            f"{field} may have {LONGEST_TEXT} characters, got {len(text)}: shorten it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRecordError(
            f"{field} has half of a surrogate pair at {error.start}: send whole characters"
        ) from error
