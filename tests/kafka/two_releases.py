"""Two releases of an encoder that say the same in other columns, and who swaps them."""

import dataclasses
import hashlib
import time
from pathlib import Path

import numpy as np

from schemas.encoder_releases import EncoderRelease
from streams.core import releases as step
from streams.kafka.release_client import ReleaseClient
from streams.releases.encoder import Encoder
from streams.releases.fetch import Fetcher
from streams.releases.store import Store
from streams.simulation.sample_release import DEMO_KEY, NAME, announced
from tests.kafka.harness import Deployment
from tests.unit.encoder.sample import sample

__all__ = ["NEW", "OLD", "Announcer", "loaded", "two_releases"]

OLD, NEW = f"{NAME}@{announced().version}", f"{NAME}@9.0.0"


def two_releases(folder: Path) -> list[EncoderRelease]:
    """The sample release, and one whose z is another: turned, in a store."""
    import onnx
    from onnx import numpy_helper

    store, (manifest, raw) = Store(str(folder)), sample()
    model = onnx.load_from_string(raw)
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(manifest.z_size, manifest.z_size)))[0]
    for constant in model.graph.initializer:
        if constant.name in ("third_weight", "third_bias", "straight_weight"):
            turned = (numpy_helper.to_array(constant) @ turn).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(turned, constant.name))
    turned_model = model.SerializeToString()
    later = dataclasses.replace(
        manifest,
        version=NEW.partition("@")[2],
        golden_profiles=[
            dataclasses.replace(golden, z=(np.array(golden.z) @ turn).tolist())
            for golden in manifest.golden_profiles
        ],
        model_sha256=hashlib.sha256(turned_model).hexdigest(),
        model_bytes=len(turned_model),
    )
    return [store.publish(manifest, raw, DEMO_KEY), store.publish(later, turned_model, DEMO_KEY)]


class Announcer:
    """Whoever releases encoders: swaps the live one, forth by promote and back by rollback."""

    def __init__(self, loop: Deployment, releases: list[EncoderRelease]) -> None:
        self._client = ReleaseClient(loop.bootstrap, loop.prefix, loop.codec)
        self._releases = releases

    def take(self, change: object, *given: object) -> None:
        before = self._client.all().get(NAME)
        self._client.write(change(before, *given, int(time.time() * 1000)))  # type: ignore[operator]

    def first(self) -> None:
        """The old release is live, the new one in shadow."""
        old, new = self._releases
        self.take(step.publish, NAME, old)
        self.take(step.shadow, old.version)
        self.take(step.promote, old.version)
        self.take(step.publish, NAME, new)
        self.take(step.shadow, new.version)

    def swap(self) -> str:
        """Make the other one live; its label."""
        new = self._releases[1].version
        if self._client.named(NAME).live == new:
            self.take(step.rollback)
            return OLD
        if self._client.named(NAME).shadow != new:
            self.take(step.shadow, new)
        self.take(step.promote, new)
        return NEW


def loaded(folder: Path) -> dict[str, Encoder]:
    """Both releases of a store, by label."""
    fetcher = Fetcher(store=Store(str(folder)), trusted=[DEMO_KEY.public], most_bytes=1 << 24)
    return {
        f"{NAME}@{release.version}": fetcher.fetch(NAME, release)
        for release in two_releases(folder)
    }
