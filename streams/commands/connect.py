"""What every command that talks to Kafka begins with."""

from typing import Annotated

import typer

from streams.kafka.cluster import cluster_of
from streams.kafka.reach import require_broker
from streams.settings import Settings, load_settings

__all__ = ["Bootstrap", "connect"]

Bootstrap = Annotated[
    str | None,
    typer.Option(
        help="Kafka's address, host:port[,host:port]: GROUNDSWELL_BOOTSTRAP, or 127.0.0.1:9092.",
        show_default=False,
    ),
]


def connect(bootstrap: str | None) -> Settings:
    """The settings of a command, once a Kafka answers.

    Raises
    ------
    SettingsError
        If a setting cannot be used.
    BrokerError
        If no Kafka answers.
    """
    settings = load_settings(bootstrap=bootstrap)
    require_broker(cluster_of(settings))
    return settings
