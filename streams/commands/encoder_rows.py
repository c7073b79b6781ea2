"""``groundswell encoder dataset``: what happened, as a file that an encoder is trained on."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from schemas.errors import EncoderError, SettingsError
from schemas.ids import TIME_MARKER
from schemas.learning import LearningExample
from schemas.records import Reward, UserEvent
from schemas.registry import codec_for
from schemas.topics import LEARNING_EXAMPLES, REWARDS, USER_EVENTS
from schemas.training_rows import COLUMNS, TrainingRow, profile_to_text
from schemas.wire import Codec
from streams.commands.connect import Bootstrap, connect
from streams.core.training_rows import newest_outcomes, training_rows
from streams.kafka.campaign_client import CampaignClient
from streams.kafka.cluster import cluster_of
from streams.kafka.origin import unrepeated
from streams.kafka.read import read_all
from streams.settings import Settings
from streams.simulation.encoder_log import company_rows
from streams.simulation.world import Company

__all__ = ["dataset", "write_rows"]

R = TypeVar("R")

AT_ONCE = 20_000
# When the company in a box logs: the same seed gives the same file.
COMPANY_UNTIL_MS = 1_767_225_600_000  # 2026-01-01
COMPANY_DAYS = 30


def dataset(
    out: Annotated[Path, typer.Option(help="The Parquet file.")] = Path("rows.parquet"),
    company: Annotated[
        int | None,
        typer.Option(
            help="Not from Kafka: what the company in a box of this seed would have logged.",
            min=0,
            show_default=False,
        ),
    ] = None,
    decisions: Annotated[
        int, typer.Option(help="Of the company in a box.", min=1_000, max=10_000_000)
    ] = 100_000,
    bootstrap: Bootstrap = None,
) -> None:
    """Write one row a decision: the profile as it was then, and what came of it.

    It reads `user-events`, `rewards` and `learning-examples` to their ends: what their retention
    has taken away is not in the file, so keep them as long as you mean to train on. What came later
    than its time says counts from its time on: events that come late make training see a little
    more than workers saw. The file has no user ids and no contact references, but it has your
    users' attributes: keep it accordingly.
    """
    if company is not None:
        people = Company.create(company)
        from_ms = COMPANY_UNTIL_MS - COMPANY_DAYS * 86_400_000
        rows: Iterable[TrainingRow] = company_rows(
            people, decisions, company, from_ms, COMPANY_UNTIL_MS
        )
    else:
        rows = _from_topics(connect(bootstrap))
    count = write_rows(out, rows)
    if not count:
        out.unlink()
        raise EncoderError(
            f"no decision that something was sent by stands in {LEARNING_EXAMPLES.name}: run a "
            "campaign first"
        )
    typer.echo(f"{count} decisions in {out}")


def _from_topics(settings: Settings) -> Iterator[TrainingRow]:
    codec = codec_for(settings.registry)
    examples = _records(settings, codec, LEARNING_EXAMPLES.name, LearningExample)
    outcomes = newest_outcomes(examples)
    campaigns = CampaignClient(cluster_of(settings), settings.topic_prefix, codec).campaigns()
    channels = {
        (campaign.campaign_id, template.id): template.channel
        for campaign in campaigns.values()
        for template in campaign.templates
    }
    return training_rows(outcomes, _told_of(outcomes, settings, codec), channels)


def _told_of(
    users: Mapping[str, object], settings: Settings, codec: Codec
) -> dict[str, list[UserEvent | Reward]]:
    told: dict[str, list[UserEvent | Reward]] = {}
    for event in _records(settings, codec, USER_EVENTS.name, UserEvent):
        if event.user_id in users and event.type != TIME_MARKER:
            told.setdefault(event.user_id, []).append(event)
    for reward in _records(settings, codec, REWARDS.name, Reward):
        if reward.user_id in users and reward.kind != TIME_MARKER:
            told.setdefault(reward.user_id, []).append(reward)
    return told


def _records(settings: Settings, codec: Codec, topic: str, kind: type[R]) -> Iterator[R]:
    for record in unrepeated(read_all(cluster_of(settings), settings.topic_prefix + topic)):
        found = codec.try_decode(record.value, kind)
        if isinstance(found, kind):
            yield found


def write_rows(path: Path, rows: Iterable[TrainingRow]) -> int:
    """Write rows as Parquet; how many there were.

    Raises
    ------
    SettingsError
        If Parquet cannot be written here.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  # of the extras
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            "Parquet needs pyarrow: install groundswell[encoder] or groundswell[parquet]"
        ) from error
    types = {"int64": pa.int64(), "string": pa.string(), "float": pa.float32()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    count, left = 0, iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as file:
        while some := list(islice(left, AT_ONCE)):
            columns = {
                name: [
                    profile_to_text(row.profile) if name == "profile" else getattr(row, name)
                    for row in some
                ]
                for name in COLUMNS
            }
            file.write_table(pa.table(columns, schema=schema))
            count += len(some)
    return count
