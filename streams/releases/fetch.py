"""An announced release, fetched and checked from its size to its golden profiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from schemas.encoder_releases import EncoderRelease
from schemas.errors import EncoderError, ReleaseError, SettingsError
from schemas.manifest import Manifest, check_not_older
from schemas.signing import PublicKey, open_envelope
from streams.releases.encoder import Encoder
from streams.releases.store import Store

__all__ = ["Fetcher", "trusted_keys"]

MOST_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """What a process believes, and how much of it.

    Attributes
    ----------
    trusted
        Keys whose releases are loaded.
    most_bytes
        Of a model; more is not fetched.
    threads
        Of onnxruntime, for one call.
    cached
        Encodings that each release keeps; see `Encoder.load`.
    """

    store: Store
    trusted: Sequence[PublicKey]
    most_bytes: int
    threads: int = 1
    cached: int = 0

    @classmethod
    def of(
        cls, *, store: str, trusted: str, most_mb: int, threads: int = 1, cached: int = 0
    ) -> Self:
        """From settings, as they are written.

        Raises
        ------
        SettingsError
            If there is no such store, or a key cannot be read.
        """
        return cls(
            store=Store(store),
            trusted=trusted_keys(trusted),
            most_bytes=most_mb * 1024 * 1024,
            threads=threads,
            cached=cached,
        )

    def fetch(
        self,
        name: str,
        release: EncoderRelease,
        *,
        live: str | None = None,
        rollback: bool = False,
    ) -> Encoder:
        """Fetch, verify and open a release; the checks are in the order of what they cost.

        Parameters
        ----------
        name
            The encoder that it was announced for.
        live
            The version that decides now: an older one is refused, unless this is a rollback.

        Raises
        ------
        ReleaseError
            The first check that failed, with what it found, what is due, and the cure.
        """
        label = f"{name}@{release.version}"
        if release.model_bytes > self.most_bytes:
            raise ReleaseError(
                f"{label} announces {release.model_bytes} bytes, at most {self.most_bytes} are "
                "fetched: raise GROUNDSWELL_ENCODER_MB, or train a smaller model"
            )
        if live is not None and not rollback:
            check_not_older(name, release.version, live)
        manifest = self.manifest(name, release)
        if manifest.model_bytes != release.model_bytes:
            raise ReleaseError(
                f"{label} announces {release.model_bytes} bytes, its manifest says "
                f"{manifest.model_bytes}: publish it anew"
            )
        model = self.store.model(manifest.model_sha256, manifest.model_bytes)
        return Encoder.load(manifest, model, self.threads, self.cached)

    def manifest(self, name: str, release: EncoderRelease) -> Manifest:
        """The manifest of a release, its signature verified.

        Raises
        ------
        ReleaseError
            If nobody who is trusted signed it, or it is another release's.
        """
        envelope = self.store.manifest(release.sha256, MOST_MANIFEST_BYTES)
        manifest = Manifest.from_bytes(open_envelope(envelope, self.trusted)[0])
        if (manifest.name, manifest.version) != (name, release.version):
            raise ReleaseError(
                f"{name}@{release.version} was announced, its manifest is of {manifest.label}: "
                "publish it anew"
            )
        return manifest


def trusted_keys(setting: str) -> list[PublicKey]:
    """The keys that a setting names: ``ed25519:...`` or paths of .pub files, comma-separated.

    Raises
    ------
    SettingsError
        If one of them cannot be read.
    """
    keys = []
    for part in filter(None, (part.strip() for part in setting.split(","))):
        try:
            text = part if part.startswith("ed25519:") else Path(part).expanduser().read_text()
            keys.append(PublicKey.parse(text))
        except (OSError, UnicodeDecodeError, EncoderError) as error:
            raise SettingsError(f"GROUNDSWELL_TRUSTED_KEYS: {part[:80]!r}: {error}") from error
    return keys
