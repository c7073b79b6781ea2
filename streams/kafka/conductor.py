"""Delivery of what was fetched to the agents' queues, chunk by chunk, undecoded.

Faust decodes key and value of each message, and wraps it in an event, before it is queued. Here
topics are raw bytes to Faust, and each has one agent: what was fetched of a partition is queued.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import faust
from faust.transport import conductor as faust_conductor
from faust.types import TP

from schemas.errors import BusError
from streams.kafka.transaction import Incoming

__all__ = ["Chunk", "Conductor", "chunks"]


class Chunk:
    """Records of one partition in an agent's queue, in their order.

    Attributes
    ----------
    generation
        Of the group, when they were fetched.
    jumps
        By offset the one that a record follows in the log, where it is not the one just below it.
    """

    __slots__ = ("_consumer", "generation", "jumps", "records", "tp")

    def __init__(
        self,
        tp: TP,
        generation: int,
        records: list[Incoming],
        jumps: Mapping[int, int],
        consumer: Any,
    ) -> None:
        self.tp = tp
        self.generation = generation
        self.records = records
        self.jumps = jumps
        self._consumer = consumer

    def split(self, count: int) -> tuple["Chunk", "Chunk"]:
        """The first so many records, and the others."""
        first, second = (
            Chunk(self.tp, self.generation, part, self.jumps, self._consumer)
            for part in (self.records[:count], self.records[count:])
        )
        return first, second

    def taken(self) -> None:
        """Tell the transport that these records wait no longer: there is room for more."""
        self._consumer.taken(self.tp, self.generation, len(self.records))

    def done(self, offset: int) -> None:
        """Tell Faust that the records up to this one are done: the offset may be committed."""
        self._consumer.done(self.tp, offset)


async def chunks(stream: faust.Stream) -> AsyncIterator[Chunk]:
    """What comes to an agent."""
    channel = stream.channel
    while True:
        yield await channel.get()


class Conductor(faust_conductor.Conductor):
    """Queues each chunk for the one agent of its topic."""

    def _build_handler(self, tp: TP, channels: Any) -> Callable[[Chunk], Awaitable[None]]:
        if len(channels) != 1:
            raise BusError(f"topic {tp.topic} has {len(channels)} agents: give it one")
        (channel,) = channels
        queue = channel.queue
        flow = self.app.flow_control

        async def deliver(chunk: Chunk) -> None:
            if not flow.is_active():
                await flow.acquire()
            if queue.full():
                await channel.put(chunk)
            else:
                queue.put_nowait(chunk)

        return deliver
