import hashlib
import struct

import msgspec
import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import LinearThompson, from_bytes, to_bytes
from streams.core.policies.state import FORMAT


@pytest.fixture
def raw(examples) -> bytes:
    policy = LinearThompson(3, 2, half_life_days=3.0)
    policy.learn_many(examples())
    return to_bytes(policy)


def rewritten(raw: bytes, change) -> bytes:
    """Change the content and sign it again: what a bug, not a bad disk, would do."""
    state = msgspec.msgpack.decode(raw[22:])
    change(state)
    body = msgspec.msgpack.encode(state)
    return (
        struct.pack("<4sH16s", b"GWPS", FORMAT, hashlib.blake2b(body, digest_size=16).digest())
        + body
    )


def test_any_flipped_byte_is_noticed(raw):
    for at in {*range(30), *range(30, len(raw), 97), len(raw) - 1}:
        damaged = bytearray(raw)
        damaged[at] ^= 0x40
        with pytest.raises(PolicyError):
            from_bytes(bytes(damaged))


def test_any_cut_is_noticed(raw):
    for length in (0, 3, 21, 22, len(raw) // 2, len(raw) - 1):
        with pytest.raises(PolicyError, match="cut off"):
            from_bytes(raw[:length])
    with pytest.raises(PolicyError, match="cut off or changed"):
        from_bytes(raw + b"\0")


def test_another_format_version_is_named(raw):
    with pytest.raises(PolicyError, match="format must be 4, got 7: run the version that wrote it"):
        from_bytes(raw[:4] + struct.pack("<H", 7) + raw[6:])


def test_what_is_no_snapshot_is_said_to_be_none():
    with pytest.raises(PolicyError, match="it is none"):
        from_bytes(b"PK\x03\x04" + bytes(100))


def test_a_policy_that_does_not_exist_is_named(raw):
    with pytest.raises(PolicyError, match="no policy 'linear'"):
        from_bytes(rewritten(raw, lambda state: state.update(policy="linear")))


def bad_floor(state):
    state["parameters"]["floor"] = 2.0


def lost_sums(state):
    del state["learned"]


def short_sums(state):
    state["learned"]["moment"]["array"] = ["<f8", [1], bytes(8)]


def nan_sums(state):
    dtype, shape, data = state["learned"]["moment"]["array"]
    state["learned"]["moment"]["array"] = [dtype, shape, np.full(len(data) // 8, np.nan).tobytes()]


def odd_array(state):
    state["learned"]["gram"]["array"][1] = [5]


def object_array(state):
    state["learned"]["gram"]["array"][0] = "|O"


def negative_weight(state):
    state["learned"]["weight"] = -1.0


def negative_count(state):
    state["n_learned"] = -1


def other_dimension(state):
    state["d_user"] = 4


@pytest.mark.parametrize(
    "change",
    [
        bad_floor,
        lost_sums,
        short_sums,
        nan_sums,
        odd_array,
        object_array,
        negative_weight,
        negative_count,
        other_dimension,
    ],
)
def test_content_that_cannot_be_a_state_is_refused(raw, change):
    with pytest.raises(PolicyError):
        from_bytes(rewritten(raw, change))


def test_an_unchanged_content_is_read(raw):
    assert to_bytes(from_bytes(rewritten(raw, lambda state: None))) == raw


def test_the_order_of_words_in_a_state_does_not_change_its_bytes(raw):
    policy = from_bytes(raw)
    turned = dict(reversed(policy._learned().items()))
    policy._learned = lambda: turned
    assert to_bytes(policy) == raw


def test_what_has_no_place_in_a_snapshot_is_refused_when_writing():
    policy = LinearThompson(1, 1)
    policy._learned = lambda: {"when": object()}
    with pytest.raises(PolicyError, match="cannot hold object"):
        to_bytes(policy)
