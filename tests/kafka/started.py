"""The Kafka that tests run on.

The first that is there: the one at ``GROUNDSWELL_TEST_BOOTSTRAP``; testcontainers' where
``GROUNDSWELL_TEST_DOCKER=1`` and a Docker engine answers; the embedded one. Where none starts its
tests are skipped, or fail with ``GROUNDSWELL_TEST_REQUIRE_KAFKA=1``.
"""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerError
from streams.kafka.broker import EmbeddedKafka
from streams.kafka.broker_node import Jvm
from streams.kafka.cluster import Cluster
from streams.kafka.reach import require_broker

__all__ = ["Kafka", "started"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    bootstrap: str
    admin: AdminClient


@contextmanager
def started(folder: Path, jvm: Jvm) -> Iterator[Kafka]:
    """Give the first Kafka that is there; the embedded one in a folder, its Java run as told."""
    with ExitStack() as stack:
        try:
            bootstrap = (
                os.environ.get("GROUNDSWELL_TEST_BOOTSTRAP")
                or _container(stack)
                or _embedded(stack, folder, jvm)
            )
            require_broker(Cluster(bootstrap))
        except BrokerError as error:
            if os.environ.get("GROUNDSWELL_TEST_REQUIRE_KAFKA") == "1":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        yield Kafka(bootstrap=bootstrap, admin=admin)


def _container(stack: ExitStack) -> str | None:
    if os.environ.get("GROUNDSWELL_TEST_DOCKER") != "1" or not _docker_answers():
        return None
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer().with_kraft()
    for name in ("OFFSETS_TOPIC", "TRANSACTION_STATE_LOG"):
        container.with_env(f"KAFKA_{name}_REPLICATION_FACTOR", "1")
    container.with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
    container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    container.with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
    return stack.enter_context(container).get_bootstrap_server()


def _docker_answers() -> bool:
    import docker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # where none answers it leaves a socket
        try:
            docker.from_env().close()  # the client asks the engine for its version
        except docker.errors.DockerException:
            found = False
        else:
            found = True
        gc.collect()
    return found


def _embedded(stack: ExitStack, folder: Path, jvm: Jvm) -> str:
    kafka = EmbeddedKafka(folder / "broker", jvm=jvm, die_with_parent=True)
    return stack.enter_context(kafka).bootstrap
