"""A worker's stores as they lie on its disk, beside the changelog, key by key."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.topics import SHARD_CHANGELOG
from streams.kafka.changelog import POSITION, Position
from streams.kafka.store import Store, StoreOptions
from tests.kafka.harness import Deployment

SHARDS = "shards/users"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What a store holds, and how far in the changelog it had come."""

    number: int
    state: dict[bytes, bytes]
    position: Position


def read_stores(directory: Path) -> dict[int, Copy]:
    """The user shards' stores below a worker's directory, by shard; no process may have them."""
    copies = {}
    for path in sorted((directory / SHARDS).iterdir()):
        store = Store(path, StoreOptions(8))
        try:
            pairs = dict(store.scan(b""))
        finally:
            store.close()
        if POSITION in pairs:
            copies[int(path.name)] = Copy(
                number=int(path.name),
                state={key: value for key, value in pairs.items() if not key.startswith(b"!")},
                position=msgspec.msgpack.decode(pairs[POSITION], type=Position),
            )
    return copies


def copy_stores(deployment: Deployment, worker: int, name: str) -> dict[int, Copy]:
    """Copy a dead worker's directory, and read the copy."""
    copied = deployment.directory / name
    shutil.copytree(deployment.directory / f"worker-{worker}", copied)
    return read_stores(copied)


def change_position(directory: Path, number: int, change: Callable[[Position], Position]) -> None:
    """Write another position into a store, as if it came from another time."""
    store = Store(directory / SHARDS / str(number), StoreOptions(8))
    raw = store.get(POSITION)
    assert raw is not None
    store.write(
        {POSITION: msgspec.msgpack.encode(change(msgspec.msgpack.decode(raw, type=Position)))}
    )
    store.close()


@dataclass(frozen=True, slots=True)
class Last:
    """A key's newest record in the changelog."""

    offset: int
    value: bytes | None


def newest(deployment: Deployment) -> dict[int, dict[bytes, Last]]:
    """By shard and key the newest record of the changelog, tombstones included."""
    found: dict[int, dict[bytes, Last]] = {number: {} for number in range(deployment.users)}
    for message in deployment.read(SHARD_CHANGELOG):
        if not message.key().startswith(b"!"):
            found[message.partition()][message.key()] = Last(message.offset(), message.value())
    return found


def differences(copy: Copy, rebuilt: dict[bytes, bytes], records: dict[bytes, Last]) -> int:
    """Keys that the copy and the rebuilt store hold differently.

    Left out are those that were changed behind the copy's position.
    """
    since = {key for key, last in records.items() if last.offset >= copy.position.next_offset}
    keys = (copy.state.keys() | rebuilt.keys()) - since
    return sum(copy.state.get(key) != rebuilt.get(key) for key in keys)


def wrong(state: dict[bytes, bytes], records: dict[bytes, Last]) -> int:
    """Keys under which a store does not hold what the whole changelog says."""
    truth = {key: last.value for key, last in records.items() if last.value is not None}
    return sum(state.get(key) != truth.get(key) for key in state.keys() | truth.keys())


def astray(copy: Copy, records: dict[bytes, Last]) -> int:
    """Keys under which a store does not hold what the changelog said at the store's position.

    Left out are those that were changed behind that position.
    """
    truth = {key: last.value for key, last in records.items() if last.value is not None}
    return differences(copy, truth, records)
