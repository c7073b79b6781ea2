"""Where the worker's time goes while it folds events: the ten functions that take most of it."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.bench.figures import BUILD, Figure, write_figures
from tests.bench.speed import ours

pytestmark = [pytest.mark.bench, pytest.mark.kafka, pytest.mark.timeout(1_800)]

EVENTS, USERS = 150_000, 20_000
RECORD_S = 5
TOP = 10


def test_the_hot_path_is_told(stages, events, tmp_path: Path):
    """py-spy samples who holds the interpreter; the stacks are kept for a flame graph."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        pytest.skip("py-spy is not installed: run `make bench`")
    stacks = tmp_path / "stacks.txt"
    command = [spy, "record", "--gil", "--rate", "200", "--duration", str(RECORD_S)]
    command += ["--format", "raw", "--output", stacks]
    recorders: list[subprocess.Popen[bytes]] = []

    def record(processes: Mapping[str, int]) -> None:
        (pid,) = processes.values()
        recorders.append(subprocess.Popen([*command, "--pid", str(pid)], stdout=subprocess.DEVNULL))

    with stages(commit_interval_s=0.2) as stage:
        ours.fold_events(stage, events(EVENTS, USERS), watch=record)
        assert recorders[0].wait(60) == 0
    kept = BUILD / "bench" / "speed-hot-path.stacks.txt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(stacks, kept)
    shares = self_shares(stacks.read_text().splitlines())
    assert shares
    write_figures(
        "bench",
        "speed-hot-path",
        [
            Figure(name=name, value=100 * share, unit="% of samples, itself")
            for name, share in shares.most_common(TOP)
        ],
    )


def self_shares(stacks: list[str]) -> Counter[str]:
    """By function the share of the samples in which it was what ran."""
    counts: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        counts[stack.rpartition(";")[2].rpartition(":")[0]] += int(count)
    total = counts.total()
    return Counter({name: count / total for name, count in counts.items()})
