"""Where releases lie: a folder, or an object store by its URL, each file under its checksum."""

import hashlib
import secrets
from typing import Any

import fsspec

from schemas.encoder_releases import EncoderRelease
from schemas.errors import ReleaseError, SettingsError, StoreError
from schemas.manifest import Manifest
from schemas.signing import SigningKey, seal

__all__ = ["Store", "signed"]

MANIFEST, MODEL = ".json", ".onnx"


def signed(manifest: Manifest, model: bytes, key: SigningKey) -> tuple[bytes, EncoderRelease]:
    """A signed manifest, and what is to be announced of it; the same each time.

    Raises
    ------
    ReleaseError
        If the model is not the manifest's.
    """
    if hashlib.sha256(model).hexdigest() != manifest.model_sha256:
        raise ReleaseError(
            f"the model is not the one that the manifest of {manifest.label} speaks of: "
            "export both anew"
        )
    envelope = seal(manifest.to_bytes(), key)
    release = EncoderRelease(
        version=manifest.version,
        sha256=hashlib.sha256(envelope).hexdigest(),
        model_bytes=len(model),
        signer=key.public.key_id,
        published_at_ms=manifest.created_at_ms,
    )
    return envelope, release


class Store:
    """A content-addressed store: what a name gives is what the name says, or nothing.

    Parameters
    ----------
    url
        A folder, or any URL that fsspec knows (``s3://``, ``gs://``, ...; their packages apart).

    Raises
    ------
    SettingsError
        If there is no such store.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._files, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise SettingsError(
                f"the store of releases {url!r} cannot be used: {error}; set "
                "GROUNDSWELL_ENCODER_STORE to a folder or an object store's URL"
            ) from error
        self._root = path.rstrip("/")

    def publish(self, manifest: Manifest, model: bytes, key: SigningKey) -> EncoderRelease:
        """Sign a release and keep it; the same one again changes nothing.

        Returns
        -------
        What is to be announced of it.

        Raises
        ------
        ReleaseError
            If the model is not the manifest's, or the store does not take it.
        """
        envelope, release = signed(manifest, model, key)
        self._put(model, MODEL)
        self._put(envelope, MANIFEST)
        return release

    def manifest(self, sha256: str, most_bytes: int) -> bytes:
        """A signed manifest, unopened; raises as `_get`."""
        return self._get(sha256, MANIFEST, most_bytes)

    def model(self, sha256: str, most_bytes: int) -> bytes:
        """A model; raises as `_get`."""
        return self._get(sha256, MODEL, most_bytes)

    def _put(self, content: bytes, suffix: str) -> None:
        digest = hashlib.sha256(content).hexdigest()
        path = f"{self._root}/{digest}{suffix}"
        part = f"{path}.{secrets.token_hex(4)}.part"
        try:
            self._files.makedirs(self._root, exist_ok=True)
            if not self._holds(path, digest):
                # Nobody may find half a file under its name.
                self._files.pipe_file(part, content)
                self._files.mv(part, path)
        except Exception as error:  # of whatever package the URL's kind comes from
            raise ReleaseError(f"{self.url} does not take the release: {error}") from error

    def _holds(self, path: str, digest: str) -> bool:
        """Whether a file is there as it should be: one that was changed is written anew."""
        return bool(self._files.exists(path)) and (
            hashlib.sha256(self._files.cat_file(path)).hexdigest() == digest
        )

    def _get(self, digest: str, suffix: str, most_bytes: int) -> bytes:
        """A file by its checksum.

        Raises
        ------
        ReleaseError
            If it is not there, too large, or not what its name says.
        """
        name = f"{digest}{suffix}"
        try:
            size = self._files.size(f"{self._root}/{name}")
            content = b"" if _above(size, most_bytes) else self._read(name, most_bytes + 1)
        except Exception as error:
            raise StoreError(
                f"{name} cannot be fetched from {self.url} ({type(error).__name__}: {error}): "
                "publish it there"
            ) from error
        if _above(size, most_bytes) or len(content) > most_bytes:
            raise ReleaseError(
                f"{name} has {size} bytes, at most {most_bytes} are fetched: raise "
                "GROUNDSWELL_ENCODER_MB, or train a smaller model"
            )
        if hashlib.sha256(content).hexdigest() != digest:
            raise ReleaseError(
                f"{name} in {self.url} is not what its name says (checksum "
                f"{hashlib.sha256(content).hexdigest()}): it was changed; publish it anew"
            )
        return content

    def _read(self, name: str, most_bytes: int) -> bytes:
        with self._files.open(f"{self._root}/{name}", "rb") as file:
            read: Any = file.read(most_bytes)
        return bytes(read)


def _above(size: int | None, most_bytes: int) -> bool:
    """Whether a store says that a file is too large; not every kind of store knows sizes."""
    return size is not None and size > most_bytes
