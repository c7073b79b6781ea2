"""Where a record that ingest sends on came from, so that it counts once however often it was sent.

Ingest sends on before it keeps how far it has come: after a kill, and while two owners overlap, the
same record may stand in a topic twice. Each carries where it came from. Whoever sends, sends the
records of a source partition in their order and without a gap, and begins at or below what all
owners before it have sent: so the first copies stand in their order, and what does not lie behind
the last one taken is a repetition. One number a source partition tells them apart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from streams.kafka.metrics import REPEATED
from streams.kafka.transaction import Headers, Incoming

__all__ = ["ORIGIN", "Marks", "origin_headers", "unrepeated"]

ORIGIN = "groundswell-origin"
MARK = b"!from/"  # in a shard's state: the last record taken of a source partition


def origin_headers(source: str, partition: int, offset: int) -> Headers:
    """Headers that say where a record came from: the source topic's id, partition and offset."""
    return [(ORIGIN, f"{source}/{partition}/{offset}".encode())]


def _origin_of(record: Incoming) -> tuple[bytes, int] | None:
    """Source partition and offset; None for a record that its own producer put there."""
    for name, value in record.headers:
        if name == ORIGIN and value:
            source, _, offset = value.rpartition(b"/")
            return (source, int(offset)) if source and offset.isdigit() else None
    return None


class Marks:
    """The last record that a shard has taken of each source partition.

    Parameters
    ----------
    read
        Reads a key of the shard's state.
    """

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self._read = read
        self._last: dict[bytes, int] = {}

    def sift(self, records: Sequence[Incoming]) -> tuple[Sequence[Incoming], dict[bytes, int]]:
        """The records that were not taken before, and how far that comes: see `keep`."""
        if not any(record.headers for record in records):
            return records, {}
        moved: dict[bytes, int] = {}
        new = []
        for record in records:
            origin = _origin_of(record)
            if origin is not None:
                source, offset = origin
                last = moved.get(source)
                if offset <= (self._taken(source) if last is None else last):
                    continue
                moved[source] = offset
            new.append(record)
        if len(new) < len(records):
            REPEATED.labels(records[0].topic).inc(len(records) - len(new))
        return new, moved

    def _taken(self, source: bytes) -> int:
        last = self._last.get(source)
        if last is None:
            last = self._last[source] = int(self._read(MARK + source) or b"-1")
        return last

    @staticmethod
    def changes(moved: Mapping[bytes, int]) -> dict[bytes, bytes]:
        """What the state keeps of it."""
        return {MARK + source: b"%d" % offset for source, offset in moved.items()}

    def keep(self, moved: Mapping[bytes, int]) -> None:
        """It is committed."""
        self._last.update(moved)


def unrepeated(records: Iterable[Incoming]) -> Iterator[Incoming]:
    """The records of a topic, read from its beginning, less those that stand there again."""
    last: dict[tuple[int, bytes], int] = {}
    for record in records:
        origin = _origin_of(record)
        if origin is not None:
            source, offset = origin
            if offset <= last.get((record.partition, source), -1):
                continue
            last[record.partition, source] = offset
        yield record
