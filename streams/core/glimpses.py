"""Profiles as deciding reads them: no more of one than a campaign asks for.

Of a profile with many attributes that is a third of the work of reading it, and of its memory.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, ClassVar, cast

import msgspec

from streams.core.profiles import Profile
from streams.core.segments import AttributeValue

__all__ = ["Attributes", "Glimpse", "glimpse_of"]

KEPT = 64  # kinds of glimpses: one for what is read by campaigns alike


class Glimpse(Profile, array_like=True, gc=False):
    """A profile of which what only folding needs stays bytes."""

    attributes_at: msgspec.Raw = msgspec.Raw()  # type: ignore[assignment]
    contacts_at: msgspec.Raw = msgspec.Raw()  # type: ignore[assignment]
    seen: msgspec.Raw = msgspec.Raw()  # type: ignore[assignment]


class Attributes(msgspec.Struct, gc=False):
    """Some attributes, to be asked for by name as a mapping's are."""

    FIELDS: ClassVar[dict[str, str]] = {}  # by name of an attribute

    def get(self, name: str) -> AttributeValue:
        """An attribute's value; None where it is missing.

        Raises
        ------
        KeyError
            If it was not to be read.
        """
        value: AttributeValue = getattr(self, self.FIELDS[name])
        return value

    @classmethod
    def rows(cls, names: Sequence[str]) -> Callable[[Any], tuple[AttributeValue, ...]]:
        """What gives the values of two or more names at once."""
        return attrgetter(*(cls.FIELDS[name] for name in names))


def glimpse_of(names: Iterable[str]) -> type[Profile]:
    """A profile of which these attributes are read; what others it has is passed over."""
    return _glimpse_of(tuple(sorted(set(names))))


@lru_cache(KEPT)
def _glimpse_of(names: tuple[str, ...]) -> type[Profile]:
    fields = {name: f"f{rank}" for rank, name in enumerate(names)}
    attributes = msgspec.defstruct(
        "Attributes",
        [(field, AttributeValue, None) for field in fields.values()],
        bases=(Attributes,),
        namespace={"FIELDS": fields},
        rename={field: name for name, field in fields.items()},
        gc=False,
    )
    found = msgspec.defstruct(
        "Glimpse",
        [("attributes", attributes, msgspec.field(default_factory=attributes))],
        bases=(Glimpse,),
        array_like=True,
        gc=False,
    )
    return cast("type[Profile]", found)
