"""``groundswell topics``: make and verify the topics of the loop."""

from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.topics import TOPICS
from streams.app import shape_of
from streams.commands.connect import Bootstrap, connect
from streams.kafka.cluster import cluster_of
from streams.kafka.provision import TopicState, describe_topics, ensure_sources, ensure_topics
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make and verify the topics of the loop.")

SOURCE_RECORDS = {"event": "UserEvent", "reward": "Reward"}


@app.command(epilog="Example: groundswell topics ensure --sources-partitions 3")
def ensure(
    bootstrap: Bootstrap = None,
    sources_partitions: Annotated[
        int | None,
        typer.Option(
            help="Make the company's own topics too where they are missing, with so many "
            "partitions: for trying out.",
            min=1,
            max=4096,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make the topics that are missing and verify the others. To be run before any worker.

    How they are cut and copied is set by GROUNDSWELL_USER_PARTITIONS,
    GROUNDSWELL_CAMPAIGN_PARTITIONS, GROUNDSWELL_REPLICATION and GROUNDSWELL_MIN_INSYNC.
    """
    settings = connect(bootstrap)
    admin, shape = _admin(settings), shape_of(settings)
    before = set(describe_topics(admin, _names(settings)))
    if sources_partitions is not None:
        ensure_sources(admin, shape, sources_partitions)
    states = ensure_topics(admin, shape)
    made = sorted(set(states) - before)
    for name in made:
        typer.echo(f"made {name} ({states[name].partitions} partitions)")
    typer.echo(f"{len(states)} topics are as they must be, {len(made)} of them new")


@app.command("list", epilog="Example: groundswell topics list")
def list_topics(bootstrap: Bootstrap = None) -> None:
    """List the topics as they are on the broker, and what stands in them."""
    settings = connect(bootstrap)
    states = describe_topics(_admin(settings), _names(settings))
    shown = Table(box=SIMPLE, pad_edge=False, padding=0)
    for name in ("topic", "partitions", "cleanup", "size limit", "record", "what stands in it"):
        number = name in ("partitions", "size limit")
        shown.add_column(name, justify="right" if number else "left", no_wrap=name == "topic")
    for topic in TOPICS:
        name = settings.topic_prefix + topic.name
        record = topic.record.__name__ if topic.record is not None else "-"
        shown.add_row(*map(Text, (*_found(name, states), record, topic.doc)))
    shown.add_section()
    for name, kind in settings.source_topics.items():
        doc = f"The company's own {kind}s: what ingest reads."
        shown.add_row(*map(Text, (*_found(name, states), SOURCE_RECORDS[kind], doc)))
    Console().print(shown)


def _found(name: str, states: dict[str, TopicState]) -> tuple[str, str, str, str]:
    state = states.get(name)
    if state is None:
        return name, "missing", "", ""
    limit = int(state.config.get("max.message.bytes", "0"))
    return (
        name,
        str(state.partitions),
        state.config.get("cleanup.policy", ""),
        f"{limit / 1024 / 1024:.1f} MiB",
    )


def _names(settings: Settings) -> list[str]:
    return [*(settings.topic_prefix + topic.name for topic in TOPICS), *settings.source_topics]


def _admin(settings: Settings) -> AdminClient:
    return AdminClient(cluster_of(settings).client({"log_level": 0}))
