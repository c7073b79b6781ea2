"""The rows of a CSV, Parquet or Avro file, one at a time, as the file has them."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import fastavro

from schemas.errors import MappingError

__all__ = ["BadRow", "RawRow", "raw_rows"]

GZIP = b"\x1f\x8b"
ENDINGS = {"csv": "csv", "tsv": "csv", "parquet": "parquet", "pq": "parquet", "avro": "avro"}

RawRow = Mapping[str, Any]


class BadRow(str):
    """Why a row cannot be read."""

    __slots__ = ()


def raw_rows(
    path: Path, kind: str | None, columns: Sequence[str], places: Mapping[str, str]
) -> Iterator[tuple[int, RawRow | BadRow]]:
    """Rows with their line (CSV) or their number (from 1), in the order of the file.

    Parameters
    ----------
    kind
        csv, parquet or avro; None: by the file's name.
    columns
        That are needed.
    places
        Where the mapping names each of them.

    Raises
    ------
    MappingError
        If the file cannot be read, or lacks a column.
    """
    kind = kind or _kind_of(path)
    read = {"csv": _csv_rows, "parquet": _parquet_rows, "avro": _avro_rows}[kind]
    try:
        yield from read(path, columns, places)
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise MappingError(f"{path} is cut short or damaged: {error}: copy it again") from None
    except UnicodeDecodeError as error:
        raise MappingError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lstrip(".").lower() for suffix in path.suffixes]
    for suffix in reversed(suffixes):
        if suffix in ENDINGS:
            return ENDINGS[suffix]
    raise MappingError(
        f"{path}: its name does not say whether it is CSV, Parquet or Avro: "
        "add `format: csv` to the mapping"
    )


def _check_columns(
    path: Path, has: Sequence[str], columns: Sequence[str], places: Mapping[str, str]
) -> None:
    for column in columns:
        if column not in has:
            close = get_close_matches(column, has, n=1)
            cure = f"did you mean {close[0]}?" if close else f"it has {', '.join(has)[:200]}"
            place = places.get(column, "the mapping")
            raise MappingError(
                f"{place} names column {column!r}, which {path} does not have: {cure}"
            )


def _csv_rows(
    path: Path, columns: Sequence[str], places: Mapping[str, str]
) -> Iterator[tuple[int, RawRow | BadRow]]:
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    with path.open("rb") as raw, _plain(raw) as plain:
        lines = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
        reader = csv.reader(lines, delimiter=delimiter)
        header = next(reader, None)
        if header is None:
            raise MappingError(f"{path} is empty: its first line must name the columns")
        header = [name.strip() for name in header]
        _check_columns(path, header, columns, places)
        wanted = [(column, header.index(column)) for column in columns]
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, BadRow(f"not CSV: {error}")
                continue
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(header):
                bad = f"{len(row)} values where the first line names {len(header)} columns"
                yield reader.line_num, BadRow(bad)
                continue
            yield reader.line_num, {column: row[at].strip() for column, at in wanted}


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """The file, unpacked if it is gzip."""
    packed = raw.read(2) == GZIP
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[return-value]


def _avro_rows(
    path: Path, columns: Sequence[str], places: Mapping[str, str]
) -> Iterator[tuple[int, RawRow | BadRow]]:
    with path.open("rb") as raw:
        number = 0
        try:
            reader = fastavro.reader(raw)
            schema = reader.writer_schema
            fields = schema.get("fields", []) if isinstance(schema, dict) else []
            _check_columns(path, [field["name"] for field in fields], columns, places)
            for number, row in enumerate(reader, 1):
                yield number, row
        except (ValueError, KeyError, TypeError, IndexError, EOFError, StopIteration) as error:
            raise MappingError(
                f"{path} cannot be read as Avro behind record {number}: {error}: write an object "
                "container file"
            ) from None


def _parquet_rows(
    path: Path, columns: Sequence[str], places: Mapping[str, str]
) -> Iterator[tuple[int, RawRow | BadRow]]:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError:
        raise MappingError(
            f"{path} is Parquet, which needs pyarrow: pip install 'groundswell[parquet]'"
        ) from None
    try:
        with pq.ParquetFile(path) as table:
            _check_columns(path, list(table.schema_arrow.names), columns, places)
            number = 0
            for batch in table.iter_batches(batch_size=4096, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pa.ArrowException as error:
        raise MappingError(f"{path} cannot be read as Parquet: {error}") from None
