"""What a release says of itself: signed as a whole, and believed only where the signature holds."""

import re
from dataclasses import dataclass, field
from typing import Self

import msgspec

from schemas.checks import check_name, check_time
from schemas.encoder_inputs import EncoderInputs
from schemas.errors import GroundswellError, ReleaseError
from schemas.feature_hash import feature_hash
from schemas.features import PlainProfile

__all__ = [
    "GoldenHash",
    "GoldenProfile",
    "Manifest",
    "TrainingWindow",
    "check_not_older",
    "version_order",
]

FORMAT = 1
OUTPUT = "z"  # float32 (n, z_size)
MOST_COLUMNS = 256
MOST_MODEL_BYTES = 2 * 1024**3
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenHash:
    """A feature's name in hexadecimal, and the index that it must get."""

    name_hex: str
    index: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?:[0-9a-f]{2})*", self.name_hex):
            raise ReleaseError(
                f"a golden name must have pairs of the hex digits 0-9a-f, got "
                f"{self.name_hex[:80]!r}: export the release anew"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenProfile:
    """A profile and the encoding that it must get, as of a time."""

    profile: PlainProfile
    at_ms: int
    z: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWindow:
    """The decisions that it learned from: their times, and how many there were."""

    from_ms: int
    until_ms: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A release of an encoder.

    Attributes
    ----------
    name, version
        The encoder, and its semantic version (three numbers).
    z_size
        Number of columns of an encoding; the dimension of a policy's context grows with it.
    metrics
        What the evaluation said of it, by name.
    model_sha256, model_bytes
        Of the ONNX file.
    """

    name: str
    version: str
    z_size: int
    inputs: EncoderInputs
    golden_hashes: list[GoldenHash]
    golden_profiles: list[GoldenProfile]
    window: TrainingWindow
    model_sha256: str
    model_bytes: int
    created_at_ms: int
    metrics: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ReleaseError(
                f"the manifest has format {self.format}, this version reads {FORMAT}: export the "
                "release with this version"
            )
        check_name("name", self.name)
        version_order(self.version)
        check_time("created_at_ms", self.created_at_ms)
        if not 1 <= self.z_size <= MOST_COLUMNS:
            raise ReleaseError(f"z_size must be 1 to {MOST_COLUMNS}, got {self.z_size}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.model_sha256):
            raise ReleaseError(f"model_sha256 must have 64 hex digits, got {self.model_sha256!r}")
        if not 1 <= self.model_bytes <= MOST_MODEL_BYTES:
            raise ReleaseError(
                f"model_bytes must be 1 to {MOST_MODEL_BYTES}, got {self.model_bytes}: train a "
                "smaller model"
            )
        if not self.golden_hashes or not self.golden_profiles:
            raise ReleaseError("a manifest holds golden hashes and profiles: export it anew")
        if any(len(golden.z) != self.z_size for golden in self.golden_profiles):
            raise ReleaseError(f"a golden encoding has not {self.z_size} numbers")

    @property
    def label(self) -> str:
        """Name and version, as decisions carry them."""
        return f"{self.name}@{self.version}"

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted names, no spaces, shortest numbers that read back the same."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read a manifest.

        Raises
        ------
        ReleaseError
            If it is none, or says what cannot be.
        """
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            cause = error.__cause__
            if isinstance(cause, ReleaseError):
                raise cause from error
            raise ReleaseError(f"not a sound manifest: {cause or error}") from error
        except GroundswellError as error:
            raise ReleaseError(f"not a sound manifest: {error}") from error

    def check_hashing(self) -> None:
        """Hash the golden names again.

        Raises
        ------
        ReleaseError
            If this process gives another index than the one that trained.
        """
        mask = (1 << self.inputs.bits) - 1
        for golden in self.golden_hashes:
            index = feature_hash(bytes.fromhex(golden.name_hex)) & mask
            if index != golden.index:
                raise ReleaseError(
                    f"feature {golden.name_hex} has index {index} here and {golden.index} in "
                    f"{self.label}: it was trained with another hash"
                )


def version_order(version: str) -> tuple[int, ...]:
    """The three numbers of a version, to compare.

    Raises
    ------
    ReleaseError
        If it is no such version.
    """
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ReleaseError(f"version must be three numbers such as 1.4.0, got {version[:40]!r}")
    return tuple(int(part) for part in found.groups())


def check_not_older(name: str, version: str, live: str) -> None:
    """Refuse a version of an encoder that is older than the one that is live.

    Raises
    ------
    ReleaseError
        If it is.
    """
    if version_order(version) < version_order(live):
        raise ReleaseError(
            f"{name}@{version} is older than {live}, which is live: return to it with "
            f"`groundswell encoder rollback {name}`, or publish it under a higher version"
        )
