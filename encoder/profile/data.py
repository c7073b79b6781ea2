"""Training rows, hashed once, and split by time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import EncoderError
from schemas.features import FeatureBatch, hash_profiles
from schemas.training_rows import COLUMNS, TrainingRow, profile_from_text

__all__ = ["BINARY_TASKS", "Split", "TrainingData", "read_parquet"]

BINARY_TASKS = ("clicked", "purchased", "unsubscribed")
OTHER = "(other)"
MOST_EVENT_TYPES = 32  # told apart as the next event
FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """Decisions with what the users were like and what came of it.

    Attributes
    ----------
    at_ms
        When each was decided, (n,).
    actions
        Index of each one's template in `action_names`, (n,).
    labels
        By task of `BINARY_TASKS`: 0, 1, or nan where nobody knows, (n,).
    next_event
        Index in `event_names`, -1 where nobody knows, (n,).
    number_names
        Names of the numbers that occur, as `schemas.encoder_inputs.NumberInput` has them.
    """

    features: FeatureBatch
    at_ms: NDArray[np.int64]
    actions: NDArray[np.int64]
    action_names: tuple[str, ...]
    labels: dict[str, NDArray[np.float32]]
    next_event: NDArray[np.int64]
    event_names: tuple[str, ...]
    number_names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.at_ms)

    @classmethod
    def of(cls, rows: Sequence[TrainingRow]) -> Self:
        """Hash and index rows.

        Raises
        ------
        EncoderError
            If there are too few.
        """
        if len(rows) < FEWEST_ROWS:
            raise EncoderError(
                f"an encoder is trained on at least {FEWEST_ROWS} decisions, got {len(rows)}: "
                "export a longer time"
            )
        action_names = tuple(sorted({row.action for row in rows}))
        types = Counter(row.next_event for row in rows if row.next_event is not None)
        event_names = tuple(name for name, _ in types.most_common(MOST_EVENT_TYPES))
        if len(types) > MOST_EVENT_TYPES:
            event_names += (OTHER,)
        event_index = {name: index for index, name in enumerate(event_names)}
        return cls(
            features=hash_profiles([row.profile for row in rows], [row.at_ms for row in rows]),
            at_ms=np.array([row.at_ms for row in rows], dtype=np.int64),
            actions=np.array([action_names.index(row.action) for row in rows], dtype=np.int64),
            action_names=action_names,
            labels={
                task: np.array(
                    [np.nan if (y := getattr(row, task)) is None else y for row in rows],
                    dtype=np.float32,
                )
                for task in BINARY_TASKS
            },
            next_event=np.array(
                [
                    -1
                    if row.next_event is None
                    else event_index.get(row.next_event, len(event_names) - 1)
                    for row in rows
                ],
                dtype=np.int64,
            ),
            event_names=event_names,
            number_names=_number_names(rows),
        )

    def rows(self, rows: NDArray[np.intp]) -> "TrainingData":
        """These rows, in this order."""
        return TrainingData(
            features=self.features.rows(rows),
            at_ms=self.at_ms[rows],
            actions=self.actions[rows],
            action_names=self.action_names,
            labels={task: values[rows] for task, values in self.labels.items()},
            next_event=self.next_event[rows],
            event_names=self.event_names,
            number_names=self.number_names,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three spans of time: to learn from, to stop by, and to be judged by."""

    train: TrainingData
    valid: TrainingData
    test: TrainingData

    @classmethod
    def by_time(cls, data: TrainingData, valid: float = 0.15, test: float = 0.15) -> Self:
        """Split: the oldest decisions to learn from, the newest to be judged by."""
        order = np.argsort(data.at_ms, kind="stable")
        ends = (np.array([1.0 - valid - test, 1.0 - test]) * len(data)).astype(int)
        train, middle, newest = np.split(order, ends)
        return cls(train=data.rows(train), valid=data.rows(middle), test=data.rows(newest))


def _number_names(rows: Sequence[TrainingRow]) -> tuple[tuple[str, ...], ...]:
    names: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        profile = row.profile
        for name, value in profile.attributes.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                names["number", name] += 1
        for kind in profile.counts:
            names["count", kind] += 1
            names["recency", kind] += 1
        if profile.sends:
            for span in ("day", "week", "month", "last"):
                names["sends", span] += 1
    return tuple(name for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0])))


def read_parquet(path: Path) -> list[TrainingRow]:
    """Rows of a file that `groundswell encoder dataset` wrote.

    Raises
    ------
    EncoderError
        If it cannot be read, or lacks a column.
    """
    import pyarrow as pa  # noqa: PLC0415  # of the extra: the command says so where it is missing
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise EncoderError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise EncoderError(
            f"{path} has no column {', '.join(missing)}: write it with `groundswell encoder "
            "dataset`"
        )
    columns = {name: table.column(name).to_pylist() for name in COLUMNS}
    columns["profile"] = [profile_from_text(text) for text in columns["profile"]]
    return [
        TrainingRow(**dict(zip(columns, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]
