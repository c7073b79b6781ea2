"""Releases are swapped under triggered sends: none is lost, none mixes versions, none waits."""

from pathlib import Path

import pytest

from streams.simulation.sample_release import DEMO_KEY
from tests.kafka.harness import deployment
from tests.kafka.hot_swap import Load, check, latencies, prepare, swapped

pytest.importorskip("onnx", reason="needs the extra: encoder")

RATE = 100.0
USERS = [f"user-{number:04d}" for number in range(1_000)]


@pytest.mark.timeout(300)
def test_two_swaps_under_load_lose_nothing_and_mix_nothing(kafka, namespace, tmp_path: Path):
    store = tmp_path / "store"
    settings = {
        "GROUNDSWELL_ENCODER_STORE": str(store),
        "GROUNDSWELL_TRUSTED_KEYS": str(DEMO_KEY.public),
    }
    with deployment(kafka, namespace, tmp_path, settings=settings) as loop:
        announcer = prepare(loop, USERS, 1, store)
        load = Load(loop, USERS, RATE)
        swaps = swapped(load, announcer, swaps=2, warm_s=4.0, between_s=2.0)
        found = latencies(load, swaps)
        check(loop, load, swaps, store)
    assert found.swaps == 2
    assert found.decisions > 500
