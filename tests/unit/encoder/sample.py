"""The sample release that is shipped, opened: a real encoder for tests, with no torch."""

from schemas.manifest import Manifest
from schemas.signing import open_envelope
from streams.releases.encoder import Encoder
from streams.releases.store import Store
from streams.simulation.sample_release import DEMO_KEY, FOLDER, announced

__all__ = ["sample", "sample_encoder"]

MOST_BYTES = 1 << 20


def sample() -> tuple[Manifest, bytes]:
    """Its manifest and its model."""
    store = Store(str(FOLDER))
    envelope = store.manifest(announced().sha256, MOST_BYTES)
    manifest = Manifest.from_bytes(open_envelope(envelope, [DEMO_KEY.public])[0])
    return manifest, store.model(manifest.model_sha256, MOST_BYTES)


def sample_encoder(cached: int = 0) -> Encoder:
    """The sample as a worker has it, keeping so many encodings."""
    manifest, model = sample()
    return Encoder.load(manifest, model, cached=cached)
