"""Whether a Kafka answers, said in one line where none does."""

import socket
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerError, SettingsError
from streams.kafka.cluster import Cluster

__all__ = ["brokers", "require_broker"]

ASKED_S = 0.5  # then it is looked whether anything was refused, and asked again


def brokers(cluster: Cluster, timeout_s: float) -> frozenset[int]:
    """Return the ids of the brokers that a cluster counts as alive, or none."""
    return _answer(cluster, timeout_s)[0]


def require_broker(cluster: Cluster, timeout_s: float = 5) -> None:
    """Return if a Kafka answers, and say why not if none does.

    Parameters
    ----------
    cluster
        One of its addresses that answers is enough.
    timeout_s
        Seconds to wait for each address, and again for Kafka's answer.

    Raises
    ------
    BrokerError
        No address accepts a connection, or what accepts it does not answer as Kafka, or refuses
        the certificate or the password.
    SettingsError
        librdkafka does not take a certificate or a key.
    """
    bootstrap = cluster.bootstrap
    refusals = {address: _refusal(address, timeout_s) for address in bootstrap.split(",")}
    if all(refusals.values()):
        reasons = ", ".join(f"{address} ({reason})" for address, reason in refusals.items())
        raise BrokerError(
            f"no Kafka at {reasons}: start one with `groundswell broker start`, "
            "or give the address of yours",
        )
    found, refused = _answer(cluster, timeout_s)
    if refused:
        raise BrokerError(
            f"{bootstrap} refuses this client ({refused}): check GROUNDSWELL_SECURITY_PROTOCOL "
            f"(now {cluster.protocol}), GROUNDSWELL_SSL_* and GROUNDSWELL_SASL_*"
        )
    if not found:
        raise BrokerError(
            f"something listens at {bootstrap} but gave no answer as Kafka in {timeout_s:g} s: "
            "check the port, and whether the listener wants TLS or SASL "
            f"(GROUNDSWELL_SECURITY_PROTOCOL, now {cluster.protocol}), or a client's certificate",
        )


def _answer(cluster: Cluster, timeout_s: float) -> tuple[frozenset[int], str]:
    """Give the brokers that are alive, and where there are none what was refused."""
    refused: list[str] = []

    def note(error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):  # noqa: SLF001 - public
            refused.append(error.str())

    options = {
        "log_level": 0,  # a refused connection is this function's answer, not news
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 100,
        "error_cb": note,
    }
    try:
        admin = AdminClient(cluster.client(options))
    except KafkaException as error:  # Python's TLS takes a file that librdkafka does not
        raise SettingsError(
            f"GROUNDSWELL_SSL_*, GROUNDSWELL_SASL_*: {error.args[0].str()}: mend that setting"
        ) from error
    deadline = time.monotonic() + timeout_s
    while not refused and (left_s := deadline - time.monotonic()) > 0:
        try:
            return frozenset(admin.list_topics(timeout=min(left_s, ASKED_S)).brokers), ""
        except KafkaException:
            admin.poll(0)  # calls `note`
    return frozenset(), refused[-1] if refused else ""


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
