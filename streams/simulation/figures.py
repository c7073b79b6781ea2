"""Measured figures with their bars: a table to read, a file to keep."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

__all__ = ["Figure", "figures_table", "write_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure; `ratio` is its value over its peer's, `holds` whether it meets its bar."""

    name: str
    value: float | None
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None


def figures_table(title: str, figures: Sequence[Figure]) -> Table:
    """Lay figures out for the terminal."""
    table = Table(title=title, title_justify="left")
    for column in ("name", "value", "unit", "peer", "peer value", "ratio", "bar", "holds"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(*(_cell(value) for value in asdict(figure).values()))
    return table


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Keep figures as a JSON list of objects; what is no number is null."""
    rows = [{name: _json(value) for name, value in asdict(figure).items()} for figure in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")


def _json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
