"""Processes that end with this one, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import GroundswellError
from streams.kafka.broker_node import DIE_WITH_PARENT

__all__ = ["Children"]

STOP_S = 15.0
MOST_WORDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process and the file that it writes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Children:
    """Python processes of ours, each with its log; start them from the main thread.

    On Linux the kernel kills them when the starting thread ends without having stopped them.

    Parameters
    ----------
    logs
        Folder of the logs, ``<name>.log``.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def start(self, name: str, args: Sequence[str], env: Mapping[str, str]) -> None:
        """Start ``python <args>`` with variables on top of this process's own."""
        command = [sys.executable, *args]
        if sys.platform == "linux":
            parent = str(os.getpid())
            command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, parent, *command]
        log = self._logs / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                # Ctrl-C in the terminal reaches the parent alone, which stops them in order.
                start_new_session=True,
            )
        self._children.append(Child(name=name, process=process, log=log))

    def check(self) -> None:
        """Return while all of them run.

        Raises
        ------
        GroundswellError
            With the last line that the one that ended has written.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise GroundswellError(
                    f"{child.name} ended with exit code {code}: {_last_words(child.log)}: "
                    f"see {child.log}"
                )

    def stop(self, *names: str) -> None:
        """Ask some of them to end, all of them without names, and kill what has not in 15 s."""
        leaving = [c for c in self._children if not names or c.name in names]
        self._children = [c for c in self._children if c not in leaving]
        for child in leaving:
            with suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in leaving:
            try:
                child.process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def _last_words(log: Path) -> str:
    """Give the last line of a log, of a structured one its error."""
    lines = log.read_text(errors="replace").split("\n")
    line = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    with suppress(ValueError, AttributeError):
        line = str(json.loads(line).get("error", line))
    return line[:MOST_WORDS]
