"""Every hash that two processes must agree on.

Partitions use Kafka's murmur2, as Java clients and librdkafka's `murmur2_random` do.
Everything else uses MurmurHash3 (mmh3), which is stable over versions and machines.
"""

import mmh3
from aiokafka.partitioner import murmur2

__all__ = ["decision_id", "fallback_id", "id_hash", "partition_of", "seed_of", "share_of"]

_MASK = 0x7FFFFFFF  # Kafka drops the sign
_TWO_53 = float(1 << 53)


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as Kafka's default partitioner has it."""
    return int(murmur2(key.encode()) & _MASK) % partitions


def share_of(salt: str, user_id: str) -> float:
    """A user's stable place in [0, 1) for one purpose (a campaign's waves, its holdout)."""
    raw = mmh3.hash64(f"{salt}\x00{user_id}".encode(), signed=False)[0]
    return (raw >> 11) / _TWO_53


def decision_id(campaign_id: str, wave: int, user_id: str, event: int | None = None) -> str:
    """The id of a decision: the same again after any retry. 32 hexadecimal digits.

    Parameters
    ----------
    event
        What tells the event apart that triggered it; None where the wave's schedule did.
    """
    trigger = "" if event is None else f"\x00{event}"
    raw = mmh3.hash_bytes(f"{campaign_id}\x00{wave}\x00{user_id}{trigger}".encode())
    return raw.hex()


def fallback_id(*parts: object) -> str:
    """An id for a record that came without one, from what tells it apart."""
    return mmh3.hash_bytes("\x00".join(map(str, parts)).encode()).hex()


def id_hash(text: str) -> int:
    """64 bits of an id, for the lists of ids that have been seen."""
    return int(mmh3.hash64(text.encode(), signed=False)[0])


def seed_of(*parts: object) -> int:
    """The seed of a random stream that belongs to a campaign, wave, shard and chunk."""
    return int.from_bytes(mmh3.hash_bytes("\x00".join(map(str, parts)).encode()), "little")
