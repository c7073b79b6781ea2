"""The Avro contract as an outsider has it: the `.avsc` files and the wire format, nothing else.

The company's sender and event source know Groundswell by these alone. A record is a zero byte,
four bytes of schema id (big-endian), and Avro's binary encoding. Without a registry the id is made
of the schema: the first 32 bits of its CRC-64-AVRO fingerprint, the highest of them set.
"""

import functools
import io
import struct
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import fastavro

__all__ = ["decode", "encode"]

_PREFIX = struct.Struct(">bI")


@functools.cache
def _schema(name: str) -> tuple[dict[str, Any], int]:
    schema = fastavro.schema.load_schema(str(files("schemas") / f"avro/groundswell.{name}.avsc"))
    assert isinstance(schema, dict)
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    digest = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    return schema, int(digest[:8], 16) | 0x8000_0000


def encode(name: str, fields: Mapping[str, Any]) -> bytes:
    """Write a record of schema `name`."""
    schema, schema_id = _schema(name)
    out = io.BytesIO(_PREFIX.pack(0, schema_id))
    out.seek(_PREFIX.size)
    fastavro.schemaless_writer(out, schema, fields)
    return out.getvalue()


def decode(name: str, raw: bytes) -> dict[str, Any]:
    """Read a record of schema `name`.

    Raises
    ------
    ValueError
        If it was written with another schema.
    """
    schema, schema_id = _schema(name)
    magic, written_with = _PREFIX.unpack_from(raw)
    if (magic, written_with) != (0, schema_id):
        raise ValueError(
            f"a {name} starts with 0 and schema id {schema_id}, got {magic} and {written_with}: "
            "take the .avsc files of the release that writes"
        )
    stream = io.BytesIO(raw)
    stream.seek(_PREFIX.size)
    fields = fastavro.schemaless_reader(stream, schema, None)
    assert isinstance(fields, dict)
    return fields
