"""Releases are swapped under triggered sends: no decision is lost, none mixes versions."""

from pathlib import Path

import pytest

from streams.simulation.sample_release import DEMO_KEY
from tests.kafka.harness import deployment
from tests.kafka.hot_swap import check, latencies, prepare, swapped
from tests.kafka.steady_load import Load
from tests.kafka.turned_releases import releases_in

pytest.importorskip("onnx", reason="needs the extra: encoder")

RATE = 100.0
USERS = [f"user-{number:04d}" for number in range(1_000)]


@pytest.mark.timeout(300)
def test_fresh_releases_and_a_rollback_under_load_lose_nothing_and_mix_nothing(
    kafka, namespace, tmp_path: Path
):
    store = tmp_path / "store"
    settings = {
        "GROUNDSWELL_ENCODER_STORE": str(store),
        "GROUNDSWELL_TRUSTED_KEYS": str(DEMO_KEY.public),
    }
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        releases = releases_in(store, 3)
        announcer = prepare(loop, USERS, 1, releases)
        load = Load(loop, USERS, RATE)
        swaps = swapped(load, announcer, swaps="ppr", warm_s=4.0, between_s=2.0)
        found = latencies(load, swaps)
        check(loop, load, swaps, store, releases)
    assert found.swaps == 3
    assert found.decisions > 500
