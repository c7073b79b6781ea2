"""A campaign with an encoder on a real Kafka: releases change under it, and nothing is lost."""

import http.client
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.encoder_releases import EncoderRelease
from schemas.features import FeatureBatch
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.manifest import Manifest
from schemas.signing import SigningKey, open_envelope
from schemas.topics import LEARNING_EXAMPLES
from streams.core.encoding import release_label
from streams.releases.store import Store
from streams.simulation.sample_release import DEMO_KEY, NAME
from tests.kafka.harness import Deployment, Sender, campaign, deployment, wait_until
from tests.kafka.turned_releases import Announcer, label_of, releases_in

pytest.importorskip("onnx", reason="needs the extra: encoder")
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

USERS = [f"user-{number:04d}" for number in range(800)]
WAVES = 9


@pytest.fixture
def loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as made:
        made.settings["GROUNDSWELL_ENCODER_STORE"] = str(tmp_path / "store")
        made.settings["GROUNDSWELL_TRUSTED_KEYS"] = str(DEMO_KEY.public)
        yield made


@pytest.fixture
def releases(tmp_path: Path) -> list[EncoderRelease]:
    """The sample release, and another model under a later version."""
    return releases_in(tmp_path / "store", 2)


def waves_closed(loop: Deployment) -> int:
    return sum(report.status == "closed" for report in loop.reports().values())


def decided_with(loop: Deployment) -> dict[int, set[str | None]]:
    """By wave: labels of the releases that its decisions were made with."""
    found: dict[int, set[str | None]] = defaultdict(set)
    for decision in loop.decisions():
        found[decision.wave].add(release_label(decision.encoder_version))
    return found


def leader_of(loop: Deployment) -> int:
    """The worker that made the new release's policy lead."""
    [led] = [worker for worker in loop.workers if loop.count(worker, "pair_promoted")]
    return led


def two_workers(loop: Deployment, releases: Sequence[EncoderRelease]) -> Announcer:
    """Two workers with everybody's profile, and the first release live."""
    announcer = Announcer(loop, releases)
    announcer.first()
    for worker in range(2):
        loop.start(worker)
    for worker in range(2):
        loop.wait_open(worker)
    loop.import_people(USERS)
    loop.wait_profiles(len(USERS))
    return announcer


def test_releases_change_between_waves_and_every_outcome_is_learned_once(loop, releases):
    old, new = map(label_of, releases)
    announcer = two_workers(loop, releases)
    with Sender(loop) as sender:
        loop.apply(campaign(waves=WAVES, encoder=NAME))
        wait_until(lambda: waves_closed(loop) >= 1, 90, "the first wave closes")
        announcer.prepare()
        wait_until(
            lambda: sum(loop.count(worker, "pair_ready") for worker in range(2)) >= 1,
            60,
            "the release in shadow has its policy",
        )
        announcer.promote()
        wait_until(lambda: {new} in decided_with(loop).values(), 60, "the new release decides")
        led = leader_of(loop)
        loop.kill(led)  # who takes over has to find both pairs again
        loop.start(led)
        announcer.rollback()
        wait_until(lambda: waves_closed(loop) == WAVES, 200, "the campaign ends")
    by_wave = decided_with(loop)
    assert all(len(labels) == 1 for labels in by_wave.values()), by_wave
    order = [next(iter(by_wave[wave])) for wave in range(WAVES)]
    assert (order[0], order[-1]) == (old, old), order
    assert new in order
    sent = {d.decision_id: d for d in loop.decisions() if d.action != NO_SEND}
    examples: list[LearningExample] = loop.records(LEARNING_EXAMPLES)
    closed = [example for example in examples if example.previous_reward is None]
    assert {example.decision_id for example in closed} == set(sent)
    assert len(closed) == len(sent)
    assert len(FeatureBatch.from_bytes([example.features for example in closed])) == len(closed)
    snapshot = loop.settled_snapshot(sender)
    assert snapshot.examples == len(sent)
    assert release_label(snapshot.encoder_version) == old


def test_a_worker_that_can_load_no_release_is_not_ready_and_says_why_and_how_to_cure_it(
    loop, releases
):
    Announcer(loop, releases).first()
    live = label_of(releases[0])
    loop.import_people(USERS[:50])
    loop.apply(campaign(waves=1, encoder=NAME))
    trusted = loop.settings.pop("GROUNDSWELL_TRUSTED_KEYS")
    loop.start(0)
    loop.wait_open(0)
    wait_until(lambda: "no release of encoder" in readiness(loop)[1], 60, "it says why")
    status, why = readiness(loop)
    assert (status, live in why, "GROUNDSWELL_TRUSTED_KEYS" in why) == (503, True, True), why
    assert loop.count(0, "encoder_refused") == 1
    assert loop.decisions() == []
    assert loop.terminate(0) == 0
    loop.settings["GROUNDSWELL_TRUSTED_KEYS"] = trusted
    loop.start(0)
    wait_until(lambda: readiness(loop) == (200, "ok\n"), 90, "it is ready")
    wait_until(lambda: {live} in decided_with(loop).values(), 60, "it decides")


def test_where_one_worker_refuses_a_release_the_one_before_decides_there_and_nothing_is_lost(
    kafka, namespace, tmp_path
):
    """The other's signer is trusted by the worker that leads alone."""
    other, trusted = SigningKey.new("other"), "GROUNDSWELL_TRUSTED_KEYS"
    store = Store(str(tmp_path / "store"))
    first, second = releases_in(tmp_path / "store", 2)
    manifest = open_envelope(store.manifest(second.sha256, 1 << 24), [DEMO_KEY.public])[0]
    found = Manifest.from_bytes(manifest)
    model = store.model(found.model_sha256, 1 << 24)
    releases = [first, store.publish(found, model, other)]
    old, new = map(label_of, releases)
    settings = {
        "GROUNDSWELL_ENCODER_STORE": store.url,
        trusted: f"{DEMO_KEY.public},{other.public}",
    }
    with deployment(kafka, namespace, tmp_path, campaigns=1, settings=settings) as loop:
        announcer = two_workers(loop, releases)
        with Sender(loop) as sender:
            loop.apply(campaign(waves=WAVES, encoder=NAME))
            wait_until(lambda: waves_closed(loop) >= 1, 90, "the first wave closes")
            announcer.prepare()
            ready = [lambda w=w: loop.count(w, "pair_ready") for w in range(2)]
            wait_until(lambda: any(one() for one in ready), 60, "the second has its policy")
            refuses = 0 if ready[1]() else 1
            loop.settings[trusted] = str(DEMO_KEY.public)
            assert loop.terminate(refuses) == 0
            loop.start(refuses)
            loop.wait_open(refuses, 2)
            announcer.promote()
            wait_until(
                lambda: {old, new} in decided_with(loop).values(), 90, "both decide in a wave"
            )
            assert readiness(loop, refuses) == (200, "ok\n")
            wait_until(lambda: waves_closed(loop) == WAVES, 200, "the campaign ends")
        assert loop.count(refuses, "last_good_release_decides") >= 1
        assert loop.count(1 - refuses, "encoder_refused") == 0
        decisions = loop.decisions()
        assert sorted(decision.user_id for decision in decisions) == sorted(USERS)
        sent = [decision for decision in decisions if decision.action != NO_SEND]
        assert loop.settled_snapshot(sender).examples == len(sent)


def readiness(loop: Deployment, worker: int = 0) -> tuple[int, str]:
    """What the newest run of a worker answers to /ready."""
    ports = re.findall(r'"port": (\d+)', loop.log(worker).read_text())
    connection = http.client.HTTPConnection("127.0.0.1", int(ports[-1]), timeout=5)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:  # it is not up yet
        return 0, str(error)
    finally:
        connection.close()
