"""Ed25519 signatures of releases, in the envelope that DSSE 1.0 defines.

The envelope (github.com/secure-systems-lab/dsse) carries what was signed as it was signed, so
that nothing has to be written anew to be verified, and signs its type with it.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from schemas.errors import EncoderError, ReleaseError

__all__ = ["PublicKey", "SigningKey", "open_envelope", "seal"]

PAYLOAD_TYPE = "application/vnd.groundswell.encoder-manifest+json"
PREFIX = "ed25519:"


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True):
    payloadType: str  # noqa: N815  # DSSE's word
    payload: str
    signatures: list[_Signature]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key that signatures are verified with, written ``ed25519:BASE64 comment``."""

    raw: bytes
    comment: str = ""

    @property
    def key_id(self) -> str:
        """16 hexadecimal digits that name it."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{PREFIX}{base64.b64encode(self.raw).decode()} {self.comment}".rstrip()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key as it is written.

        Raises
        ------
        EncoderError
            If it is none.
        """
        key, _, comment = text.strip().partition(" ")
        try:
            raw = base64.b64decode(key.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raw = b""
        if not key.startswith(PREFIX) or len(raw) != 32:
            raise EncoderError(
                f"a public key is written ed25519:BASE64, got {text[:30]!r}: take the line that "
                "`groundswell keys new` wrote into the .pub file"
            )
        return cls(raw=raw, comment=comment)


class SigningKey:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey, comment: str = "") -> None:
        self._key = key
        self.public = PublicKey(raw=key.public_key().public_bytes_raw(), comment=comment)

    @classmethod
    def new(cls, comment: str) -> Self:
        """Make a key."""
        return cls(Ed25519PrivateKey.generate(), comment)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A key from the PEM file that `groundswell keys new` wrote.

        Raises
        ------
        EncoderError
            If the file holds none.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError as error:
            raise EncoderError(
                f"{path} does not exist: make a key with `groundswell keys new NAME`"
            ) from error
        except (ValueError, TypeError) as error:
            raise EncoderError(f"{path} holds no private key that can be read: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise EncoderError(f"{path} holds a {type(key).__name__}: releases take ed25519")
        return cls(key, path.stem)

    def pem(self) -> bytes:
        """The key as a file holds it."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return self._key.sign(message)


def seal(payload: bytes, key: SigningKey) -> bytes:
    """The signed envelope of a manifest."""
    signature = key.sign(_pre_authentication(PAYLOAD_TYPE, payload))
    return msgspec.json.encode(
        _Envelope(
            payloadType=PAYLOAD_TYPE,
            payload=base64.b64encode(payload).decode(),
            signatures=[
                _Signature(keyid=key.public.key_id, sig=base64.b64encode(signature).decode())
            ],
        )
    )


def open_envelope(raw: bytes, trusted: Sequence[PublicKey]) -> tuple[bytes, PublicKey]:
    """What was signed, and by whom.

    Raises
    ------
    ReleaseError
        If it is no envelope of a manifest, none of the signers is trusted, or the signature is
        of something else.
    """
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [
            (each.keyid, base64.b64decode(each.sig, validate=True)) for each in envelope.signatures
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise ReleaseError(f"not a signed manifest: {error}") from error
    if envelope.payloadType != PAYLOAD_TYPE:
        raise ReleaseError(f"a {PAYLOAD_TYPE} is due, got {envelope.payloadType[:80]!r}")
    message = _pre_authentication(envelope.payloadType, payload)
    keys = {key.key_id: key for key in trusted}
    for key_id, signature in signatures:
        key = keys.get(key_id)
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.raw).verify(signature, message)
        except InvalidSignature as error:
            raise ReleaseError(
                f"the signature of {key_id} does not fit the manifest: it was changed after it "
                "was signed; publish the release anew"
            ) from error
        return payload, key
    signers = ", ".join(key_id[:40] for key_id, _ in signatures) or "nobody"
    raise ReleaseError(
        f"signed by {signers}, trusted are {', '.join(sorted(keys)) or 'none'}: add the signer's "
        "public key to GROUNDSWELL_TRUSTED_KEYS, if you know it"
    )


def _pre_authentication(kind: str, payload: bytes) -> bytes:
    """What is signed: DSSE 1.0, PAE."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
