"""What an encoder is trained on: one row a decision, as a Parquet file holds it.

A row has no user id and no contact reference, only what the user was like at the decision and
what came of it. ``groundswell encoder dataset`` writes the file from the topics.
"""

from typing import Final

import msgspec

from schemas.errors import EncoderError
from schemas.features import PlainProfile

__all__ = ["COLUMNS", "TrainingRow", "profile_from_text", "profile_to_text"]

# Column by Arrow type. Labels are empty where nobody can know them.
COLUMNS: Final = {
    "at_ms": "int64",  # when it was decided
    "profile": "string",  # `PlainProfile` as JSON
    "action": "string",  # the template
    "clicked": "float",  # 0 or 1: within the attribution window
    "purchased": "float",
    "unsubscribed": "float",
    "next_event": "string",  # type of the user's first event after it; "" for none
}


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """One decision."""

    at_ms: int
    profile: PlainProfile
    action: str
    clicked: float | None = None
    purchased: float | None = None
    unsubscribed: float | None = None
    next_event: str | None = None


_decode = msgspec.json.Decoder(PlainProfile).decode


def profile_to_text(profile: PlainProfile) -> str:
    """A profile as a file holds it."""
    return msgspec.json.encode(profile, order="sorted").decode()


def profile_from_text(text: str) -> PlainProfile:
    """A profile from a file.

    Raises
    ------
    EncoderError
        If it is none.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise EncoderError(f"not a profile: {error}; got {text[:60]!r}") from error
