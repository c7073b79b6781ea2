"""What each part of an encoder is worth, on companies whose tastes are far from linear."""

import numpy as np
from scipy import stats

from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData
from encoder.profile.evaluate import FULL, Evaluation, ablations, evaluate
from encoder.profile.train import train
from streams.commands.encoder_rows import COMPANY_DAYS, COMPANY_UNTIL_MS
from streams.simulation.encoder_log import company_rows
from streams.simulation.sample_release import COMPANY, DECISIONS, SHAPE
from streams.simulation.world import Company
from tests.bench.figures import Figure

__all__ = ["measure"]

DAY_MS = 86_400_000
CONFIG = TrainingConfig(z_size=SHAPE["z-size"], bits=SHAPE["bits"], embedding=SHAPE["embedding"])


def measure(seeds: int) -> list[Figure]:
    """AUCs of the sample release's model with and without each part, over companies."""
    found = [_of(COMPANY + number) for number in range(seeds)]
    return [*_judged([each for each, _ in found]), *_without([parts for _, parts in found])]


def _of(seed: int) -> tuple[Evaluation, dict[str, dict[str, float]]]:
    from_ms = COMPANY_UNTIL_MS - COMPANY_DAYS * DAY_MS
    company = Company.create(seed, curved=True)
    rows = company_rows(company, DECISIONS, seed, from_ms, COMPANY_UNTIL_MS)
    split = Split.by_time(TrainingData.of(list(rows)))
    full = train(split.train, split.valid, CONFIG)
    return evaluate(full, split), ablations(split, full, lambda _: None)


def _judged(found: list[Evaluation]) -> list[Figure]:
    figures = [
        Figure(
            name=f"{task}, {judge}",
            value=float(np.mean([each.tasks[task][judge] for each in found])),
            unit="AUC",
            peer="logistic on the same hashed features",
            peer_value=float(np.mean([each.tasks[task]["hashed"] for each in found])),
        )
        for task in found[0].tasks
        for judge in ("head", "probe")
    ]
    for name in ("auc hidden tokens", "r2 hidden numbers", "auc clicked cold"):
        values = [each.metrics()[name] for each in found]
        figures.append(Figure(name=name, value=float(np.mean(values)), unit=""))
    return figures


def _without(found: list[dict[str, dict[str, float]]]) -> list[Figure]:
    """By variant and judge: the AUC, beside the full model's, and how far they are apart."""
    figures = []
    for name, columns in found[0].items():
        for column in columns if name != FULL else ():
            ours = np.array([each[name][column] for each in found])
            full = np.array([each[FULL][column] for each in found])
            apart, half = float((ours - full).mean()), 0.0
            if len(ours) > 1:
                half = float(stats.t.ppf(0.975, len(ours) - 1) * stats.sem(ours - full))
            figures.append(
                Figure(
                    name=f"{name}: {column} ({apart:+.4f}, 95 %: +-{half:.4f})",
                    value=float(ours.mean()),
                    unit="AUC",
                    peer=FULL,
                    peer_value=float(full.mean()),
                )
            )
    return figures
