"""``groundswell demo``: a campaign that learns, from nothing to its report, on this machine."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from streams.commands.demo_run import DemoOptions, DemoRun
from streams.commands.demo_screen import Screen, waves_table
from streams.simulation.charts import draw_charts
from streams.simulation.figures import write_figures
from streams.simulation.report_page import write_report
from streams.simulation.world import FEWEST_PEOPLE

__all__ = ["demo"]

INTERRUPTED = 130
WIDTH = 120  # where no terminal tells


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Of the company and its people.")] = 1,
    waves: Annotated[int, typer.Option(min=1, max=100, help="Of the campaign.")] = 6,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 1,
    encoder: Annotated[
        bool,
        typer.Option(
            "--encoder", help="Put the sample encoder's z behind the columns of the context."
        ),
    ] = False,
    people: Annotated[int, typer.Option(min=FEWEST_PEOPLE, hidden=True)] = 20_000,
    out: Annotated[Path, typer.Option(hidden=True)] = Path("build/demo"),
) -> None:
    """Run a campaign on a simulated company, with a Kafka, workers and people of its own.

    Ends with a table, a report page and result.json in build/demo, and with 1 where a bar does
    not hold. Everything that it starts ends with it.

    Example: groundswell demo --seed 7 --waves 6 --workers 2
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda got, _frame: sys.exit(128 + got))
    # What the broker and its clients have to say is told by the screen.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    screen = Screen(console)
    options = DemoOptions(
        seed=seed, waves=waves, workers=workers, people=people, out=out, encoder=encoder
    )
    try:
        outcome = DemoRun(options, screen).run()
    except KeyboardInterrupt:
        console.print("stopped: everything that was started has ended")
        raise typer.Exit(INTERRUPTED) from None
    with screen.phase("report is drawn"):
        pictures = draw_charts(out, outcome.waves)
    figures = outcome.figures(screen.seconds)
    write_figures(out / "result.json", figures)
    write_report(
        out / "report.html", outcome, seed=seed, people=people, figures=figures, pictures=pictures
    )
    console.print(waves_table(outcome.waves, console.width))
    for line in outcome.verdict():
        console.print(line)
    console.print(f"{screen.seconds:.1f} s in all. Report: {out}/report.html, {out}/result.json")
    if not outcome.holds:
        raise typer.Exit(1)
