"""How a demo goes, live in a terminal, line by line elsewhere."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from streams.simulation.wave_figures import Mean, WaveFigures

__all__ = ["Screen", "waves_table"]


Column = tuple[str, Callable[[WaveFigures], str]]

REALISED: Sequence[Column] = (
    ("wave", lambda wave: str(wave.wave)),
    ("sends", lambda wave: f"{wave.sends:,}"),
    ("clicks", lambda wave: f"{wave.feedback.get('click', 0):,}"),
    ("purchases", lambda wave: f"{wave.feedback.get('purchase', 0):,}"),
    ("policy\nrealised", lambda wave: _mean(wave.policy_realised)),
    ("baseline\nrealised", lambda wave: _mean(wave.baseline_realised)),
)
EXPECTED: Sequence[Column] = (
    ("policy\nexpected", lambda wave: f"[bold]{wave.policy:.4f}[/]"),
    ("uniform", lambda wave: f"{wave.uniform:.4f}"),
    ("best\nsingle", lambda wave: f"{wave.best_single:.4f}"),
    ("oracle", lambda wave: f"{wave.oracle:.4f}"),
    ("of\noracle", lambda wave: f"{100 * wave.of_oracle:.1f} %"),
)
WIDE = 118  # what all columns need
CAPTION = (
    "realised: what the sends earned, with 95 % intervals; expected: the truth under the logged "
    "probabilities, of the same people\n"
)


class Screen:
    """Shows phases and waves.

    Parameters
    ----------
    console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic() - _process_age_s()

    @property
    def seconds(self) -> float:
        """Since the process began."""
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[str], None]]:
        """Show a phase while it lasts, then its seconds; yields what tells its state."""
        began = time.monotonic()
        with self._progress(BarColumn(pulse_style="blue")) as progress:
            task = progress.add_task(name, total=None, state="")

            def say(state: str) -> None:
                progress.update(task, state=state)

            yield say
        self._line(name, began, "")

    @contextmanager
    def wave(self, number: int, waves: int, expected: int) -> Iterator["WaveLine"]:
        """Show a wave while it lasts, then what came of it."""
        began, name = time.monotonic(), f"wave {number} of {waves}"
        with self._progress(BarColumn()) as progress:
            task = progress.add_task(name, total=2 * expected, state="")
            line = WaveLine(lambda done, state: progress.update(task, completed=done, state=state))
            yield line
        self._line(name, began, line.result)

    def _progress(self, bar: BarColumn) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            bar,
            TextColumn("[dim]{task.fields[state]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
            refresh_per_second=5,
        )

    def _line(self, name: str, began: float, result: str) -> None:
        seconds = f"{time.monotonic() - began:5.1f} s"
        self._console.print(
            f"[dim]{self.seconds:5.1f} s[/] {name:<20} {seconds}  {result}".rstrip()
        )


class WaveLine:
    """One wave's line."""

    def __init__(self, update: Callable[[int, str], None]) -> None:
        self._update = update
        self.result = ""

    def progress(self, decided: int, closed: int, answers: Mapping[str, int]) -> None:
        """Show how far it has come."""
        self._update(
            decided + closed,
            f"{decided:,} decided, {answers.get('click', 0):,} clicks, "
            f"{answers.get('purchase', 0):,} purchases, {closed:,} closed",
        )

    def end(self, figures: WaveFigures) -> None:
        """Keep what came of it."""
        self.result = (
            f"{figures.sends:,} sends, {figures.feedback.get('click', 0):,} clicks, "
            f"{figures.feedback.get('purchase', 0):,} purchases, "
            f"{100 * figures.of_oracle:.0f} % of the oracle"
        )


def waves_table(waves: Sequence[WaveFigures], width: int) -> Group:
    """Lay the waves' figures out, in one table or, where that is too wide, in two."""
    half = len(REALISED)
    columns = [*REALISED, *EXPECTED]
    parts = [columns] if width >= WIDE else [columns[:half], [columns[0], *columns[half:]]]
    return Group("Reward per send, by wave", *(_table(part, waves) for part in parts), CAPTION)


def _table(columns: Sequence[Column], waves: Sequence[WaveFigures]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for wave in waves:
        table.add_row(*(cell(wave) for _, cell in columns))
    return table


def _mean(mean: Mean) -> str:
    """A mean with half its interval's length, which is symmetric."""
    return f"{mean.value:.3f} ± {mean.high - mean.value:.3f}" if mean.n else "none sent"


def _process_age_s() -> float:
    """How long the imports took before anything could be measured; 0 where nobody knows."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return 0.0
    return up_s - ticks / os.sysconf("SC_CLK_TCK")
