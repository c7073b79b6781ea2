"""Measured figures with their bars: a table to read, a file to keep."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "write_figures"]

BUILD = Path(__file__).parents[2] / "build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure; `ratio` is its value over its peer's, `holds` whether it meets its bar."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    bar: str | None = None
    holds: bool | None = None


def write_figures(command: str, name: str, figures: Sequence[Figure]) -> None:
    """Print the figures, and keep them as ``build/<command>/<name>.json``."""
    table = Table(title=name, title_justify="left")
    for column in ("name", "value", "unit", "peer", "peer value", "ratio", "bar", "holds"):
        table.add_column(column, overflow="fold")
    for figure in figures:
        table.add_row(*(_cell(value) for value in asdict(figure).values()))
    Console(width=140).print(table)
    path = BUILD / command / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
