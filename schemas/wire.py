"""Records to bytes and back: Avro in the Confluent wire format.

A record is a zero byte, four bytes of schema id (big-endian), and Avro's binary encoding.
With a registry the id is the registry's; without one it is a fingerprint of the schema, and
the rest is the same.
"""

import io
import struct
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import fastavro
import msgspec

from schemas.avro_schemas import fingerprint, parsed_schema, released_schemas
from schemas.decision_bytes import DecisionBytes
from schemas.errors import BadRecordError, ContractError, GroundswellError
from schemas.records import Decision
from schemas.topics import TOPICS

__all__ = ["Codec", "PlainIds", "SchemaIds", "Unreadable"]

R = TypeVar("R")

_PREFIX = struct.Struct(">bI")
_PREFIX_SIZE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Stands in for a record that cannot be read or believed."""

    reason: str


class SchemaIds(Protocol):
    """Where schema ids come from."""

    def id_for(self, topic: str, name: str) -> int:
        """The id that records of schema `name` are written with in `topic`."""
        ...

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        """The parsed schema of an id; None where nobody knows it."""
        ...


class PlainIds:
    """Ids without a registry: fingerprints of the schemas of this and earlier releases."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, dict[str, Any]] = {}
        for schemas in released_schemas().values():
            for schema in schemas.values():
                parsed = fastavro.parse_schema(schema)
                assert isinstance(parsed, dict)
                self._schemas[fingerprint(parsed)] = parsed
        for topic in TOPICS:
            if topic.record is not None:
                schema = parsed_schema(topic.record.__name__)
                self._ids[topic.record.__name__] = fingerprint(schema)
                self._schemas[fingerprint(schema)] = schema

    def id_for(self, topic: str, name: str) -> int:  # noqa: ARG002
        """The fingerprint of the schema in this tree, whatever the topic."""
        return self._ids[name]

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        """The schema with this fingerprint."""
        return self._schemas.get(schema_id)


class Codec:
    """Encodes and decodes the records of topics."""

    def __init__(self, ids: SchemaIds | None = None) -> None:
        self._ids = ids or PlainIds()
        self._decisions = DecisionBytes()
        self._writers: dict[tuple[bytes, type], dict[str, Any]] = {}  # by prefix, as found before

    def encode(self, topic: str, record: object) -> bytes:
        """A record as it stands on the bus.

        Raises
        ------
        ContractError
            If the record does not fit its own schema: a bug of the caller.
        """
        name = type(record).__name__
        prefix = _PREFIX.pack(0, self._ids.id_for(topic, name))
        if type(record) is Decision:
            try:
                return prefix + self._decisions.encode(record)
            except (AttributeError, OverflowError, TypeError, struct.error):
                pass  # fastavro says what is wrong
        out = io.BytesIO()
        out.write(prefix)
        fields = msgspec.to_builtins(record, builtin_types=(bytes,))
        try:
            fastavro.schemaless_writer(out, parsed_schema(name), fields)
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise ContractError(f"{name} does not fit its schema: {error}") from error
        return out.getvalue()

    def decode(self, raw: bytes | None, record: type[R]) -> R:
        """A record from its bytes.

        Raises
        ------
        BadRecordError
            If the bytes are no such record, or its content must not be believed.
        """
        if raw is None:
            raise BadRecordError(
                f"no value where a {record.__name__} is due: compacted topics alone have those"
            )
        prefix = raw[:_PREFIX_SIZE]
        writer = self._writers.get((prefix, record))
        if writer is None:
            writer = self._writers[prefix, record] = self._writer(raw, record.__name__)
        return _convert(_read(raw, writer, record.__name__), record)

    def _writer(self, raw: bytes, name: str) -> dict[str, Any]:
        """The schema that a record was written with, by its prefix."""
        if len(raw) <= _PREFIX_SIZE or raw[0] != 0:
            raise BadRecordError(
                f"not in Confluent wire format ({len(raw)} bytes, starting "
                f"{raw[:5].hex() or 'nothing'}): a {name} starts with a zero byte and a schema id"
            )
        schema_id = _PREFIX.unpack_from(raw)[1]
        writer = self._ids.writer_schema(schema_id)
        if writer is None:
            raise BadRecordError(
                f"schema id {schema_id} is unknown here: register it, or write with the schemas "
                "of a release and the same mode (with or without a registry)"
            )
        if writer["name"].rpartition(".")[2] != name:
            raise BadRecordError(
                f"a {writer['name']} where a {name} is due: send it to its own topic"
            )
        return writer

    def try_decode(self, raw: bytes | None, record: type[R]) -> R | Unreadable:
        """As `decode`, but a record that cannot be read is a value, so that no agent stops.

        Raises
        ------
        ContractError
            If the registry does not answer: that says nothing of the record.
        """
        try:
            return self.decode(raw, record)
        except ContractError:
            raise
        except GroundswellError as error:
            return Unreadable(reason=str(error))


def _read(raw: bytes, writer: dict[str, Any], name: str) -> dict[str, Any]:
    stream = io.BytesIO(raw)
    stream.seek(_PREFIX_SIZE)
    reader = parsed_schema(name)
    try:
        if writer is reader:
            fields = fastavro.schemaless_reader(stream, writer, None)
        else:
            fields = fastavro.schemaless_reader(stream, writer, reader)
    except Exception as error:  # fastavro raises whatever the bytes make it stumble over
        raise BadRecordError(f"not the Avro of a {name}: {type(error).__name__} {error}") from error
    if stream.tell() != len(raw):
        raise BadRecordError(f"bytes are left over behind the {name}: it was written otherwise")
    assert isinstance(fields, dict)
    return fields


def _convert(fields: dict[str, Any], record: type[R]) -> R:
    if record.__module__ == "schemas.records":  # flat: its fields are its arguments
        return record(**fields)
    try:
        return msgspec.convert(fields, record)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, GroundswellError):
            raise BadRecordError(str(cause)) from error
        raise BadRecordError(f"not a sound {record.__name__}: {error}") from error
