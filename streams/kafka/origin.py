"""Where a record that ingest sends on came from, so that it counts once however often it was sent.

Ingest sends on before it keeps how far it has come: after a kill, and while two owners overlap, the
same record may stand in a topic twice. Each carries where it came from. Whoever sends, sends the
records of a source partition in their order and without a gap, and begins at or below what all
owners before it have sent: so the first copies stand in their order, and what does not lie behind
the last one taken is a repetition. One number a source partition tells them apart.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from streams.kafka.metrics import REPEATED
from streams.kafka.transaction import ORIGIN, Headers, Incoming

__all__ = ["Marks", "origin_headers", "unrepeated"]

FORM = re.compile(rb"(.{1,64}/\d{1,10})/(\d{1,19})", re.DOTALL)  # source partition, offset
MARK = b"!from/"  # in a shard's state: the last record that an input took of a source partition


def origin_headers(source: str, partition: int, offset: int) -> Headers:
    """Headers that say where a record came from: the source topic's id, partition and offset."""
    return [(ORIGIN, f"{source}/{partition}/{offset}".encode())]


def _origin_of(record: Incoming) -> tuple[bytes, int] | None:
    """Source partition and offset; None for a record that its own producer put there."""
    for name, value in record.headers:
        if name == ORIGIN:
            told = FORM.fullmatch(value or b"")
            return None if told is None else (told[1], int(told[2]))
    return None


class Marks:
    """The last record that each input of a shard has taken of each source partition.

    By input: those that a source's records are sent on to are not read in step.

    Parameters
    ----------
    read
        Reads a key of the shard's state.
    """

    def __init__(self, read: Callable[[bytes], bytes | None]) -> None:
        self._read = read
        self._last: dict[bytes, int] = {}  # by key in the state

    def sift(self, records: Sequence[Incoming]) -> tuple[Sequence[Incoming], dict[bytes, int]]:
        """An input's records that were not taken before, and how far that comes: see `keep`."""
        if not any(record.headers for record in records):
            return records, {}
        of_input = MARK + records[0].topic.encode() + b"/"
        moved: dict[bytes, int] = {}
        new = []
        for record in records:
            origin = _origin_of(record)
            if origin is not None:
                source, offset = origin
                mark = of_input + source
                last = moved.get(mark)
                if offset <= (self._taken(mark) if last is None else last):
                    continue
                moved[mark] = offset
            new.append(record)
        if len(new) < len(records):
            REPEATED.labels(records[0].topic).inc(len(records) - len(new))
        return new, moved

    def _taken(self, mark: bytes) -> int:
        last = self._last.get(mark)
        if last is None:
            last = self._last[mark] = int(self._read(mark) or b"-1")
        return last

    @staticmethod
    def changes(moved: Mapping[bytes, int]) -> dict[bytes, bytes]:
        """What the state keeps of it."""
        return {mark: b"%d" % offset for mark, offset in moved.items()}

    def keep(self, moved: Mapping[bytes, int]) -> None:
        """It is committed."""
        self._last.update(moved)


def unrepeated(records: Iterable[Incoming]) -> Iterator[Incoming]:
    """The records of topics, read from their beginning, less those that stand there again."""
    last: dict[tuple[str, int, bytes], int] = {}
    for record in records:
        origin = _origin_of(record)
        if origin is not None:
            source, offset = origin
            mark = record.topic, record.partition, source
            if offset <= last.get(mark, -1):
                continue
            last[mark] = offset
        yield record
