"""Hot swaps under load: 1,000 triggered sends a second on a real Kafka, ten swaps."""

import os
from pathlib import Path

import pytest

from streams.simulation.sample_release import DEMO_KEY
from tests.bench.figures import Figure, write_figures
from tests.kafka.harness import deployment
from tests.kafka.hot_swap import (
    LEARN_EVERY_S,
    Swaps,
    Waits,
    check,
    latencies,
    longest_period_s,
    prepare,
    swapped,
)
from tests.kafka.steady_load import Load
from tests.kafka.turned_releases import releases_in

RATE = float(os.environ.get("GROUNDSWELL_BENCH_RATE", "1000"))
WORKERS = int(os.environ.get("GROUNDSWELL_BENCH_WORKERS", "1"))
SWAPS = "pppprppppr"  # fresh releases, and every fifth time back
KEPT_UP = 0.98  # of the rate: what is short of it stands in a queue
MOST_RATIO = 2.0
MOST_LATE_MS = 100.0  # what the load itself is late by is no worker's doing
MOST_BEFORE_MS = 200.0  # half of the events: where all wait in a queue, a ratio says nothing
USERS = [f"user-{number:05d}" for number in range(10_000)]


@pytest.mark.bench
@pytest.mark.timeout(2_400)
def test_swaps_under_load_lose_nothing_mix_nothing_and_hold_nothing_up(
    kafka, namespace, tmp_path: Path
):
    pytest.importorskip("onnx", reason="needs the extra: encoder")
    store = tmp_path / "store"
    settings = {
        "GROUNDSWELL_ENCODER_STORE": str(store),
        "GROUNDSWELL_TRUSTED_KEYS": str(DEMO_KEY.public),
    }
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        releases = releases_in(store, 1 + SWAPS.count("p"))
        announcer = prepare(loop, USERS, WORKERS, releases)
        load = Load(loop, USERS, RATE)
        swaps = swapped(load, announcer, swaps=SWAPS, warm_s=20.0, between_s=8.0)
        found = latencies(load, swaps)
        longest_s = longest_period_s(loop)
        check(loop, load, swaps, store, releases)
    figures = figures_of(found, longest_s)
    write_figures("bench", "encoder-swaps", figures)
    print(found)
    assert all(figure.holds is not False for figure in figures), figures


def figures_of(found: Swaps, longest_s: float) -> list[Figure]:
    return [
        Figure(
            name="triggered sends",
            value=found.rate,
            unit="decisions/s",
            peer="asked for",
            peer_value=RATE,
            ratio=found.rate / RATE,
            bar=f">= {KEPT_UP} of {RATE:g}",
            holds=found.rate >= KEPT_UP * RATE,
        ),
        Figure(name="swaps", value=float(found.swaps), unit=""),
        Figure(name="decisions", value=float(found.decisions), unit=""),
        Figure(
            name="lost, twice, or of mixed versions",
            value=0.0,  # else `latencies` and `check` have failed
            unit="decisions",
            bar="0",
            holds=True,
        ),
        Figure(
            name="event to decision read before a swap, p50",
            value=found.before.p50,
            unit="ms",
            bar=f"<= {MOST_BEFORE_MS:g}",
            holds=found.before.p50 <= MOST_BEFORE_MS,
        ),
        _beside("within half a second of the swap", found.around, found.before),
        _beside("while the release is fetched and warmed", found.preparing, found.before),
        _beside("from promote to half a second before it", found.awaited, found.before),
        _longest("longest within half a second of the swap", found.around, found.before),
        Figure(name="promote to its first decision, at most", value=found.taken_s, unit="s"),
        Figure(
            name=f"periods of {LEARN_EVERY_S:g} s, the longest",
            value=longest_s,
            unit="s",
            bar=f"<= {2 * LEARN_EVERY_S:g}",
            holds=longest_s <= 2 * LEARN_EVERY_S,
        ),
        Figure(
            name="decisions before the last release was announced",
            value=float(found.warmed_with),
            unit="decisions",
        ),
        Figure(
            name="events, late at most",
            value=found.late_ms,
            unit="ms",
            bar=f"<= {MOST_LATE_MS:g}",
            holds=found.late_ms <= MOST_LATE_MS,
        ),
    ]


def _beside(name: str, waits: Waits, before: Waits) -> Figure:
    ratio = waits.p99 / before.p99
    return Figure(
        name=f"{name}, p99",
        value=waits.p99,
        unit="ms",
        peer="before a swap",
        peer_value=before.p99,
        ratio=ratio,
        bar=f"<= {MOST_RATIO:g} x",
        holds=ratio <= MOST_RATIO,
    )


def _longest(name: str, waits: Waits, before: Waits) -> Figure:
    return Figure(
        name=name,
        value=waits.most,
        unit="ms, median of swaps",
        peer="before a swap",
        peer_value=before.most,
        ratio=waits.most / before.most,
    )
