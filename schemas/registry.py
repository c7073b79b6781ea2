"""Schema ids of a Confluent-compatible registry: Confluent's own, Apicurio, Karapace.

Subjects follow TopicNameStrategy, `<topic>-value`, and are held to FULL_TRANSITIVE. Each topic and
each id is asked for once: the hot path reads a dictionary.
"""

import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.avro_schemas import full_schema, parsed_schema
from schemas.errors import BadRecordError, ContractError
from schemas.wire import Codec

__all__ = ["RegistryIds", "codec_for", "without_password"]

LEVEL = "FULL_TRANSITIVE"
TIMEOUT_S = 3  # with one retry shorter than the session of a worker in its group
UNKNOWN_S = 5.0  # so long an answer that there is no such id, or none at all, is believed
HIGHEST_ID = 0x7FFF_FFFF  # above it are the fingerprints of topics that know no registry
NOT_THERE = (40401, 40402, 40403, 40408)  # a subject, version, schema, or a subject's level


class RegistryIds:
    """Schema ids, and the schemas behind them, of a registry.

    Safe from any thread.

    Parameters
    ----------
    url
        Address of the registry's Confluent API; several, joined by commas, stand for one another.
        A user and password in it are used, and never shown.
    clock
        Seconds that only rise, for how long a negative answer holds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._shown = ",".join(without_password(part) for part in url.split(","))
        self._clock = clock
        try:
            self._client = SchemaRegistryClient(
                {"url": url, "timeout": TIMEOUT_S, "max.retries": 1, "retries.wait.ms": 200}
            )
        except ValueError as error:
            raise ContractError(
                f"{self._shown} is no registry's URL: give one such as http://registry:8081"
            ) from error
        weakref.finalize(self, self._client.close)
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, dict[str, Any]] = {}
        self._refused: dict[int, tuple[float, ContractError | BadRecordError | None]] = {}

    def require(self) -> None:
        """Return if the registry answers.

        Raises
        ------
        ContractError
            If it does not.
        """
        with self._errors("does not answer as a registry", "check GROUNDSWELL_REGISTRY"):
            self._client.get_schema_types()

    def id_for(self, topic: str, name: str) -> int:
        """The registry's id of schema `name` in `topic`, registered there if it is not yet.

        Raises
        ------
        ContractError
            If the registry does not answer, or does not take the schema.
        """
        known = self._ids.get((topic, name))
        if known is not None:
            return known
        with self._lock:
            if (topic, name) not in self._ids:
                self._ids[topic, name] = self._register(f"{topic}-value", name)
            return self._ids[topic, name]

    def writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        """The parsed schema of an id; None where the registry has none.

        Raises
        ------
        BadRecordError
            If what the id stands for is no Avro record.
        ContractError
            If the registry does not answer.
        """
        known = self._schemas.get(schema_id)
        if known is not None or schema_id > HIGHEST_ID:
            return known
        with self._lock:
            if schema_id not in self._schemas:
                self._look_up(schema_id)
            return self._schemas.get(schema_id)

    def _look_up(self, schema_id: int) -> None:
        until, refusal = self._refused.get(schema_id, (0.0, None))
        if self._clock() >= until:
            refusal = self._fetch(schema_id)
            if schema_id in self._schemas:
                self._refused.pop(schema_id, None)
                return
            self._forget_old_refusals()
            self._refused[schema_id] = (self._clock() + UNKNOWN_S, refusal)
        if refusal is not None:
            raise refusal.with_traceback(None)  # else each raise makes it longer

    def _fetch(self, schema_id: int) -> ContractError | BadRecordError | None:
        """Take an id's schema in; what to raise if there is none to take."""
        try:
            with self._errors(
                f"gives no answer about schema id {schema_id}", "start it, or mend the way to it"
            ):
                found = self._client.get_schema(schema_id)
        except ContractError as error:
            return None if _is_missing(error.__cause__) else error
        try:
            parsed = fastavro.parse_schema(json.loads(found.schema_str or ""))
        except (ValueError, TypeError, fastavro.schema.SchemaParseException) as error:
            return BadRecordError(
                f"schema id {schema_id} of {self._shown} is no Avro that stands alone "
                f"({found.schema_type}): {error}: register the record in full, with no references"
            )
        if not isinstance(parsed, dict) or parsed.get("type") != "record":
            return BadRecordError(
                f"schema id {schema_id} of {self._shown} is no record: send a record's schema"
            )
        # Equal to ours: then fastavro reads without resolving field by field.
        ours = _our_schema(parsed)
        self._schemas[schema_id] = parsed if ours is None else ours
        return None

    def _register(self, subject: str, name: str) -> int:
        plain = full_schema(name)
        plain.pop("__fastavro_parsed", None)
        schema = Schema(json.dumps(plain), "AVRO")
        cure = f"register {name} in {subject} at level {LEVEL}, or let workers write there"
        with self._errors(f"does not take {name} in {subject}", cure):
            if self._level(subject) != LEVEL:
                self._client.set_compatibility(subject, LEVEL)
            schema_id = self._registered(subject, schema)
            if schema_id is None:
                schema_id = int(self._client.register_schema(subject, schema))
        self._schemas[schema_id] = parsed_schema(name)
        return schema_id

    def _level(self, subject: str) -> str | None:
        try:
            return str(self._client.get_compatibility(subject))
        except SchemaRegistryError as error:
            if _is_missing(error):
                return None
            raise

    def _registered(self, subject: str, schema: Schema) -> int | None:
        """The id that a schema has already: many workers may look up, but not write."""
        try:
            found = self._client.lookup_schema(subject, schema).schema_id
        except SchemaRegistryError as error:
            if _is_missing(error):
                return None
            raise
        return None if found is None else int(found)

    def _forget_old_refusals(self) -> None:
        now = self._clock()
        self._refused = {n: kept for n, kept in self._refused.items() if kept[0] > now}

    @contextmanager
    def _errors(self, what: str, cure: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the client's own, its HTTP library's, and JSON's
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ContractError(
                f"the registry at {self._shown} {what}: {reason}: {cure}"
            ) from error


def codec_for(registry_url: str | None) -> Codec:
    """The codec of a deployment: with a registry's ids, or plain ones without a registry.

    Raises
    ------
    ContractError
        If a registry is given that does not answer.
    """
    if registry_url is None:
        return Codec()
    ids = RegistryIds(registry_url)
    ids.require()
    return Codec(ids)


def _our_schema(parsed: dict[str, Any]) -> dict[str, Any] | None:
    name = str(parsed["name"]).rpartition(".")[2]
    try:
        ours = parsed_schema(name)
    except fastavro.repository.SchemaRepositoryError:
        return None
    canonical = fastavro.schema.to_parsing_canonical_form
    return ours if canonical(parsed) == canonical(ours) else None


def _is_missing(error: BaseException | None) -> bool:
    return isinstance(error, SchemaRegistryError) and error.error_code in NOT_THERE


def without_password(url: str) -> str:
    """Give a URL with its password hidden, for logs and screens."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return "that"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
