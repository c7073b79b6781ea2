"""The embedded broker: Apache Kafka itself, one node or a few, as child processes on loopback.

The demo, the tests and CI run it, so that there is one set of semantics. It is KRaft with static
voters, small internal topics and little memory; whatever else it does is a production broker's
default.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from schemas.errors import BrokerError
from streams.kafka.broker_config import HOST, addresses
from streams.kafka.broker_jars import broker_files
from streams.kafka.broker_node import QUICK, Jvm, Node, kafka_uuid, sole_use
from streams.kafka.cluster import Cluster
from streams.kafka.reach import brokers

STATE_FILE = "broker.json"
START_S = 90.0
STOP_S = 20.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A broker found running, perhaps started by another process."""

    bootstrap: str
    pids: tuple[int, ...]


class EmbeddedKafka:
    """Apache Kafka on loopback, with its data in a directory that survives it.

    Parameters
    ----------
    data_dir
        Where everything lies: data, configuration, logs (``node-1/broker.log``), state file.
    port
        The port of the first node, the next ones for others; any that is free without it.
    nodes
        How many nodes, each broker and controller. Three replicate and survive one.
    jvm
        How each node's Java runs: quick to start, unless told otherwise.
    told_ports
        The ports that the nodes tell clients, one for each, where a proxy stands between them.
    listeners
        Other ways in beside the plain one, by protocol (SSL, SASL_SSL), each with Kafka's settings
        for it: every node has them, at ports that are free (`bootstrap_of`).
    settings
        Kafka's, on top of what the nodes are told.
    die_with_parent
        Whether the nodes are killed when this process ends, however it ends (Linux; strictly,
        when the thread ends that called `start`). Without it they go on.

    Examples
    --------
    >>> with EmbeddedKafka(Path("data")) as kafka:  # doctest: +SKIP
    ...     print(kafka.bootstrap)
    127.0.0.1:21873
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        nodes: int = 1,
        jvm: Jvm = QUICK,
        told_ports: Sequence[int] | None = None,
        listeners: Mapping[str, Mapping[str, str]] | None = None,
        settings: Mapping[str, str] | None = None,
        die_with_parent: bool = False,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self._jvm = jvm
        self._die_with_parent = die_with_parent
        self._cluster_id = kafka_uuid()  # for directories that are not formatted yet
        self._addresses = addresses(nodes, port, told_ports, listeners or {})
        self._nodes = {
            address.node: Node(
                folder=self.data_dir / f"node-{address.node}",
                address=address,
                peers=self._addresses,
                settings=settings or {},
            )
            for address in self._addresses
        }

    @property
    def bootstrap(self) -> str:
        """The addresses for clients, joined by commas."""
        return ",".join(address.bootstrap for address in self._addresses)

    def bootstrap_of(self, protocol: str) -> str:
        """The addresses for clients that come another way."""
        return ",".join(
            f"{HOST}:{listener.port}"
            for address in self._addresses
            for listener in address.listeners
            if listener.protocol == protocol
        )

    @property
    def ports(self) -> tuple[int, ...]:
        """Where the nodes listen."""
        return tuple(address.port for address in self._addresses)

    @property
    def pids(self) -> dict[int, int]:
        """The process of each node that runs."""
        return {i: n.process.pid for i, n in self._nodes.items() if n.process and n.alive}

    def start(self) -> None:
        """Start every node, formatting its directory if it is new, and wait until all answer.

        Raises
        ------
        BrokerError
            A broker runs on this directory already, it was made for another number of nodes, a
            port is taken, the jars cannot be fetched, or a node ended.
        """
        if found := running(self.data_dir):
            raise BrokerError(
                f"a broker runs on {self.data_dir} already, at {found.bootstrap} "
                f"(pid {_list(found.pids)}): use it, or stop it",
            )
        made_for = len(list(self.data_dir.glob("node-*/data/meta.properties")))
        if made_for not in (0, len(self._nodes)):
            raise BrokerError(
                f"{self.data_dir} was made for {made_for} node(s), not {len(self._nodes)}: "
                "wipe it, or choose another directory",
            )
        broker_files()  # the download's time is not the start's
        began = time.monotonic()
        try:
            for node in self._nodes.values():
                self._launch(node)
            self._await(set(self._nodes))
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        seconds = round(time.monotonic() - began, 1)
        log.info("broker_started", bootstrap=self.bootstrap, pids=self.pids, seconds=seconds)

    def stop(self) -> None:
        """Stop every node in order, and kill what is left after 20 s. The data stay."""
        self._end(signal.SIGTERM)

    def let_go(self) -> None:
        """Leave the nodes running when this process ends; `running` and `stop` find them."""
        for node in self._nodes.values():
            node.let_go()

    def wipe(self) -> None:
        """Remove the data directory.

        Raises
        ------
        BrokerError
            A broker runs on it.
        """
        wipe(self.data_dir)

    def stop_node(self, node: int) -> None:
        """Stop one node as an operator would, and return when it is gone."""
        self._nodes[node].signal(signal.SIGTERM)
        self._nodes[node].join(STOP_S)

    def kill_node(self, node: int) -> None:
        """Kill one node as a crash would, and return when it is gone."""
        self._nodes[node].signal(signal.SIGKILL)
        self._nodes[node].join(STOP_S)

    def start_node(self, node: int) -> None:
        """Start one node again, and return when the cluster counts it in.

        Raises
        ------
        BrokerError
            It ended, or is not counted in within 90 s.
        """
        if self._nodes[node].alive:
            return
        self._launch(self._nodes[node])
        self._await({node})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, node: Node) -> None:
        node.launch(
            broker_files(),
            self._cluster_id,
            self._jvm,
            die_with_parent=self._die_with_parent,
        )
        self._write_state()

    def _await(self, nodes: set[int]) -> None:
        deadline = time.monotonic() + START_S
        while True:
            for node in nodes:
                if not self._nodes[node].alive:
                    raise self._nodes[node].why_it_died()
            if nodes <= brokers(Cluster(self.bootstrap), timeout_s=0.5):
                return
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the embedded Kafka at {self.bootstrap} does not answer after {START_S:g} s: "
                    f"see {self.data_dir}/node-*/broker.log",
                )

    def _end(self, number: signal.Signals) -> None:
        if not any(node.process for node in self._nodes.values()):
            return  # and the state file, if there is one, tells of another's broker
        for node in self._nodes.values():
            node.signal(number)
        deadline = time.monotonic() + STOP_S
        for node in self._nodes.values():
            node.join(deadline - time.monotonic())
        (self.data_dir / STATE_FILE).unlink(missing_ok=True)

    def _write_state(self) -> None:
        state = {"bootstrap": self.bootstrap, "pids": list(self.pids.values())}
        path = self.data_dir / STATE_FILE
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps(state))
        fresh.replace(path)


def running(data_dir: Path) -> Running | None:
    """Return the broker that runs on `data_dir`, whoever started it, or None."""
    try:
        state = json.loads((data_dir / STATE_FILE).read_text())
        pids = tuple(pid for pid in state["pids"] if _is_broker(pid, data_dir))
        return Running(bootstrap=state["bootstrap"], pids=pids) if pids else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stop(data_dir: Path) -> Running | None:
    """Stop the broker that runs on `data_dir`, whoever started it; kill it after 20 s.

    Returns
    -------
    Running or None
        What was stopped; None if nothing ran.
    """
    found = running(data_dir)
    if found is None:
        return None
    for number, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        left = running(data_dir)
        for pid in left.pids if left else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if _wait(lambda: _is_quiet(data_dir), patience_s):
            (data_dir / STATE_FILE).unlink(missing_ok=True)
            return found
    raise BrokerError(f"pid {_list(found.pids)} does not end even when killed: look at its state")


def wipe(data_dir: Path) -> None:
    """Remove a broker's data directory, and refuse while a broker runs on it, or another thing is.

    Raises
    ------
    BrokerError
        A broker runs on it, or it does not look like a broker's.
    """
    if found := running(data_dir):
        raise BrokerError(
            f"a broker runs on {data_dir} (pid {_list(found.pids)}): stop it before you wipe",
        )
    if not data_dir.exists():
        return
    strange = [p for p in data_dir.iterdir() if not p.name.startswith(("node-", "broker."))]
    if strange:
        raise BrokerError(
            f"{data_dir} holds {strange[0].name}, which no broker made: check the directory",
        )
    with _sole_use_of_all(data_dir):
        shutil.rmtree(data_dir)


@contextmanager
def _sole_use_of_all(data_dir: Path) -> Iterator[None]:
    with ExitStack() as stack:
        for folder in data_dir.glob("node-*"):
            stack.enter_context(sole_use(folder))
        yield


def _is_quiet(data_dir: Path) -> bool:
    """Return whether no node is left: one that ends loses its command line before its lock."""
    try:
        with _sole_use_of_all(data_dir):
            return running(data_dir) is None
    except BrokerError:
        return False


def _is_broker(pid: int, data_dir: Path) -> bool:
    """Return whether `pid` is a node of this directory: pids are used again, and forged."""
    try:
        command = Path(f"/proc/{pid:d}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        listing = ["ps", "-ww", "-o", "command=", "-p", f"{pid:d}"]
        command = subprocess.run(listing, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return " kafka.Kafka " in command and f"{data_dir.resolve()}/node-" in command


def _wait(done: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _list(pids: tuple[int, ...]) -> str:
    return ", ".join(map(str, pids))
