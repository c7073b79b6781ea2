"""YAML whose every value knows its file, line and field, so that an error can name them.

Values are read as they are written, not as YAML guesses: ``22:00`` is a time of day and no
number, ``no`` in a list of countries is Norway.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import yaml

from schemas.checks import LAST_TIME_MS
from schemas.errors import CampaignError

__all__ = ["Value", "load"]

MOST_BYTES = 1_000_000
DEEPEST = 16
LONGEST_MS = 10 * 365 * 86_400_000
YES_NO = {"yes": True, "true": True, "no": False, "false": False}
UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "value", "merge")
)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)")
_SHARE = re.compile(rf"({_NUMBER.pattern})\s*%")
_MINUTE = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value of the file.

    Attributes
    ----------
    field
        The path to it, such as ``baseline.share``; empty for the whole file.
    places
        Every value that was looked at, by field: shared by all values of the file.
    """

    node: yaml.Node
    file: str
    field: str
    places: dict[str, "Value"]

    @property
    def line(self) -> int:
        """The line that it starts on, from 1."""
        return int(self.node.start_mark.line) + 1

    def error(self, problem: str) -> CampaignError:
        """An error about this value."""
        return self.error_at(f"{self.field or 'the file'} {problem}")

    def error_at(self, message: str) -> CampaignError:
        """An error at this value whose message names the field itself."""
        line = "".join(c if c.isprintable() else " " for c in message)
        return CampaignError(f"{self.file}:{self.line}: {line}")

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys of its own."""
        return isinstance(self.node, yaml.MappingNode)

    def pairs(self) -> dict[str, "Value"]:
        """The values of a mapping with free names."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"must have keys and values, got {self._got()}: write key: value")
        found: dict[str, Value] = {}
        for key, node in self.node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(f"has a key on line {key.start_mark.line + 1} that is no text")
            value = self._child(f"{self.field}.{key.value}" if self.field else key.value, node)
            if key.value in found:
                at = Value(node=key, file=self.file, field=value.field, places=self.places)
                raise at.error(
                    f"stands here again, first on line {found[key.value].line}: keep one of them"
                )
            found[key.value] = value
        return found

    def entries(self, known: Sequence[str], required: Sequence[str] = ()) -> dict[str, "Value"]:
        """The values of a mapping that may have these keys and no others."""
        found = self.pairs()
        for name, value in found.items():
            if name not in known:
                where = f" of {self.field}" if self.field else ""
                keys = {key.value: key for key, _ in self.node.value}
                at = Value(node=keys[name], file=self.file, field=name, places=self.places)
                raise at.error_at(f"{value.field} is no key{where}: {_nearest(name, known)}")
        for name in required:
            if name not in found:
                raise self.error(f"lacks the key {name}: add it")
        return found

    def items(self, name_key: str | None = None) -> list["Value"]:
        """The values of a list; fields are named by a key of each item, or by their number."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"must be a list, got {self._got()}: write [a, b]")
        return [
            self._child(f"{self.field}.{_name_of(node, name_key) or number}", node)
            for number, node in enumerate(self.node.value, 1)
        ]

    def text(self) -> str:
        """A text, as it is written."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error(f"must be a text, got {self._got()}")
        if self.node.tag.endswith(":null"):
            raise self.error("is empty: give it a value, or remove the line")
        return str(self.node.value)

    def number(self, low: float | None = None, high: float | None = None) -> float:
        """A number within inclusive bounds."""
        text = self.text()
        if not _NUMBER.fullmatch(text):
            raise self.error(f"must be a number, got {text!r}{_bounds(low, high)}")
        value = float(text)
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or abs(value) == float("inf"):
            raise self.error(f"must be a number, got {text}{_bounds(low, high)}")
        return value

    def integer(self, low: int, high: int) -> int:
        """A whole number within inclusive bounds."""
        value = self.number(low, high)
        if value != int(value):
            raise self.error(f"must be a whole number, got {self.text()}{_bounds(low, high)}")
        return int(value)

    def share(self) -> float:
        """A share of a whole: ``5 %`` or ``0.05``."""
        text = self.text()
        percent = _SHARE.fullmatch(text)
        number = percent[1] if percent else text
        if not _NUMBER.fullmatch(number):
            raise self.error(f"must be a share, got {text!r}: write 5 % or 0.05")
        value = float(number) / 100 if percent else float(number)
        if not 0.0 <= value <= 1.0:
            raise self.error(f"must lie in 0 to 1 (0 % to 100 %), got {text}: write 5 % or 0.05")
        return value

    def duration_ms(self, least_ms: int = 1) -> int:
        """A duration such as ``500ms``, ``4s``, ``5m``, ``2h`` or ``7d``, in milliseconds."""
        text = self.text()
        found = _DURATION.fullmatch(text)
        if found is None:
            raise self.error(
                f"must be a duration, got {text!r}: write a number and ms, s, m, h or d: 2h"
            )
        value_ms = round(float(found[1]) * UNITS_MS[found[2]])
        if not least_ms <= value_ms <= LONGEST_MS:
            raise self.error(f"must lie in {least_ms}ms to 3650d, got {text}: write one such as 2h")
        return value_ms

    def time_ms(self) -> int:
        """A time such as ``2026-11-22T09:00:00Z``, in milliseconds since 1970."""
        text = self.text()
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise self.error(
                f"must be a time, got {text!r}: write it like 2026-11-22T09:00:00Z"
            ) from None
        if time.tzinfo is None:
            raise self.error(
                f"must say its time zone, got {text!r}: write {time.isoformat()}Z for UTC"
            )
        at_ms = int(time.timestamp() * 1000)
        if not 0 <= at_ms < LAST_TIME_MS:
            raise self.error(f"must lie after 1970, got {text}: write it like 2026-11-22T09:00:00Z")
        return at_ms

    def minute_of_day(self) -> int:
        """A time of day such as ``22:00``, as a minute from 0 to 1439."""
        text = self.text()
        found = _MINUTE.fullmatch(text)
        if found is None:
            raise self.error(
                f"must be a time of day from 00:00 to 23:59, got {text!r}: write 22:00"
            )
        return int(found[1]) * 60 + int(found[2])

    def yes(self) -> bool:
        """A yes or no."""
        text = self.text().lower()
        if text not in YES_NO:
            raise self.error(f"must be yes or no, got {self.text()!r}")
        return YES_NO[text]

    def plain(self) -> bool | int | float | str | list[str]:
        """A yes/no, a number, a text or a list of texts, whichever it is written as."""
        if isinstance(self.node, yaml.SequenceNode):
            return [item.text() for item in self.items()]
        text = self.text()
        if getattr(self.node, "style", None) in ("'", '"', "|", ">"):
            return text
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if re.fullmatch(r"[+-]?\d{1,18}", text):
            return int(text)
        return float(text) if _NUMBER.fullmatch(text) else text

    def _child(self, field: str, node: yaml.Node) -> "Value":
        child = Value(node=node, file=self.file, field=field, places=self.places)
        if node.tag not in PLAIN_TAGS:
            raise child.error(f"has the tag {node.tag}: write the plain value")
        self.places.setdefault(field, child)
        return child

    def _got(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "keys and values"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else repr(self.node.value)[:60]


def load(raw: bytes, file: str) -> Value:
    """The document of a YAML file. Nothing in it is executed, expanded or guessed.

    Raises
    ------
    CampaignError
        If it is no YAML, too large, too deep, or uses aliases: with the line.
    """
    if len(raw) > MOST_BYTES:
        raise CampaignError(
            f"{file}:1: the file may have {MOST_BYTES} bytes, got {len(raw)}: name a long audience "
            "with users_file"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise CampaignError(f"{file}:{line}: the file is not UTF-8: save it as UTF-8") from None
    try:
        _refuse_bombs(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise CampaignError(
            f"{file}:{mark.line + 1 if mark else 1}: not YAML: {problem}: "
            "check the indentation, quotes and colons there"
        ) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        first = str(error).splitlines()[0]
        line = next((n for n, row in enumerate(text.split("\n"), 1) if not _clean(row)), 1)
        raise CampaignError(f"{file}:{line}: not YAML: {first}: remove the character") from None
    if node is None:
        raise CampaignError(f"{file}:1: the file is empty: write campaign: NAME and templates")
    places: dict[str, Value] = {}
    return Value(node=node, file=file, field="", places=places)


def _refuse_bombs(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1  # type: ignore[union-attr] # events of a text have marks
        if isinstance(event, yaml.AliasEvent):
            raise CampaignError(f"{file}:{line}: aliases (*name) are not taken: write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise CampaignError(
                f"{file}:{line}: nested more than {DEEPEST} deep: no field is: remove brackets"
            )


def _clean(row: str) -> bool:
    return all(character.isprintable() or character in "\t\r\x85" for character in row)


def _name_of(node: yaml.Node, name_key: str | None) -> str | None:
    if name_key is None or not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == name_key and isinstance(value, yaml.ScalarNode):
            return str(value.value)
    return None


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ": write one such as 1 or 0.5"
    return f": write one from {low:g} to {high:g}"


def _nearest(word: str, words: Iterable[str]) -> str:
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known)}"
