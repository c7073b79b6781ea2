"""Releases of an encoder that say the same in other columns, and who swaps them."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from schemas.encoder_releases import EncoderRelease
from schemas.manifest import Manifest
from streams.core import releases as step
from streams.kafka.cluster import Cluster
from streams.kafka.release_client import ReleaseClient
from streams.releases.encoder import Encoder
from streams.releases.fetch import Fetcher
from streams.releases.store import Store
from streams.simulation.sample_release import DEMO_KEY, NAME
from tests.kafka.harness import Deployment
from tests.unit.encoder.sample import sample

__all__ = ["Announcer", "label_of", "loaded", "releases_in"]


def releases_in(folder: Path, count: int) -> list[EncoderRelease]:
    """The sample release and later ones, each with its z turned another way, in a store."""
    store, (manifest, model) = Store(str(folder)), sample()
    return [
        store.publish(manifest, model, DEMO_KEY),
        *(store.publish(*_turned(manifest, model, n), DEMO_KEY) for n in range(1, count)),
    ]


def _turned(manifest: Manifest, model: bytes, number: int) -> tuple[Manifest, bytes]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model)
    rng = np.random.default_rng(number)
    turn = np.linalg.qr(rng.normal(size=(manifest.z_size, manifest.z_size)))[0]
    for constant in graph.graph.initializer:
        if constant.name in ("third_weight", "third_bias", "straight_weight"):
            turned = (numpy_helper.to_array(constant) @ turn).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(turned, constant.name))
    raw = graph.SerializeToString()
    return (
        dataclasses.replace(
            manifest,
            version=f"9.{number}.0",
            golden_profiles=[
                dataclasses.replace(golden, z=(np.array(golden.z) @ turn).tolist())
                for golden in manifest.golden_profiles
            ],
            model_sha256=hashlib.sha256(raw).hexdigest(),
            model_bytes=len(raw),
        ),
        raw,
    )


def label_of(release: EncoderRelease) -> str:
    """How decisions name it."""
    return f"{NAME}@{release.version}"


class Announcer:
    """Whoever releases encoders.

    Parameters
    ----------
    releases
        The first is live from the start; each of the others is published when its turn comes.
    """

    def __init__(self, loop: Deployment, releases: Sequence[EncoderRelease]) -> None:
        self._client = ReleaseClient(Cluster(loop.bootstrap), loop.prefix, loop.codec)
        self._to_come = list(releases)

    def first(self) -> None:
        """Make the first release live."""
        self.prepare()
        self.promote()

    def prepare(self) -> str:
        """Publish the next release and have it warmed up in shadow; its label."""
        release = self._to_come.pop(0)
        self._take(step.publish, NAME, release)
        self._take(step.shadow, release.version)
        return label_of(release)

    def promote(self) -> None:
        """Make what is in shadow live."""
        shadow = self._client.named(NAME).shadow
        assert shadow is not None
        self._take(step.promote, shadow)

    def rollback(self) -> str:
        """Return to what was live before; its label."""
        self._take(step.rollback)
        return f"{NAME}@{self._client.named(NAME).live}"

    def _take(self, change: object, *given: object) -> None:
        before = self._client.all().get(NAME)
        self._client.write(change(before, *given, int(time.time() * 1000)))  # type: ignore[operator]


def loaded(folder: Path, releases: Sequence[EncoderRelease]) -> dict[str, Encoder]:
    """Releases of a store, by label."""
    fetcher = Fetcher(store=Store(str(folder)), trusted=[DEMO_KEY.public], most_bytes=1 << 24)
    return {label_of(release): fetcher.fetch(NAME, release) for release in releases}
