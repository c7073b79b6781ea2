"""Fetching, in a thread of its own: read-committed, in sessions, holes and ends noted.

- Sessions. A fetch names what changed since the last (`streams/kafka/fetch_sessions.py`).
- Isolation. Faust reads uncommitted unless its own transactions are on.
- Holes. In a rebalance Faust drops records that it has fetched. In a topic that is written by
  transactions, or compacted, offsets jump all the same. The fetcher knows the difference: a
  chunk carries the jumps that it vouches for, so that a shard can tell a hole from a loss.
- Heartbeats. They go on while shards are opened: a restore may be longer than a session.
- Ends. For each partition the position, the end of the log and the moment at which they were
  seen together are kept, so that a shard knows when it has read an input to its end.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.kafka.fetch_sessions import FetchSessions
from streams.kafka.transaction import Incoming

__all__ = ["ConsumerThread", "Fetched", "Progress"]

FETCH_WAIT_MS = 100  # one fetch is in flight to a broker: this bounds how long others wait for it


class Progress(msgspec.Struct, frozen=True, gc=False):
    """Where a partition stood at one moment."""

    position: int  # the next offset that would be fetched
    end: int  # the last stable offset: what there is to read
    last: int  # the last record handed out; -1 for none since the assignment
    at_ms: int  # wall clock

    @property
    def ended(self) -> bool:
        """Whether everything has been handed out."""
        return self.position >= self.end


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched of a partition, and after which offset a record comes where it jumps."""

    records: list[Incoming]
    jumps: dict[int, int]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches in a thread of its own, and notes holes and ends as it does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress: dict[TP, Progress] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._chains: dict[TP, tuple[int, int]] = {}  # position after the last fetch, last record
        self._states_of: Any = None  # the assignment that these are of
        self._states: list[tuple[TP, Any]] = []

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - read when it starts
        consumer._partition_assignment_strategy = [transport.assignor]  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        FetchSessions(consumer._client)  # noqa: SLF001
        return consumer

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take over, and keep on telling the group that this member lives.

        aiokafka begins to when this returns; a restore may take longer than a session lasts.
        """
        self._ensure_consumer()._coordinator._start_heartbeat_task()  # noqa: SLF001
        await super().on_partitions_assigned(assigned, generation_id)

    async def leave(self) -> None:
        """Stop the client; without static membership the group hears of it at once."""
        if self._consumer is not None:
            await self._consumer.stop()

    def group_failure(self) -> Exception | None:
        """Why this member does nothing more in its group, if it does not.

        aiokafka keeps it for a caller of its own methods, and waits until one has heard of it.
        """
        coordinator = None if self._consumer is None else self._consumer._coordinator  # noqa: SLF001
        failure: Exception | None = getattr(coordinator, "_pending_exception", None)
        return failure

    def forget(self) -> None:
        """Drop what was noted: partitions have been assigned anew."""
        self.progress.clear()
        self._chains.clear()

    def wake(self) -> None:
        """Let a fetch that waits return: there is room for more partitions. From any thread."""
        self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, Fetched]:
        if not self.consumer.flow_active or self.app.rebalancing:
            # What is fetched before Faust has settled is dropped, and would be read again.
            await asyncio.sleep(0.02)
            return {}
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise driver.ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            records = await self._drain(fetcher, active_partitions, max_records)
            if not records and timeout:
                self._waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
                too_long = asyncio.get_running_loop().call_later(timeout, self._wake)
                try:
                    await self._waiter  # raises where the client may not read
                finally:
                    too_long.cancel()
                if not fetcher._closed:  # noqa: SLF001
                    records = await self._drain(fetcher, active_partitions, max_records)
            return records

    async def _drain(
        self,
        fetcher: aiokafka_fetcher.Fetcher,
        partitions: set[TP],
        max_records: int | None,
    ) -> Mapping[TP, Fetched]:
        """Take what has been fetched. Does not suspend: no seek can come in between."""
        subscriptions = fetcher._subscriptions  # noqa: SLF001
        assignment = subscriptions.subscription and subscriptions.subscription.assignment
        if subscriptions.reassignment_in_progress or not assignment or not assignment.active:
            await asyncio.sleep(0.02)
            return {}
        if assignment is not self._states_of:
            self._states_of = assignment
            self._states = [(TP(*tp), assignment.state_value(tp)) for tp in assignment.tps]
        starts = [state._position for _, state in self._states]  # noqa: SLF001
        for waiting in fetcher._records.values():  # noqa: SLF001
            unpacking = getattr(waiting, "_partition_records", None)
            if unpacking is not None:  # not an error
                unpacking._consumer_record = _incoming  # noqa: SLF001 - one object a record, not three
        drained: dict[TP, list[Incoming]] = await fetcher.fetched_records(
            partitions, timeout=0, max_records=max_records
        )
        fetched: dict[TP, Fetched] = {}
        for (tp, state), start in zip(self._states, starts, strict=True):
            part = self._note(tp, state, start, drained.get(tp, []))
            if part is not None:
                fetched[tp] = part
        return fetched

    def _note(
        self, tp: TP, state: Any, start: int | None, records: list[Incoming]
    ) -> Fetched | None:
        """Note where a partition stands; what was fetched of it, if anything was."""
        position, at_ms = state._position, state.timestamp  # noqa: SLF001
        if position is None:
            return None
        end = state.lso if state.lso is not None else state.highwater
        known = self.progress.get(tp)
        if known is not None and known.position == start == position:  # nothing of it was fetched
            if known.end == end and known.at_ms == at_ms:
                return None
            jumps, last = {}, known.last
        else:
            jumps = self._note_jumps(tp, start, position, records)
            last = self._chains[tp][1]
        if end is not None and at_ms is not None:
            # As late as the broker's last answer: without one nothing is known of the end.
            self.progress[tp] = Progress(position, end, last, at_ms)
        return Fetched(records, jumps) if records else None

    def _note_jumps(
        self, tp: TP, start: int | None, position: int, records: Sequence[Incoming]
    ) -> dict[int, int]:
        """By offset the one that a record follows, where it is not the one just below it."""
        after, last = self._chains.get(tp, (None, -1))
        base = start if start is not None else position
        if after != base:  # the first fetch, or somebody sought: nothing is known below
            last = base - 1
        jumps: dict[int, int] = {}
        if records and records[-1].offset - last != len(records):
            for record in records:
                if record.offset != last + 1:
                    jumps[record.offset] = last
                last = record.offset
        self._chains[tp] = (position, records[-1].offset if records else last)
        return jumps


def _incoming(tp: TP, record: Any) -> Incoming:
    return Incoming(
        tp.topic,
        tp.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )
