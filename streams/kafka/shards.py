"""All shards of a worker: opened and closed with the partitions, fed batch by batch.

The rules of a hand-over: a shard opens when its partitions are assigned, never because an
event arrived. When they are revoked it takes no more work, finishes what is under way, closes,
and only then the worker rejoins. Records of partitions that are not held, or of another
generation, are dropped and stay unacknowledged: they are read again.
"""

import asyncio
import functools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import faust
import structlog
from faust.types import TP

from schemas.errors import BusError, FencedError, GroundswellError
from streams.kafka.conductor import Chunk
from streams.kafka.ends import Ends
from streams.kafka.feed import Feed
from streams.kafka.log_ends import check_logs, log_ends
from streams.kafka.metrics import LAG, OPEN_SHARDS, READ_AGAIN
from streams.kafka.shard import Handler, Shard, ShardConfig, ShardKind, Step
from streams.kafka.transaction import Incoming
from streams.kafka.watchdog import Watchdog

__all__ = ["EXIT_BUG", "EXIT_FENCED", "EXIT_STALLED", "EXIT_STATE", "Shards"]

log = structlog.get_logger()
T = TypeVar("T")

EXIT_FENCED = 3  # another worker owns a shard that this one believed to hold
EXIT_STATE = 4  # state, topics or disk: nothing was committed that is not in the changelog
EXIT_STALLED = 5  # there is lag, and nothing of it was applied for too long
EXIT_BUG = 70  # an error that nobody expected

SEEK_AGAIN_S = 1.0
LOST_TAIL_S = 5.0
REMEMBER_READ_S = 60.0  # of an input that is quiet: how far it was read becomes state
IDLE_PERIOD_S = 0.1
ANSWER_MS = 100  # an answer that arrives so much later was given after

ShardId = tuple[str, int]


class Shards:
    """The shards that this worker holds."""

    def __init__(
        self,
        app: faust.App,
        kinds: Iterable[ShardKind],
        config: ShardConfig,
        steps: Mapping[str, Sequence[Step]],
        *,
        wall_clock: bool,
        watchdog_s: float,
        commit_interval_s: float,
        batch_size: int,
        urgent: Callable[[Sequence[Incoming]], bool],
        vouched_ms: Callable[[], int],
        closed: Callable[[str, int], None],
    ) -> None:
        self._app = app
        self._kinds = {topic: kind for kind in kinds for topic in kind.inputs}
        self._config = config
        self._steps = steps
        self._wall_clock = wall_clock
        self._watchdog = Watchdog(watchdog_s)
        self._commit_interval_s = commit_interval_s
        self._batch_size = batch_size
        self._urgent = urgent
        self._vouched_ms = vouched_ms
        self._closed = closed  # told of each shard by its kind and number
        self._feeds: dict[TP, Feed] = {}
        self._applied = 0
        self._assigned = False
        self._draining = False
        self._moving = asyncio.Lock()  # one hand-over at a time
        self._open: dict[ShardId, Shard] = {}
        self._held: set[ShardId] = set()
        self._seen: dict[TP, int] = {}  # last offset that was applied or skipped
        self._sought: dict[TP, tuple[int, float]] = {}
        self._vouched: dict[TP, tuple[int, int]] = {}  # up to when, and since when that is known
        self._ends = Ends()
        self._behind: dict[TP, tuple[int, float]] = {}  # where an input has stood still, since when
        self._gates: dict[ShardId, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._runners: dict[ShardId, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(32, thread_name_prefix="shard")
        self.may_work = asyncio.Event()  # set once the followers have read to the end

    @property
    def settled(self) -> bool:
        """Whether the group has spoken, and the shards of all that it gave are open."""
        return self._assigned and self._held == set(self._open)

    # ---- hand-over

    async def take_over(self, assigned: Iterable[TP]) -> None:
        """Open the shards of newly assigned partitions; none any more while the worker drains."""
        async with self._moving:
            if not self._draining:
                await self._open_shards(assigned)

    async def _open_shards(self, assigned: Iterable[TP]) -> None:
        wanted: dict[ShardId, ShardKind] = {}
        for tp in assigned:
            kind = self._kinds.get(tp.topic)
            if kind is not None:
                wanted[kind.name, tp.partition] = kind
        missing = {key: kind for key, kind in wanted.items() if key not in self._open}
        self._held = set(wanted)
        started = time.monotonic()
        try:
            opened = await asyncio.gather(
                *(
                    self._in_thread(Shard, kind, key[1], self._config)
                    for key, kind in missing.items()
                )
            )
            starts = await self._in_thread(check_logs, self._config.cluster, opened)
        except FencedError as error:
            self._exit(EXIT_FENCED, "fenced_while_opening", error)
        except GroundswellError as error:
            self._exit(EXIT_STATE, "shard_refused", error)
        except Exception as error:  # noqa: BLE001 - nothing may be acknowledged after it
            self._exit(EXIT_BUG, "shard_failed", error)
        for shard in opened:
            key = (shard.kind.name, shard.number)
            self._open[key] = shard
            for topic in shard.kind.inputs:
                tp = TP(topic, shard.number)
                self._ends.forget(tp)
                self._seen[tp] = max(shard.applied(topic), starts.get(tp, 0) - 1)
            runner = asyncio.create_task(self._run_steps(key, shard))
            runner.add_done_callback(self._task_ended)
            self._runners[key] = runner
        self._assigned = True
        self._count_open()
        log.info(
            "shards_opened",
            shards=["/".join(map(str, key)) for key in sorted(missing)],
            seconds=round(time.monotonic() - started, 2),
        )

    async def let_go(self, revoked: Iterable[TP]) -> None:
        """Finish what is under way in the shards of revoked partitions, and close them."""
        async with self._moving:
            await self._close(
                {
                    (self._kinds[tp.topic].name, tp.partition)
                    for tp in revoked
                    if tp.topic in self._kinds
                }
            )

    async def _close(self, leaving: set[ShardId]) -> None:
        self._held -= leaving
        await asyncio.gather(*(self._close_one(key) for key in leaving))
        self._count_open()
        if leaving:
            log.info("shards_closed", shards=["/".join(map(str, key)) for key in sorted(leaving)])

    async def _close_one(self, key: ShardId) -> None:
        async with self._gates[key]:
            shard = self._open.pop(key, None)
            runner = self._runners.pop(key, None)
            if runner is not None:
                runner.cancel()
            if shard is not None:
                await self._in_thread(shard.close)
                self._closed(*key)

    async def drain(self) -> None:
        """Let go of everything: the worker is asked to stop."""
        self._draining = True
        async with self._moving:
            await self._close(set(self._open))
        self._pool.shutdown(wait=True)

    def _count_open(self) -> None:
        open_by_kind = Counter(kind for kind, _ in self._open)
        for kind in {kind.name for kind in self._kinds.values()}:
            OPEN_SHARDS.labels(kind).set(open_by_kind[kind])

    # ---- watching

    async def watch(self) -> None:
        """End the process when it stands still under lag."""
        period_s = self._watchdog.limit_s / 4
        while True:
            await asyncio.sleep(period_s)
            try:
                lag = await self._in_thread(self._lag)
            except GroundswellError as error:  # no broker answers: nothing can be told
                log.warning("lag_unknown", why=str(error))
                continue
            LAG.set(lag)
            if self._watchdog.stalled(time.monotonic(), lag, self._applied):
                stall = BusError(
                    f"{lag} records wait, none was applied for {self._watchdog.limit_s:g} s: the "
                    "process ends so that another takes over"
                )
                self._exit(EXIT_STALLED, "worker_stalled", stall)

    def _lag(self) -> int:
        """Records of this worker's inputs that are not applied, as a reader of its own sees it."""
        held = {
            tp: seen
            for tp, seen in list(self._seen.items())
            if (self._kinds[tp.topic].name, tp.partition) in self._held
        }
        lag = 0
        for tp, (_, end) in log_ends(self._config.cluster, held).items():
            progress = self._app.consumer.progress(tp)
            # Past the last record there may be markers: then the position tells.
            ended = progress is not None and progress.last <= held[tp]
            position = progress.position if progress and ended else held[tp] + 1
            lag += max(end - position, 0)
        return lag

    # ---- work

    def take(self, chunk: Chunk, handler: Handler) -> None:
        """Take what has come: each input of a shard is applied in its order, all side by side."""
        feed = self._feeds.get(chunk.tp)
        if feed is None:
            feed = self._feeds[chunk.tp] = Feed(
                functools.partial(self._apply, chunk.tp, handler),
                self._commit_interval_s,
                self._batch_size,
                self._urgent,
                self._task_ended,
            )
        feed.put(chunk)

    async def _apply(self, tp: TP, handler: Handler, part: list[Chunk]) -> None:
        """Apply a part of an input, all of it or nothing."""
        await self.may_work.wait()
        key = (self._kinds[tp.topic].name, tp.partition)
        hole = None
        async with self._gates[key]:
            generation = self._app.consumer_generation_id
            part = [chunk for chunk in part if chunk.generation == generation]
            shard = self._open.get(key)
            if shard is None or key not in self._held or not part:
                return
            records, hole = self._without_loss(tp, part)
            if records:
                if not await self._guarded(key, shard.apply, tp.topic, records, handler):
                    return
                self._applied += len(records)
                part[-1].done(records[-1].offset)
        if hole is not None:
            await self._read_again(tp, hole)

    def _without_loss(self, tp: TP, part: list[Chunk]) -> tuple[list[Incoming], int | None]:
        """The records up to the first before which some are missing, and where those start."""
        seen = self._seen.get(tp, -1)
        believed: list[Incoming] = []
        hole = None
        for chunk in part:
            count, seen, hole = _chained(chunk, seen)
            believed += chunk.records[:count]
            if hole is not None:
                break
        self._seen[tp] = seen
        return believed, hole

    async def _read_again(self, tp: TP, offset: int) -> None:
        """Go back: Faust skipped records in a rebalance."""
        sought, at = self._sought.get(tp, (-1, 0.0))
        if sought == offset and time.monotonic() - at < SEEK_AGAIN_S:
            return  # it is on its way; what is left in the queue is from before
        self._sought[tp] = (offset, time.monotonic())
        READ_AGAIN.inc()
        log.info("read_again", topic=tp.topic, partition=tp.partition, offset=offset)
        try:
            await self._app.consumer.seek_wait({tp: offset})
        except Exception as error:  # noqa: BLE001 - a rebalance took the partition: tried again
            log.warning("read_again_failed", topic=tp.topic, error=repr(error))

    async def _run_steps(self, key: ShardId, shard: Shard) -> None:
        """Work that no input asks for: waves, windows that close, schedules."""
        await self.may_work.wait()
        steps = self._steps.get(key[0], ())
        remembered_at = time.monotonic()
        while True:
            more, rank = False, 0
            while rank < len(steps):  # others may come in between pieces of work
                async with self._gates[key]:
                    if key not in self._held or key not in self._open:
                        return
                    self._note_idle(shard)
                    done = await self._guarded(key, shard.work_on, steps, rank)
                    if done is None:
                        return
                    rank, again = done
                    more |= again
            if time.monotonic() - remembered_at > REMEMBER_READ_S:
                remembered_at = time.monotonic()
                async with self._gates[key]:
                    if key in self._held and key in self._open:
                        self._note_idle(shard)
                        await self._guarded(key, shard.remember_read)
            await self._find_lost_tail(key, shard)
            await asyncio.sleep(0 if more else IDLE_PERIOD_S)

    def _note_idle(self, shard: Shard) -> None:
        """Where all was applied that an input had at a time, its time is that one."""
        for topic in shard.kind.inputs:
            tp = TP(topic, shard.number)
            end = self._ends.reached(tp, self._app.consumer.progress(tp), self._seen.get(tp, -1))
            if end is None:
                continue
            shard.read_to[topic] = end.position
            if not self._wall_clock or topic not in shard.kind.timed:
                continue
            if topic in shard.kind.vouched:
                self._note_vouched(shard, tp, end.at_ms)
            else:
                shard.idle_ms[topic] = end.at_ms

    def _note_vouched(self, shard: Shard, tp: TP, ended_ms: int) -> None:
        """An input that was read to its end after something was vouched for has all of that."""
        vouched_ms, since_ms = self._vouched.get(tp, (0, 0))
        if vouched_ms and ended_ms > since_ms + ANSWER_MS:
            shard.idle_ms[tp.topic] = min(vouched_ms, ended_ms)
            vouched_ms = 0
        if not vouched_ms:
            self._vouched[tp] = (self._vouched_ms(), int(time.time() * 1000))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._exit(EXIT_BUG, "shard_failed", error)

    async def _find_lost_tail(self, key: ShardId, shard: Shard) -> None:
        """Read records again that were fetched and dropped, with none behind them to tell."""
        for topic in shard.kind.inputs:
            tp = TP(topic, shard.number)
            progress = self._app.consumer.progress(tp)
            seen = self._seen.get(tp, -1)
            behind, since = self._behind.get(tp, (-2, 0.0))
            feed = self._feeds.get(tp)
            busy = feed is not None and feed.busy  # a slow machine: what comes next is not lost
            if progress is None or progress.last <= seen or busy or key not in self._held:
                self._behind.pop(tp, None)
            elif behind != seen:
                self._behind[tp] = (seen, time.monotonic())
            elif time.monotonic() - since > LOST_TAIL_S:
                self._behind.pop(tp)
                await self._read_again(tp, seen + 1)

    async def _guarded(self, key: ShardId, work: Callable[..., T], *args: Any) -> T | None:
        """Run a shard's work in a thread; nothing is acknowledged after a failure."""
        try:
            return await self._in_thread(work, *args)
        except FencedError as error:
            if key in self._held:
                self._exit(EXIT_FENCED, "fenced", error)
            log.warning("fenced_while_letting_go", shard="/".join(map(str, key)))
            return None
        except GroundswellError as error:
            self._exit(EXIT_STATE, "shard_stopped", error)
        except Exception as error:  # noqa: BLE001 - a bug: stop before anything is acknowledged
            self._exit(EXIT_BUG, "shard_failed", error)

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    @staticmethod
    def _exit(code: int, event: str, error: BaseException) -> NoReturn:
        log.error(event, error=str(error), exit_code=code, exc_info=code == EXIT_BUG)
        os._exit(code)


def _chained(chunk: Chunk, seen: int) -> tuple[int, int, int | None]:
    """How many records of a chunk follow what was seen, what is seen then, and where a loss is."""
    records, jumps = chunk.records, chunk.jumps
    if not jumps and records[0].offset <= seen + 1:
        return len(records), max(seen, records[-1].offset), None
    for rank, record in enumerate(records):
        if record.offset > seen:
            if jumps.get(record.offset, record.offset - 1) > seen:
                return rank, seen, seen + 1
            seen = record.offset
    return len(records), seen, None
