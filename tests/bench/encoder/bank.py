"""The encoder beside gradient boosting on who subscribes to a bank's deposit (UCI, Moro et al.)."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split
from sklearn.preprocessing import OrdinalEncoder

from encoder.profile.config import TrainingConfig
from encoder.profile.data import TrainingData
from encoder.profile.evaluate import head_scores
from encoder.profile.train import train
from schemas.features import PlainProfile
from schemas.training_rows import TrainingRow

# The call's length is known only after the call; pdays of -1 means never called before.
LEFT_OUT = ("duration", "y")
NUMBERS = ("age", "balance", "day", "campaign", "pdays", "previous")
MEMBERS = 3  # networks whose logits are averaged, each with another seed and validation part
CONFIG = TrainingConfig(
    z_size=16,
    bits=8,
    embedding=8,
    hidden=32,
    dropout=0.3,
    batch=128,
    learning_rate=1e-3,
    weight_decay=0.05,
    epochs=40,
)


def aucs(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUC of the encoder and of gradient boosting in each fold of 5 x 2, both (10,)."""
    with path.open() as file:
        table = list(csv.DictReader(file))
    y = np.array([row["y"] == "yes" for row in table])
    rows = [_row(row, number) for number, row in enumerate(table)]
    x, categories = _matrix(table)
    ours, theirs = [], []
    folds = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=0)
    for fold, (learned, judged) in enumerate(folds.split(x, y)):
        boosting = HistGradientBoostingClassifier(
            categorical_features=list(categories), random_state=fold
        )
        boosting.fit(x[learned], y[learned])
        theirs.append(roc_auc_score(y[judged], boosting.predict_proba(x[judged])[:, 1]))
        ours.append(roc_auc_score(y[judged], _scores(rows, y, learned, judged)))
    return np.array(ours), np.array(theirs)


def _scores(
    rows: list[TrainingRow],
    y: NDArray[np.bool_],
    learned: NDArray[np.intp],
    judged: NDArray[np.intp],
) -> NDArray[np.float64]:
    data = TrainingData.of(rows)
    total = np.zeros(len(judged))
    for member in range(MEMBERS):
        config = TrainingConfig(**{**_plain(CONFIG), "seed": member + 1})
        inner, outer = train_test_split(
            learned, test_size=0.2, stratify=y[learned], random_state=member
        )
        trained = train(data.rows(inner), data.rows(outer), config)
        total += head_scores(trained, data.rows(judged))["clicked"]
    return total / MEMBERS


def _plain(config: TrainingConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__slots__}


def _row(row: dict[str, str], number: int) -> TrainingRow:
    attributes: dict[str, bool | int | float | str | tuple[str, ...] | None] = {
        name: float(value) if name in NUMBERS else value
        for name, value in row.items()
        if name not in LEFT_OUT and not (name == "pdays" and value == "-1")
    }
    return TrainingRow(
        at_ms=number,
        profile=PlainProfile(attributes=attributes),
        action="call",
        clicked=float(row["y"] == "yes"),
    )


def _matrix(table: list[dict[str, str]]) -> tuple[NDArray[np.float64], range]:
    names = [name for name in table[0] if name not in LEFT_OUT and name not in NUMBERS]
    texts = OrdinalEncoder().fit_transform([[row[name] for name in names] for row in table])
    numbers = np.array([[float(row[name]) for name in NUMBERS] for row in table])
    return np.hstack([texts, numbers]), range(len(names))
