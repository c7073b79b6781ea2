"""What a segment's conditions are made of: values read from a profile, and tests of them."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Protocol

__all__ = [
    "EQUALITY",
    "FUNCTIONS",
    "KINDS",
    "ORDER",
    "ORDERED",
    "AttributeValue",
    "ProfileView",
    "Test",
    "Value",
    "all_of",
    "any_of",
    "attribute",
    "comparison",
    "constant",
    "inclusion",
    "membership",
    "negated",
    "presence",
    "truth",
]

AttributeValue = None | bool | int | float | str | tuple[str, ...]

MS_PER_DAY = 86_400_000.0


class Attributes(Protocol):
    """Attributes by name."""

    def get(self, name: str, /) -> AttributeValue:
        """The value; None where it is missing."""
        ...


class ProfileView(Protocol):
    """What an expression may see of a profile."""

    @property
    def attributes(self) -> Attributes:
        """Attributes by name."""
        ...

    def event_count(self, event_type: str, /) -> int:
        """Events of a type that were counted."""
        ...

    def last_event_ms(self, event_type: str, /) -> int | None:
        """When the last one was, in milliseconds since 1970; None if there was none."""
        ...

    def reachable(self, channel: str, /) -> bool:
        """Whether a channel has an address and consent."""
        ...

    def unsubscribed(self, channel: str, /) -> bool:
        """Whether the user unsubscribed from a channel."""
        ...


Value = Callable[[ProfileView, int], AttributeValue]
Test = Callable[[ProfileView, int], bool]


KINDS: Mapping[type, str] = {
    bool: "yes/no",
    int: "number",
    float: "number",
    str: "text",
    tuple: "list",
}
ORDERED: Mapping[type, str] = {int: "number", float: "number", str: "text"}

EQUALITY: Mapping[type[ast.cmpop], Callable[[object, object], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
ORDER: Mapping[type[ast.cmpop], Callable[..., bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _events(name: str) -> Value:
    return lambda profile, _now_ms: profile.event_count(name)


def _days_since(name: str) -> Value:
    def value(profile: ProfileView, now_ms: int) -> float | None:
        last_ms = profile.last_event_ms(name)
        # an event may be a little ahead of the shard's clock
        return None if last_ms is None else max(0.0, (now_ms - last_ms) / MS_PER_DAY)

    return value


def _reachable(name: str) -> Value:
    return lambda profile, _now_ms: profile.reachable(name)


def _unsubscribed(name: str) -> Value:
    return lambda profile, _now_ms: profile.unsubscribed(name)


def attribute(name: str) -> Value:
    """An attribute's value, None where it is missing."""
    return lambda profile, _now_ms: profile.attributes.get(name)


def _is_set(name: str) -> Value:
    return lambda profile, _now_ms: profile.attributes.get(name) is not None


FUNCTIONS: Mapping[str, Callable[[str], Value]] = {
    "attribute": attribute,
    "days_since": _days_since,
    "events": _events,
    "is_set": _is_set,
    "reachable": _reachable,
    "unsubscribed": _unsubscribed,
}

OF_ATTRIBUTES = frozenset({"attribute", "is_set"})  # the functions whose name is an attribute's


def all_of(tests: list[Test]) -> Test:
    """Whether every test holds; those after the first that fails are not asked."""
    if len(tests) == 2:
        first, second = tests
        return lambda profile, now_ms: first(profile, now_ms) and second(profile, now_ms)

    def test(profile: ProfileView, now_ms: int) -> bool:
        for each in tests:  # noqa: SIM110 - a generator costs three times as much
            if not each(profile, now_ms):
                return False
        return True

    return test


def any_of(tests: list[Test]) -> Test:
    """Whether one of the tests holds; those after it are not asked."""

    def test(profile: ProfileView, now_ms: int) -> bool:
        for each in tests:  # noqa: SIM110 - as above
            if each(profile, now_ms):
                return True
        return False

    return test


def negated(inner: Test) -> Test:
    """Whether a test fails."""
    return lambda profile, now_ms: not inner(profile, now_ms)


def truth(value: Value) -> Test:
    """Whether a value is there and not false, nought or empty."""
    return lambda profile, now_ms: bool(value(profile, now_ms))


def constant(value: AttributeValue) -> Value:
    """The same value for everyone."""
    return lambda _profile, _now_ms: value


def presence(value: Value, expected: bool) -> Test:
    """Whether a value is there, or with ``expected`` False, whether it is missing."""
    return lambda profile, now_ms: (value(profile, now_ms) is not None) is expected


def comparison(
    left: Value,
    right: Value,
    compare: Callable[..., bool],
    kinds: Mapping[type, str],
) -> Test:
    """Compare two values of one kind; False where one is missing or they differ in kind."""

    def test(profile: ProfileView, now_ms: int) -> bool:
        a = left(profile, now_ms)
        kind = kinds.get(type(a))
        if kind is None:
            return False
        b = right(profile, now_ms)
        return kind == kinds.get(type(b)) and compare(a, b)

    return test


def membership(left: Value, elements: tuple[AttributeValue, ...], expected: bool) -> Test:
    """Whether a value is among the literals; False for one of another kind either way."""
    kinds = {KINDS[type(element)] for element in elements}
    members = frozenset((KINDS[type(element)], element) for element in elements)

    def test(profile: ProfileView, now_ms: int) -> bool:
        value = left(profile, now_ms)
        kind = KINDS.get(type(value))
        if kind is None or (kinds and kind not in kinds):
            return False
        return ((kind, value) in members) is expected

    return test


def inclusion(left: Value, right: Value, expected: bool) -> Test:
    """Whether a list attribute holds a text; False where it is no list either way."""

    def test(profile: ProfileView, now_ms: int) -> bool:
        listed = right(profile, now_ms)
        value = left(profile, now_ms)
        if type(listed) is not tuple or type(value) is not str:
            return False
        return (value in listed) is expected

    return test
