"""A small world whose clicks have reasons, and an encoder that was trained on it for a moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.features import PlainProfile
from schemas.manifest import Manifest
from schemas.training_rows import TrainingRow

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def small_rows(n: int, seed: int = 1) -> list[TrainingRow]:
    """Decisions whose clicks depend on the template, the plan and, not monotonously, the age."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        age, plan = float(rng.integers(18, 90)), ("free", "plus", "pro")[rng.integers(3)]
        at_ms = START_MS + number * 60_000
        action = rng.integers(2)
        taste = (2.0 if 35 < age < 60 else -1.0, 2.0 if plan == "pro" else -1.0)[action]
        clicked = bool(rng.random() < 1 / (1 + np.exp(1.0 - taste)))
        attributes: dict[str, Any] = {"plan": plan, "tags": ("x", "y")[: rng.integers(3)]}
        if rng.random() < 0.9:
            attributes["age"] = age
        opened = (int(rng.integers(1, 30)), at_ms - int(rng.integers(0, 500)) * HOUR_MS)
        rows.append(
            TrainingRow(
                at_ms=at_ms,
                profile=PlainProfile(
                    attributes=attributes,
                    counts={"open": opened},
                    contacts=("email", "push")[: rng.integers(1, 3)],
                    sends=(at_ms - 30 * HOUR_MS,) if rng.random() < 0.5 else (),
                ),
                action=f"template-{action}",
                clicked=float(clicked),
                purchased=float(clicked and rng.random() < 0.3),
                unsubscribed=float(rng.random() < 0.02),
                next_event="open" if plan == "pro" else "",
            )
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class Small:
    """The world's rows, the trained encoder, and its exported folder."""

    rows: list[TrainingRow]
    split: Any
    trained: Any
    folder: Path
    manifest: Manifest
    model: bytes


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    pytest.importorskip("torch", reason="training needs the extra: encoder")
    import torch

    from encoder.profile.config import TrainingConfig
    from encoder.profile.data import Split, TrainingData
    from encoder.profile.export import MODEL_FILE, export
    from encoder.profile.train import train

    torch.set_num_threads(1)
    rows = small_rows(4_000)
    split = Split.by_time(TrainingData.of(rows))
    config = TrainingConfig(z_size=8, bits=8, embedding=16, hidden=48, epochs=10, batch=128)
    trained = train(split.train, split.valid, config)
    folder = tmp_path_factory.mktemp("exported")
    golden = [(row.profile, row.at_ms) for row in rows[-10:]]
    manifest = export(
        trained,
        split.train,
        golden,
        folder,
        name="people",
        version="1.2.0",
        metrics={"auc": 0.75},
        created_at_ms=START_MS,
    )
    return Small(
        rows=rows,
        split=split,
        trained=trained,
        folder=folder,
        manifest=manifest,
        model=(folder / MODEL_FILE).read_bytes(),
    )
