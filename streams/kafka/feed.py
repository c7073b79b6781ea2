"""The records of one input partition on their way into its shard, transaction by transaction."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from streams.kafka.conductor import Chunk
from streams.kafka.transaction import Incoming

__all__ = ["Feed"]


class Feed:
    """Gathers chunks, and applies them part by part, one after the other.

    Parts of other partitions are applied at the same time: while one waits for its commit another
    is worked on.

    Parameters
    ----------
    apply
        Applies chunks that follow each other in one transaction.
    interval_s
        From the beginning of one transaction to the next, unless there are records enough: what
        comes while nothing is under way is applied at once.
    most
        Most records of a transaction.
    urgent
        Whether somebody waits for what these records lead to: then nothing more is gathered.
    failed
        Is given the task that applies, when it ends.
    """

    def __init__(
        self,
        apply: Callable[[list[Chunk]], Awaitable[None]],
        interval_s: float,
        most: int,
        urgent: Callable[[Sequence[Incoming]], bool],
        failed: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._apply = apply
        self._interval_s = interval_s
        self._most = most
        self._urgent = urgent
        self._failed = failed
        self._chunks: deque[Chunk] = deque()
        self._records = 0
        self._hurry = False  # something urgent is among them
        self._enough = asyncio.Event()
        self._began = -interval_s
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to apply, or something is being applied."""
        return self._task is not None and not self._task.done()

    def put(self, chunk: Chunk) -> None:
        """Add what has come."""
        self._chunks.append(chunk)
        self._records += len(chunk.records)
        self._hurry = self._hurry or self._urgent(chunk.records)
        if self._records >= self._most or self._hurry:
            self._enough.set()
        if not self.busy:
            self._task = asyncio.create_task(self._work_off())
            self._task.add_done_callback(self._failed)

    async def _work_off(self) -> None:
        while self._chunks:
            await self._gather()
            self._began = time.monotonic()
            await self._apply(self._next_part())

    async def _gather(self) -> None:
        left_s = self._began + self._interval_s - time.monotonic()
        if left_s > 0 and self._records < self._most and not self._hurry:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._enough.wait()

    def _next_part(self) -> list[Chunk]:
        part: list[Chunk] = []
        room = self._most
        while self._chunks and room:
            chunk = self._chunks.popleft()
            if len(chunk.records) > room:
                chunk, rest = chunk.split(room)
                self._chunks.appendleft(rest)
            room -= len(chunk.records)
            chunk.taken()
            part.append(chunk)
        self._records -= self._most - room
        self._hurry = self._hurry and bool(self._chunks)
        return part
