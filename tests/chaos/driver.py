"""Feeds a deployment, injects a fault, and compares everything with the truth."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from schemas.ids import NO_SEND
from schemas.records import UserEvent
from schemas.topics import LEARNING_EXAMPLES
from streams.core.profiles import Profile
from tests.kafka.harness import EVENTS, Deployment, Sender, campaign, wait_until

TICK = "tick"


class Feeder:
    """Sends events at a steady rate; knows how many each user has had."""

    def __init__(
        self, deployment: Deployment, users: list[str], rate: float, garbage: float = 0.0
    ) -> None:
        self._deployment, self._users, self._rate = deployment, users, rate
        self._garbage_share = garbage
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.truth: Counter[str] = Counter()
        self.garbage = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def burst(self, n: int) -> None:
        """Send so many at once, besides the steady ones."""
        self._send(self._deployment.producer(), n, random.Random(n))

    def _run(self) -> None:
        producer, rng = self._deployment.producer(), random.Random(1)
        started, sent = time.monotonic(), 0
        while not self._stop.wait(0.05):
            due = int((time.monotonic() - started) * self._rate) - sent
            self._send(producer, due, rng)
            sent += due

    def _send(self, producer, n: int, rng: random.Random) -> None:  # type: ignore[no-untyped-def]
        topic = self._deployment.prefix + EVENTS
        now_ms = int(time.time() * 1000)
        for _ in range(n):
            user = rng.choice(self._users)
            if rng.random() < self._garbage_share:
                producer.produce(topic, key=user, value=b"garbage %d" % self.garbage)
                self.garbage += 1
                continue
            self.truth[user] += 1
            event = UserEvent(
                user_id=user,
                type=TICK,
                occurred_at_ms=now_ms,
                event_id=f"{user}-{self.truth[user]}",
            )
            producer.produce(topic, key=user, value=self._deployment.codec.encode("", event))
            producer.poll(0)
        producer.flush()


@dataclass
class Verdict:
    """What was lost and doubled under a fault."""

    fault: str
    injected: int
    events: int
    decisions: int
    rewards: int
    lost: int = 0
    doubled: int = 0
    notes: list[str] = field(default_factory=list)

    def compare(self, what: str, truth: int, found: int) -> None:
        """Count a difference."""
        self.lost += max(truth - found, 0)
        self.doubled += max(found - truth, 0)
        if truth != found:
            self.notes.append(f"{what}: truth {truth}, found {found}")


def run(
    deployment: Deployment,
    name: str,
    fault: Callable[[Deployment, Feeder], int],
    *,
    workers: int = 2,
    users: int = 2000,
    rate: float = 300.0,
    garbage: float = 0.0,
    waves: int = 3,
) -> Verdict:
    """Start workers, a campaign and a steady load; inject; wait until all is applied; compare."""
    people = [f"user-{number:05d}" for number in range(users)]
    for worker in range(workers):
        deployment.start(worker)
    for worker in range(workers):
        deployment.wait_open(worker)
    deployment.import_people(people)
    wait_until(lambda: len(_profiles(deployment)) == users, 60, "the people are imported")
    feeder = Feeder(deployment, people, rate, garbage)
    feeder.start()
    with Sender(deployment) as sender:
        deployment.apply(campaign(waves=waves, wave_deadline_ms=1_800_000))
        injected = fault(deployment, feeder)
        wait_until(lambda: _closed(deployment) == waves, 300, "the campaign ends")
        feeder.stop()
        total = sum(feeder.truth.values())
        wait_until(lambda: sum(_ticks(deployment).values()) >= total, 120, "all events are applied")
    return _verdict(deployment, name, injected, feeder, sender, people)


def _closed(deployment: Deployment) -> int:
    return sum(report.status == "closed" for report in deployment.reports().values())


def _profiles(deployment: Deployment) -> dict[str, Profile]:
    return {
        key[1:].decode(): msgspec.msgpack.decode(value, type=Profile)
        for (_, key), value in deployment.state().items()
        if key.startswith(b"p")
    }


def _ticks(deployment: Deployment) -> Counter[str]:
    return Counter(
        {user: profile.event_count(TICK) for user, profile in _profiles(deployment).items()}
    )


def _verdict(
    deployment: Deployment,
    name: str,
    injected: int,
    feeder: Feeder,
    sender: Sender,
    people: list[str],
) -> Verdict:
    decisions = deployment.decisions()
    verdict = Verdict(
        fault=name,
        injected=injected,
        events=sum(feeder.truth.values()),
        decisions=len(decisions),
        rewards=sender.total("click") + sender.total("purchase"),
    )
    ticks = _ticks(deployment)
    for user in people:
        verdict.compare(f"events of {user}", feeder.truth[user], ticks[user])
    per_user = Counter(decision.user_id for decision in decisions)
    for user in people:
        verdict.compare(f"decisions for {user}", 1, per_user[user])
    sent = {d.decision_id for d in decisions if d.action != NO_SEND}
    snapshot = deployment.settled_snapshot(sender)
    verdict.compare("examples learned", len(sent), snapshot.examples)
    for kind in ("click", "purchase"):
        verdict.compare(f"{kind}s learned", sender.total(kind), snapshot.feedback.get(kind, 0))
    outcomes = Counter(
        example.decision_id
        for example in deployment.records(LEARNING_EXAMPLES)
        if example.previous_reward is None
    )
    verdict.compare("outcomes", len(sent), sum(outcomes.values()))
    return verdict
