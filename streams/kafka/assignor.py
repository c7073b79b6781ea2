"""Partition assignment: one owner for a partition number of all topics that belong together.

Faust without tables assigns round robin, topic by topic, so that one partition number of two
topics can have two owners. Here topics come in groups (those of the users, of the campaigns,
of the company's sources); within a group a number belongs to one member in all topics, counts
differ by at most one, and members keep the numbers that they had.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

__all__ = ["CoPartitionedAssignor", "share_out"]


def share_out(
    numbers: Iterable[int], held: Mapping[str, Iterable[int]], first: int = 0
) -> dict[int, str]:
    """Give every number an owner: what each held, up to its share, then the rest.

    Parameters
    ----------
    numbers
        Partition numbers to give out.
    held
        What each member had, by its name.
    first
        Rotates who gets one more, so that several groups do not burden the same member.

    Returns
    -------
    dict
        Owner by number; the counts of two members differ by at most one.
    """
    wanted = sorted(numbers)
    names = sorted(held)
    least, extra = divmod(len(wanted), len(names))
    free = set(wanted)
    claimed = Counter(number for name in names for number in free.intersection(held[name]))
    claims = {  # what nobody else claims first: of the others somebody may already have it
        name: sorted(free.intersection(held[name]), key=lambda number: (claimed[number], number))
        for name in names
    }
    # One more goes to those who hold most; among equals the turn moves on with `first`.
    turn = {name: (rank - first) % len(names) for rank, name in enumerate(names)}
    keen = sorted(names, key=lambda name: (-len(claims[name]), turn[name]))
    quota = {name: least + (rank < extra) for rank, name in enumerate(keen)}
    owner: dict[int, str] = {}
    for name in names:
        for number in [n for n in claims[name] if n in free][: quota[name]]:
            owner[number] = name
            free.discard(number)
    open_seats = [name for name in names for _ in range(quota[name])]
    for name in owner.values():
        open_seats.remove(name)
    owner.update(zip(sorted(free), open_seats, strict=True))
    return owner


class CoPartitionedAssignor:
    """The group protocol's assignor for Groundswell's workers.

    Parameters
    ----------
    group_of
        Names the group that a topic belongs to.
    """

    name = "groundswell-co-partitioned"
    version = 1

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self._group_of = group_of
        self._held: dict[str, list[int]] = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member tells the leader: its topics, and the numbers that it held."""
        return ConsumerProtocolMemberMetadata(
            self.version, sorted(topics), msgspec.json.encode(self._held)
        )

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what was given, for stickiness."""
        held: dict[str, set[int]] = {}
        for topic, partitions in assignment.assignment:
            held.setdefault(self._group_of(topic), set()).update(partitions)
        self._held = {group: sorted(numbers) for group, numbers in held.items()}

    def assign(
        self, cluster: object, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Give each partition to one who subscribes to its topic; called in the group's leader."""
        topics = sorted({topic for meta in members.values() for topic in meta.subscription})
        counts = {t: len(cluster.partitions_for_topic(t) or ()) for t in topics}  # type: ignore[attr-defined]
        wants = {name: set(meta.subscription) for name, meta in members.items()}
        held = {name: _read_held(meta.user_data) for name, meta in members.items()}
        parts: dict[str, dict[str, list[int]]] = {name: {} for name in members}
        groups = sorted({self._group_of(topic) for topic in topics})
        given = 0
        for group in groups:
            together = [topic for topic in topics if self._group_of(topic) == group]
            numbers = range(max(counts[topic] for topic in together))
            able = {name for name in members if not wants[name].isdisjoint(together)}
            owners = share_out(
                numbers, {name: held[name].get(group, []) for name in able}, first=given
            )
            given += len(numbers)
            for topic in together:
                for number in range(counts[topic]):
                    # While a change of the sources is rolled out members differ: what an owner
                    # does not read waits in its topic, for one that does.
                    if topic in wants[owners[number]]:
                        parts[owners[number]].setdefault(topic, []).append(number)
        return {
            name: ConsumerProtocolMemberAssignment(self.version, sorted(mine.items()), b"")
            for name, mine in parts.items()
        }


def _read_held(raw: bytes | None) -> dict[str, list[int]]:
    """What a member says that it held; a member of another kind held nothing."""
    try:
        return msgspec.json.decode(raw or b"{}", type=dict[str, list[int]])
    except msgspec.DecodeError:
        return {}
