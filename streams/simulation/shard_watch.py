"""What the shards have applied, as their own committed state says.

The consumer group's offsets would not do: Faust acknowledges the records that it drops in a
rebalance. A shard's state says what it contains, in the transaction that made it so.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from schemas.errors import GroundswellError
from schemas.learning import PolicySnapshot
from schemas.topics import CAMPAIGN_CHANGELOG, POLICY_SNAPSHOTS, SHARD_CHANGELOG
from schemas.wire import Codec
from streams.core.snapshots import SnapshotParts
from streams.kafka.cluster import Cluster
from streams.kafka.read import follow
from streams.kafka.shard import META, Meta
from streams.kafka.transaction import Incoming

__all__ = ["ShardWatch"]

Offsets = Mapping[tuple[str, int], int]  # the last offset by full topic name and partition

STALLED_S = 120.0


class ShardWatch:
    """Follows the changelogs of one deployment's shards.

    Parameters
    ----------
    alive
        Raises if whatever is waited for has ended.
    stalled_s
        So long nothing may move before waiting fails.
    """

    def __init__(
        self,
        cluster: Cluster,
        prefix: str,
        alive: Callable[[], None],
        stalled_s: float = STALLED_S,
    ) -> None:
        topics = (SHARD_CHANGELOG, CAMPAIGN_CHANGELOG, POLICY_SNAPSHOTS)
        self._snapshots_topic = prefix + POLICY_SNAPSHOTS.name
        self._records = follow(cluster, [prefix + t.name for t in topics], from_beginning=True)
        self._codec = Codec()
        self._alive = alive
        self._stalled_s = stalled_s
        self._applied: dict[tuple[str, int], int] = {}
        self._parts = SnapshotParts()
        self._snapshots: list[PolicySnapshot] = []

    def close(self) -> None:
        """Stop following."""
        self._records.close()

    def wait_applied(self, wanted: Offsets) -> None:
        """Wait until the shards' state contains these offsets.

        Raises
        ------
        GroundswellError
            If nothing moves on.
        """

        def missing() -> Sequence[str]:
            return [
                f"{topic}/{partition} up to {offset} (has {self._applied.get((topic, partition))})"
                for (topic, partition), offset in sorted(wanted.items())
                if self._applied.get((topic, partition), -1) < offset
            ]

        self._wait(missing)

    def wait_snapshot(self, version: int) -> PolicySnapshot:
        """Wait for a version of the policy.

        Raises
        ------
        GroundswellError
            If nothing moves on.
        """

        def found() -> list[PolicySnapshot]:
            return [s for s in self._snapshots if s.wave is None and s.version == version]

        self._wait(lambda: () if found() else (f"snapshot {version} of the policy",))
        return found()[0]

    def _wait(self, missing: Callable[[], Sequence[str]]) -> None:
        deadline = time.monotonic() + self._stalled_s
        left = missing()
        while left:
            self._alive()
            if self._take():
                deadline = time.monotonic() + self._stalled_s
                left = missing()
            elif time.monotonic() > deadline:
                raise GroundswellError(
                    f"nothing has moved for {self._stalled_s:g} s, still missing: "
                    f"{', '.join(left[:3])}: see the workers' logs"
                )

    def _take(self) -> bool:
        """Read what has come; whether it said anything of interest."""
        moved = False
        for record in self._records:
            if record is None:
                return moved
            if record.topic == self._snapshots_topic:
                moved = self._take_snapshot(record)
            elif record.key == META and record.value is not None:
                meta = msgspec.msgpack.decode(record.value, type=Meta)
                for topic, offset in meta.applied.items():
                    self._applied[topic, record.partition] = offset
                moved = True
            if moved:
                return True
        return moved

    def _take_snapshot(self, record: Incoming) -> bool:
        if record.value is None:
            return False
        part = self._codec.decode(record.value, PolicySnapshot)
        whole = self._parts.put((record.key or b"").decode(), part)
        if whole is not None:
            self._snapshots.append(whole)
        return True
