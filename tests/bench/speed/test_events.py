"""User events folded into profiles exactly once: beside peers, over shards, workers, intervals."""

import os
import statistics
from dataclasses import dataclass

import pytest

from tests.bench.figures import Figure, write_figures
from tests.bench.speed import bare_events, ours, quix
from tests.bench.speed.rounds import interleaved, median_ratio, spread
from tests.bench.speed.stage import Course

pytestmark = [pytest.mark.bench, pytest.mark.kafka, pytest.mark.timeout(3_600)]

EVENTS = int(os.environ.get("GROUNDSWELL_BENCH_EVENTS", "150000"))
USERS = 20_000
# A batch reads and writes a profile once for all of its events of a user. Of so many users it holds
# one event each, over however many shards they are spread: it is the same work.
MANY_USERS = 1_000_000
ROUNDS = 3
INTERVAL_S = 0.2  # of the rows beside peers: both commit so often at most
LEAST = 1.0
MOST_APART = 1.2
MOST_CPU_GROWTH = 1.1
INTERVALS_S = (0.0, 0.02, 0.1, 0.5, 2.0)


@dataclass(frozen=True)
class Fold:
    per_s: float
    cpu_us: dict[str, float]  # by process, an event


def fold(course: Course) -> Fold:
    cpu_us = {name: 1e6 * taken / EVENTS for name, taken in course.cpu_s.items()}
    return Fold(EVENTS / course.seconds, cpu_us)


def rates(folds: list[Fold]) -> list[float]:
    return [one.per_s for one in folds]


def cpu(folds: list[Fold], process: str = "") -> float:
    """The median of the microseconds an event that processes so named took together."""
    return statistics.median(
        sum(us for name, us in one.cpu_us.items() if name.startswith(process)) for one in folds
    )


def write(name: str, figures: list[Figure]) -> None:
    write_figures("bench", name, figures)
    short = [figure.name for figure in figures if figure.holds is False]
    assert not short, f"below their bars: {', '.join(short)}"


def test_user_events_beside_quix_streams_and_a_bare_loop(stages, events):
    """`user-events` is fed directly, to the worker and to each peer; 4 partitions."""
    assert quix.PYTHON.exists(), "no environment for Quix Streams: run `make bench`"
    records = events(EVENTS, USERS)

    def worker() -> Fold:
        with stages(commit_interval_s=INTERVAL_S) as stage:
            return fold(ours.fold_events(stage, records))

    def quix_fold(kind: str) -> Fold:
        with stages() as stage:
            return fold(quix.fold_events(stage, records, kind, INTERVAL_S))

    def bare() -> Fold:
        with stages() as stage:
            return Fold(bare_events.count_events(stage, records)[0], {})

    runs = interleaved(
        {
            "ours": worker,
            "Quix, our fold": lambda: quix_fold("ours"),
            "Quix, dicts": lambda: quix_fold("plain"),
            "bare": bare,
        },
        ROUNDS,
    )
    mine = rates(runs["ours"])
    peers = {
        "Quix, our fold": "Quix Streams with this project's codec and fold",
        "Quix, dicts": "Quix Streams with fastavro and dicts as JSON",
        "bare": "bare confluent-kafka and fastavro, a dict of counts",
    }
    figures = [
        median_ratio(
            f"user events, {INTERVAL_S:g} s between commits",
            f"events/s, {spread(mine)}",
            mine,
            text,
            rates(runs[name]),
            None if name == "bare" else LEAST,
        )
        for name, text in peers.items()
    ]
    for name in ("ours", "Quix, our fold", "Quix, dicts"):
        process = "worker" if name == "ours" else "quix"
        unit = "microseconds of CPU an event"
        figures.append(Figure(name=f"{name}: process", value=cpu(runs[name], process), unit=unit))
        if "broker" in runs[name][0].cpu_us:
            broker = cpu(runs[name], "broker")
            figures.append(Figure(name=f"{name}: broker", value=broker, unit=unit))
    write("speed-events", figures)


def test_the_same_work_over_more_shards(stages, events):
    records = events(EVENTS, MANY_USERS)

    def over(shards: int) -> Fold:
        with stages(shards, commit_interval_s=INTERVAL_S) as stage:
            return fold(ours.fold_events(stage, records))

    counts = (1, 4, 16)
    runs = interleaved({str(n): lambda n=n: over(n) for n in counts}, ROUNDS)
    medians = {name: statistics.median(rates(folds)) for name, folds in runs.items()}
    apart = max(medians.values()) / min(medians.values())
    figures = [
        Figure(name=f"{name} shards", value=value, unit=f"events/s, {spread(rates(runs[name]))}")
        for name, value in medians.items()
    ]
    figures.append(
        Figure(
            name="fastest over slowest",
            value=apart,
            unit="ratio of medians",
            ratio=apart,
            bar=f"<= {MOST_APART}",
            holds=apart <= MOST_APART,
        )
    )
    write("speed-shards", figures)


def test_two_workers_against_one(stages, events):
    records = events(EVENTS, USERS)

    def by(workers: int) -> Fold:
        with stages(commit_interval_s=INTERVAL_S) as stage:
            return fold(ours.fold_events(stage, records, workers))

    runs = interleaved({"one": lambda: by(1), "two": lambda: by(2)}, ROUNDS)
    growth = cpu(runs["two"], "worker") / cpu(runs["one"], "worker")
    figures = [
        median_ratio(
            "two workers",
            f"events/s, {spread(rates(runs['two']))}",
            rates(runs["two"]),
            "one worker",
            rates(runs["one"]),
            None,
        ),
        Figure(
            name="CPU of the workers an event",
            value=cpu(runs["two"], "worker"),
            unit="microseconds",
            peer="one worker",
            peer_value=cpu(runs["one"], "worker"),
            ratio=growth,
            bar=f"<= {MOST_CPU_GROWTH}",
            holds=growth <= MOST_CPU_GROWTH,
        ),
    ]
    for name, folds in runs.items():
        for process in folds[0].cpu_us:
            busy = [one.cpu_us[process] * one.per_s / 1e4 for one in folds]
            figures.append(
                Figure(name=f"{name}: {process}", value=statistics.median(busy), unit="% of a core")
            )
    write("speed-workers", figures)


def test_the_commit_interval_trades_latency_for_throughput(stages, events):
    """Throughput over a backlog; latency of the interval is in its own file."""
    records = events(EVENTS // 2, USERS)

    def at(interval_s: float) -> float:
        with stages(commit_interval_s=interval_s) as stage:
            return len(records) / ours.fold_events(stage, records).seconds

    def delay(interval_s: float) -> list[float]:
        with stages(commit_interval_s=interval_s) as stage:
            return ours.commit_delays_ms(stage, per_s=500, seconds=4)

    backlog = interleaved({str(s): lambda s=s: at(s) for s in INTERVALS_S}, ROUNDS)
    trickle = interleaved({str(s): lambda s=s: delay(s) for s in INTERVALS_S}, ROUNDS)
    figures = []
    for name in backlog:
        figures.append(
            Figure(
                name=f"{name} s: backlog",
                value=statistics.median(backlog[name]),
                unit=f"events/s, {spread(backlog[name])}",
            )
        )
        for quantile, rank in (("median", 49), ("p99", 98)):
            cuts = [statistics.quantiles(delays, n=100)[rank] for delays in trickle[name]]
            figures.append(
                Figure(
                    name=f"{name} s: {quantile} at 500 events/s",
                    value=statistics.median(cuts),
                    unit="ms from the event's write to its commit",
                )
            )
    write("speed-interval", figures)
