"""Feeds a deployment, injects a fault, and compares everything with the truth."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.ids import NO_SEND
from schemas.topics import DEAD_LETTERS, LEARNING_EXAMPLES, REWARDS, USER_EVENTS
from tests.bench.figures import Figure
from tests.chaos.changelog import Changelog
from tests.chaos.feeder import PADDING, TICK, Feeder
from tests.chaos.report import Row, at_least, at_most, seen
from tests.kafka.harness import Deployment, Sender, campaign


@dataclass
class Harm:
    """What a fault did, and what was measured while it did."""

    injected: int
    figures: list[Figure] = field(default_factory=list)


Fault = Callable[[Deployment, Feeder], Harm]


def run(
    deployment: Deployment,
    name: str,
    fault: Fault,
    *,
    workers: int = 2,
    users: int = 2000,
    rate: float = 300.0,
    garbage: float = 0.0,
    waves: int = 3,
    window_s: float = 1.5,
    idle_s: float = 120.0,
    tend: Callable[[Deployment], None] | None = None,
) -> Row:
    """Start workers, a campaign and a steady load; inject; wait until all is applied; compare.

    Parameters
    ----------
    rate
        Events a second, which must really be reached.
    waves, window_s
        The campaign takes about waves x (window + 2 s).
    idle_s
        When the load ends, all of it must be applied within this time.
    tend
        Called every second from the fault's end until all is applied: whoever runs the workers.
    """
    people = [f"user-{number:05d}" for number in range(users)]
    for worker in range(workers):
        deployment.start(worker)
    for worker in range(workers):
        deployment.wait_open(worker)
    deployment.import_people(people)
    feeder = Feeder(deployment, people, rate, witnesses=users // 50, garbage=garbage)
    feeder.prepare()
    changelog = Changelog(deployment)
    try:
        _wait(lambda: _prepared(changelog, feeder, users), 120, "the people are imported")
        feeder.start()
        with Sender(deployment) as sender:
            deployment.apply(
                campaign(
                    waves=waves,
                    wave_deadline_ms=1_800_000,
                    attribution_window_ms=int(window_s * 1000),
                )
            )
            harm = fault(deployment, feeder)

            def tended(condition: Callable[[], bool]) -> bool:
                if tend is not None:
                    tend(deployment)
                return condition()

            _wait(
                lambda: tended(lambda: _closed(deployment) == waves),
                300 + waves * window_s,
                "the waves close",
            )
            feeder.stop()
            stopped = time.monotonic()
            _wait(
                lambda: tended(lambda: _applied(changelog) >= feeder.total),
                300,
                "all events are applied",
            )
            caught_up_s = time.monotonic() - stopped
        row = Row(fault=name, injected=harm.injected, figures=harm.figures)
        _compare(row, deployment, changelog, feeder, sender, people)
    finally:
        changelog.close()
    row.figures = [
        at_least("rate", feeder.rate, "events/s", 0.98 * rate),
        at_most("caught up after", caught_up_s, "s", idle_s),
        *_dead_letters(deployment, feeder),
        *row.figures,
    ]
    return row


def _wait(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """As `wait_until`, at longer intervals: looking reads topics."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(1.0)


def _prepared(changelog: Changelog, feeder: Feeder, users: int) -> bool:
    profiles = changelog.profiles()
    return len(profiles) == users and all(
        profiles[user].event_count(PADDING) == number for user, number in feeder.padding.items()
    )


def _applied(changelog: Changelog) -> int:
    return sum(profile.event_count(TICK) for profile in changelog.profiles().values())


def _closed(deployment: Deployment) -> int:
    return sum(report.status == "closed" for report in deployment.reports().values())


def _compare(
    row: Row,
    deployment: Deployment,
    changelog: Changelog,
    feeder: Feeder,
    sender: Sender,
    people: list[str],
) -> None:
    decisions = deployment.decisions()
    row.events = feeder.total
    row.decisions = len(decisions)
    row.rewards = sender.total("click") + sender.total("purchase")
    profiles = changelog.profiles()
    ticks = {user: profile.event_count(TICK) for user, profile in profiles.items()}
    row.compare_each("events of", feeder.truth, ticks)
    # What ingest made of it: one import a person, and both copies of each feedback.
    standing, once = len(deployment.read(USER_EVENTS)), deployment.read_once(USER_EVENTS)
    row.figures.append(seen("events that ingest sent on again", standing - len(once), ""))
    ingested = Counter((one.key or b"").decode() for one in once)
    sent = feeder.truth + feeder.padding + Counter(people)
    row.compare_each("records re-keyed for", sent, ingested)
    row.compare("rewards re-keyed", 2 * row.rewards, len(deployment.read_once(REWARDS)))
    per_user = Counter(decision.user_id for decision in decisions)
    row.compare_each("decisions for", dict.fromkeys(people, 1), per_user)
    learned = {d.decision_id for d in decisions if d.action != NO_SEND}
    snapshot = deployment.settled_snapshot(sender)
    row.compare("examples learned", len(learned), snapshot.examples)
    for kind in ("click", "purchase"):
        row.compare(f"{kind}s learned", sender.total(kind), snapshot.feedback.get(kind, 0))
    truth = sender.total("click") + 2 * sender.total("purchase")
    row.compare("sum of rewards", truth, round(snapshot.reward_sum))
    outcomes = Counter(
        example.decision_id
        for example in deployment.records(LEARNING_EXAMPLES)
        if example.previous_reward is None
    )
    row.compare_each("outcomes of", dict.fromkeys(learned, 1), outcomes)


def _dead_letters(deployment: Deployment, feeder: Feeder) -> list[Figure]:
    """Of the garbage each record stands in the dead letters once, and nothing else does."""
    letters = Counter(letter.value() for letter in deployment.read(DEAD_LETTERS))
    wrong = (letters - Counter(feeder.garbage)) + (Counter(feeder.garbage) - letters)
    figures = [at_most("dead letters missing, doubled or not due", wrong.total(), "", 0)]
    if feeder.garbage:
        figures.append(seen("garbage", len(feeder.garbage), "records"))
    return figures
