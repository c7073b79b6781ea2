"""`make chaos`: what the guarantee of design and README is held to, at full length."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.topics import DEAD_LETTERS
from tests.bench.figures import Figure, write_figures
from tests.chaos import faults
from tests.chaos.driver import Feeder, Verdict, run
from tests.kafka.harness import Deployment, deployment

pytestmark = [pytest.mark.chaos, pytest.mark.kafka, pytest.mark.timeout(1800)]

SESSION_S = 6.0

Fault = Callable[[Deployment, Feeder], int]

FAULTS: dict[str, tuple[Fault, dict[str, float]]] = {
    "kill -9 of one of two workers every 20 to 40 s, 10 min": (
        lambda deployed, _: faults.kills(deployed, 20, (20, 40)),
        {"rate": 1000, "waves": 10},
    ),
    "20 rolling restarts": (
        lambda deployed, _: faults.rolling_restarts(deployed, 20, 15),
        {"rate": 1000, "waves": 10},
    ),
    "frozen for two session timeouts under a backlog of 50,000": (
        lambda deployed, feeder: faults.freeze(deployed, feeder, SESSION_S, 50_000),
        {"rate": 300, "waves": 3},
    ),
    "workers 1, 2, 3, 1, ten times": (
        lambda deployed, _: faults.come_and_go(deployed, 10, 4),
        {"rate": 1000, "waves": 10, "workers": 1},
    ),
    "disk of a worker wiped after a kill": (
        lambda deployed, _: faults.lost_disk(deployed),
        {"rate": 300, "waves": 3},
    ),
    "10 % garbage": (lambda _deployed, _feeder: 0, {"rate": 500, "waves": 3, "garbage": 0.1}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_and_nothing_doubled_under(name, kafka, namespace, tmp_path: Path):
    fault, options = FAULTS[name]
    with deployment(kafka, namespace, tmp_path) as deployed:
        verdict = run(deployed, name, fault, **options)
        if "garbage" in options:
            letters = deployed.read(DEAD_LETTERS)
            assert len(letters) == len({letter.value() for letter in letters}) > 0
            assert deployed.count(0, "shards_opened") + deployed.count(1, "shards_opened") <= 3
    report(verdict)
    assert (verdict.lost, verdict.doubled) == (0, 0), verdict.notes[:10]


def report(verdict: Verdict) -> None:
    """A row of the report for each thing that must be nought."""
    slug = "".join(c if c.isalnum() else "-" for c in verdict.fault.lower())[:60].strip("-")
    figures = [
        Figure(
            name=f"{verdict.fault}: {what}",
            value=float(value),
            unit=f"of {verdict.events} events, {verdict.decisions} decisions, "
            f"{verdict.rewards} rewards; {verdict.injected} faults",
            peer="truth",
            peer_value=0.0,
            ratio=None,
            bar=0.0,
            holds=value == 0,
        )
        for what, value in (("lost", verdict.lost), ("doubled", verdict.doubled))
    ]
    write_figures("chaos", slug, figures)
