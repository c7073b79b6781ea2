"""The `groundswell` command."""

import sys
from typing import Annotated

import typer

from schemas.errors import GroundswellError
from streams.app import run_worker
from streams.commands import (
    broker,
    campaign,
    encoder,
    events,
    keys,
    sender,
    settings,
    topics,
    users,
)
from streams.commands.demo import demo
from streams.commands.replay import replay
from streams.logs import log_to_stderr
from streams.settings import load_settings

__all__ = ["app", "main"]

app = typer.Typer(
    name="groundswell",
    help="Decides which notification each person gets, and learns from what they do with it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(broker.app, name="broker")
app.add_typer(campaign.app, name="campaign")
app.add_typer(topics.app, name="topics")
app.add_typer(users.app, name="users")
app.add_typer(events.app, name="events")
app.add_typer(sender.app, name="sender")
app.add_typer(encoder.app, name="encoder")
app.add_typer(keys.app, name="keys")
app.command(name="settings")(settings.show)
app.command()(demo)
app.command()(replay)


@app.command()
def worker(
    bootstrap: Annotated[str | None, typer.Option(help="Kafka's address: host:port")] = None,
) -> None:
    """Run one worker process of the consumer group, until SIGTERM.

    Settings come from the environment: see `groundswell settings`. It answers /live, /ready and
    /metrics on loopback, on the port that it logs.

    It ends with 0 when asked to; 1 for a setting, broker or topic that is not as it must be; 3 when
    another worker owns its shards; 4 when state or disk cannot be trusted, or Kafka refuses it
    something; 5 when it stands still under lag; 70 for a bug. Whatever it ends with, nothing is
    lost: start it again.

    Example: GROUNDSWELL_INSTANCE=worker-1 groundswell worker --bootstrap 127.0.0.1:9092
    """
    run_worker(load_settings(bootstrap=bootstrap))


def main() -> None:
    """Run the command; an error that a user can act on is one line on standard error."""
    log_to_stderr()
    try:
        app()
    except GroundswellError as error:
        sys.stderr.write(f"groundswell: {error}\n")
        sys.exit(1)
    except OSError as error:  # a directory that may not be written, a full disk
        where = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(f"groundswell: {error.strerror or error}{where}: check that path\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
