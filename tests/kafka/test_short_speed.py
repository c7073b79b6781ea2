"""The speed bench counts what it says: a few thousand events; the bars are for `make bench`."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from schemas.wire import Codec
from streams.core.profiles import Profile
from tests.bench.speed import bare_events, bare_waves, ours, wave_work
from tests.bench.speed.events import user_events
from tests.bench.speed.stage import stage

EVENTS, USERS = 3000, 400


def test_worker_and_bare_loop_count_the_same_events(
    kafka: Any, namespace: str, tmp_path: Path
) -> None:
    codec = Codec()
    events = list(user_events(EVENTS, USERS))
    records = [(event.user_id, codec.encode("", event)) for event in events]
    truth = Counter(event.user_id for event in events)
    with stage(kafka, namespace, tmp_path / "worker") as made:
        course = ours.fold_events(made, records)
        assert course.seconds > 0
        assert course.cpu_s["worker 0"] > 0
        profiles = {
            key[1][1:].decode(): msgspec.msgpack.decode(raw, type=Profile)
            for key, raw in made.at.state().items()
        }
        kept = {
            user: sum(count for count, _ in profile.counts.values())
            for user, profile in profiles.items()
        }
        assert kept == truth
    with stage(kafka, f"{namespace}b-", tmp_path / "bare") as made:
        _, counted = bare_events.count_events(made, records)
        assert counted == truth


def test_worker_and_bare_loop_decide_once_for_everybody(
    kafka: Any, namespace: str, tmp_path: Path
) -> None:
    codec, now_ms = Codec(), int(time.time() * 1000)
    people = list(wave_work.people(1500, now_ms))
    with stage(kafka, namespace, tmp_path / "worker") as made:
        ours.fold_events(made, [(event.user_id, codec.encode("", event)) for event in people])
        per_s, _ = ours.decide_wave(made, wave_work.campaign(now_ms), len(people))
        assert per_s > 0
        decisions = made.at.decisions()
        assert {decision.user_id for decision in decisions} == {event.user_id for event in people}
        assert {decision.reason for decision in decisions} == {"policy"}
        assert all(decision.propensity for decision in decisions)
    with stage(kafka, f"{namespace}b-", tmp_path / "bare") as made:
        assert bare_waves.write_decisions(made, [event.user_id for event in people]) > 0
        assert len(made.at.decisions()) == len(people)
