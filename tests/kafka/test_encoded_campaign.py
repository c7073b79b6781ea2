"""A campaign with an encoder on a real Kafka: releases change under it, and nothing is lost."""

import dataclasses
import time
from collections import defaultdict
from pathlib import Path

import pytest

from schemas.encoder_releases import EncoderRelease
from schemas.features import FeatureBatch
from schemas.ids import NO_SEND
from schemas.learning import LearningExample
from schemas.topics import LEARNING_EXAMPLES
from streams.core import releases as step
from streams.core.encoding import release_label
from streams.kafka.release_client import ReleaseClient
from streams.releases.store import Store
from streams.simulation.sample_release import DEMO_KEY, NAME, announced
from tests.kafka.harness import Deployment, Sender, campaign, deployment, wait_until
from tests.unit.encoder.sample import sample

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]

USERS = [f"user-{number:04d}" for number in range(800)]
OLD, NEW = f"{NAME}@{announced().version}", f"{NAME}@9.0.0"
WAVES = 9


@dataclasses.dataclass
class Announcer:
    """Whoever releases encoders."""

    client: ReleaseClient

    def take(self, change, *given: object) -> None:
        before = self.client.all().get(NAME)
        self.client.write(change(before, *given, int(time.time() * 1000)))


@pytest.fixture
def releases(tmp_path: Path) -> list[EncoderRelease]:
    """The sample release, and the same model under a later version, in a store."""
    store, (manifest, model) = Store(str(tmp_path / "store")), sample()
    later = dataclasses.replace(manifest, version="9.0.0")
    return [store.publish(each, model, DEMO_KEY) for each in (manifest, later)]


@pytest.fixture
def loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as made:
        made.settings["GROUNDSWELL_ENCODER_STORE"] = str(tmp_path / "store")
        made.settings["GROUNDSWELL_TRUSTED_KEYS"] = str(DEMO_KEY.public)
        yield made


def waves_closed(loop: Deployment) -> int:
    return sum(report.status == "closed" for report in loop.reports().values())


def decided_with(loop: Deployment) -> dict[int, set[str | None]]:
    """By wave: labels of the releases that its decisions were made with."""
    found: dict[int, set[str | None]] = defaultdict(set)
    for decision in loop.decisions():
        found[decision.wave].add(release_label(decision.encoder_version))
    return found


def test_releases_change_between_waves_and_every_outcome_is_learned_once(loop, releases):
    announcer = Announcer(ReleaseClient(loop.bootstrap, loop.prefix, loop.codec))
    announcer.take(step.publish, NAME, releases[0])
    announcer.take(step.shadow, releases[0].version)
    announcer.take(step.promote, releases[0].version)
    for worker in range(2):
        loop.start(worker)
    for worker in range(2):
        loop.wait_open(worker)
    loop.import_people(USERS)
    with Sender(loop) as sender:
        loop.apply(campaign(waves=WAVES, encoder=NAME))
        wait_until(lambda: waves_closed(loop) >= 1, 90, "the first wave closes")
        announcer.take(step.publish, NAME, releases[1])
        announcer.take(step.shadow, releases[1].version)
        wait_until(
            lambda: sum(loop.count(worker, "pair_ready") for worker in range(2)) >= 1,
            60,
            "the release in shadow has its policy",
        )
        announcer.take(step.promote, releases[1].version)
        wait_until(lambda: {NEW} in decided_with(loop).values(), 60, "the new release decides")
        loop.kill(0)  # whoever leads the campaign now has to find both pairs again
        loop.start(0)
        announcer.take(step.rollback)
        wait_until(lambda: waves_closed(loop) == WAVES, 200, "the campaign ends")
    by_wave = decided_with(loop)
    assert all(len(labels) == 1 for labels in by_wave.values()), by_wave
    order = [next(iter(by_wave[wave])) for wave in range(WAVES)]
    assert (order[0], order[-1]) == (OLD, OLD), order
    assert NEW in order
    sent = {d.decision_id: d for d in loop.decisions() if d.action != NO_SEND}
    examples: list[LearningExample] = loop.records(LEARNING_EXAMPLES)
    closed = [example for example in examples if example.previous_reward is None]
    assert {example.decision_id for example in closed} == set(sent)
    assert len(closed) == len(sent)
    assert len(FeatureBatch.from_bytes([example.features for example in closed])) == len(closed)
    snapshot = loop.settled_snapshot(sender)
    assert snapshot.examples == len(sent)
    assert release_label(snapshot.encoder_version) == OLD
