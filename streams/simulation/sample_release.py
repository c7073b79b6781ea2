"""The sample release: an encoder of the company in a box, for the demo, which needs no torch.

It lies in ``streams/simulation/releases``, signed with a key that anybody can make again: that key
is for the demo alone, and no worker trusts it unless it is told to. To train it anew, with the
extra ``encoder`` installed::

    python -m streams.simulation.sample_release

On the same processor and with the same packages this gives the same bytes.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.encoder_releases import EncoderRelease
from schemas.manifest import Manifest
from schemas.signing import SigningKey
from streams.releases.store import Store

__all__ = ["DEMO_KEY", "FOLDER", "NAME", "announced"]

NAME: Final = "company-in-a-box"
FOLDER = Path(str(files("streams.simulation"))) / "releases"
ANNOUNCED = FOLDER / "announced.json"
COMPANY, DECISIONS = 1000, 60_000  # a seed that no demo has unless it is asked for
SHAPE = {"z-size": 16, "bits": 10, "embedding": 16}
CREATED_AT: Final = 1_767_225_600  # 2026-01-01, where the company's log ends

# Whoever reads this has it: it says who trained the sample, and protects nothing.
DEMO_KEY: Final = SigningKey(
    Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(b"groundswell: for the demo only, never to be trusted elsewhere").digest()
    ),
    "demo-only",
)


def announced() -> EncoderRelease:
    """What is to be announced of the sample release."""
    return msgspec.json.decode(ANNOUNCED.read_bytes(), type=EncoderRelease)


def main() -> None:
    """Train the sample release anew, and put it in place of the one that is there."""
    with tempfile.TemporaryDirectory() as made:
        rows, out = Path(made) / "rows.parquet", Path(made) / "run"
        _groundswell("dataset", "--company", COMPANY, "--decisions", DECISIONS, "--out", rows)
        shape = [word for name, value in SHAPE.items() for word in (f"--{name}", value)]
        made_at = ("--created-at", CREATED_AT)
        _groundswell("train", rows, "--out", out, "--name", NAME, *shape, *made_at)
        manifest = Manifest.from_bytes((out / "manifest.json").read_bytes())
        model = (out / "model.onnx").read_bytes()
    for old in FOLDER.glob("*"):
        old.unlink()
    release = Store(str(FOLDER)).publish(manifest, model, DEMO_KEY)
    ANNOUNCED.write_bytes(msgspec.json.format(msgspec.json.encode(release), indent=1) + b"\n")


def _groundswell(*words: object) -> None:
    subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-m", "streams", "encoder", *map(str, words)],
        check=True,
        # How many threads share a sum changes its last bit.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


if __name__ == "__main__":
    main()
