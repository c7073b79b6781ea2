"""A release that was checked, and runs: profiles in, encodings out."""

import hashlib
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.encoder_inputs import INPUTS
from schemas.errors import ReleaseError
from schemas.features import FeatureBatch, KnownUser, hash_profiles
from schemas.manifest import OUTPUT, Manifest
from streams.releases.encodings import Encodings
from streams.releases.onnx_scan import check_self_contained

__all__ = ["Encoder"]

# Other processors round otherwise; another model is further off.
GOLDEN_TOLERANCE = 1e-4
WARM_UP = (1, 500)  # users at once


class Encoder:
    """An encoder's release in this process. Made by `load`, which checks it; safe from any thread.

    Attributes
    ----------
    version
        Name and version, as decisions carry them.
    z_size
        Columns of an encoding.
    """

    def __init__(self, manifest: Manifest, session: Any, cached: int) -> None:
        self.manifest = manifest
        self.version = manifest.label
        self.z_size = manifest.z_size
        self._session = session
        self._encodings = Encodings(self.encode_features, self.z_size, cached)

    @classmethod
    def load(cls, manifest: Manifest, model: bytes, threads: int = 1, cached: int = 0) -> Self:
        """Open a model, replay the golden profiles, and warm it up.

        Parameters
        ----------
        manifest
            Whose signature was verified.
        threads
            That onnxruntime may use for one call.
        cached
            Encodings that are kept for profiles that come again unchanged; 0: none.

        Raises
        ------
        ReleaseError
            If the model is not the one that the manifest speaks of, or not as it says.
        """
        digest = hashlib.sha256(model).hexdigest()
        if (digest, len(model)) != (manifest.model_sha256, manifest.model_bytes):
            raise ReleaseError(
                f"the model of {manifest.label} has checksum {digest} and {len(model)} bytes, its "
                f"manifest says {manifest.model_sha256} and {manifest.model_bytes}: it was changed "
                "or cut off; publish it anew"
            )
        check_self_contained(model)
        encoder = cls(manifest, _session(model, threads), cached)
        encoder._check_shape()
        manifest.check_hashing()
        encoder._replay()
        encoder._warm_up()
        return encoder

    def encode(self, users: Sequence[KnownUser], now_ms: int) -> NDArray[np.float32]:
        """Encodings z of profiles as of a time in milliseconds, (n, z_size)."""
        return self.encode_features(hash_profiles(users, [now_ms] * len(users)))

    def encode_profiles(
        self, users: Sequence[KnownUser], now_ms: int
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        """Encodings as `encode` gives them, and the features' bytes: kept ones where it can be."""
        return self._encodings.of(users, now_ms)

    def encode_features(self, features: FeatureBatch) -> NDArray[np.float32]:
        """Encodings z of hashed features, such as learning examples hold, (n, z_size)."""
        if not len(features):
            return np.zeros((0, self.z_size), dtype=np.float32)
        z: NDArray[np.float32] = self._session.run([OUTPUT], self.manifest.inputs.arrays(features))[
            0
        ]
        return z

    def _check_shape(self) -> None:
        label = self.manifest.label
        names = sorted(put.name for put in self._session.get_inputs())
        if names != sorted(INPUTS):
            raise ReleaseError(
                f"the model of {label} takes {', '.join(names)}, a profile gives "
                f"{', '.join(INPUTS)}: export it with this version"
            )
        for put in self._session.get_inputs():
            if put.shape and isinstance(put.shape[0], int):
                raise ReleaseError(
                    f"the model of {label} takes exactly {put.shape[0]} users at once ({put.name}),"
                    " a worker's chunks are of any size: export it with a first dimension that is "
                    "free"
                )
        outputs = [put.name for put in self._session.get_outputs()]
        if outputs != [OUTPUT]:
            raise ReleaseError(f"the model of {label} gives {', '.join(outputs)}, {OUTPUT} is due")

    def _warm_up(self) -> None:
        golden = self.manifest.golden_profiles[-1]
        for users in WARM_UP:
            try:
                self.encode([golden.profile] * users, golden.at_ms)
            except Exception as error:  # as in `_replay`
                raise ReleaseError(
                    f"the model of {self.manifest.label} encodes its golden profiles, and not "
                    f"{users} users at once ({_short(error)}): export it for any number"
                ) from error

    def _replay(self) -> None:
        label = self.manifest.label
        golden = self.manifest.golden_profiles
        due = np.array([one.z for one in golden], dtype=np.float64)  # (n_golden, z_size)
        features = hash_profiles([one.profile for one in golden], [one.at_ms for one in golden])
        try:
            found = self.encode_features(features)
        except Exception as error:  # onnxruntime's own, whatever the shapes make it stumble over
            raise ReleaseError(f"the model of {label} cannot be run: {_short(error)}") from error
        if found.shape != due.shape or found.dtype != np.float32:
            raise ReleaseError(
                f"the model of {label} gives {found.dtype} {found.shape}, the manifest says "
                f"float32 {due.shape}"
            )
        apart = float(np.abs(found - due).max())
        if not apart <= GOLDEN_TOLERANCE:  # nan is not
            raise ReleaseError(
                f"a golden profile of {label} is encoded {apart:g} apart from what its manifest "
                f"says, at most {GOLDEN_TOLERANCE:g} is rounding: the model, or this version's "
                "features, are not those that it was exported with"
            )


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415 - a worker without encoders starts without it

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # A worker has other work between chunks: no thread of ours may burn a core waiting.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ReleaseError(f"onnxruntime does not open the model: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
