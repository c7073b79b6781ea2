"""A triggered send: from an event to a decision that can be read."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import NewTopic

from schemas.campaign import ContextFeature, Template
from schemas.records import UserEvent
from schemas.topics import SEND_DECISIONS, USER_EVENTS
from tests.bench.figures import Figure, write_figures
from tests.bench.speed.latency import Latencies, measure, peer
from tests.bench.speed.rounds import interleaved
from tests.kafka.harness import EVENTS, Deployment, campaign, deployment

ROUNDS = 5
EVENTS_A_ROUND = 2000
MOST_MS, MOST_RATIO = 50.0, 2.0
DAY_MS = 86_400_000
USERS = [f"user-{number:05d}" for number in range(EVENTS_A_ROUND)]
CART = campaign(
    waves=1,
    trigger_event="cart-abandoned",
    attribution_window_ms=DAY_MS,
    correction_horizon_ms=2 * DAY_MS,
    templates=[
        Template(
            id=f"template-{rank}",
            channel="email",
            features={f"f{column}": float(np.sin(rank * 7 + column)) for column in range(4)},
            variables={"subject": "You left something behind", "text": "It is still there." * 5},
        )
        for rank in range(10)
    ],
    context=[
        ContextFeature(attribute="age", center=45, scale=15),
        ContextFeature(attribute="plan", one_of=["free", "plus"]),
        *(ContextFeature(event=f"event-{rank}") for rank in range(5)),
    ],
    baseline_action="template-0",
)


@pytest.mark.bench
def test_a_triggered_send_is_about_as_fast_as_a_bare_loop(kafka, namespace, tmp_path: Path):
    with deployment(kafka, namespace, tmp_path) as loop:
        first, between, last = (loop.prefix + name for name in ("bare-in", "between", "bare-out"))
        new = [NewTopic(name, loop.users, 1) for name in (first, between, last)]
        for made in kafka.admin.create_topics(new).values():
            made.result()
        answer = prepare(loop)
        decisions = loop.prefix + SEND_DECISIONS.name

        def alone() -> Latencies:
            with peer(kafka.bootstrap, first, last, answer):
                return timed(loop, first, last, f"bare-{next(number)}", loop.users)

        def chained() -> Latencies:
            with (
                peer(kafka.bootstrap, first, between, None),
                peer(kafka.bootstrap, between, last, answer),
            ):
                return timed(loop, first, last, f"chain-{next(number)}", loop.users)

        def direct() -> Latencies:
            source = loop.prefix + USER_EVENTS.name
            return timed(loop, source, decisions, f"direct-{next(number)}", loop.users)

        def ingested() -> Latencies:
            source = loop.prefix + EVENTS
            return timed(loop, source, decisions, f"ingest-{next(number)}", None)

        number = count()
        runs = interleaved(
            {"bare": alone, "direct": direct, "chain": chained, "ingest": ingested}, ROUNDS
        )
        loop.assert_alive()
    figures = figures_of(runs)
    write_figures("bench", "latency", figures)
    assert all(not run.missing for of in runs.values() for run in of), runs
    assert all(figure.holds is not False for figure in figures), figures


def prepare(loop: Deployment) -> bytes:
    """One worker, everybody's profile, a campaign that waits; gives the first of its answers."""
    loop.start(0)
    loop.wait_open(0)
    loop.import_people(USERS)
    loop.apply(CART)
    loop.wait_profiles(len(USERS))
    source, target = (loop.prefix + topic.name for topic in (USER_EVENTS, SEND_DECISIONS))
    assert not timed(loop, source, target, "first", loop.users).missing
    answer: bytes = loop.read(SEND_DECISIONS)[0].value()
    return answer


def timed(
    loop: Deployment,
    source: str,
    target: str,
    name: str,
    partitions: int | None,
) -> Latencies:
    def event(user: str) -> bytes:
        record = UserEvent(
            user_id=user,
            type="cart-abandoned",
            occurred_at_ms=int(time.time() * 1000),
            event_id=f"{name}-{user}",
        )
        return loop.codec.encode("", record)

    measured = measure(loop.bootstrap, source, target, USERS, event, partitions=partitions)
    print(name, asdict(measured))
    return measured


def figures_of(runs: dict[str, list[Latencies]]) -> list[Figure]:
    """Medians over the rounds; ratios within each round.

    A company's event takes two transactions: it is put to its user's shard, and decided there.
    Two bare loops do as much, and the bar is by them; one alone is told beside.
    """
    one, two = "bare librdkafka loop", "two bare loops, one behind the other"
    return [
        ratio_of(
            f"{name} to decision read, {part}",
            [getattr(run, part) for run in runs[way]],
            peer_name,
            [getattr(run, part) for run in runs[peer_way]],
            barred=part == "p99" and rank == 0,
        )
        for way, name, peers in (
            ("direct", "event in user-events", {"bare": one}),
            ("ingest", "event in company's topic", {"chain": two, "bare": one}),
        )
        for part in ("p50", "p99")
        for rank, (peer_way, peer_name) in enumerate(peers.items())
    ]


def ratio_of(
    name: str, ours: Sequence[float], peer_name: str, peers: Sequence[float], *, barred: bool
) -> Figure:
    value, peer_value = float(np.median(ours)), float(np.median(peers))
    ratio = float(np.median([one / other for one, other in zip(ours, peers, strict=True)]))
    return Figure(
        name=name,
        value=value,
        unit="ms at 200/s",
        peer=peer_name,
        peer_value=peer_value,
        ratio=ratio,
        bar=f"<= {MOST_MS:g} ms and <= {MOST_RATIO:g} x" if barred else None,
        holds=(value <= MOST_MS and ratio <= MOST_RATIO) if barred else None,
    )
