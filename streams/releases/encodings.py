"""Encodings that were made already: a profile that has not changed is not encoded twice an hour."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.features import FeatureBatch, KnownUser, fingerprint, hash_profiles
from streams.releases.metrics import ENCODED

__all__ = ["Encodings"]


class Encodings:
    """The newest encodings of one release, by what the profile was and the hour.

    It belongs to a release and goes with it, so that no two releases share an entry. An entry is
    found by the content that its features were made of: whoever changed a profile since, whichever
    shard and campaign ask, what is found is what encoding anew would give. Safe from any thread.

    Parameters
    ----------
    encode
        Features to z, (n, z_size).
    most
        Entries kept, those used last; 0: none.
    """

    def __init__(
        self, encode: Callable[[FeatureBatch], NDArray[np.float32]], z_size: int, most: int
    ) -> None:
        self._encode = encode
        self._z_size = z_size
        self._most = most
        self._entries: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()  # z, features
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def of(
        self, users: Sequence[KnownUser], now_ms: int
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        """Z of profiles as of a time in milliseconds, (n, z_size), and their features' bytes."""
        if not self._most:
            z, features = self._anew(users, now_ms)
            ENCODED.labels("model").inc(len(users))
            return z, features
        keys = [fingerprint(user, now_ms) for user in users]
        found = self._look_up(keys)
        missing = [row for row, entry in enumerate(found) if entry is None]
        ENCODED.labels("cache").inc(len(users) - len(missing))
        if missing:
            ENCODED.labels("model").inc(len(missing))
            z, features = self._anew([users[row] for row in missing], now_ms)
            width, raw = 4 * self._z_size, z.tobytes()
            made = [(raw[at * width : (at + 1) * width], one) for at, one in enumerate(features)]
            self._keep([keys[row] for row in missing], made)
            if len(missing) == len(users):
                return z, features
            for row, entry in zip(missing, made, strict=True):
                found[row] = entry
        entries = [entry for entry in found if entry is not None]  # all of them by now
        joined = np.frombuffer(b"".join([z for z, _ in entries]), np.float32)
        return joined.reshape(len(users), self._z_size), [features for _, features in entries]

    def _anew(
        self, users: Sequence[KnownUser], now_ms: int
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        batch = hash_profiles(users, [now_ms] * len(users))
        return self._encode(batch), batch.to_bytes()

    def _look_up(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes] | None]:
        with self._lock:
            found = [self._entries.get(key) for key in keys]
            for key, entry in zip(keys, found, strict=True):
                if entry is not None:
                    self._entries.move_to_end(key)
        return found

    def _keep(self, keys: Sequence[bytes], made: Sequence[tuple[bytes, bytes]]) -> None:
        with self._lock:
            self._entries.update(zip(keys, made, strict=True))
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
