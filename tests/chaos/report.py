"""The report of `make chaos`: a row for each fault, as JSON and as one table at the end."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.table import Table

from tests.bench.figures import BUILD, Figure

ROWS: list["Row"] = []  # of this session, for the table at its end


@dataclass(kw_only=True)
class Row:
    """What a fault did to a deployment, beside the truth."""

    fault: str
    injected: int = 0
    events: int = 0
    decisions: int = 0
    rewards: int = 0
    lost: int = 0
    doubled: int = 0
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def compare(self, what: str, truth: int, found: int) -> None:
        """Count a difference."""
        self.lost += max(truth - found, 0)
        self.doubled += max(found - truth, 0)
        if truth != found:
            self.notes.append(f"{what}: truth {truth}, found {found}")

    def compare_each(self, what: str, truth: dict[str, int], found: dict[str, int]) -> None:
        """Count the differences key by key."""
        for key in truth.keys() | found.keys():
            self.compare(f"{what} {key}", truth.get(key, 0), found.get(key, 0))

    @property
    def failures(self) -> list[str]:
        """What does not hold."""
        bars = [
            f"{figure.name}: {figure.value:g} {figure.unit}, bar {figure.bar}"
            for figure in self.figures
            if figure.holds is False
        ]
        if self.lost or self.doubled:
            bars.append(f"{self.lost} lost, {self.doubled} doubled: {self.notes[:10]}")
        return bars

    def check(self) -> None:
        """Fail where a bar does not hold."""
        assert not self.failures, f"{self.fault}: {'; '.join(self.failures)}"

    def keep(self) -> None:
        """Write `build/chaos/*.json`, remember it for the table, and fail where a bar fails."""
        ROWS.append(self)
        slug = re.sub(r"[^a-z0-9]+", "-", self.fault.lower()).strip("-")[:70]
        path = BUILD / "chaos" / f"{slug}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        given = {**asdict(self), "holds": not self.failures, "notes": self.notes[:20]}
        path.write_text(json.dumps(given, indent=2) + "\n")
        self.check()


def at_most(name: str, value: float, unit: str, bar: float) -> Figure:
    """A figure that may not be greater than its bar."""
    return Figure(name=name, value=value, unit=unit, bar=f"<= {bar:g}", holds=value <= bar)


def at_least(name: str, value: float, unit: str, bar: float) -> Figure:
    """A figure that may not be less than its bar."""
    return Figure(name=name, value=value, unit=unit, bar=f">= {bar:g}", holds=value >= bar)


def seen(name: str, value: float, unit: str) -> Figure:
    """A figure without a bar."""
    return Figure(name=name, value=value, unit=unit)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title="chaos", title_justify="left", show_lines=True)
    for column in ("fault", "faults", "events", "decisions", "rewards", "lost", "doubled"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    table.add_column("figures")
    table.add_column("holds")
    for row in rows:
        numbers = (row.injected, row.events, row.decisions, row.rewards, row.lost, row.doubled)
        table.add_row(
            row.fault,
            *(f"{number:,}" for number in numbers),
            "\n".join(_told(figure) for figure in row.figures),
            "NO" if row.failures else "yes",
        )
    Console(width=180).print(table)


def _told(figure: Figure) -> str:
    bar = "" if figure.bar is None else f" ({figure.bar}{'' if figure.holds else ': NO'})"
    return f"{figure.name}: {figure.value:,.4g} {figure.unit}{bar}"
