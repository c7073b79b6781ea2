"""Benches run on a Kafka whose Java runs as Kafka's own scripts have it, as users' brokers do."""

from collections.abc import Iterator

import pytest

from streams.kafka.broker_node import AS_SHIPPED
from tests.kafka.started import Kafka, started


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with started(tmp_path_factory.mktemp("kafka"), AS_SHIPPED) as found:
        yield found
