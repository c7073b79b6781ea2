"""Fixtures for every suite: the recorded data, and a real Kafka."""

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from streams.kafka.broker_node import QUICK
from tests.kafka.started import Kafka, started

# A machine that is busy is no reason for a test to fail.
hypothesis.settings.register_profile(
    "groundswell", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("groundswell")
# A shell ignores it for what it runs in the background, and so would every process of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with started(tmp_path_factory.mktemp("kafka"), QUICK) as found:
        yield found


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
