"""A company's log as decisions in the order of their time, with what cannot be read counted."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.checks import check_text, check_time
from schemas.errors import GroundswellError, MappingError
from schemas.hashing import fallback_id, id_hash
from schemas.ids import AttributeValue
from streams.simulation.log_files import BadRow, RawRow, raw_rows
from streams.simulation.log_mapping import (
    ESTIMATED,
    LogMapping,
)
from streams.simulation.log_values import (
    RowReward,
    attribute_of,
    probabilities_of,
    propensity_of,
    reward_of,
    text_of,
    time_of,
    wave_of,
)
from streams.simulation.propensities import PropensityCounts

__all__ = ["LogReader", "LogRow", "LogSummary"]

MOST_SORTED = 500_000  # rows that are sorted in memory where a log is out of order
REPORTED = 5  # bad rows that are told in words


@dataclass(frozen=True, slots=True)
class LogRow:
    """A decision of the log.

    `stratum` is what its propensity is estimated within; `wave` the version of the log's policy,
    -1 where it is not known.
    """

    number: int
    at_ms: int
    user_id: str
    action: str
    rewards: tuple[RowReward, ...]
    propensity: float | None
    attributes: dict[str, AttributeValue]
    stratum: str
    probabilities: dict[str, float]
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """What a first reading of a log has found.

    Attributes
    ----------
    learned, held_out
        Rows before `split_at_ms`, and the others.
    feedback, learned_feedback
        Rewards by kind: of all rows, and of those that are learned.
    bad, bad_rows
        Rows that cannot be read: how many, and the first of them in words.
    skipped
        Rows that `where` leaves out.
    disorder
        Line of the first row that is earlier than the one before; None: all are in order.
    """

    rows: int
    users: int
    first_ms: int
    last_ms: int
    split_at_ms: int
    learned: int
    actions: tuple[str, ...]
    feedback: Mapping[str, int]
    learned_feedback: Mapping[str, int]
    bad: int = 0
    bad_rows: tuple[str, ...] = ()
    skipped: int = 0
    disorder: int | None = None
    propensities: PropensityCounts = field(default_factory=PropensityCounts)

    @property
    def held_out(self) -> int:
        """Rows that the policy is valued on."""
        return self.rows - self.learned


class LogReader:
    """Reads a log as its mapping says: once to know it, then to feed it.

    Parameters
    ----------
    path
        CSV (also gzip), Parquet or Avro.
    """

    def __init__(self, path: Path, mapping: LogMapping) -> None:
        self._path = path
        self._mapping = mapping
        self._known = (
            None if mapping.templates is None else frozenset(t.id for t in mapping.templates)
        )
        self._sorted = False

    def scan(self) -> LogSummary:
        """Read the log once.

        Raises
        ------
        MappingError
            If it cannot be read, too many rows are bad, it is out of order and too long to be
            sorted here, or cannot be split by time.
        """
        times = array("q")
        rewarded: list[tuple[int, str]] = []
        users: set[int] = set()
        actions: set[str] = set()
        bad: list[str] = []
        counts = PropensityCounts()
        total = n_bad = skipped = 0
        disorder: int | None = None
        for number, row in self._rows():
            total += 1
            if row is None:
                skipped += 1
            elif isinstance(row, BadRow):
                n_bad += 1
                if len(bad) < REPORTED:
                    bad.append(f"{self._path}:{number}: {row}")
            else:
                if times and row.at_ms < times[-1] and disorder is None:
                    disorder = number
                times.append(row.at_ms)
                rewarded += [(row.at_ms, reward.kind) for reward in row.rewards]
                users.add(id_hash(row.user_id))
                actions.add(row.action)
                if self._mapping.propensity.kind == ESTIMATED:
                    counts.add(row.user_id, row.stratum, row.action)
        self._check(len(times), total, n_bad, bad, disorder)
        if disorder is not None:
            times = array("q", sorted(times))
        self._sorted = disorder is None
        split_at_ms, learned = self._split(times)
        return LogSummary(
            rows=len(times),
            users=len(users),
            first_ms=times[0],
            last_ms=times[-1],
            split_at_ms=split_at_ms,
            learned=learned,
            actions=tuple(sorted(actions)),
            feedback=Counter(kind for _, kind in rewarded),
            learned_feedback=Counter(kind for at_ms, kind in rewarded if at_ms < split_at_ms),
            bad=n_bad,
            bad_rows=tuple(bad),
            skipped=skipped,
            disorder=disorder,
            propensities=counts,
        )

    def rows(self) -> Iterator[LogRow]:
        """The good rows in order of time; `scan` comes first."""
        good = (row for _, row in self._rows() if isinstance(row, LogRow))
        if self._sorted:
            return good
        return iter(sorted(good, key=lambda row: (row.at_ms, row.number)))

    def _check(self, n: int, total: int, n_bad: int, bad: list[str], disorder: int | None) -> None:
        most = self._mapping.bad_rows
        if n_bad > most * total:
            raise MappingError(
                f"{n_bad} of {total} rows cannot be read, at most {100 * most:g} % may be bad: "
                f"{'; '.join(bad)}: mend them, or raise `bad_rows` in {self._mapping.file}"
            )
        if n == 0:
            raise MappingError(
                f"{self._path} has no rows to read: check the file, and `where` in "
                f"{self._mapping.file}"
            )
        if disorder is not None and n > MOST_SORTED:
            raise MappingError(
                f"{self._path}:{disorder}: earlier than the row before it, and {n} rows are too "
                f"many to be sorted here (at most {MOST_SORTED}): sort the log by "
                f"{self._mapping.time.column}"
            )

    def _split(self, times: "array[int]") -> tuple[int, int]:
        """The time from which rows are held out, and how many come before: ties stay together."""
        at_ms = times[min(int(self._mapping.split * len(times)), len(times) - 1)]
        learned = bisect_left(times, at_ms)
        if learned == 0:
            raise MappingError(
                f"{self._path}: {100 * self._mapping.split:g} % of its {len(times)} rows cannot be "
                f"told from the rest by {self._mapping.time.column}, too many have the same time: "
                "map a finer time, or set another `split`"
            )
        return at_ms, learned

    def _rows(self) -> Iterator[tuple[int, LogRow | BadRow | None]]:
        """Every row with its number; None for one that `where` leaves out."""
        mapping = self._mapping
        raws = raw_rows(self._path, mapping.format, mapping.columns, mapping.places)
        for number, raw in raws:
            if isinstance(raw, BadRow):
                yield number, raw
                continue
            if any(text_of(raw[name]) not in values for name, values in mapping.where.items()):
                yield number, None
                continue
            try:
                yield number, self._row(number, raw)
            except (GroundswellError, ValueError, OverflowError) as error:
                yield number, BadRow(error)

    def _row(self, number: int, raw: RawRow) -> LogRow:
        mapping = self._mapping
        at_ms = time_of(raw, mapping.time)
        check_time(mapping.time.column, at_ms)
        action = text_of(raw[mapping.action])
        check_text(mapping.action, action, 128)
        if self._known is not None and action not in self._known:
            raise ValueError(f"{mapping.action} {action!r} is none of the templates")
        odds: dict[str, float] = {}
        propensity = propensity_of(raw, mapping.propensity.column)
        if mapping.propensity.columns:
            odds = probabilities_of(raw, mapping.propensity.columns, action)
            propensity = odds[action]
        return LogRow(
            number,
            at_ms,
            self._user(number, raw),
            action,
            tuple(
                reward
                for column in mapping.rewards
                if (reward := reward_of(raw, column, at_ms)) is not None
            ),
            propensity,
            {each.name: attribute_of(raw, each) for each in mapping.attributes},
            "\0".join(text_of(raw[column]) for column in mapping.propensity.by),
            odds,
            wave_of(raw, mapping.propensity.wave),
        )

    def _user(self, number: int, raw: RawRow) -> str:
        columns = self._mapping.user
        if not columns:
            return f"row-{number}"
        values = [text_of(raw[column]) for column in columns]
        if len(values) > 1:
            return fallback_id(*values)
        check_text(columns[0], values[0], 256)
        return values[0]
