"""Fixtures for every suite: the recorded data, and a real Kafka.

Kafka is the first that is there: the one at ``GROUNDSWELL_TEST_BOOTSTRAP``; testcontainers' where
``GROUNDSWELL_TEST_DOCKER=1`` and a Docker engine answers; the embedded one. Where none starts its
tests are skipped, or fail with ``GROUNDSWELL_TEST_REQUIRE_KAFKA=1``.
"""

import gc
import os
import secrets
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import structlog
from confluent_kafka.admin import AdminClient

from schemas.errors import BrokerError
from streams.kafka.broker import EmbeddedKafka
from streams.kafka.reach import require_broker

# A machine that is busy is no reason for a test to fail.
hypothesis.settings.register_profile(
    "groundswell", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("groundswell")
# A shell ignores it for what it runs in the background, and so would every process of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    bootstrap: str
    admin: AdminClient


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with ExitStack() as stack:
        try:
            bootstrap = (
                os.environ.get("GROUNDSWELL_TEST_BOOTSTRAP")
                or _container(stack)
                or _embedded(stack, tmp_path_factory.mktemp("kafka"))
            )
            require_broker(bootstrap)
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


def _embedded(stack: ExitStack, folder: Path) -> str:
    return stack.enter_context(EmbeddedKafka(folder / "broker", die_with_parent=True)).bootstrap


@pytest.fixture
def namespace(kafka: Kafka) -> Iterator[str]:
    """Give a prefix for topics that is this test's alone; they are deleted after it."""
    prefix = f"t-{secrets.token_hex(3)}-"
    yield prefix
    topics = [t for t in kafka.admin.list_topics(timeout=10).topics if t.startswith(prefix)]
    if topics:
        for deleted in kafka.admin.delete_topics(topics).values():
            deleted.result(10)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Give the folder of recorded data sets."""
    folder = os.environ.get("GROUNDSWELL_TEST_DATA")
    if not folder:
        pytest.skip("GROUNDSWELL_TEST_DATA names no folder of recorded data")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"GROUNDSWELL_TEST_DATA={folder} is no folder", pytrace=False)
    return path


@pytest.fixture(autouse=True)
def _logs_as_they_come() -> Iterator[None]:
    """A command that runs in a test's process sets how it logs: not for the tests after it."""
    yield
    structlog.reset_defaults()
