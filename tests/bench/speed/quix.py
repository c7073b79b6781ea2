"""Quix Streams as a contestant: `quix_peer.py` in the environment that the Makefile made."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from schemas.topics import USER_EVENTS
from tests.bench.speed.stage import Course, Stage
from tests.kafka.harness import wait_until

__all__ = ["PYTHON", "fold_events"]

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "peers" / "bin" / "python"
OFFSETS = "__processed_tp_offsets__"  # header of Quix's changelog records


def fold_events(
    stage: Stage, records: Sequence[tuple[str, bytes]], fold: str, commit_interval_s: float
) -> Course:
    """User events folded into state by one process."""
    at = stage.at
    source, group = at.prefix + USER_EVENTS.name, f"{at.prefix}quix"
    output = f"changelog__{group}--{source}--default"
    at.directory.mkdir(parents=True, exist_ok=True)
    with (at.directory / "quix.log").open("ab") as log:
        peer = subprocess.Popen(
            [
                PYTHON, "-m", "tests.bench.speed.quix_peer",
                "--bootstrap", at.bootstrap, "--topic", source, "--group", group,
                "--fold", fold, "--commit-interval", str(commit_interval_s),
                "--state", str(at.directory / "quix"),
            ],
            cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until(
                lambda: peer.poll() is not None or _stable(at.admin, group), 300, "Quix is stable"
            )
            assert peer.poll() is None, (at.directory / "quix.log").read_text()[-3000:]
            with stage.filled(USER_EVENTS.name, records) as begin:
                course = stage.run(
                    begin,
                    output,
                    lambda last: _applied(last, source) >= len(records),
                    {"quix": peer.pid},
                )
            assert peer.poll() is None, (at.directory / "quix.log").read_text()[-3000:]
        finally:
            peer.kill()
            peer.wait(10)
    return course


def _stable(admin: Any, group: str) -> bool:
    described = admin.describe_consumer_groups([group])[group].result(10)
    return described.state.name == "STABLE" and any(
        member.assignment.topic_partitions for member in described.members
    )


def _applied(last: list[list[Any]], source: str) -> int:
    newest = 0
    for messages in last:
        offsets = [json.loads(dict(m.headers() or [])[OFFSETS])[source] for m in messages]
        newest += max(offsets, default=-1) + 1
    return newest
