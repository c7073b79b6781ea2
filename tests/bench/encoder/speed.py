"""How fast a release encodes in one worker: from folded profiles, and from hashed features."""

import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData
from encoder.profile.export import MANIFEST_FILE, MODEL_FILE, export
from encoder.profile.train import train
from schemas.features import hash_profiles
from schemas.manifest import Manifest
from schemas.training_rows import TrainingRow
from streams.core.profiles import Profile
from streams.releases.encoder import Encoder
from streams.simulation.encoder_log import company_rows
from streams.simulation.world import Company
from tests.bench.encoder.campaign import folded
from tests.bench.figures import Figure

CHUNK, USERS, REPEATS, SINGLES = 500, 10_000, 3, 2_000
UNTIL_MS = 1_767_225_600_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def measure(folder: Path) -> list[Figure]:
    """Figures with their bars: chunks of 500, z of 32 columns whose weights have had one epoch."""
    rows = list(company_rows(Company.create(1), USERS, 1, UNTIL_MS - 30 * DAY_MS, UNTIL_MS))
    _train(rows, folder)
    encoder = _encoder(folder, 0)
    users = [folded(row.profile) for row in rows]
    chunks = [users[at : at + CHUNK] for at in range(0, USERS, CHUNK)]
    hashed = [hash_profiles(chunk, [UNTIL_MS] * len(chunk)) for chunk in chunks]
    by_profile = _per_s(lambda: [encoder.encode(chunk, UNTIL_MS) for chunk in chunks])
    by_features = _per_s(lambda: [encoder.encode_features(batch) for batch in hashed])
    without, kept = _encoder(folder, 0), _encoder(folder, USERS)
    hours = count(1)

    def another_hour() -> None:
        at_ms = UNTIL_MS + next(hours) * HOUR_MS
        for chunk in chunks:
            kept.encode_profiles(chunk, at_ms)

    plain = _per_s(lambda: [without.encode_profiles(chunk, UNTIL_MS) for chunk in chunks])
    changed = _per_s(another_hour)
    unchanged = _per_s(lambda: [kept.encode_profiles(chunk, UNTIL_MS) for chunk in chunks])
    cost, gain = 1 / changed - 1 / plain, 1 / changed - 1 / unchanged
    p99_ms = float(np.median([_p99_ms(encoder, users) for _ in range(REPEATS)]))
    return [
        _at_least("from folded profiles", by_profile, 20_000.0),
        _at_least("from hashed features", by_features, 50_000.0),
        _at_least("with features to log, nothing kept", plain, 20_000.0),
        _at_least("with features to log, kept, all profiles changed", changed, 20_000.0, plain),
        _at_least("with features to log, kept, all profiles unchanged", unchanged, 20_000.0, plain),
        Figure(
            name="keeping encodings pays from this share of unchanged profiles",
            value=max(cost, 0.0) / gain,
            unit="share",
        ),
        Figure(
            name="a single profile, p99", value=p99_ms, unit="ms", bar="< 1", holds=p99_ms < 1.0
        ),
        Figure(name="the model", value=encoder.manifest.model_bytes / 1024, unit="KiB"),
    ]


def _at_least(name: str, per_s: float, bar: float, beside: float | None = None) -> Figure:
    return Figure(
        name=name,
        value=per_s,
        unit="profiles/s",
        peer=None if beside is None else "nothing kept",
        peer_value=beside,
        ratio=None if beside is None else per_s / beside,
        bar=f">= {bar:,.0f}",
        holds=per_s >= bar,
    )


def _train(rows: Sequence[TrainingRow], folder: Path) -> None:
    split = Split.by_time(TrainingData.of(rows))
    trained = train(split.train, split.valid, TrainingConfig(z_size=32, epochs=1))
    golden = [(row.profile, row.at_ms) for row in rows[-16:]]
    export(
        trained,
        split.train,
        golden,
        folder,
        name="speed",
        version="1.0.0",
        metrics={},
        created_at_ms=UNTIL_MS,
    )


def _encoder(folder: Path, cached: int) -> Encoder:
    manifest = Manifest.from_bytes((folder / MANIFEST_FILE).read_bytes())
    return Encoder.load(manifest, (folder / MODEL_FILE).read_bytes(), threads=1, cached=cached)


def _per_s(work: Callable[[], object]) -> float:
    """Users a second: the median of some runs, after one that warms up."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return USERS / float(np.median(taken))


def _p99_ms(encoder: Encoder, users: Sequence[Profile]) -> float:
    taken = []
    for user in users[:SINGLES]:
        began = time.perf_counter()
        encoder.encode([user], UNTIL_MS)
        taken.append(time.perf_counter() - began)
    return float(np.percentile(taken, 99)) * 1000.0
