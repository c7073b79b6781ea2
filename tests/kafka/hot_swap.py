"""Triggered sends at a steady rate while releases of their encoder are swapped."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from schemas.encoder_releases import EncoderRelease
from schemas.features import FeatureBatch
from schemas.topics import DEAD_LETTERS, LEARNING_EXAMPLES, WAVE_STARTS
from streams.core.encoding import release_label
from streams.simulation.sample_release import NAME
from tests.kafka.harness import Deployment, campaign, wait_until
from tests.kafka.steady_events import TRIGGER
from tests.kafka.steady_load import Load
from tests.kafka.turned_releases import Announcer, label_of, loaded

__all__ = [
    "LEARN_EVERY_S",
    "Swaps",
    "Waits",
    "check",
    "latencies",
    "longest_period_s",
    "prepare",
    "swapped",
]

LEARN_EVERY_S = 3.0
CHECKED = 1_000  # examples whose contexts are encoded again
AROUND_S = 0.5  # a stall of 5 ms at the step is one in a hundred of what is due so near to it
BEFORE_S = 6.0  # some of all that happens without a swap too


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """One swap under load, in seconds of the load's clock.

    Attributes
    ----------
    label
        What is live after it.
    published_s
        When the release was announced, to be fetched, checked and warmed; None for a rollback,
        which returns to one that is loaded.
    promoted_s
        When it was announced as the live one, its policy warm.
    """

    label: str
    published_s: float | None
    promoted_s: float


def prepare(
    loop: Deployment, users: list[str], workers: int, releases: Sequence[EncoderRelease]
) -> Announcer:
    """Workers, everybody's profile, a live release, and a campaign that waits for events."""
    announcer = Announcer(loop, releases)
    announcer.first()
    for worker in range(workers):
        loop.start(worker)
    for worker in range(workers):
        loop.wait_open(worker)
    loop.import_people(users)
    loop.wait_profiles(len(users))
    loop.apply(
        campaign(
            waves=1,
            encoder=NAME,
            trigger_event=TRIGGER,
            learn_every_ms=int(1000 * LEARN_EVERY_S),
            correction_horizon_ms=5_000,
            holdout=0.0,
            baseline_action=None,
            baseline_share=0.0,
        )
    )
    wait_until(  # before, no event asks for anything
        lambda: sum(key[1].startswith(b"g") for key in loop.state()) == loop.users,
        60,
        "the campaign's first wave has come to every shard",
    )
    return announcer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long decisions took, in milliseconds from when an event was due to its decision read.

    Attributes
    ----------
    p50, p99
        Percentiles of all windows together.
    most
        The median of each window's longest.
    """

    p50: float
    p99: float
    most: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Swaps:
    """What swaps did to latency.

    Attributes
    ----------
    rate
        Decisions a second, over the whole run.
    before
        In the six seconds before anything of a swap began.
    preparing
        From a release's announcement until its policy is warm: fetched, checked and replayed.
    awaited
        From promote or rollback until half a second before the release's first decision.
    around
        Half a second before and after the first decision of the release could be read.
    warmed_with
        Decisions made before the last release was announced: most are in the log that it reads.
    taken_s
        From promote or rollback to the first decision: at most, seconds.
    late_ms
        The worst delay of the load's own producer.
    """

    swaps: int
    decisions: int
    rate: float
    before: Waits
    preparing: Waits
    awaited: Waits
    around: Waits
    warmed_with: int
    taken_s: float
    late_ms: float


def swapped(
    load: Load, announcer: Announcer, *, swaps: str, warm_s: float, between_s: float
) -> list[Swap]:
    """Run the load and swap: a letter a swap, `p` for a fresh release, `r` for a rollback."""
    found = []
    with load.running():
        load.pause(warm_s)
        for way in swaps:
            load.pause(between_s)
            published = None
            if way == "p":
                published = time.perf_counter()
                label = load.warmed(announcer)
                load.pause(between_s / 2)
                promoted = time.perf_counter()
                announcer.promote()
            else:
                promoted = time.perf_counter()
                label = announcer.rollback()
            load.wait_for(label, promoted, 60)
            found.append(Swap(label=label, published_s=published, promoted_s=promoted))
        load.pause(between_s)
    return found


def latencies(load: Load, swaps: list[Swap]) -> Swaps:
    """What the swaps did to latency; asserts that every event has one decision."""
    at = load.answers()
    due = np.array([event[2] for event in load.events])
    waited = (np.array([at[rank] for rank in range(len(due))]) - due) * 1000

    def within(since: float, until: float) -> np.ndarray:
        return waited[(due >= since) & (due < until)]

    before, preparing, awaited, around, taken = [], [], [], [], []
    warmed_with = 0
    for swap in swaps:
        first = min(
            when
            for decision, when in load.read
            if when > swap.promoted_s and release_label(decision.encoder_version) == swap.label
        )
        taken.append(first - swap.promoted_s)
        awaited.append(within(swap.promoted_s, first - AROUND_S))
        around.append(within(first - AROUND_S, first + AROUND_S))
        began = swap.promoted_s
        if swap.published_s is not None:
            began = swap.published_s
            preparing.append(within(began, load.warm_at[swap.label]))
            warmed_with = int((due < began).sum())
        before.append(within(began - BEFORE_S, began))
    return Swaps(
        swaps=len(swaps),
        decisions=len(due),
        rate=len(due) / float(max(at.values()) - due[0]),
        before=_waits(before),
        preparing=_waits(preparing),
        awaited=_waits(awaited),
        around=_waits(around),
        warmed_with=warmed_with,
        taken_s=max(taken),
        late_ms=load.late_s * 1000,
    )


def _waits(windows: list[np.ndarray]) -> Waits:
    windows = [window for window in windows if len(window)] or [np.array([np.nan])]
    p50, p99 = np.percentile(np.concatenate(windows), [50, 99])
    return Waits(
        p50=float(p50),
        p99=float(p99),
        most=float(np.median([window.max() for window in windows])),
    )


def longest_period_s(loop: Deployment) -> float:
    """The longest time for which one policy decided: more where outcomes close late."""
    began = sorted({start.started_at_ms for start in loop.records(WAVE_STARTS)})
    return float(np.diff(began[1:]).max()) / 1000  # the first one waits for the first event


def check(
    loop: Deployment,
    load: Load,
    swaps: list[Swap],
    folder: Path,
    releases: Sequence[EncoderRelease],
) -> None:
    """No decision mixes versions.

    Each carries the policy and the release that its period is pinned to, and a context that this
    very release makes of the features that are logged with it.
    """
    pinned = {
        start.wave: (start.policy_version, start.encoder_version)
        for start in loop.records(WAVE_STARTS)
    }
    of: dict[int, set[tuple[int, str]]] = defaultdict(set)
    for decision, _ in load.read:
        of[decision.wave].add((decision.policy_version, decision.encoder_version))
    assert all(pairs == {pinned[wave]} for wave, pairs in of.items()), of
    labels = [release_label(pinned[wave][1]) for wave in sorted(of)]
    changes = [label for label, _ in groupby(labels)]
    assert changes == [label_of(releases[0]), *(swap.label for swap in swaps)]
    assert len({version for version, _ in pinned.values()}) == len(pinned)
    assert loop.read(DEAD_LETTERS) == []
    encoders = loaded(folder, releases)
    examples = loop.records(LEARNING_EXAMPLES)
    some = examples[:: max(len(examples) // CHECKED, 1)]
    assert {release_label(example.encoder_version) for example in some} == set(changes)
    for label, encoder in encoders.items():
        mine = [e for e in some if release_label(e.encoder_version) == label]
        if not mine:
            continue
        z = encoder.encode_features(FeatureBatch.from_bytes([e.features for e in mine]))
        logged = np.array([np.frombuffer(e.context, "<f4")[-encoder.z_size :] for e in mine])
        assert np.abs(z - logged).max() < 1e-5
        for other in (other for name, other in encoders.items() if name != label):
            z = other.encode_features(FeatureBatch.from_bytes([e.features for e in mine]))
            assert np.abs(z - logged).max(axis=1).min() > 0.01  # another one would be seen
