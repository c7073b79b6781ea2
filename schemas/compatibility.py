"""The gate for schemas: FULL_TRANSITIVE against every release, before anything is published.

Each release reads what each other one wrote: `python -m schemas.compatibility`, in `make check`.
A release leaves its schemas behind with `python -m schemas.compatibility --release VERSION`.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import avro.schema
import fastavro
from avro.compatibility import (
    ReaderWriterCompatibilityChecker,
    SchemaCompatibilityResult,
    SchemaCompatibilityType,
    type_mismatch,
)
from avro.schema import ArraySchema, MapSchema, RecordSchema, UnionSchema

from schemas.avro_schemas import RELEASED_DIR, SCHEMA_DIR
from schemas.errors import ContractError, GroundswellError

__all__ = ["Conflict", "conflicts", "main", "read_releases", "read_tree", "write_release"]

Schemas = Mapping[str, dict[str, Any]]  # full schema by record name

TREE = "the tree"
_VERSION = re.compile(r"\d+\.\d+\.\d+[A-Za-z0-9.+-]*")
_SCHEMA_ERRORS = (
    ValueError,
    KeyError,
    fastavro.schema.SchemaParseException,
    fastavro.repository.SchemaRepositoryError,
)
_PARSER_NOTES = ("__fastavro_parsed", "__named_schemas")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One reason why a reader cannot read what a writer wrote.

    Attributes
    ----------
    path
        Where in the record: field names joined by dots; empty for the record itself.
    reader, writer
        `the tree`, or the name of a release.
    """

    record: str
    path: str
    reader: str
    writer: str
    problem: str
    cure: str

    def __str__(self) -> str:
        field = f" field {self.path}" if self.path else ""
        return (
            f"{self.record}{field}: {self.reader} cannot read what {self.writer} writes: "
            f"{self.problem}: {self.cure}"
        )


def read_tree(folder: Path = SCHEMA_DIR) -> dict[str, dict[str, Any]]:
    """The full schemas of a folder of .avsc files, by record name.

    Raises
    ------
    ContractError
        If one of them is no Avro schema.
    """
    schemas: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.avsc")):
        try:
            schema = fastavro.schema.load_schema(str(path))
        except _SCHEMA_ERRORS as error:
            raise ContractError(f"{path} is no Avro schema: {error}: mend it") from error
        plain = json.loads(json.dumps(schema, default=str))
        for note in _PARSER_NOTES:
            plain.pop(note, None)
        schemas[path.stem.rpartition(".")[2]] = plain
    if not schemas:
        raise ContractError(f"no .avsc file lies in {folder}: name the folder of the schemas")
    return schemas


def read_releases(folder: Path = RELEASED_DIR) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each release the full schemas by record name.

    Raises
    ------
    ContractError
        If one of the files cannot be read.
    """
    releases: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            releases[path.stem] = json.loads(path.read_text())
        except ValueError as error:
            raise ContractError(
                f"{path} is no JSON: {error}: restore it as it was released"
            ) from error
    return releases


def write_release(
    version: str, tree: Schemas, releases: Mapping[str, Schemas], folder: Path = RELEASED_DIR
) -> Path:
    """Leave the tree's schemas behind as those of a release.

    Raises
    ------
    ContractError
        If the version is none, has been released, or does not fit the earlier ones.
    """
    if not _VERSION.fullmatch(version):
        raise ContractError(f"a version looks like 1.4.0, got {version!r}: give the package's")
    path = folder / f"{version}.json"
    if path.exists():
        raise ContractError(f"{path} has been released and never changes: give a new version")
    if found := conflicts(tree, releases):
        raise ContractError(f"{len(found)} conflicts with earlier releases, the first: {found[0]}")
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def conflicts(tree: Schemas, releases: Mapping[str, Schemas]) -> list[Conflict]:
    """What keeps the tree and any earlier release from reading each other's records."""
    found: list[Conflict] = []
    for release, released in releases.items():
        for record, schema in released.items():
            if record not in tree:
                found.append(
                    Conflict(
                        record=record,
                        path="",
                        reader=TREE,
                        writer=f"release {release}",
                        problem="the record is gone",
                        cure="keep its .avsc under the name that it was released with",
                    )
                )
                continue
            new, old = _parse(record, tree[record]), _parse(record, schema)
            found += _compare(record, new, old, TREE, f"release {release}")
            found += _compare(record, old, new, f"release {release}", TREE)
    return found


def _parse(record: str, schema: dict[str, Any]) -> avro.schema.Schema:
    try:
        return avro.schema.parse(json.dumps(schema))
    except avro.errors.AvroException as error:
        raise ContractError(f"the schema of {record} is no Avro: {error}: mend it") from error


def _compare(
    record: str, reader: avro.schema.Schema, writer: avro.schema.Schema, who: str, whose: str
) -> Iterator[Conflict]:
    if _fits(reader, writer):
        return
    for path, problem, cure in _blame(reader, writer, new_reads=who == TREE):
        yield Conflict(
            record=record,
            path=".".join(path),
            reader=who,
            writer=whose,
            problem=problem,
            cure=cure,
        )


class _Checker(ReaderWriterCompatibilityChecker):
    """Avro's rules, but for one: it lets bytes become text, and not all bytes are UTF-8."""

    def calculate_compatibility(
        self, reader: avro.schema.Schema, writer: avro.schema.Schema, location: list[str]
    ) -> SchemaCompatibilityResult:
        if {reader.type, writer.type} == {"bytes", "string"}:
            return type_mismatch(reader, writer, location)
        return super().calculate_compatibility(reader, writer, location)


def _fits(reader: avro.schema.Schema, writer: avro.schema.Schema) -> bool:
    result = _Checker().get_compatibility(reader, writer)
    return bool(result.compatibility is SchemaCompatibilityType.compatible)


def _blame(
    reader: avro.schema.Schema, writer: avro.schema.Schema, *, new_reads: bool
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Where two schemas differ that do not fit: the checker judges, this only looks for the place.

    Yields
    ------
    tuple
        Path, problem and cure.
    """
    inner = _inner(reader, writer)
    if inner is not None:
        yield from _blame(*inner, new_reads=new_reads)
        return
    if not (isinstance(reader, RecordSchema) and isinstance(writer, RecordSchema)):
        yield (
            (),
            f"{_shown(writer)} does not become {_shown(reader)}",
            "leave the type as it was released, and add a field of another name with a default",
        )
        return
    if reader.name != writer.name:
        yield (
            (),
            f"{writer.fullname} does not become {reader.fullname}",
            "leave the record's name as it was released",
        )
    for field in reader.fields:
        written = writer.fields_dict.get(field.name)
        if written is None:
            if not field.has_default:
                yield (field.name,), *_missing(new_reads=new_reads)
        elif not _fits(field.type, written.type):
            for path, problem, cure in _blame(field.type, written.type, new_reads=new_reads):
                yield (field.name, *path), problem, cure


def _missing(*, new_reads: bool) -> tuple[str, str]:
    if new_reads:
        return (
            "it is new and has no default",
            'give it a "default" (a renamed field is a new one: keep the old name)',
        )
    return (
        "it is gone, and had no default",
        "put it back as it was (a renamed field is gone: keep the old name)",
    )


def _inner(
    reader: avro.schema.Schema, writer: avro.schema.Schema
) -> tuple[avro.schema.Schema, avro.schema.Schema] | None:
    """The first pair within containers of one kind that does not fit."""
    pairs: list[tuple[avro.schema.Schema, avro.schema.Schema]] = []
    if isinstance(reader, ArraySchema) and isinstance(writer, ArraySchema):
        pairs = [(reader.items, writer.items)]
    elif isinstance(reader, MapSchema) and isinstance(writer, MapSchema):
        pairs = [(reader.values, writer.values)]
    elif isinstance(reader, UnionSchema) and isinstance(writer, UnionSchema):
        by_name = {_shown(branch): branch for branch in reader.schemas}
        pairs = [
            (by_name[_shown(branch)], branch)
            for branch in writer.schemas
            if _shown(branch) in by_name
        ]
    return next((pair for pair in pairs if not _fits(*pair)), None)


def _shown(schema: avro.schema.Schema) -> str:
    if isinstance(schema, UnionSchema):
        return " or ".join(_shown(branch) for branch in schema.schemas)
    return str(getattr(schema, "fullname", schema.type))


def main(words: Sequence[str] | None = None) -> int:
    """Check the tree, or release it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.compatibility", description=__doc__)
    parser.add_argument("--release", metavar="VERSION", help="write the tree as this release")
    parser.add_argument("--tree", type=Path, default=SCHEMA_DIR, help="folder of .avsc files")
    parser.add_argument("--released", type=Path, default=RELEASED_DIR, help="folder of releases")
    given = parser.parse_args(words)
    try:
        tree, releases = read_tree(given.tree), read_releases(given.released)
        if given.release:
            path = write_release(given.release, tree, releases, given.released)
            sys.stdout.write(f"{len(tree)} schemas written to {path}\n")
            return 0
        found = conflicts(tree, releases)
    except GroundswellError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(_table(tree, releases, found))
    for conflict in found:
        sys.stderr.write(f"{conflict}\n")
    return 1 if found else 0


def _table(tree: Schemas, releases: Mapping[str, Schemas], found: Sequence[Conflict]) -> str:
    if not releases:
        return f"{len(tree)} schemas; nothing has been released yet, so any change is free\n"
    names = sorted({*tree, *(name for released in releases.values() for name in released)})
    width = max(map(len, names))
    lines = [f"{'record':{width}}  " + "  ".join(releases)]
    for name in names:
        cells = [
            f"{_verdict(name, release, released, found):{len(release)}}"
            for release, released in releases.items()
        ]
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _verdict(name: str, release: str, released: Schemas, found: Sequence[Conflict]) -> str:
    if name not in released:
        return "new"
    apart = any(c.record == name and f"release {release}" in (c.reader, c.writer) for c in found)
    return "no" if apart else "ok"


if __name__ == "__main__":
    sys.exit(main())
