"""A campaign's policies: kept in its shard's state, and published for every worker."""

from schemas.learning import PolicySnapshot
from schemas.topics import POLICY_SNAPSHOTS
from streams.agents.state import base_key
from streams.core.snapshots import SnapshotParts, cut_snapshot, part_key
from streams.kafka.transaction import Output, Transaction

__all__ = ["drop_frozen", "drop_pair", "newest_key", "newest_snapshot", "publish"]


def newest_snapshot(
    tx: Transaction, campaign_id: str, label: str | None = None
) -> PolicySnapshot | None:
    """The newest policy of a campaign; None before its first.

    Parameters
    ----------
    label
        Of a release that does not lead, whose policy it is to be; None: the leading policy.
    """
    name = newest_key(campaign_id, label)
    head = _head(tx, name)
    if head is None or head.parts == 1:
        return head
    parts, whole = SnapshotParts(), None
    for number in range(head.parts):
        key = part_key(name, number)
        raw = tx.get(base_key(key))
        assert raw is not None  # all parts are of one transaction
        whole = parts.put(key, tx.codec.decode(raw, PolicySnapshot))
    assert whole is not None
    return whole


def publish(tx: Transaction, snapshot: PolicySnapshot, label: str | None = None) -> int:
    """Publish a policy, the newest or one that a wave is pinned to; gives its number of parts.

    Parameters
    ----------
    label
        Of a release that does not lead, whose policy it is.
    """
    campaign_id, parts = snapshot.campaign_id, cut_snapshot(snapshot)
    if snapshot.wave is None:
        key = newest_key(campaign_id, label)
        head = _head(tx, key)
        _drop(tx, key, range(len(parts), 1 if head is None else head.parts))
    else:
        key = _frozen_key(campaign_id, snapshot.wave)
    for part in parts:
        name = part_key(key, part.part)
        if snapshot.wave is None:
            tx.put(base_key(name), tx.encode(POLICY_SNAPSHOTS, part))
        # Partitioned by the campaign alone, so that a campaign's versions keep their order.
        tx.emit(POLICY_SNAPSHOTS, part, key=name, partition=tx.number)
    return len(parts)


def drop_frozen(tx: Transaction, campaign_id: str, wave: int, parts: int) -> None:
    """Delete the policy that a wave was pinned to."""
    _drop(tx, _frozen_key(campaign_id, wave), range(parts))


def drop_pair(tx: Transaction, campaign_id: str, label: str) -> None:
    """Delete the policy of a release that does not lead."""
    key = newest_key(campaign_id, label)
    head = _head(tx, key)
    _drop(tx, key, range(0 if head is None else head.parts))


def _drop(tx: Transaction, key: str, numbers: range) -> None:
    for number in numbers:
        name = part_key(key, number)
        if "/" not in key:
            tx.delete(base_key(name))
        tx.outputs.append(Output(POLICY_SNAPSHOTS, name.encode(), None, tx.number, None))


def _head(tx: Transaction, key: str) -> PolicySnapshot | None:
    raw = tx.get(base_key(key))
    return None if raw is None else tx.codec.decode(raw, PolicySnapshot)


def newest_key(campaign_id: str, label: str | None) -> str:
    """Key of a newest policy; no name of a campaign holds an @."""
    return campaign_id if label is None else f"{campaign_id}@{label}"


def _frozen_key(campaign_id: str, wave: int) -> str:
    """Key of the policy that a wave is pinned to."""
    return f"{campaign_id}/{wave}"
