"""``groundswell campaign``: define campaigns, watch them, stop what hurts."""

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.campaign import Campaign
from schemas.learning import WaveReport
from schemas.registry import codec_for
from schemas.topics import CAMPAIGNS, WAVE_REPORTS
from streams.commands.campaign_file import read_campaign
from streams.commands.campaign_status import is_over, table, wave_figures
from streams.commands.campaign_value import value
from streams.commands.connect import Bootstrap, connect
from streams.kafka.campaign_client import CampaignClient, take_reports
from streams.kafka.cluster import cluster_of
from streams.kafka.read import follow as follow_topics
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Define campaigns, watch them, stop what hurts.")

app.command()(value)

Name = Annotated[str, typer.Argument(help="The campaign's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
REFRESH_S = 0.5


@app.command(epilog="Example: groundswell campaign apply spring-sale.yaml")
def apply(
    file: Annotated[Path, typer.Argument(help="The campaign's YAML file.")],
    bootstrap: Bootstrap = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
) -> None:
    """Make a campaign from a file, or change it to what the file says.

    The status stays what it is: a paused campaign stays paused. What is learned from (context,
    template features, policy) can be changed until the first wave starts.
    """
    campaign = read_campaign(file, _now_ms())
    if check:
        typer.echo(f"{file} is sound: {_described(campaign)}")
        return
    applied = _client(connect(bootstrap)).apply(campaign, _now_ms())
    present = applied.campaign
    if not applied.changed:
        typer.echo(f"{present.campaign_id} is as the file says, version {present.version}")
    elif present.version == 1:
        typer.echo(f"made {present.campaign_id}: {_described(present)}")
    else:
        typer.echo(
            f"changed {present.campaign_id} to version {present.version}: {_described(present)}"
        )


@app.command("list", epilog="Example: groundswell campaign list")
def list_campaigns(bootstrap: Bootstrap = None, as_json: AsJson = False) -> None:
    """List the campaigns with their status."""
    campaigns = _client(connect(bootstrap)).campaigns().values()
    if as_json:
        typer.echo(msgspec.json.encode([_brief(campaign) for campaign in campaigns]).decode())
        return
    shown = Table(box=SIMPLE, pad_edge=False)
    for name in ("campaign", "status", "version", "waves", "templates", "policy"):
        number = name in ("version", "waves", "templates")
        shown.add_column(name, justify="right" if number else "left", no_wrap=True)
    for campaign in campaigns:
        shown.add_row(*(Text(str(value)) for value in _brief(campaign).values()))
    Console().print(shown if campaigns else "no campaigns: make one with campaign apply FILE")


@app.command(epilog="Example: groundswell campaign status spring-sale --follow")
def status(
    name: Name,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the last wave has ended, or Ctrl-C.")
    ] = False,
    bootstrap: Bootstrap = None,
    as_json: AsJson = False,
) -> None:
    """Show how each wave stands: decisions, sends, feedback, and reward with its interval."""
    settings = connect(bootstrap)
    client = _client(settings)
    campaign, reports = client.campaign(name), client.reports(name)
    if not follow:
        _show(campaign, reports, as_json)
        return
    with suppress(KeyboardInterrupt):
        _follow(settings, campaign, as_json)


@app.command(epilog="Example: groundswell campaign pause spring-sale")
def pause(name: Name, bootstrap: Bootstrap = None) -> None:
    """Decide nothing more, of the running wave neither, until resumed or the wave's deadline."""
    _set(name, "paused", bootstrap)


@app.command(epilog="Example: groundswell campaign resume spring-sale")
def resume(name: Name, bootstrap: Bootstrap = None) -> None:
    """Go on with the next wave of a campaign that was paused or stopped."""
    _set(name, "active", bootstrap)


@app.command(epilog="Example: groundswell campaign stop spring-sale")
def stop(name: Name, bootstrap: Bootstrap = None) -> None:
    """End the wave that runs, and start no further one; what was learned is kept."""
    _set(name, "stopped", bootstrap)


def _set(name: str, status_: str, bootstrap: str | None) -> None:
    applied = _client(connect(bootstrap)).set_status(name, status_, _now_ms())
    already = "" if applied.changed else "already "
    typer.echo(f"{name} is {already}{status_}, version {applied.campaign.version}")


def _follow(settings: Settings, campaign: Campaign, as_json: bool) -> None:
    codec, found = codec_for(settings.registry), dict[int, WaveReport]()
    campaigns = settings.topic_prefix + CAMPAIGNS.name
    topics = [campaigns, settings.topic_prefix + WAVE_REPORTS.name]
    stale, shown_at = True, time.monotonic()
    with ExitStack() as stack:
        live = None if as_json else stack.enter_context(Live(auto_refresh=False))
        for record in follow_topics(cluster_of(settings), topics, from_beginning=True):
            if record is not None and record.topic != campaigns:
                take_reports(codec, [record], campaign.campaign_id, found)
                stale = True
            elif record is not None and record.key == campaign.campaign_id.encode():
                read = codec.try_decode(record.value, Campaign)
                campaign, stale = (read if isinstance(read, Campaign) else campaign), True
            if record is not None and time.monotonic() - shown_at < REFRESH_S:
                continue
            reports = [found[wave] for wave in sorted(found)]
            if stale and live is not None:
                live.update(table(campaign, reports), refresh=True)
            elif stale:
                _show(campaign, reports, as_json)
            stale, shown_at = False, time.monotonic()
            if record is None and is_over(campaign, reports):
                return


def _show(campaign: Campaign, reports: list[WaveReport], as_json: bool) -> None:
    if as_json:
        shown = {**_brief(campaign), "progress": [wave_figures(report) for report in reports]}
        typer.echo(msgspec.json.encode(shown).decode())
    else:
        Console().print(table(campaign, reports))


def _brief(campaign: Campaign) -> dict[str, str | int]:
    return {
        "campaign": campaign.campaign_id,
        "status": campaign.status,
        "version": campaign.version,
        "waves": campaign.waves,
        "templates": len(campaign.templates),
        "policy": campaign.policy,
    }


def _described(campaign: Campaign) -> str:
    if campaign.audience_users is not None:
        audience = f"{len(campaign.audience_users)} users"
    else:
        audience = campaign.audience_segment or "everybody"
    course = f"{campaign.waves} waves"
    if campaign.triggered:
        course = f"triggered by {campaign.trigger_event}"
    return (
        f"{campaign.status}, {len(campaign.templates)} templates, {course}, "
        f"policy {campaign.policy}, for {audience}"
    )


def _client(settings: Settings) -> CampaignClient:
    codec = codec_for(settings.registry)
    return CampaignClient(cluster_of(settings), settings.topic_prefix, codec)


def _now_ms() -> int:
    return int(time.time() * 1000)
