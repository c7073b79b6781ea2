"""The YAML that says what a log's columns mean, with errors that name its line.

::

    campaign: men                 # a name for what the log becomes
    time: timestamp               # a column of ISO 8601 times
    action: item_id               # a column: what was shown or sent
    rewards: [{column: click}]    # columns: what came back for it
    propensity: {column: score}   # the probability that the action was drawn with

These five must be there. All keys:

======================  ====================================================================
key                     what it says, and what it is where it is absent
======================  ====================================================================
``campaign``            name of the campaign that the log is replayed as
``format``              ``csv`` (also gzip), ``parquet`` or ``avro``; absent: by the name
``time``                a column, or ``{column, unit}``; units: ``iso`` (with a time zone),
                        ``iso-utc`` (UTC where none is given), ``s``, ``ms``, ``us``, ``ns``
``user``                a column; a list of columns, hashed together, where the log has no
                        user id; absent or ``row``: every row is a user of its own
``action``              a column
``rewards``             list of ``{column, kind, weight, amount, time}``: `kind` is the
                        column's name, `weight` 1, `amount` false (the column is yes or no;
                        true: a sum, each unit earns the weight), `time` the decision's
``propensity``          ``{column: NAME}``; ``estimate`` or ``{estimate: [COLUMNS]}``, from
                        how often each action was taken, where these columns are equal;
                        ``unknown``: the policy is learned, but cannot be valued;
                        ``{columns: {ACTION: COLUMN, ...}, wave: COLUMN}``, a column for each
                        action, 0 or empty where it could not be taken, and one that tells
                        apart the versions of a policy that learned while the log was made:
                        its intervals are right then too
``attributes``          name to a type (``text``, ``number``, ``boolean``) of the column of
                        that name, or to ``{column, type}``; absent: none
``context``             what the policy sees of the attributes, as in a campaign; absent:
                        nothing
``templates``           ``actions``: each action by itself; else ``{file, id, numbers, words}``:
                        a CSV beside the mapping with a line an action: the column of its
                        id, columns of numbers, and columns of words, each a feature
``where``               column to a value or a list: only these rows are read
``event``               every row is an event of this type about its user too; absent: none
``policy``              as in a campaign; ``adaptive-thompson``
``attribution_window``  24h: feedback later than that does not count
``split``               70 %: this share by time is learned from, the rest is held out
``bad_rows``            1 %: with more unreadable rows the log is refused
======================  ====================================================================
"""

import csv
import math
from pathlib import Path
from typing import Any

import yaml

from schemas.campaign import Template
from schemas.checks import check_name
from schemas.errors import GroundswellError, MappingError
from schemas.ids import TIME_MARKER
from streams.commands.campaign_file import read_context, read_policy
from streams.commands.marked_yaml import Value, load
from streams.simulation.log_mapping import (
    ESTIMATED,
    GIVEN,
    UNKNOWN,
    AttributeColumn,
    AttributeType,
    LogMapping,
    Propensities,
    RewardColumn,
    TimeColumn,
    TimeUnit,
)

__all__ = ["parse_mapping", "read_mapping"]

KEYS = (
    "campaign",
    "format",
    "time",
    "user",
    "action",
    "rewards",
    "propensity",
    "attributes",
    "context",
    "templates",
    "where",
    "event",
    "policy",
    "attribution_window",
    "split",
    "bad_rows",
)
REQUIRED = ("campaign", "time", "action", "rewards", "propensity")
UNITS = ("iso", "iso-utc", "s", "ms", "us", "ns")
TYPES = ("text", "number", "boolean")
CHANNEL = "log"
DAY_MS = 86_400_000


def read_mapping(path: Path) -> LogMapping:
    """The mapping of a file.

    Raises
    ------
    MappingError
        One line with file, line, field, value, bound and cure.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}: check the path") from None
    return parse_mapping(raw, str(path), path.parent)


def parse_mapping(raw: bytes, file: str, folder: Path) -> LogMapping:
    """As `read_mapping`, from bytes.

    Parameters
    ----------
    file
        Its name, for errors.
    folder
        Where a relative file of templates is looked for.
    """
    try:
        return _mapping(load(raw, file), file, folder)
    except MappingError:
        raise
    except GroundswellError as error:
        raise MappingError(str(error)) from None


class _Columns:
    """Reads names of columns, and remembers where they stand."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def __call__(self, value: Value) -> str:
        name = value.text()
        self.places.setdefault(name, f"{value.file}:{value.line}: {value.field}")
        return name

    def named(self, name: str, value: Value) -> str:
        """A column that is a key."""
        self.places.setdefault(name, f"{value.file}:{value.line}: {value.field}")
        return name


def _mapping(root: Value, file: str, folder: Path) -> LogMapping:
    given = root.entries(KEYS, REQUIRED)
    column = _Columns()
    name = given["campaign"].text()
    try:
        check_name("campaign", name)
    except GroundswellError as error:
        raise given["campaign"].error_at(str(error)) from None
    attributes = _attributes(given.get("attributes"), column)
    propensity = _propensity(given["propensity"], column)
    templates = _templates(given.get("templates"), folder)
    _check_actions(given["propensity"], propensity, templates)
    context = read_context(given.get("context"))
    _check_context(given.get("context"), {attribute.name for attribute in attributes})
    policy, params = read_policy(given.get("policy"))
    return LogMapping(
        name=name,
        file=file,
        format=_one_of(given["format"], ("csv", "parquet", "avro")) if "format" in given else None,
        time=_time(given["time"], column),
        user=_user(given.get("user"), column),
        action=column(given["action"]),
        rewards=_rewards(given["rewards"], column),
        propensity=propensity,
        attributes=attributes,
        context=tuple(context),
        templates=templates,
        where=_where(given.get("where"), column),
        event=_event(given.get("event")),
        policy=policy,
        policy_params=params,
        attribution_window_ms=(
            given["attribution_window"].duration_ms() if "attribution_window" in given else DAY_MS
        ),
        split=_split(given.get("split")),
        bad_rows=given["bad_rows"].share() if "bad_rows" in given else 0.01,
        places=column.places,
    )


def _time(value: Value, column: _Columns) -> TimeColumn:
    if not value.is_mapping:
        return TimeColumn(column=column(value))
    given = value.entries(("column", "unit"), required=("column",))
    unit: TimeUnit = _one_of(given["unit"], UNITS) if "unit" in given else "iso"
    return TimeColumn(column=column(given["column"]), unit=unit)


def _user(value: Value | None, column: _Columns) -> tuple[str, ...]:
    if value is None:
        return ()
    if not _is_list(value):
        return () if value.text() == "row" else (column(value),)
    items = value.items()
    if not items:
        raise value.error("names no column: name one, or write row for a user a row")
    return tuple(column(item) for item in items)


def _rewards(value: Value, column: _Columns) -> tuple[RewardColumn, ...]:
    items = value.items(name_key="column")
    if not items:
        raise value.error("names no column: a log without rewards teaches nothing")
    rewards: list[RewardColumn] = []
    for item in items:
        given = item.entries(("column", "kind", "weight", "amount", "time"), required=("column",))
        kind = given["kind"] if "kind" in given else given["column"]
        if kind.text() in {reward.kind for reward in rewards}:
            raise kind.error(f"{kind.text()!r} stands twice: give each reward a kind of its own")
        if kind.text() == TIME_MARKER:
            raise kind.error(f"{TIME_MARKER} is reserved: name the reward otherwise")
        rewards.append(
            RewardColumn(
                column=column(given["column"]),
                kind=kind.text(),
                weight=given["weight"].number() if "weight" in given else 1.0,
                amount=_flag(given.get("amount")),
                time=_time(given["time"], column) if "time" in given else None,
            )
        )
    return tuple(rewards)


def _propensity(value: Value, column: _Columns) -> Propensities:
    cure = (
        "write {column: NAME}, {columns: {ACTION: COLUMN, ...}, wave: COLUMN}, estimate, "
        "{estimate: [COLUMNS]} or unknown"
    )
    if value.is_mapping:
        given = value.entries(("column", "columns", "wave", "estimate"))
        if len(given.keys() - {"wave"}) != 1 or ("wave" in given and "columns" not in given):
            raise value.error(f"must have one of column, columns and estimate: {cure}")
        if "columns" in given:
            named = {action: column(item) for action, item in given["columns"].pairs().items()}
            if not named:
                raise given["columns"].error(f"names no column: {cure}")
            wave = column(given["wave"]) if "wave" in given else None
            return Propensities(kind=GIVEN, columns=named, wave=wave)
        if "column" in given:
            return Propensities(kind=GIVEN, column=column(given["column"]))
        by = given["estimate"].items()
        return Propensities(kind=ESTIMATED, by=tuple(column(item) for item in by))
    match value.text():
        case "estimate":
            return Propensities(kind=ESTIMATED)
        case "unknown":
            return Propensities(kind=UNKNOWN)
        case other:
            raise value.error(f"is {other!r}: {cure}")


def _check_actions(
    value: Value, propensity: Propensities, templates: tuple[Template, ...] | None
) -> None:
    """Probabilities are of the templates, where these are named."""
    if templates is None:
        return
    known = {template.id for template in templates}
    for action in propensity.columns:
        if action not in known:
            raise value.error(
                f"names action {action!r}, which is none of the {len(known)} templates"
            )


def _attributes(value: Value | None, column: _Columns) -> tuple[AttributeColumn, ...]:
    attributes = []
    for name, item in ({} if value is None else value.pairs()).items():
        kind, named = item, name
        if item.is_mapping:
            given = item.entries(("column", "type"))
            kind = given.get("type", item)
            named = column(given["column"]) if "column" in given else name
        column.named(named, item)
        of: AttributeType = "text" if kind.is_mapping else _one_of(kind, TYPES)
        attributes.append(AttributeColumn(name=name, column=named, type=of))
    return tuple(attributes)


def _check_context(value: Value | None, attributes: set[str]) -> None:
    """What the context names must be in the log."""
    for item in [] if value is None else value.items():
        given = item.pairs()
        if "event" in given:
            raise given["event"].error("is not there in a log: map a column and name it attribute")
        name = given["attribute"].text()
        if name not in attributes:
            raise given["attribute"].error(
                f"{name!r} is none of the attributes ({', '.join(sorted(attributes)) or 'none'}): "
                "add it to them"
            )


def _templates(value: Value | None, folder: Path) -> tuple[Template, ...] | None:
    if value is None or (not value.is_mapping and value.text() == "actions"):
        return None
    given = value.entries(("file", "id", "numbers", "words"), required=("file", "id"))
    path = folder / given["file"].text()
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise given["file"].error(f"{path} cannot be read: {error.strerror}: check it") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise given["file"].error(f"{path} is no CSV in UTF-8 ({error}): save it as one") from None
    if not rows:
        raise given["file"].error(f"{path} has no action: write a line for each")
    wanted = {kind: given[kind].items() if kind in given else [] for kind in ("numbers", "words")}
    for name in (given["id"], *wanted["numbers"], *wanted["words"]):
        if name.text() not in rows[0]:
            raise name.error(f"{name.text()!r} is no column of {path}: it has {', '.join(rows[0])}")
    templates: list[Template] = []
    for number, row in enumerate(rows, 2):
        action = (row[given["id"].text()] or "").strip()
        try:
            features = {
                **{
                    name.text(): _number(row[name.text()], name.text())
                    for name in wanted["numbers"]
                },
                **{f"{name.text()}={row[name.text()]}": 1.0 for name in wanted["words"]},
            }
            templates.append(Template(id=action, channel=CHANNEL, features=features))
        except (GroundswellError, ValueError) as error:
            raise given["file"].error(f"{path}:{number}: {error}") from None
    if len({template.id for template in templates}) < len(templates):
        raise given["id"].error(f"{given['id'].text()!r} is not another on every line of {path}")
    return tuple(templates)


def _number(text: Any, name: str) -> float:
    try:
        number = float(text)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, got {text!r}: mend it, or name it in words")
    return number


def _where(value: Value | None, column: _Columns) -> dict[str, frozenset[str]]:
    where = {}
    for name, item in ({} if value is None else value.pairs()).items():
        values = [each.text() for each in item.items()] if _is_list(item) else [item.text()]
        where[column.named(name, item)] = frozenset(values)
    return where


def _event(value: Value | None) -> str | None:
    if value is None:
        return None
    if value.text() == TIME_MARKER:
        raise value.error(f"{TIME_MARKER} is reserved: name the event otherwise")
    return value.text()


def _split(value: Value | None) -> float:
    if value is None:
        return 0.7
    share = value.share()
    if not 0.0 < share < 1.0:
        raise value.error(f"must lie between 0 and 1, got {value.text()}: 70 % is usual")
    return share


def _one_of(value: Value, known: tuple[str, ...]) -> Any:
    if value.text() not in known:
        raise value.error(f"must be one of {', '.join(known)}, got {value.text()!r}")
    return value.text()


def _flag(value: Value | None) -> bool:
    if value is None:
        return False
    return bool(_one_of(value, ("true", "false")) == "true")


def _is_list(value: Value) -> bool:
    return isinstance(value.node, yaml.SequenceNode)
