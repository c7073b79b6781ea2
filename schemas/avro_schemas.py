"""The Avro schemas of the tree and of earlier releases, parsed once."""

import functools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastavro.schema
import msgspec

__all__ = ["SCHEMA_DIR", "fingerprint", "full_schema", "parsed_schema", "released_schemas"]

SCHEMA_DIR = Path(str(files("schemas"))) / "avro"
RELEASED_DIR = Path(str(files("schemas"))) / "released"


@functools.cache
def parsed_schema(name: str) -> dict[str, Any]:
    """The schema of a record by its name, as fastavro reads and writes with it."""
    schema = fastavro.schema.load_schema(str(SCHEMA_DIR / f"groundswell.{name}.avsc"))
    assert isinstance(schema, dict)
    return schema


def full_schema(name: str) -> dict[str, Any]:
    """The schema as plain JSON, with the records that it names written out in it."""
    plain = json.loads(json.dumps(parsed_schema(name)))
    _forget_parser_notes(plain)
    assert isinstance(plain, dict)
    return plain


def _forget_parser_notes(node: object) -> None:
    if isinstance(node, dict):
        for note in ("__fastavro_parsed", "__named_schemas"):
            node.pop(note, None)
        for child in node.values():
            _forget_parser_notes(child)
    elif isinstance(node, list):
        for child in node:
            _forget_parser_notes(child)


def fingerprint(schema: dict[str, Any]) -> int:
    """32 bits of the schema's CRC-64-AVRO fingerprint: its id where there is no registry.

    Parsing Canonical Form, of the Avro specification 1.11, leaves out docs and defaults.
    """
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    digest = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    # Above 2^31 no registry counts: the two kinds of id cannot be taken for each other.
    return int(digest[:8], 16) | 0x8000_0000


@functools.cache
def released_schemas() -> dict[str, dict[str, dict[str, Any]]]:
    """Of each earlier release the full schemas by record name."""
    releases: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(RELEASED_DIR.glob("*.json")):
        releases[path.stem] = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    return releases
