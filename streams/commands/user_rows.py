"""Rows of a company's file of people to profile events."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import BadRecordError, MappingError
from schemas.hashing import fallback_id
from schemas.ids import AttributeValue
from schemas.records import UserEvent
from streams.core.policies.parameters import nearest

__all__ = ["BadRow", "Columns", "People", "Row"]

USER: Final = "user_id"
CONTACT: Final = "contact."
LEFT_OUT: Final = "-"
LIST_MARK: Final = "|"
PROFILE: Final = "profile"
_INT = re.compile(r"-?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_BOOLS = {"true": True, "false": False}
_FITS = 1 << 63

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that makes no event, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a file mean.

    Attributes
    ----------
    mapped
        Column to ``user_id``, ``contact.CHANNEL``, the name of an attribute, or ``-`` (left out).
        A column that is not here means what it is called.
    lists
        Columns of texts joined by ``|``.
    texts
        Columns that stay texts, whatever they look like.
    """

    mapped: Mapping[str, str] = field(default_factory=dict)
    lists: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def target(self, column: str) -> str:
        """What a column means."""
        return self.mapped.get(column, column)


class People:
    """A file of people: CSV with a header, or JSON lines.

    Parameters
    ----------
    at_ms
        The time that the file speaks of: of two values of an attribute the later one stays.

    Raises
    ------
    MappingError
        If the file cannot be read, has no column for the user id, or lacks a column that is named.
    """

    def __init__(self, path: Path, columns: Columns, at_ms: int) -> None:
        self._path = path
        self._columns = columns
        self._at_ms = at_ms
        self._kinds: dict[str, str] = {}
        try:
            self.size = path.stat().st_size
            self._is_csv = _is_csv(path)
            if self._is_csv:
                self._kinds = self._find_kinds()
        except OSError as error:
            raise MappingError(f"{path} cannot be read: {error.strerror}: check the path") from None

    def events(self) -> Iterator[UserEvent | BadRow]:
        """An event or a reason for each row, in the file's order; each call reads anew."""
        for line, row in self._csv_rows() if self._is_csv else self._json_rows():
            if isinstance(row, str):
                yield BadRow(line=line, reason=row)
                continue
            try:
                yield self._event(row)
            except BadRecordError as error:
                yield BadRow(line=line, reason=str(error))

    def _event(self, row: Row) -> UserEvent:
        user: str | None = None
        attributes: dict[str, AttributeValue] = {}
        contacts: dict[str, str | None] = {}
        for column, given in row.items():
            target = self._columns.target(column)
            if target == LEFT_OUT:
                continue
            if target == USER:
                user = _user(given)
            elif target.startswith(CONTACT):
                contacts[target.removeprefix(CONTACT)] = _contact(column, given)
            else:
                value = self._typed(column, given) if self._is_csv else self._split(column, given)
                attributes[target] = _checked(column, value)
        if user is None:
            raise BadRecordError("user_id is missing: name the person")
        content = msgspec.json.encode((sorted(attributes.items()), sorted(contacts.items())))
        return UserEvent(
            user_id=user,
            type=PROFILE,
            occurred_at_ms=self._at_ms,
            event_id=fallback_id(user, self._at_ms, content.decode()),
            attributes=attributes,
            contacts=contacts,
        )

    # ---- JSON lines

    def _json_rows(self) -> Iterator[tuple[int, Row | str]]:
        with self._path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if not raw.strip():
                    continue
                try:
                    row = msgspec.json.decode(
                        raw.removeprefix(b"\xef\xbb\xbf"), type=dict[str, Any]
                    )
                except msgspec.MsgspecError as error:
                    yield number, f"no JSON object ({error}): write one object a line"
                    continue
                yield number, row

    def _split(self, column: str, given: object) -> object:
        if column in self._columns.lists and isinstance(given, str):
            return _parts(given)
        return str(given) if column in self._columns.texts and given is not None else given

    # ---- CSV

    def _csv_rows(self) -> Iterator[tuple[int, Row | str]]:
        """Rows without their empty cells, which say nothing."""
        with self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            header = self._header(reader)
            while True:
                line = reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield line, f"no CSV ({error}): close the quotes, double those within"
                    continue
                if len(cells) != len(header) and cells:
                    yield line, f"has {len(cells)} cells, the header has {len(header)}: fill it up"
                elif any("\ud800" <= letter <= "\udfff" for cell in cells for letter in cell):
                    yield line, "is not UTF-8: save the file as UTF-8"
                elif cells:
                    filled = zip(header, map(str.strip, cells), strict=True)
                    yield line, {column: cell for column, cell in filled if cell}

    def _header(self, reader: Iterator[list[str]]) -> list[str]:
        header: list[str] = []
        with suppress(StopIteration, csv.Error):
            header = [name.strip() for name in next(reader)]
        named = {*self._columns.mapped, *self._columns.lists, *self._columns.texts}
        for name in sorted(named - set(header)):
            raise MappingError(f"{self._path} has no column {name!r}: {nearest(name, header)}")
        targets = [self._columns.target(name) for name in header]
        taken = [target for target in targets if target != LEFT_OUT]
        if twice := sorted({target for target in taken if taken.count(target) > 1}):
            raise MappingError(f"{self._path}: two columns mean {twice[0]!r}: map one to -")
        if not all(targets):
            raise MappingError(f"{self._path}: a column has no name: give it one in the first line")
        if USER not in targets:
            raise MappingError(
                f"{self._path} has no column user_id, but {', '.join(header)[:80] or 'none'}: say "
                "which one it is with --map COLUMN=user_id"
            )
        return header

    def _find_kinds(self) -> dict[str, str]:
        """The narrowest type that takes every cell of a column, by column."""
        kinds: dict[str, str] = {}
        for _, row in self._csv_rows():
            if isinstance(row, str):
                continue
            for column, cell in row.items():
                known = kinds.get(column)
                if known != "text":
                    kind = _kind(cell)
                    kinds[column] = kind if known is None else _wider(known, kind)
        return kinds

    def _typed(self, column: str, cell: str) -> AttributeValue:
        if column in self._columns.lists:
            return _parts(cell)
        if column in self._columns.texts:
            return cell
        match self._kinds[column]:
            case "bool":
                return _BOOLS[cell.lower()]
            case "int":
                return int(cell)
            case "float":
                return float(cell)
            case _:
                return cell


def _is_csv(path: Path) -> bool:
    match path.suffix.lower():
        case ".csv":
            return True
        case ".jsonl" | ".ndjson" | ".json":
            return False
        case suffix:
            raise MappingError(
                f"{path} is called {suffix or 'without an ending'}: name it .csv, or .jsonl (one "
                "JSON object a line)"
            )


def _kind(cell: str) -> str:
    if cell.lower() in _BOOLS:
        return "bool"
    if _INT.fullmatch(cell):
        return "int"
    return "float" if _FLOAT.fullmatch(cell) else "text"


def _wider(one: str, other: str) -> str:
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "text"


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(LIST_MARK) if part.strip()]


def _user(given: object) -> str | None:
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return None


def _contact(column: str, given: object) -> str | None:
    if given is None or (isinstance(given, str) and given):
        return given
    raise BadRecordError(f"{column} must be a text, got {given!r:.60}: null removes a contact")


def _checked(column: str, value: object) -> AttributeValue:
    if isinstance(value, int) and not -_FITS <= value < _FITS:
        raise BadRecordError(f"{column} must fit 64 bits, got {value!r:.60}: write it as a text")
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(part, str) for part in value):
            return list(value)
    elif value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadRecordError(
        f"{column} must be a text, a number, true or false or a list of texts, got {value!r:.60}: "
        "give each value a column of its own"
    )
