"""Keys of sums: of an action with the features that it was sent with, or of one retired."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from schemas.hashing import id_hash
from streams.core.policies.data import ActionSet, Examples, IntArray

__all__ = ["action_keys", "action_of", "is_key", "key_of", "keys_of", "retired_key"]

RETIRED = "retired-"


def keys_of(examples: Examples) -> dict[str, IntArray]:
    """Sort the rows of examples by action and the features that it was sent with."""
    found: dict[tuple[str, bytes], list[int]] = {}
    for row, (name, features) in enumerate(
        zip(examples.actions, examples.action_features, strict=True)
    ):
        found.setdefault((name, features.tobytes()), []).append(row)
    named = {key_of(*pair): np.array(rows, dtype=np.int64) for pair, rows in found.items()}
    return dict(sorted(named.items()))


def action_keys(actions: ActionSet) -> Iterator[str]:
    """Give the key of each action with the features that it has now."""
    for name, features in zip(actions.ids, actions.features, strict=True):
        yield key_of(name, features.tobytes())


def action_of(key: str) -> str:
    """Give the action of a key; of one that was retired none, which no action is called."""
    return key.partition(":")[2]


def retired_key(key: str) -> str:
    """Give the key under which sums of a retired action go on; the key itself if it is one."""
    return f"{RETIRED}{id_hash(key):x}" if action_of(key) else key


def is_key(key: str) -> bool:
    """Whether this is a key of sums: of an action or of a retired one."""
    return bool(action_of(key)) or key.startswith(RETIRED)


@lru_cache(maxsize=4096)
def key_of(name: str, features: bytes) -> str:
    """Give the key of an action with features, as bytes."""
    return f"{id_hash(features.hex()):x}:{name}"
