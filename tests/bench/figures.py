"""Where the benches keep their figures."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from streams.simulation import figures as writer
from streams.simulation.figures import Figure

__all__ = ["Figure", "write_figures"]

BUILD = Path(__file__).parents[2] / "build"


def write_figures(command: str, name: str, figures: Sequence[Figure]) -> None:
    """Print the figures, and keep them as ``build/<command>/<name>.json``."""
    Console(width=140).print(writer.figures_table(name, figures))
    writer.write_figures(BUILD / command / f"{name}.json", figures)
