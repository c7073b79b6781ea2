"""Releases that were trained on companies' logs, and what campaigns earn through them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData
from encoder.profile.train import Trained, encode, train
from schemas.features import FeatureBatch, KnownUser, hash_profiles
from streams.simulation.encoder_log import company_rows
from streams.simulation.world import Company
from tests.bench.encoder.campaign import people_of
from tests.bench.encoder.cold import Cold, cold_start
from tests.bench.encoder.migration import Migrated, migrate

__all__ = ["POLICIES", "Measured", "measured"]

UNTIL_MS = 1_767_225_600_000
DAY_MS = 86_400_000
PEOPLE = 16_000
OLD, NEW = "people@1.0.0", "people@2.0.0"
POLICIES = ("linear-thompson", "adaptive-thompson")
# The new release has learned from another and longer log, and has other columns, and fewer.
LOGGED = {OLD: 20_000, NEW: 40_000}
CONFIGS = {
    OLD: TrainingConfig(z_size=32, bits=10, embedding=16, seed=1),
    NEW: TrainingConfig(z_size=24, bits=11, embedding=16, seed=2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one company: by policy what migration did, and what strangers earn."""

    migrated: dict[str, Migrated]
    cold: dict[str, Cold]


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchRelease:
    """A trained encoder where a worker has a loaded release."""

    version: str
    trained: Trained

    @property
    def z_size(self) -> int:
        """Columns of z."""
        return self.trained.config.z_size

    def encode_profiles(
        self, users: list[KnownUser], now_ms: int
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        """As `Encoder.encode_profiles`."""
        features = hash_profiles(users, [now_ms] * len(users))
        return self.encode_features(features), features.to_bytes()

    def encode_features(self, features: FeatureBatch) -> NDArray[np.float32]:
        """As `Encoder.encode_features`."""
        return encode(self.trained, features)


def measured(seed: int) -> Measured:
    """Train two releases on logs of a company with curved tastes, and run campaigns on them."""
    company = Company.create(seed, PEOPLE, curved=True)
    releases = {label: _release(company, label, seed) for label in (OLD, NEW)}
    profiles = people_of(company, UNTIL_MS)
    return Measured(
        migrated={
            policy: migrate(company, profiles, releases, policy=policy, seed=seed, at_ms=UNTIL_MS)
            for policy in POLICIES
        },
        cold={
            policy: cold_start(
                company, profiles, releases[OLD], policy=policy, seed=seed, at_ms=UNTIL_MS
            )
            for policy in POLICIES
        },
    )


def _release(company: Company, label: str, seed: int) -> TorchRelease:
    config = CONFIGS[label]
    from_ms = UNTIL_MS - 30 * DAY_MS
    rows = company_rows(company, LOGGED[label], 100 * seed + config.seed, from_ms, UNTIL_MS)
    split = Split.by_time(TrainingData.of(list(rows)), valid=0.15, test=0.0)
    return TorchRelease(version=label, trained=train(split.train, split.valid, config))
