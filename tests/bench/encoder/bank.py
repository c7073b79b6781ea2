"""The encoder beside gradient boosting on who subscribes to a bank's deposit (UCI, Moro et al.)."""

import csv
import dataclasses
from dataclasses import dataclass
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
MEMBERS = 3  # networks, each with another seed and validation part
CONFIG = TrainingConfig()  # what `groundswell encoder train` trains by, unless it is told otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """AUC in each fold of 5 x 2.

    Attributes
    ----------
    single
        Of one network, which is what a release holds: the mean over some, (10,).
    together
        Of the same networks with their logits averaged, (10,).
    boosting
        Of gradient boosting, (10,).
    """

    single: NDArray[np.float64]
    together: NDArray[np.float64]
    boosting: NDArray[np.float64]


def aucs(path: Path) -> Found:
    """Train and judge the encoder and gradient boosting in each fold."""
    with path.open() as file:
        table = list(csv.DictReader(file))
    y = np.array([row["y"] == "yes" for row in table])
    rows = [_row(row, number) for number, row in enumerate(table)]
    x, categories = _matrix(table)
    single, together, theirs = [], [], []
    folds = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=0)
    for fold, (learned, judged) in enumerate(folds.split(x, y)):
        boosting = HistGradientBoostingClassifier(
            categorical_features=list(categories), random_state=fold
        )
        boosting.fit(x[learned], y[learned])
        theirs.append(roc_auc_score(y[judged], boosting.predict_proba(x[judged])[:, 1]))
        scores = _scores(rows, y, learned, judged)
        single.append(np.mean([roc_auc_score(y[judged], member) for member in scores]))
        together.append(roc_auc_score(y[judged], scores.mean(axis=0)))
    return Found(single=np.array(single), together=np.array(together), boosting=np.array(theirs))


def _scores(
    rows: list[TrainingRow],
    y: NDArray[np.bool_],
    learned: NDArray[np.intp],
    judged: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The click logits of each network, (MEMBERS, n_judged)."""
    data = TrainingData.of(rows)
    scores = []
    for member in range(MEMBERS):
        config = dataclasses.replace(CONFIG, seed=member + 1)
        inner, outer = train_test_split(
            learned, test_size=0.2, stratify=y[learned], random_state=member
        )
        trained = train(data.rows(inner), data.rows(outer), config)
        scores.append(head_scores(trained, data.rows(judged))["clicked"])
    return np.array(scores, dtype=np.float64)


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
