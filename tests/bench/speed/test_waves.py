"""Wave decisions, beside bare loops that write the same records without thinking."""

import os
import statistics
import time

import msgspec
import pytest
from confluent_kafka.admin import NewTopic

from schemas.wire import Codec
from streams.core.profiles import Profile, fold_event
from tests.bench.figures import Figure
from tests.bench.speed import bare_waves, ours, wave_work
from tests.bench.speed.rounds import interleaved, median_ratio, spread
from tests.bench.speed.test_events import write
from tests.kafka.harness import wait_until

pytestmark = [pytest.mark.bench, pytest.mark.kafka, pytest.mark.timeout(3_600)]

USERS = int(os.environ.get("GROUNDSWELL_BENCH_USERS", "30000"))
ROUNDS = 5


def test_wave_decisions_beside_loops_that_do_not_think(stages):
    """One worker: profile, context, Thompson sampling over 10 actions, 32 features, committed."""
    now_ms = int(time.time() * 1000)
    codec = Codec()
    people = list(wave_work.people(USERS, now_ms))
    records = [(event.user_id, codec.encode("", event)) for event in people]
    cpu_us: list[float] = []

    def worker() -> float:
        with stages() as stage:
            ours.fold_events(stage, records)
            per_s, course = ours.decide_wave(stage, wave_work.campaign(now_ms), USERS)
            cpu_us.append(1e6 * course.cpu_s["worker 0"] / USERS)
            return per_s

    def without_thinking() -> float:
        with stages() as stage:
            name = stage.at.prefix + bare_waves.PROFILES
            stage.at.admin.create_topics([NewTopic(name, stage.at.users, 1)])[name].result()
            wait_until(lambda: name in stage.at.admin.list_topics().topics, 10, "topic is there")
            profiles = [(event.user_id, profile_of(event)) for event in people]
            with stage.filled(bare_waves.PROFILES, profiles) as begin:
                begin()
            return bare_waves.decide_without_thinking(stage, USERS)

    def write_only() -> float:
        with stages() as stage:
            return bare_waves.write_decisions(stage, [event.user_id for event in people])

    runs = interleaved(
        {"ours": worker, "unthinking": without_thinking, "write": write_only}, ROUNDS
    )
    unit = f"decisions/s, {spread(runs['ours'])}"
    peers = {
        "unthinking": ("reads and decodes the profile, writes decision and pending state", 0.5),
        "write": ("only writes the decisions", 0.25),
    }
    figures = [
        median_ratio("wave decisions", unit, runs["ours"], f"a bare loop: {text}", runs[name], bar)
        for name, (text, bar) in peers.items()
    ]
    spent = statistics.median(cpu_us[-ROUNDS:])
    figures.append(Figure(name="CPU of the worker", value=spent, unit="microseconds a decision"))
    write("speed-waves", figures)


def profile_of(event) -> bytes:
    profile = Profile()
    fold_event(profile, event)
    return msgspec.msgpack.encode(profile)
