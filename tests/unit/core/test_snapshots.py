import hashlib
from dataclasses import replace

import msgspec
import pytest

from schemas.errors import PolicyError
from streams.core.policies import to_bytes
from streams.core.snapshots import PART_BYTES, SnapshotParts, cut_snapshot, part_key, policy_of
from tests.unit.agents.shard import campaign, frozen

SNAPSHOT = replace(frozen(campaign()), state=bytes(range(256)) * (PART_BYTES // 100), version=3)


def test_a_snapshot_that_fits_a_message_is_one_part():
    small = frozen(campaign())
    assert cut_snapshot(small) == [small]
    assert part_key("spring/0", 0) == "spring/0"


def test_parts_make_the_snapshot_in_any_order_and_only_all_of_them():
    parts = cut_snapshot(SNAPSHOT)
    assert len(parts) == 3
    for order in ((0, 1, 2), (2, 0, 1)):
        found = SnapshotParts()
        for rank, number in enumerate(order):
            whole = found.put(part_key("spring/0", number), parts[number])
            assert (whole is not None) == (rank == 2)
        assert found.get("spring/0") == SNAPSHOT


def test_until_the_last_part_has_come_the_version_before_stands():
    found = SnapshotParts()
    newer = replace(SNAPSHOT, version=4, state=SNAPSHOT.state[::-1])
    for version in (SNAPSHOT, newer):
        for part in cut_snapshot(version)[:-1]:
            assert found.put(part_key("spring", part.part), part) is None
        assert found.get("spring") == (None if version is SNAPSHOT else SNAPSHOT)
        last = cut_snapshot(version)[-1]
        assert found.put(part_key("spring", last.part), last) == version


def test_parts_of_two_versions_are_not_mixed():
    found = SnapshotParts()
    old, new = cut_snapshot(SNAPSHOT), cut_snapshot(replace(SNAPSHOT, version=4))
    assert [found.put(part_key("spring", p.part), p) for p in (old[0], new[1], old[2])] == [
        None
    ] * 3


def test_a_deleted_snapshot_is_gone_with_its_first_part():
    found = SnapshotParts()
    for part in cut_snapshot(SNAPSHOT):
        found.put(part_key("spring/0", part.part), part)
    found.drop("spring/0#1")
    assert found.get("spring/0") == SNAPSHOT
    found.drop("spring/0")
    assert found.get("spring/0") is None


def test_a_policy_of_another_format_is_refused_with_its_campaign():
    snapshot = frozen(campaign())
    assert to_bytes(policy_of(snapshot)) == snapshot.state
    older = snapshot.state[:4] + (1).to_bytes(2, "little") + snapshot.state[6:]
    says = (
        rf"campaign {snapshot.campaign_id}, policy version {snapshot.version}: "
        r"policy snapshot format must be 4, got 1: run the version that wrote it"
    )
    with pytest.raises(PolicyError, match=says):
        policy_of(replace(snapshot, state=older))


def test_a_policy_of_numbers_that_none_can_have_learned_is_refused_with_its_campaign():
    snapshot = frozen(campaign())
    state = msgspec.msgpack.decode(snapshot.state[22:])
    body = msgspec.msgpack.encode({**state, "n_learned": float("inf")})
    signed = snapshot.state[:6] + hashlib.blake2b(body, digest_size=16).digest() + body
    says = rf"campaign {snapshot.campaign_id}, policy version \d+: n_learned must be a whole number"
    with pytest.raises(PolicyError, match=says):
        policy_of(replace(snapshot, state=signed))
