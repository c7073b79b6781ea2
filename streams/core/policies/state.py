"""A policy's state as bytes: versioned, the same bytes for the same state, and never pickle."""

import hashlib
import math
import struct
from typing import Any

import msgspec
import numpy as np

from schemas.errors import PolicyError
from streams.core.policies.base import Policy
from streams.core.policies.registry import policy_class
from streams.core.policies.reward_scale import RewardScale

__all__ = ["FORMAT", "from_bytes", "scale_from_bytes", "scale_to_bytes", "to_bytes"]

FORMAT = 4
MAGIC = b"GWPS"  # Groundswell policy snapshot
HEAD = struct.Struct("<4sH16s")  # magic, format, digest of the body
DTYPES = ("<f8", "<i8", "|b1")
ARRAY = "array"

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def to_bytes(policy: Policy) -> bytes:
    """Write a policy's state: a head of 22 bytes, then MessagePack.

    Raises
    ------
    PolicyError
        If the state holds something that has no place in a snapshot.
    """
    body = _encoder.encode(_plain(policy.state()))
    return HEAD.pack(MAGIC, FORMAT, _digest(body)) + body


def from_bytes(raw: bytes) -> Policy:
    """Read what :func:`to_bytes` wrote, and make that policy.

    Raises
    ------
    PolicyError
        If the bytes are no snapshot, of another format, damaged, of a policy that is unknown, or
        of numbers that none can have learned.
    """
    if len(raw) < HEAD.size:
        raise PolicyError(
            f"a policy snapshot has at least {HEAD.size} bytes, got {len(raw)}: "
            "it was cut off, take another"
        )
    magic, version, digest = HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise PolicyError(f"a policy snapshot begins with {MAGIC!r}, got {magic!r}: it is none")
    if version != FORMAT:
        raise PolicyError(
            f"policy snapshot format must be {FORMAT}, got {version}: "
            "run the version that wrote it, or let the policy learn afresh"
        )
    body = raw[HEAD.size :]
    if _digest(body) != digest:
        raise PolicyError(
            f"the digest of a policy snapshot of {len(raw)} bytes does not fit its content: "
            "it was cut off or changed, take another"
        )
    try:
        state = _lively(msgspec.msgpack.decode(body))
        name = state["policy"]
    except (msgspec.DecodeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise PolicyError(
            f"a policy snapshot of {len(raw)} bytes cannot be read ({error}): take another"
        ) from error
    return policy_class(name).from_state(state)


def scale_to_bytes(scale: RewardScale) -> bytes:
    """Write a reward scale's state, as MessagePack."""
    return _encoder.encode(_plain(scale.state()))


def scale_from_bytes(raw: bytes) -> RewardScale:
    """Read what :func:`scale_to_bytes` wrote.

    Raises
    ------
    PolicyError
        If the bytes are no reward scale.
    """
    try:
        state = _lively(msgspec.msgpack.decode(raw))
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as error:
        raise PolicyError(
            f"a reward scale of {len(raw)} bytes cannot be read ({error}): take another snapshot"
        ) from error
    return RewardScale.from_state(state)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.ndarray():
            dtype = value.dtype.newbyteorder("<").str
            if dtype in DTYPES:
                little = np.ascontiguousarray(value, dtype=dtype)
                return {ARRAY: [dtype, list(value.shape), little.tobytes()]}
    raise PolicyError(
        f"a policy's state cannot hold {type(value).__name__}: "
        f"use numbers, words, lists, and arrays of {', '.join(DTYPES)}"
    )


def _lively(value: Any) -> Any:
    match value:
        case {"array": [str(dtype), list(shape), bytes(data)]} if len(value) == 1:
            if dtype not in DTYPES or len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
                raise ValueError(f"an array of {dtype} and shape {shape} in {len(data)} bytes")
            return np.frombuffer(data, dtype=dtype).reshape(shape).copy()
        case dict():
            return {key: _lively(item) for key, item in value.items()}
        case list():
            return [_lively(item) for item in value]
    return value
