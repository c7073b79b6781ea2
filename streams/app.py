"""The composition root: a worker, put together from its parts."""

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Coroutine
from functools import partial
from typing import NoReturn

import faust
import structlog
import uvloop
from confluent_kafka.admin import AdminClient

from schemas.errors import GroundswellError
from schemas.registry import codec_for
from schemas.topics import (
    CAMPAIGN_CHANGELOG,
    CAMPAIGNS,
    INGEST_CHANGELOG,
    LEARNING_UPDATES,
    LOGGED_DECISIONS,
    REWARDS,
    SHARD_CHANGELOG,
    USER_EVENTS,
    WAVE_STARTS,
)
from streams.agents.attribute import Attribute
from streams.agents.clock import Clock
from streams.agents.close import CloseDue
from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.followed import Followed, read_log
from streams.agents.ingest import Ingest, Vouch
from streams.agents.learn import KeepUpdates
from streams.agents.logged import EnterLogged
from streams.agents.pairs import Pairs
from streams.agents.parts import TellGathered
from streams.agents.profile import FoldProfiles
from streams.agents.schedule import LeadCampaigns, TakeUpCampaigns
from streams.agents.triggers import Triggers
from streams.kafka.assignor import CoPartitionedAssignor
from streams.kafka.cluster import cluster_of
from streams.kafka.conductor import chunks
from streams.kafka.followers import Follower
from streams.kafka.heaps import share_one_heap, take_memory
from streams.kafka.provision import Shape, TopicState, ensure_topics
from streams.kafka.reach import require_broker
from streams.kafka.shard import Handler, ShardConfig, ShardKind, Step
from streams.kafka.shards import EXIT_BUG, EXIT_STATE, Shards
from streams.kafka.store import StoreOptions
from streams.kafka.transport import (
    Transport,
    broker_urls,
    check_overrides,
    credentials_of,
    refusal_of,
)
from streams.releases.fetch import Fetcher
from streams.releases.offered import Offered
from streams.settings import Settings
from streams.web.health import HealthServer, Status

__all__ = ["run_worker", "shape_of"]

log = structlog.get_logger()

GARBAGE_AFTER = 50_000  # objects: a batch's records and profiles hold no cycles
DRAIN_S = 20.0  # for the transactions under way
REQUEST_S = 30.0
LEAVE_S = 4.0  # a group that does not answer notices by its session timeout


def shape_of(settings: Settings) -> Shape:
    """How this deployment's topics are cut and copied."""
    return Shape(
        prefix=settings.topic_prefix,
        users=settings.user_partitions,
        campaigns=settings.campaign_partitions,
        sources=list(settings.source_topics),
        replication=settings.replication,
        min_insync=settings.min_insync,
    )


def _kinds(settings: Settings) -> tuple[ShardKind, ShardKind, ShardKind]:
    def named(*topics: object) -> tuple[str, ...]:
        return tuple(settings.topic_prefix + topic.name for topic in topics)  # type: ignore[attr-defined]

    return (
        ShardKind(
            name="users",
            inputs=named(USER_EVENTS, REWARDS, LOGGED_DECISIONS, WAVE_STARTS),
            timed=named(USER_EVENTS, REWARDS, LOGGED_DECISIONS),
            changelog=SHARD_CHANGELOG,
            # In a replay records alone move time.
            vouched=named(USER_EVENTS, REWARDS) if settings.clock == "wall" else (),
            takes_turns=True,
        ),
        ShardKind(
            name="campaigns",
            inputs=named(CAMPAIGNS, LEARNING_UPDATES),
            timed=named(LEARNING_UPDATES),
            changelog=CAMPAIGN_CHANGELOG,
        ),
        ShardKind(
            name="sources",
            inputs=tuple(settings.source_topics),
            timed=tuple(settings.source_topics),
            changelog=INGEST_CHANGELOG,
            forwards=True,
        ),
    )


def _offered(settings: Settings) -> Offered:
    fetcher = Fetcher.of(
        store=settings.encoder_store,
        trusted=settings.trusted_keys,
        most_mb=settings.encoder_mb,
        threads=settings.encoder_threads,
        cached=settings.encoder_cache,
    )
    return Offered(fetcher.fetch)


class Worker:
    """One worker process of the consumer group."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster = cluster_of(settings)
        self._codec = codec_for(settings.registry)
        self._clock = Clock(
            wall_ms=None if settings.clock == "event" else lambda: int(time.time() * 1000),
            ahead_ms=int(settings.time_ahead_s * 1000),
            impossible_ms=int(settings.time_impossible_s * 1000),
        )
        self._offered = _offered(settings)
        self._follower = Follower(
            self._cluster, settings.topic_prefix, self._codec, self._offered.take
        )
        self._known = Followed(self._follower, self._offered)
        self._triggers = Triggers(self._known, settings.chunk_size, self._clock)
        self._kinds = _kinds(settings)
        self._app = self._faust_app()
        self._store_options = StoreOptions(settings.store_cache_mb)
        self._shards = self._make_shards()
        self._attach_agents()
        self._health = HealthServer(
            settings.health_host, settings.health_port, lambda: Status(True), self._is_ready
        )

    def _is_ready(self) -> Status:
        """Whether the follower has read to the end, every shard is restored, encoders serve."""
        if self._follower.failure is not None:
            return Status(False, "follower failed")
        if not self._shards.may_work.is_set():
            return Status(False, "reading campaigns and policies")
        if self._app.rebalancing or not self._shards.settled:
            return Status(False, "waiting for shards")
        active = [one for one in self._follower.campaigns() if one.status == "active"]
        unserved = self._offered.unserved({one.encoder for one in active if one.encoder})
        if unserved is not None:
            return Status(False, unserved)
        return Status(True)

    def _faust_app(self) -> faust.App:
        settings = self._settings
        directory = settings.data_dir.expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        brokers = broker_urls(self._cluster)
        app = faust.App(
            settings.topic_prefix + settings.app,
            broker=brokers,
            broker_credentials=credentials_of(self._cluster),
            store="memory://",
            datadir=str(directory / "faust"),
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            stream_buffer_maxsize=2 * settings.batch_size,
            broker_max_poll_records=settings.batch_size,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.session_timeout_s / 5,
            broker_rebalance_timeout=settings.rebalance_timeout_s,
            # Faust refuses one that is below the session's.
            broker_request_timeout=max(REQUEST_S, settings.session_timeout_s),
            producer_request_timeout=30.0,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=settings.instance or None,
        )
        transport = Transport(brokers, app)
        group_of = {topic: kind.name for kind in self._kinds for topic in kind.inputs}
        transport.assignor = CoPartitionedAssignor(lambda topic: group_of.get(topic, topic))
        app.transport = transport
        return app

    def _make_shards(self) -> Shards:
        settings = self._settings
        topics = self._topics()
        config = ShardConfig(
            cluster=self._cluster,
            app=settings.topic_prefix + settings.app,
            prefix=settings.topic_prefix,
            directory=settings.data_dir.expanduser() / "shards",
            transaction_timeout_s=settings.transaction_timeout_s,
            codec=self._codec,
            store_options=self._store_options,
            topic_ids={name: state.topic_id for name, state in topics.items()},
            partitions={name: state.partitions for name, state in topics.items()},
        )
        interval_ms = int(settings.snapshot_interval_s * 1000)
        decides = DecideChunk(self._known, settings.chunk_size, self._clock)
        users: list[Step] = [
            CloseDue(self._clock),
            self._triggers,
            TellGathered(self._clock, interval_ms),
            decides,
        ]

        def closed(kind: str, number: int) -> None:
            if kind == "users":
                decides.let_go(number)
                self._triggers.let_go(number)

        campaigns: list[Step] = [
            LeadCampaigns(
                settings.user_partitions, self._clock, self._known, self._pairs(), interval_ms
            )
        ]
        return Shards(
            self._app,
            self._kinds,
            config,
            {"users": users, "campaigns": campaigns, "sources": [Vouch()]},
            wall_clock=settings.clock == "wall",
            watchdog_s=settings.watchdog_s,
            commit_interval_s=settings.commit_interval_s,
            batch_size=settings.batch_size,
            urgent=self._follower.urgent,
            vouched_ms=lambda: self._follower.vouched_ms,
            closed=closed,
        )

    def _pairs(self) -> Pairs:
        settings = self._settings
        return Pairs(
            self._offered,
            partial(read_log, self._cluster, settings.topic_prefix, self._codec),
            self._known,
        )

    def _topics(self) -> dict[str, TopicState]:
        admin = AdminClient(self._cluster.client({"log_level": 2}))
        return ensure_topics(admin, shape_of(self._settings), create=False)

    def _attach_agents(self) -> None:
        users = self._settings.user_partitions
        most_bytes = self._settings.profile_kb * 1024
        fold = FoldProfiles(users, most_bytes, self._clock, self._triggers)
        handlers: dict[str, tuple[str, Handler]] = {
            USER_EVENTS.name: ("profile", fold),
            REWARDS.name: ("attribute", Attribute(users, self._clock)),
            LOGGED_DECISIONS.name: ("logged", EnterLogged(self._known, users, self._clock)),
            WAVE_STARTS.name: ("decide", StartWaves()),
            CAMPAIGNS.name: ("schedule", TakeUpCampaigns(self._settings.campaign_partitions)),
            LEARNING_UPDATES.name: ("learn", KeepUpdates(users, self._clock)),
        }
        prefix = self._settings.topic_prefix
        for topic, (name, handler) in handlers.items():
            self._attach(name, [prefix + topic], handler)
        sources = self._settings.source_topics
        self._attach("ingest", list(sources), Ingest(sources, self._clock))

    def _attach(self, name: str, topics: list[str], handler: Handler) -> None:
        channel = self._app.topic(
            *topics,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            internal=False,
        )

        async def agent(stream: faust.Stream) -> None:
            try:
                async for chunk in chunks(stream):
                    self._shards.take(chunk, handler)
            except Exception:  # Faust would acknowledge what an agent fails on
                log.exception("agent_failed", agent=name, exit_code=EXIT_BUG)
                os._exit(EXIT_BUG)

        self._app.agent(channel, name=name, concurrency=1)(agent)

    async def run(self) -> NoReturn:
        """Work until asked to stop, then end the process."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        self._app.on_partitions_assigned.connect(self._assigned)
        self._app.on_partitions_revoked.connect(self._revoked)
        self._offered.start()
        self._follower.start()
        self._health.start()
        log.info("health_answers", host=self._settings.health_host, port=self._health.port)
        self._app.finalize()
        # Faust waits for the group, which may refuse it, before it has started.
        helpers = [asyncio.create_task(self._end_where_refused())]
        await self._app.start()
        helpers += [
            asyncio.create_task(self._let_work_begin()),
            asyncio.create_task(self._shards.watch()),
        ]
        crashed = asyncio.create_task(self._app._crashed.wait())  # noqa: SLF001 - no public name
        stopping = asyncio.create_task(asked.wait())
        await asyncio.wait({crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for helper in helpers:
            helper.cancel()
        if crashed.done():
            reason = self._app.crash_reason
            refusal = refusal_of(reason)
            code = EXIT_BUG if refusal is None else EXIT_STATE
            log.error("worker_crashed", error=str(refusal or reason), exit_code=code)
            os._exit(code)
        log.info("worker_draining")
        started = time.monotonic()
        await self._within(DRAIN_S, self._shards.drain())
        await self._within(LEAVE_S, self._app.consumer.leave())
        log.info("worker_stopped", seconds=round(time.monotonic() - started, 2))
        os._exit(0)  # everything is committed and closed

    async def _within(self, seconds: float, work: Coroutine[None, None, None]) -> None:
        """Wait for work, but no longer: it may wait for something that does not come."""
        done, _ = await asyncio.wait({asyncio.create_task(work)}, timeout=seconds)
        if not done:
            log.warning("drain_cut_short", seconds=seconds)

    async def _let_work_begin(self) -> None:
        """A worker decides nothing until it has read campaigns and policies to their end."""
        while not await asyncio.to_thread(self._follower.wait_ready, 1.0):
            pass
        gc.collect()
        gc.freeze()  # what is there now stays: it need not be looked through again and again
        gc.set_threshold(GARBAGE_AFTER)
        await asyncio.to_thread(take_memory, self._store_options.left_mb)
        self._shards.may_work.set()
        log.info("worker_ready", pid=os.getpid())

    async def _end_where_refused(self) -> None:
        """End where a thread has ended that tells nobody: what it last knew is true no more."""
        while True:
            await asyncio.sleep(1.0)
            failure = self._follower.failure
            if failure is not None:
                code = EXIT_STATE if isinstance(failure, GroundswellError) else EXIT_BUG
                log.error("follower_ended", error=str(failure), exit_code=code)
                os._exit(code)
            stopped = self._app.consumer.group_failure()
            if stopped is not None:
                told = refusal_of(stopped) or f"{stopped!r}: the group takes this member no more"
                log.error("group_failed", error=str(told), exit_code=EXIT_STATE)
                os._exit(EXIT_STATE)

    async def _assigned(self, _app: faust.App, assigned: set[faust.types.TP], **_: object) -> None:
        await self._shards.take_over(assigned)

    async def _revoked(self, _app: faust.App, revoked: set[faust.types.TP], **_: object) -> None:
        await self._shards.let_go(revoked)


def run_worker(settings: Settings) -> NoReturn:
    """Run a worker until it is asked to stop, then end the process.

    Raises
    ------
    GroundswellError
        If no broker answers, or the topics are not as they must be.
    """
    share_one_heap(2 * settings.store_cache_mb)
    check_overrides()
    require_broker(cluster_of(settings))
    logging.getLogger("faust").setLevel(logging.WARNING)
    uvloop.run(_run_to_the_end(Worker(settings)))
    raise AssertionError  # pragma: no cover - the worker ends the process


async def _run_to_the_end(worker: Worker) -> NoReturn:
    """End the process whatever happens: Faust leaves tasks that no loop can cancel."""
    try:
        await worker.run()
    except Exception:
        log.exception("worker_failed", exit_code=EXIT_BUG)
        os._exit(EXIT_BUG)
