"""A stage for one contestant: topics of its own, filled in one go, and a clock beside it.

The input is written in one transaction that stays open until the contestant is ready. Then it is
committed: all of it is there at that moment, and nothing runs beside the broker and the contestant.
The clock reads only where the output ends, until that has stood still, and then its last records.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer, TopicPartition

from schemas.hashing import partition_of
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader
from tests.kafka.harness import Deployment, deployment

__all__ = ["Course", "Stage", "cpu_s", "rss_mb", "stage"]

OPEN_FOR_MS = 600_000
LOOK_EVERY_S = 0.1
STILL_S = 1.5
GIVE_UP_S = 240.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What came of a run, from the moment at which its input was there."""

    seconds: float  # until the last record of the output was written
    cpu_s: Mapping[str, float]  # by process, over these seconds
    last: list[list[Any]]  # the last records of each partition of the output


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


class Stage:
    """The topics of one contestant.

    Parameters
    ----------
    at
        Its deployment.
    broker_pid
        The broker's process, where it is on this machine: its share of the CPU is told too.
    """

    def __init__(self, at: Deployment, broker_pid: int | None = None) -> None:
        self.at = at
        self._broker = {} if broker_pid is None else {"broker": broker_pid}

    @contextmanager
    def filled(
        self, topic: str, records: Iterable[tuple[str, bytes]]
    ) -> Iterator[Callable[[], None]]:
        """Write records by user to a topic; give what makes them visible, all at once."""
        producer = Producer(
            {
                "bootstrap.servers": self.at.bootstrap,
                "transactional.id": f"fill-{self.at.prefix}{topic}",
                "transaction.timeout.ms": OPEN_FOR_MS,
                "linger.ms": 20,
                "queue.buffering.max.messages": 2_000_000,
            }
        )
        producer.init_transactions(30)
        producer.begin_transaction()
        for user, value in records:
            partition = partition_of(user, self.at.users)
            producer.produce(self.at.prefix + topic, value, user, partition=partition)
        producer.flush(60)
        yield lambda: producer.commit_transaction(30)

    def run(
        self,
        begin: Callable[[], None],
        output: str,
        complete: Callable[[list[list[Any]]], bool],
        processes: Mapping[str, int],
    ) -> Course:
        """Begin, and wait until the output is complete and still.

        Parameters
        ----------
        begin
            Makes the input visible.
        output
            Full name of the topic whose end shows that work goes on.
        complete
            Whether the last records of each partition of it say that all was done.
        processes
            Whose CPU is told, by name.
        """
        pids = {**self._broker, **processes}
        reader = groupless_reader(Cluster(self.at.bootstrap))
        try:
            partitions = [
                TopicPartition(output, number)
                for number in reader.list_topics(output).topics[output].partitions
            ]
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            began_s = time.time()
            begin()
            ends: list[int] = []
            taken, moved_at = before, time.monotonic()
            while True:
                time.sleep(LOOK_EVERY_S)
                now = [bounds(reader, tp)[1] for tp in partitions]
                if now != ends:
                    ends, moved_at = now, time.monotonic()
                    taken = {name: cpu_s(pid) for name, pid in pids.items()}
                elif time.monotonic() - moved_at > STILL_S:
                    last = [self._last(reader, tp) for tp in partitions]
                    if complete(last):
                        break
                    assert time.monotonic() - moved_at < GIVE_UP_S, f"{output} stands still"
            ended_s = max(m.timestamp()[1] for messages in last for m in messages) / 1000
            return Course(
                seconds=ended_s - began_s,
                cpu_s={name: taken[name] - before[name] for name in pids},
                last=last,
            )
        finally:
            reader.close()

    def count(self, topic: str) -> int:
        """Offsets that a topic's partitions hold up to their ends: records and markers."""
        reader = groupless_reader(Cluster(self.at.bootstrap))
        try:
            numbers = reader.list_topics(topic).topics[topic].partitions
            return sum(bounds(reader, TopicPartition(topic, number))[1] for number in numbers)
        finally:
            reader.close()

    @staticmethod
    def _last(reader: Any, tp: TopicPartition, most: int = 300) -> list[Any]:
        low, high = bounds(reader, tp)
        reader.assign([TopicPartition(tp.topic, tp.partition, max(low, high - most))])
        messages: list[Any] = []
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            got = reader.consume(most, 0.3)
            messages += [message for message in got if not message.error()]
            if not got:
                break
        reader.unassign()
        return messages


@contextmanager
def stage(
    kafka: Any, namespace: str, directory: Path, broker_pid: int | None = None, **options: Any
) -> Iterator[Stage]:
    """Make a contestant's topics; its workers end with it."""
    with deployment(kafka, namespace, directory, **options) as made:
        yield Stage(made, broker_pid)
