"""A release is believed only where someone who is trusted signed just that."""

import base64
import hashlib

import msgspec
import pytest

from schemas.encoder_inputs import EncoderInputs
from schemas.errors import EncoderError, ReleaseError
from schemas.feature_hash import GOLDEN
from schemas.features import PlainProfile
from schemas.manifest import GoldenHash, GoldenProfile, Manifest, TrainingWindow, version_order
from schemas.signing import PublicKey, SigningKey, open_envelope, seal

KEY = SigningKey.new("someone")
OTHER = SigningKey.new("someone else")


def manifest(**changes) -> Manifest:
    given = {
        "name": "people",
        "version": "1.2.3",
        "z_size": 2,
        "inputs": EncoderInputs(bits=10, most_tokens=8, most_events=8, numbers=[]),
        "golden_hashes": [
            GoldenHash(name_hex=raw.hex(), index=index % 1024) for raw, index in GOLDEN.items()
        ],
        "golden_profiles": [
            GoldenProfile(profile=PlainProfile(attributes={"a": "b"}), at_ms=5, z=[0.1, -0.2])
        ],
        "window": TrainingWindow(from_ms=1, until_ms=2, rows=3),
        "model_sha256": hashlib.sha256(b"model").hexdigest(),
        "model_bytes": 5,
        "created_at_ms": 7,
        "metrics": {"auc": 0.75},
    }
    return Manifest(**(given | changes))


def test_what_was_signed_comes_back_with_its_signer():
    payload, signer = open_envelope(seal(b"abc", KEY), [OTHER.public, KEY.public])
    assert payload == b"abc"
    assert signer == KEY.public


def test_an_unknown_signer_is_refused_and_named():
    with pytest.raises(ReleaseError, match=rf"{KEY.public.key_id}.*GROUNDSWELL_TRUSTED_KEYS"):
        open_envelope(seal(b"abc", KEY), [OTHER.public])
    with pytest.raises(ReleaseError, match="trusted are none"):
        open_envelope(seal(b"abc", KEY), [])


def test_a_payload_that_was_changed_is_refused():
    envelope = msgspec.json.decode(seal(b"abc", KEY))
    envelope["payload"] = base64.b64encode(b"abd").decode()
    with pytest.raises(ReleaseError, match="changed after it was signed"):
        open_envelope(msgspec.json.encode(envelope), [KEY.public])


def test_a_signature_of_another_kind_of_document_is_refused():
    envelope = msgspec.json.decode(seal(b"abc", KEY))
    envelope["payloadType"] = "text/plain"
    with pytest.raises(ReleaseError, match="is due"):
        open_envelope(msgspec.json.encode(envelope), [KEY.public])


def test_a_key_id_that_is_claimed_is_not_believed():
    envelope = msgspec.json.decode(seal(b"abc", OTHER))
    envelope["signatures"][0]["keyid"] = KEY.public.key_id
    with pytest.raises(ReleaseError, match="does not fit"):
        open_envelope(msgspec.json.encode(envelope), [KEY.public])


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x80\x04", b'{"payload": 3}', b"\xff"])
def test_what_is_no_envelope_is_refused(raw):
    with pytest.raises(ReleaseError, match="not a signed manifest"):
        open_envelope(raw, [KEY.public])


def test_every_flipped_bit_of_an_envelope_is_noticed():
    whole = seal(b"manifest", KEY)
    for byte in range(len(whole)):
        changed = bytearray(whole)
        changed[byte] ^= 1
        try:
            payload, _ = open_envelope(bytes(changed), [KEY.public])
        except ReleaseError:
            continue
        assert payload == b"manifest"  # only what is not signed may differ: spare bits of base64


def test_keys_come_back_from_their_files(tmp_path):
    path = tmp_path / "team.key"
    path.write_bytes(KEY.pem())
    assert SigningKey.read(path).public.raw == KEY.public.raw
    assert PublicKey.parse(str(KEY.public)) == KEY.public


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", "ed25519:!!"])
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises(EncoderError, match="ed25519:BASE64"):
        PublicKey.parse(text)


def test_a_missing_key_file_says_how_to_make_one(tmp_path):
    with pytest.raises(EncoderError, match="groundswell keys new"):
        SigningKey.read(tmp_path / "none.key")


def test_a_manifest_is_the_same_bytes_each_time_and_comes_back():
    raw = manifest().to_bytes()
    assert Manifest.from_bytes(raw) == manifest()
    assert Manifest.from_bytes(raw).to_bytes() == raw
    assert b" " not in raw


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": "1.2"}, "three numbers"),
        ({"version": "01.2.3"}, "three numbers"),
        ({"name": "a b"}, "name must be"),
        ({"z_size": 0}, "z_size must be"),
        ({"z_size": 3}, "golden encoding"),
        ({"model_bytes": 10 * 1024**3}, "train a smaller model"),
        ({"model_sha256": "abc"}, "64 hex digits"),
        ({"golden_profiles": []}, "golden"),
        ({"format": 2}, "format 2"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_in_words(changes, match):
    raw = msgspec.json.decode(manifest().to_bytes())
    raw |= msgspec.to_builtins(changes)
    with pytest.raises(ReleaseError, match=match):
        Manifest.from_bytes(msgspec.json.encode(raw))


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x80\x04.", b"[1]"])
def test_what_is_no_manifest_is_refused(raw):
    with pytest.raises(ReleaseError, match="not a sound manifest"):
        Manifest.from_bytes(raw)


def test_another_hash_than_the_one_it_was_trained_with_is_noticed():
    wrong = manifest(golden_hashes=[GoldenHash(name_hex=b"event\0x".hex(), index=1)])
    with pytest.raises(ReleaseError, match="trained with another hash"):
        wrong.check_hashing()
    manifest().check_hashing()


def test_versions_are_compared_as_numbers():
    assert version_order("1.10.0") > version_order("1.9.9") > version_order("0.99.0")
