"""The hash that makes a feature of a user an index: the same bytes, the same index, everywhere.

MurmurHash3 (x86, 32 bits) under one seed. What is kept is the whole 32 bits: a release takes its
own number of low bits of them, so that features that were logged under one release can be
encoded under another. `GOLDEN` pins it: bytes in, hash out.
"""

from collections.abc import Mapping
from typing import Final

import mmh3

__all__ = ["ALGORITHM", "GOLDEN", "SEED", "feature_hash", "feature_name"]

ALGORITHM: Final = "mmh3-x86-32"
SEED: Final = 0x6E6F7469  # "noti": another seed would be another hash

# What any implementation, in any language, must give.
GOLDEN: Final[Mapping[bytes, int]] = {
    b"": 0xA691365F,
    b"attribute\x00plan\x00free": 0x11D517F9,
    b"attribute\x00city\x00K\xc3\xb6ln": 0x8269CB2B,
    b"attribute\x00tags\x00\xf0\x9f\x98\x80": 0x778C12EF,
    b"attribute\x00subscribed\x00true": 0x35829C6C,
    b"event\x00app_open": 0x32D87335,
    b"reach\x00email": 0x01E94981,
    b"number\x00age": 0xA3FCABEC,
    b"sends\x00week": 0x3954B961,
}


def feature_hash(name: bytes) -> int:
    """32 bits of a feature's name."""
    return mmh3.hash(name, SEED, signed=False)


def feature_name(*parts: str) -> bytes:
    """A feature's name: its kind and what tells it apart, in UTF-8, with zero bytes between."""
    return "\0".join(parts).encode("utf-8", "surrogatepass")
