"""Snapshots: cut into parts where they exceed a message, put together again, and read."""

from dataclasses import replace

from schemas.errors import PolicyError
from schemas.learning import PolicySnapshot
from streams.core.policies import Policy, from_bytes

__all__ = ["SnapshotParts", "cut_snapshot", "part_key", "policy_of"]

PART_BYTES = 4 * 1024 * 1024  # of a policy's state: half of what the topics take under one key


def cut_snapshot(snapshot: PolicySnapshot) -> list[PolicySnapshot]:
    """The parts of a snapshot, each with a piece of the policy's state; most have one."""
    pieces = [
        snapshot.state[first : first + PART_BYTES]
        for first in range(0, len(snapshot.state), PART_BYTES)
    ] or [b""]
    return [
        replace(snapshot, state=piece, part=number, parts=len(pieces))
        for number, piece in enumerate(pieces)
    ]


def policy_of(snapshot: PolicySnapshot) -> Policy:
    """Read a whole snapshot's policy.

    Raises
    ------
    PolicyError
        If it is of another format, damaged, or of a policy that is unknown; it names the campaign.
    """
    try:
        return from_bytes(snapshot.state)
    except PolicyError as error:
        raise PolicyError(
            f"campaign {snapshot.campaign_id}, policy version {snapshot.version}: {error}"
        ) from error


def part_key(key: str, part: int) -> str:
    """Key of a part: the first stands under the snapshot's own."""
    return f"{key}#{part}" if part else key  # no name of a campaign holds a #


class SnapshotParts:
    """Snapshots by key, each there once all of its parts are.

    Parts of a version are written in one transaction, but are not read at once: until the last
    has come the version before stands.
    """

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, PolicySnapshot]] = {}
        self._whole: dict[str, PolicySnapshot] = {}

    def get(self, key: str) -> PolicySnapshot | None:
        """The newest whole snapshot of a key."""
        return self._whole.get(key)

    def put(self, key: str, part: PolicySnapshot) -> PolicySnapshot | None:
        """Take a part that stands under a key of its own; gives the snapshot that it completes."""
        head, _, _ = key.partition("#")
        parts = self._parts.setdefault(head, {})
        parts[part.part] = part
        mine = [parts.get(number) for number in range(part.parts)]
        pieces = [one for one in mine if one is not None and one.version == part.version]
        if len(pieces) < part.parts:
            return None
        del self._parts[head]
        state = pieces[0].state if part.parts == 1 else b"".join(one.state for one in pieces)
        whole = replace(pieces[0], state=state, part=0, parts=1)
        self._whole[head] = whole
        return whole

    def drop(self, key: str) -> None:
        """A key was deleted; a snapshot goes with its first part."""
        head, _, number = key.partition("#")
        self._parts.get(head, {}).pop(int(number or 0), None)
        if not number:
            self._whole.pop(head, None)
            self._parts.pop(head, None)
