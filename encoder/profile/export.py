"""A trained encoder as files that can be published: the model, and a manifest to be signed."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from encoder.profile.data import TrainingData
from encoder.profile.graph import to_onnx
from encoder.profile.train import Trained, encode
from schemas.feature_hash import GOLDEN, feature_hash
from schemas.features import PlainProfile, hash_profiles
from schemas.manifest import GoldenHash, GoldenProfile, Manifest, TrainingWindow

__all__ = ["MANIFEST_FILE", "MODEL_FILE", "export"]

MODEL_FILE, MANIFEST_FILE = "model.onnx", "manifest.json"


def export(
    trained: Trained,
    data: TrainingData,
    golden: Sequence[tuple[PlainProfile, int]],
    folder: Path,
    *,
    name: str,
    version: str,
    metrics: Mapping[str, float],
    created_at_ms: int,
) -> Manifest:
    """Write the model and its manifest.

    Parameters
    ----------
    data
        The rows that it learned from.
    golden
        Profiles, each with a time in milliseconds, whose encodings the manifest holds; one of
        which nothing is known is added.
    created_at_ms
        Milliseconds.
    """
    model = to_onnx(trained)
    profiles = [PlainProfile(), *(profile for profile, _ in golden)]
    times = [int(data.at_ms.max()), *(at_ms for _, at_ms in golden)]
    encodings = encode(trained, hash_profiles(profiles, times))
    mask = (1 << trained.inputs.bits) - 1
    manifest = Manifest(
        name=name,
        version=version,
        z_size=trained.config.z_size,
        inputs=trained.inputs,
        golden_hashes=[
            GoldenHash(name_hex=raw.hex(), index=feature_hash(raw) & mask) for raw in GOLDEN
        ],
        golden_profiles=[
            GoldenProfile(profile=profile, at_ms=at_ms, z=[float(x) for x in row])
            for profile, at_ms, row in zip(profiles, times, encodings, strict=True)
        ],
        window=TrainingWindow(
            from_ms=int(data.at_ms.min()), until_ms=int(data.at_ms.max()), rows=len(data)
        ),
        model_sha256=hashlib.sha256(model).hexdigest(),
        model_bytes=len(model),
        created_at_ms=created_at_ms,
        metrics={key: float(value) for key, value in metrics.items() if np.isfinite(value)},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model)
    (folder / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest
