"""What a policy can be set to: type, bounds, default and one line of meaning for each parameter."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.errors import PolicyError

__all__ = ["Parameter", "ParameterValue", "checked", "nearest"]

ParameterValue = float | int | str | bool | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a policy.

    Attributes
    ----------
    name
        As in a campaign's definition.
    kind
        What its value must be; an int is taken where a float is asked for, a bool never is.
    default
        The value where a campaign gives none.
    low, high
        Inclusive bounds of a number; ignored for the other kinds.
    choices
        The words that a ``str`` can be; empty where any will do.
    doc
        One line for the person who sets it.
    """

    name: str
    kind: Literal["float", "int", "bool", "str", "list"]
    default: ParameterValue
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    doc: str

    def check(self, policy: str, value: object) -> ParameterValue:
        """Give ``value`` in this parameter's own type.

        Raises
        ------
        PolicyError
            If it is of another type, not finite, or out of bounds.
        """
        field = f"policy {policy!r}, parameter {self.name!r}"
        match self.kind, value:
            case "bool", bool():
                return value
            case "str", str():
                if self.choices and value not in self.choices:
                    raise PolicyError(
                        f"{field} cannot be {value!r}: {nearest(value, self.choices)}"
                    )
                return value
            case "list", list() | tuple() if all(isinstance(item, str) for item in value):
                return list(value)
            case (("int" | "float"), bool()):
                pass
            case "int", int():
                return self._within(field, value)
            case "float", (float() | int()):
                return float(self._within(field, value))
        wanted = "a list of words" if self.kind == "list" else f"of type {self.kind}"
        raise PolicyError(
            f"{field} must be {wanted}, got {value!r}: "
            f"give one such as {self.default!r} ({self.doc})"
        )

    def _within(self, field: str, value: float) -> float:
        # nan fails both comparisons; an infinity is none of a campaign's settings
        if not (self.low <= value <= self.high) or math.isinf(value):
            raise PolicyError(
                f"{field} must lie in [{self.low:g}, {self.high:g}], got {value!r}: "
                f"the default is {self.default!r} ({self.doc})"
            )
        return value


def nearest(word: str, words: Iterable[str]) -> str:
    """Say which of ``words`` was probably meant, for the end of an error message.

    >>> nearest("unifrom", ["fixed", "uniform"])
    "did you mean 'uniform'?"
    >>> nearest("q", ["fixed", "uniform"])
    'give one of fixed, uniform'
    """
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"give one of {', '.join(known)}" if known else "there are none: leave it out"


def checked(
    policy: str, known: Sequence[Parameter], given: Mapping[str, object]
) -> dict[str, ParameterValue]:
    """Check the parameters that were given and add the defaults of the others.

    Parameters
    ----------
    policy
        The policy's name, for messages.
    known
        The parameters that it has.
    given
        Names and values as they stand in a campaign's definition.

    Raises
    ------
    PolicyError
        If a name is unknown, or a value is of the wrong type or out of bounds.
    """
    names = [parameter.name for parameter in known]
    for name in given:
        if name not in names:
            raise PolicyError(
                f"policy {policy!r} has no parameter {name!r}: {nearest(str(name), names)}"
            )
    return {
        parameter.name: parameter.check(policy, given.get(parameter.name, parameter.default))
        for parameter in known
    }
