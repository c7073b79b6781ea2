"""``groundswell users``: tell the loop what the company knows of people."""

import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import Progress

from schemas.errors import BusError, GroundswellError, MappingError, SettingsError
from schemas.records import UserEvent
from schemas.registry import codec_for
from schemas.topics import USER_EVENTS
from schemas.wire import Codec
from streams.commands.connect import Bootstrap, connect
from streams.commands.user_rows import BadRow, Columns, People
from streams.kafka.cluster import Cluster, cluster_of
from streams.kafka.provision import describe_topics
from streams.settings import Settings, load_settings

__all__ = ["app", "send_events"]

app = typer.Typer(help="Tell the loop what the company knows of people.")

MOST_SHOWN = 20
DELIVERY_S = 60.0


@app.callback()
def _group() -> None:
    """Tell the loop what the company knows of people."""


@app.command(
    "import",
    epilog="Example: groundswell users import people.csv --map mail=contact.email "
    "--list-column interests",
)
def import_users(
    file: Annotated[Path, typer.Argument(help="CSV with a header, or JSON lines (.jsonl).")],
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="COLUMN=user_id, COLUMN=contact.CHANNEL, COLUMN=ATTRIBUTE, or COLUMN=- to leave "
            "it out. Without it a column means what it is called.",
        ),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option("--list-column", help="A column of texts joined by |."),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option("--text-column", help="A column that stays text, such as a postcode."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="The time that the file speaks of, such as 2026-11-22T09:00:00Z: newer values "
            "stay. Without it: when the file was last changed.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every row and send nothing.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Send the good rows although some are bad.")
    ] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Send a profile event for each row of a file to the first topic of events.

    A CSV column has the narrowest type that fits all of its cells: true/false, whole number,
    number, text; an empty cell says nothing. Every row is checked before the first is sent. The
    same file again changes nothing: each event has an id made of its row and the file's time.
    """
    columns = Columns(
        mapped=dict(_pair(each) for each in mapped or ()),
        lists=frozenset(lists or ()),
        texts=frozenset(texts or ()),
    )
    people = People(file, columns, _time_ms(at, file))
    good, bad = _check(people)
    if bad and not skip_bad:
        raise MappingError(
            f"{bad} of {good + bad} rows of {file} are bad, nothing was sent: correct them, or "
            "leave them out with --skip-bad"
        )
    left_out = f", {bad} bad ones left out" if bad else ""
    if dry_run:
        typer.echo(f"{good} rows are sound{left_out}; nothing was sent")
        return
    topic = _target(load_settings(bootstrap=bootstrap))
    settings = connect(bootstrap)
    _require_topic(settings, topic)
    events = (event for event in people.events() if isinstance(event, UserEvent))
    send_events(cluster_of(settings), topic, events, good, codec_for(settings.registry))
    typer.echo(f"sent {good} rows to {topic}{left_out}")


def _check(people: People) -> tuple[int, int]:
    """Check every row, say which are bad; the numbers of good and bad ones."""
    codec, good, bad = Codec(), 0, 0
    for event in people.events():
        reason = event.reason if isinstance(event, BadRow) else _refusal(codec, event)
        if reason is None:
            good += 1
            continue
        bad += 1
        if bad <= MOST_SHOWN:
            where = f"line {event.line}" if isinstance(event, BadRow) else f"user {event.user_id}"
            typer.echo(f"{where}: {reason}", err=True)
    if bad > MOST_SHOWN:
        typer.echo(f"and {bad - MOST_SHOWN} more", err=True)
    return good, bad


def _refusal(codec: Codec, event: UserEvent) -> str | None:
    try:
        size = len(codec.encode(USER_EVENTS.name, event))
    except GroundswellError as error:
        return str(error)
    if size <= USER_EVENTS.max_bytes:
        return None
    return f"the row has {size} bytes, at most {USER_EVENTS.max_bytes} fit: shorten it"


def send_events(
    cluster: Cluster, topic: str, events: Iterator[UserEvent], total: int, codec: Codec
) -> int:
    """Send events, each to its user's partition, with a progress bar on a terminal.

    Raises
    ------
    BusError
        If one was not confirmed.
    """
    producer = Producer(
        cluster.client(
            {
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.max.bytes": USER_EVENTS.max_bytes + 4096,
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "log_level": 0,
            }
        )
    )
    failures = list[KafkaError]()

    def noted(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    sent = 0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sending", total=total)
        for event in events:
            value = codec.encode(topic, event)
            _produce(producer, topic, event.user_id.encode(), value, noted)
            sent += 1
            if sent % 1000 == 0:
                producer.poll(0)
                progress.update(task, completed=sent)
            if failures:
                break
        left = producer.flush(DELIVERY_S + 5)
        progress.update(task, completed=sent)
    if failures or left:
        why = failures[0].str() if failures else f"no confirmation in {DELIVERY_S:g} s"
        raise BusError(
            f"{len(failures) + left} of {sent} rows were not written to {topic} ({why}): send the "
            "file again, what has arrived is not counted twice"
        )
    return sent


def _produce(producer: Producer, topic: str, key: bytes, value: bytes, noted: object) -> None:
    deadline = time.monotonic() + DELIVERY_S
    while True:
        try:
            producer.produce(topic, value, key, on_delivery=noted)
        except BufferError:
            if time.monotonic() > deadline:
                raise BusError(f"topic {topic} takes no more records: check its brokers") from None
            producer.poll(0.2)
        except KafkaException as error:
            raise BusError(f"nothing was written to {topic}: {error.args[0].str()}") from error
        else:
            return


def _target(settings: Settings) -> str:
    names = [name for name in re.split(r"[,\s]+", settings.event_sources) if name]
    if not names:
        raise SettingsError(
            "GROUNDSWELL_EVENT_SOURCES names no topic: name the one that people are sent to"
        )
    return settings.topic_prefix + names[0]


def _require_topic(settings: Settings, topic: str) -> None:
    admin = AdminClient(cluster_of(settings).client({"log_level": 0}))
    if topic not in describe_topics(admin, [topic]):
        raise BusError(
            f"source topic {topic} does not exist: it is the company's own; make it, for trying "
            "out with `groundswell topics ensure --sources-partitions 3`"
        )


def _pair(text: str) -> tuple[str, str]:
    column, equals, target = (part.strip() for part in text.rpartition("="))
    if not (column and equals and target):
        raise SettingsError(f"--map must be COLUMN=TARGET, got {text!r}: write mail=contact.email")
    return column, target


def _time_ms(at: str | None, file: Path) -> int:
    now_ms = int(time.time() * 1000)
    if at is None:
        return min(now_ms, int(file.stat().st_mtime * 1000)) if file.exists() else now_ms
    time_ = _time(at)
    if time_ is None or time_.tzinfo is None:
        raise SettingsError(
            f"--at must be a time with its zone, got {at!r}: write it like 2026-11-22T09:00:00Z"
        )
    return int(time_.timestamp() * 1000)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
