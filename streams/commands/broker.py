"""``groundswell broker``: Apache Kafka on this machine, for trying, developing and testing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import BrokerError, GroundswellError
from streams.kafka import broker
from streams.kafka.broker_config import HOST
from streams.kafka.cluster import Cluster
from streams.kafka.reach import require_broker

app = typer.Typer(
    no_args_is_help=True,
    help="Apache Kafka on this machine, for trying, developing and testing: not for production.",
)


def _default_data() -> Path:
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(share) / "groundswell" / "broker"


Data = Annotated[
    Path,
    typer.Option(
        "--data",
        help="The broker's data directory.",
        default_factory=_default_data,
        show_default="~/.local/share/groundswell/broker",
    ),
]


@app.command(epilog="Example: groundswell broker start --data ./kafka --port 9092")
def start(
    data: Data,
    port: Annotated[int, typer.Option(help="The port on loopback.", min=1, max=65535)] = 9092,
) -> None:
    """Start the broker and leave it running. One that runs already is left alone."""
    with _errors_in_one_line():
        if found := broker.running(data):
            if found.bootstrap != f"{HOST}:{port}":
                raise BrokerError(
                    f"the broker on {data} runs at {found.bootstrap}, not on port {port}: "
                    "stop it first, or use it where it is",
                )
            typer.echo(f"already running at {_describe(found)}")
            return
        kafka = broker.EmbeddedKafka(data, port=port)
        kafka.start()
        kafka.let_go()
        started = broker.running(data)
        assert started is not None
        typer.echo(f"running at {_describe(started)}, data in {data}")


@app.command(epilog="Example: groundswell broker stop --data ./kafka")
def stop(data: Data) -> None:
    """Stop the broker and keep its data; kill it if it has not ended after 20 s."""
    with _errors_in_one_line():
        stopped = broker.stop(data)
        typer.echo(f"stopped {_describe(stopped)}" if stopped else "not running")


@app.command(epilog="Example: groundswell broker status && groundswell demo")
def status(data: Data) -> None:
    """Say whether the broker runs and answers; end with 1 if it does not."""
    with _errors_in_one_line():
        found = broker.running(data)
        if found is None:
            raise BrokerError(
                f"no broker runs on {data}: start it with `groundswell broker start`",
            )
        require_broker(Cluster(found.bootstrap))
        typer.echo(f"running at {_describe(found)}, data in {data}")


@app.command(epilog="Example: groundswell broker wipe --data ./kafka")
def wipe(data: Data) -> None:
    """Remove the broker's data: all topics, all records. Refused while it runs."""
    with _errors_in_one_line():
        broker.wipe(data)
        typer.echo(f"wiped {data}")


def _describe(found: broker.Running) -> str:
    return f"{found.bootstrap} (pid {', '.join(map(str, found.pids))})"


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except GroundswellError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
