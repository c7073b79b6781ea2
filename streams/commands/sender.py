"""``groundswell sender``: a sender to start from, by email or webhook."""

import os
import signal
import ssl
import threading
import time
from typing import Annotated

import typer

from schemas.errors import SettingsError
from schemas.registry import codec_for
from schemas.topics import SEND_DECISIONS
from streams.commands.connect import Bootstrap, connect
from streams.kafka.cluster import cluster_of
from streams.settings import Settings
from streams.simulation.outboxes import Outbox, SmtpOutbox, WebhookOutbox
from streams.simulation.reference_sender import ReferenceSender, Route

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="A sender to start from, by email or webhook.")

SECRET = "GROUNDSWELL_WEBHOOK_SECRET"  # noqa: S105 - its name
SHORTEST_SECRET = 16


@app.callback()
def _group() -> None:
    """Keep `run` a word of its own: typer drops the only command's name."""


@app.command(epilog="Example: groundswell sender run --smtp 127.0.0.1:25 --from news@example.org")
def run(
    smtp: Annotated[
        str | None, typer.Option(help="Send emails through this relay, host:port.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", help="The address that emails come from.")
    ] = None,
    starttls: Annotated[
        bool, typer.Option("--starttls", help="Insist on TLS with the relay.")
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(help=f"Post JSON to this URL, signed with the secret in {SECRET}."),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            help="Send this channel's decisions alone.",
            show_default="email with --smtp, every channel with --webhook",
        ),
    ] = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Send decisions until SIGTERM, and post a receipt for each.

    Whoever receives must ignore a decision id that it has seen: after a crash one may come again.
    """
    outbox = _outbox(smtp, sender, webhook, starttls=starttls)
    settings = connect(bootstrap)
    channel = channel or ("email" if smtp else None)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ReferenceSender(
        route_of(settings, channel),
        outbox,
        codec_for(settings.registry),
        lambda: int(time.time() * 1000),
    ).run(stop)


def route_of(settings: Settings, channel: str | None) -> Route:
    """Which decisions a channel's sender reads, and where its receipts go.

    Raises
    ------
    SettingsError
        If the company has no topic of feedback.
    """
    sources = settings.reward_sources.replace(",", " ").split()
    if not sources:
        raise SettingsError("setting reward_sources (GROUNDSWELL_REWARD_SOURCES) names no topic")
    return Route(
        cluster=cluster_of(settings),
        decisions=settings.topic_prefix + SEND_DECISIONS.name,
        receipts=settings.topic_prefix + sources[0],
        group=f"{settings.topic_prefix}{settings.app}-sender-{channel or 'all'}",
        channel=channel,
    )


def _outbox(smtp: str | None, sender: str | None, webhook: str | None, *, starttls: bool) -> Outbox:
    if smtp is not None and webhook is None:
        host, _, port = smtp.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise SettingsError(f"--smtp takes host:port, got {smtp!r}: such as 127.0.0.1:25")
        if sender is None:
            raise SettingsError("--smtp needs --from: the address that emails come from")
        tls = ssl.create_default_context() if starttls else None
        return SmtpOutbox(host.strip("[]"), int(port), sender, tls=tls)
    if webhook is not None and smtp is None:
        secret = os.environ.get(SECRET, "")
        if len(secret) < SHORTEST_SECRET:
            raise SettingsError(
                f"{SECRET} must have {SHORTEST_SECRET} characters or more, got {len(secret)}: "
                "the receiver knows by it who posts"
            )
        return WebhookOutbox(webhook, secret.encode())
    raise SettingsError("where to? Give either --smtp HOST:PORT or --webhook URL")
