"""Whether a Kafka answers, said in one line where none does."""

import socket
from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerError


def brokers(
    bootstrap: str,
    timeout_s: float,
    security: Mapping[str, str] | None = None,
) -> frozenset[int]:
    """Return the ids of the brokers that the cluster at `bootstrap` counts as alive, or none."""
    settings: dict[str, str | int] = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,  # a refused connection is this function's answer, not news
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        **(security or {}),
    }
    try:
        return frozenset(AdminClient(settings).list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return frozenset()


def require_broker(
    bootstrap: str,
    timeout_s: float = 5,
    security: Mapping[str, str] | None = None,
) -> None:
    """Return if a Kafka answers at `bootstrap`, and say why not if none does.

    Parameters
    ----------
    bootstrap
        Addresses, ``host:port`` joined by commas; one that answers is enough.
    timeout_s
        Seconds to wait for each address, and again for Kafka's answer.
    security
        librdkafka's settings for a listener with TLS or SASL.

    Raises
    ------
    BrokerError
        No address accepts a connection, or what accepts it does not answer as Kafka.
    """
    refusals = {address: _refusal(address, timeout_s) for address in bootstrap.split(",")}
    if all(refusals.values()):
        reasons = ", ".join(f"{address} ({reason})" for address, reason in refusals.items())
        raise BrokerError(
            f"no Kafka at {reasons}: start one with `groundswell broker start`, "
            "or give the address of yours",
        )
    if not brokers(bootstrap, timeout_s, security):
        raise BrokerError(
            f"something listens at {bootstrap} but gave no answer as Kafka in {timeout_s:g} s: "
            "check the port, and whether the listener wants TLS or SASL",
        )


def _refusal(address: str, timeout_s: float) -> str | None:
    """Return why no connection to `address` opens, or None if one does."""
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdigit():
        return "not host:port"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except (OSError, OverflowError) as error:
        if isinstance(error, TimeoutError):
            return f"no answer in {timeout_s:g} s"
        return (getattr(error, "strerror", None) or str(error)).lower()
    return None
