"""``groundswell events``: look at the records of a topic as they come."""

from collections.abc import Generator
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from schemas.errors import SettingsError
from schemas.records import Reward, UserEvent
from schemas.registry import codec_for
from schemas.topics import DEAD_LETTERS, TOPICS
from schemas.wire import Codec, Unreadable
from streams.commands.connect import Bootstrap, connect
from streams.core.policies.parameters import nearest
from streams.kafka.cluster import cluster_of
from streams.kafka.read import follow, read_all
from streams.kafka.transaction import ORIGIN, Incoming
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Look at the records of a topic as they come.")

PREVIEW_BYTES = 120


@app.callback()
def _group() -> None:
    """Look at the records of a topic as they come."""


@app.command(epilog="Example: groundswell events tail dead-letters --from-beginning --limit 10")
def tail(
    topic: Annotated[str, typer.Argument(help="A topic of the loop, or of the company's own.")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest record.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="End after so many records.", min=1, show_default=False)
    ] = None,
    no_follow: Annotated[
        bool,
        typer.Option("--no-follow", help="End with the newest record: implies --from-beginning."),
    ] = False,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print a topic's records as they come, decoded, until Ctrl-C.

    Of dead letters it prints where they came from and why they are there, and a preview. Only
    committed records are shown. Records tell of people: mind who sees the screen.
    """
    settings = connect(bootstrap)
    name, record_type = _named(settings, topic)
    codec = codec_for(settings.registry)
    records: Generator[Incoming | None, None, None] = (
        read_all(cluster_of(settings), name)
        if no_follow
        else follow(cluster_of(settings), [name], from_beginning=from_beginning)
    )
    left = limit
    with suppress(KeyboardInterrupt), closing(records):
        for record in records:
            if record is None:
                continue
            shown = _shown(record, record_type, codec, settings)
            typer.echo(msgspec.json.encode(shown) if as_json else _line(shown))
            left = None if left is None else left - 1
            if left == 0:
                return


def _named(settings: Settings, topic: str) -> tuple[str, type | None]:
    """The full name of a topic, and the record that stands in it."""
    known: dict[str, type | None] = {
        settings.topic_prefix + each.name: each.record for each in TOPICS
    }
    for name, kind in settings.source_topics.items():
        known[name] = UserEvent if kind == "event" else Reward
    for name in (settings.topic_prefix + topic, topic):
        if name in known:
            return name, known[name]
    short = [name.removeprefix(settings.topic_prefix) for name in known]
    raise SettingsError(f"there is no topic {topic!r} in the loop: {nearest(topic, short)}")


def _shown(
    record: Incoming, record_type: type | None, codec: Codec, settings: Settings
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "topic": record.topic.removeprefix(settings.topic_prefix),
        "partition": record.partition,
        "offset": record.offset,
        "time": datetime.fromtimestamp(max(record.timestamp_ms, 0) / 1000, UTC).isoformat(
            timespec="milliseconds"
        ),
        "key": None if record.key is None else preview(record.key),
    }
    if record.topic == settings.topic_prefix + DEAD_LETTERS.name:
        shown["headers"] = {
            name: value.decode("utf-8", "replace") for name, value in record.headers
        }
    origin = dict(record.headers).get(ORIGIN)
    if origin is not None:  # the same one again was sent on again
        shown["origin"] = preview(origin)
    if record.value is None:
        shown["deleted"] = True
    elif record_type is None:
        shown["bytes"] = len(record.value)
        shown["preview"] = preview(record.value)
    else:
        read: object = codec.try_decode(record.value, record_type)
        if isinstance(read, Unreadable):
            shown |= {"unreadable": read.reason, "preview": preview(record.value)}
        else:
            shown["record"] = _plain(read)
    return shown


def _plain(record: object) -> Any:
    """A record as JSON has it; bytes (states, contexts) as their number."""
    fields = msgspec.to_builtins(record, builtin_types=(bytes,))
    return {
        name: f"<{len(value)} bytes>" if isinstance(value, bytes) else value
        for name, value in fields.items()
    }


def preview(raw: bytes) -> str:
    """The beginning of some bytes: as text where they are text, else in hexadecimal."""
    part = raw[:PREVIEW_BYTES]
    more = "…" if len(raw) > PREVIEW_BYTES else ""
    text = part.decode("utf-8", "ignore" if more else "replace")
    if text.isprintable() and "\ufffd" not in text:
        return text + more
    return f"0x{part.hex()}{more}"


def _line(shown: dict[str, Any]) -> str:
    place = f"{shown.pop('time')} {shown.pop('topic')}[{shown.pop('partition')}]"
    line = f"{place}@{shown.pop('offset')} {msgspec.json.encode(shown).decode()}"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
