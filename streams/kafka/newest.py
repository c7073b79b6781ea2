"""Compacted topics read from outside the workers: the newest record under each key."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from schemas.wire import Codec, Unreadable
from streams.kafka.cluster import Cluster
from streams.kafka.read import read_all

__all__ = ["last_readable", "read_newest"]

T = TypeVar("T")


def last_readable(values: Iterable[bytes | None], codec: Codec, kind: type[T]) -> T | None:
    """What stands under a key after these values: what cannot be read counts for nothing."""
    found: T | None = None
    for value in values:
        read = None if value is None else codec.try_decode(value, kind)
        if not isinstance(read, Unreadable):
            found = read
    return found


def read_newest(
    cluster: Cluster,
    topic: str,
    codec: Codec,
    kind: type[T],
    unreadable: Callable[[str, str], None],
) -> dict[str, T]:
    """The newest record under each key of a topic, as of now, in the order of the keys.

    Parameters
    ----------
    topic
        Full name.
    unreadable
        Is told the key of a record that cannot be read, and why; the one before it stands.

    Raises
    ------
    BusError
        If the topic cannot be read.
    """
    found: dict[str, T] = {}
    for record in read_all(cluster, topic):
        key = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            found.pop(key, None)
            continue
        read = codec.try_decode(record.value, kind)
        if isinstance(read, Unreadable):
            unreadable(key, read.reason)
        else:
            found[key] = read
    return dict(sorted(found.items()))
