"""`make chaos`: three brokers of which one is always on its way, and a slow way to them."""

import itertools
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.broker import EmbeddedKafka
from streams.kafka.broker_config import free_ports
from tests.chaos.driver import Harm, run
from tests.chaos.report import at_least, seen
from tests.chaos.slow_produce import SlowProduce
from tests.kafka.harness import Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(1500)]

NODES = 3
DELAY_S = 0.3
MAY_END = (1, 3, 4)  # no broker answers at the start; fenced; no transaction went through


@contextmanager
def cluster(directory: Path, told_ports: list[int] | None = None) -> Iterator[EmbeddedKafka]:
    """Three nodes of which each may be away: replication 3, two confirm."""
    with EmbeddedKafka(
        directory / "cluster", nodes=NODES, told_ports=told_ports, die_with_parent=True
    ) as made:
        yield made


@contextmanager
def deployed_on(bootstrap: str, directory: Path) -> Iterator[Deployment]:
    """A deployment that survives one node."""
    known = SimpleNamespace(
        bootstrap=bootstrap,
        admin=AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}),
    )
    prefix = f"c-{secrets.token_hex(3)}-"
    settings = {"GROUNDSWELL_SESSION_TIMEOUT_S": "10"}  # the default
    with deployment(
        known, prefix, directory, replication=3, min_insync=2, settings=settings
    ) as made:
        yield made


class Supervisor:
    """Starts workers again that ended as they may while brokers are away.

    A worker gives a transaction up after 30 s without enough brokers, and ends (exit 4): whoever
    runs it starts it again, as long as it is needed.
    """

    def __init__(self) -> None:
        self.again = 0

    def __call__(self, deployed: Deployment) -> None:
        for worker, process in list(deployed.workers.items()):
            if process.poll() is not None:
                assert process.returncode in MAY_END, deployed.tail(worker)
                deployed.start(worker)
                self.again += 1


def restarts(
    deployed: Deployment,
    brokers: EmbeddedKafka,
    supervisor: Supervisor,
    times: int,
    every_s: float,
) -> Harm:
    """Stop one node after the other, in order or by a kill, and start it again."""
    away = []
    for number, node in zip(range(times), itertools.cycle(range(1, NODES + 1)), strict=False):
        began = time.monotonic()
        (brokers.stop_node if number % 2 else brokers.kill_node)(node)
        brokers.start_node(node)
        away.append(time.monotonic() - began)
        while time.monotonic() - began < every_s:
            supervisor(deployed)
            time.sleep(1)
    return Harm(
        times,
        [
            seen("a node was away for, median", statistics.median(away), "s"),
            seen("a node was away for, at most", max(away), "s"),
        ],
    )


def test_nothing_is_lost_and_nothing_doubled_while_brokers_restart(tmp_path: Path):
    supervisor = Supervisor()
    with cluster(tmp_path) as brokers, deployed_on(brokers.bootstrap, tmp_path) as deployed:
        row = run(
            deployed,
            "a broker of three restarted every 60 s, stopped or killed",
            lambda deployed, _: restarts(deployed, brokers, supervisor, 6, 60),
            waves=12,
            window_s=20,
            tend=supervisor,
        )
    row.figures.append(seen("workers that gave up and were started again", supervisor.again, ""))
    row.keep()


def confirmed_after(deployed: Deployment, times: int) -> float:
    """How long a produced record takes until it is confirmed: the median, in seconds."""
    topic = deployed.prefix + "probe"
    deployed.admin.create_topics([NewTopic(topic, 1, NODES)])[topic].result(20)
    producer = deployed.producer()
    took = []
    for _ in range(times):
        started = time.monotonic()
        producer.produce(topic, b"x")
        assert producer.flush(10) == 0
        took.append(time.monotonic() - started)
    return statistics.median(took)


def test_nothing_is_lost_and_nothing_doubled_with_a_slow_way_to_the_brokers(tmp_path: Path):
    told = free_ports(NODES)
    bootstrap = ",".join(f"127.0.0.1:{port}" for port in told)
    with (
        cluster(tmp_path, told) as brokers,
        SlowProduce(list(zip(told, brokers.ports, strict=True)), DELAY_S) as proxy,
        deployed_on(bootstrap, tmp_path) as deployed,
    ):
        took = confirmed_after(deployed, 5)

        def slow(deployed: Deployment, _feeder: object) -> Harm:
            before = proxy.delayed
            time.sleep(120)
            deployed.assert_alive()
            delayed = proxy.delayed - before
            return Harm(
                delayed,
                [
                    at_least("a record is confirmed after", took, "s", DELAY_S),
                    at_least("produce requests held up", delayed, "", 100),
                ],
            )

        row = run(deployed, "300 ms added to every produce", slow, waves=8, window_s=10)
    row.keep()
