"""``groundswell replay``: learn from a company's own history, and value what was learned."""

import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from schemas.hashing import seed_of
from streams.commands.connect import connect
from streams.commands.log_mapping_file import read_mapping
from streams.core.encoding import action_set
from streams.core.evaluation import Estimate
from streams.core.evaluation.held_out import HeldOut, Valuation, value_held_out
from streams.core.snapshots import policy_of
from streams.kafka.cluster import cluster_of
from streams.settings import load_settings
from streams.simulation.figures import Figure, write_figures
from streams.simulation.log_deployment import Deployment
from streams.simulation.log_feed import Prepared, Replayed, prepare
from streams.simulation.log_mapping import ESTIMATED, LogMapping
from streams.simulation.replay import log_prefix
from streams.simulation.replay import replay as replay_log
from streams.simulation.valuation_chart import draw_valuation

__all__ = ["replay"]

INTERRUPTED = 130


def replay(
    log: Annotated[
        Path, typer.Argument(help="CSV (also gzip), Parquet or Avro: a row a decision.")
    ],
    mapping: Annotated[Path, typer.Option(help="YAML that says what its columns mean.")],
    bootstrap: Annotated[
        str | None,
        typer.Option(help="Kafka's address; without it one is started for the replay."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    partitions: Annotated[
        int, typer.Option(min=1, max=4096, help="User shards: equal ones give equal snapshots.")
    ] = 4,
    prefix: Annotated[
        str | None, typer.Option(help="Of its topics; else made of the log and the mapping.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave its topics on the Kafka.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete topics of the same prefix first.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the figures and logs.")] = Path(
        "build/replay"
    ),
) -> None:
    """Replay a log of decisions through the topics, learn from its first part, value on the rest.

    Nothing is sent. IPS and SNIPS say what the learned policy would have earned on the part of
    the log that it has not seen, and whether the log is large enough to tell. Where the log's own
    policy learned meanwhile, map the probabilities of all actions and its versions
    (`propensity: {columns: {ACTION: COLUMN}, wave: COLUMN}`): adaptive DR has the right intervals.

    Example: groundswell replay log.csv --mapping mapping.yaml
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: sys.exit(128 + got))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=None if sys.stdout.isatty() else 110)
    os.environ.pop("GROUNDSWELL_REGISTRY", None)  # its topics are its own: with plain schema ids
    columns = read_mapping(mapping)
    prefix = load_settings(topic_prefix=prefix or log_prefix(log, mapping)).topic_prefix
    deployment = _deployment(bootstrap, prefix, partitions)
    prepared = prepare(log, columns)
    for line in _remarks(prepared):
        console.print(line)
    try:
        replayed = _with_progress(
            console,
            prepared,
            deployment,
            prefix=prefix,
            logs=out / columns.name,
            workers=workers,
            users=partitions,
            keep=keep,
            replace=replace,
        )
    except KeyboardInterrupt:
        console.print("stopped: all that was started has ended")
        raise typer.Exit(INTERRUPTED) from None
    valuation = _value(replayed)
    write_figures(out / f"{columns.name}.json", _figures(replayed, valuation))
    console.print(_table(columns, replayed, valuation))
    console.print(_verdict(columns, valuation))
    if draw_valuation(out / f"{columns.name}.svg", columns.name, valuation):
        console.print(f"Figures: {out / columns.name}.json, picture: {out / columns.name}.svg")
    else:
        console.print(f"Figures: {out / columns.name}.json")


def _deployment(bootstrap: str | None, prefix: str, partitions: int) -> Deployment | None:
    if bootstrap is None:
        return None
    settings = connect(bootstrap)
    return Deployment(
        cluster=cluster_of(settings),
        prefix=prefix,
        users=partitions,
        replication=settings.replication,
        min_insync=settings.min_insync,
    )


def _with_progress(
    console: Console, prepared: Prepared, deployment: Deployment | None, **given: object
) -> Replayed:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=prepared.summary.rows)

        def progress(what: str, rows: int) -> None:
            bar.update(task, description=what, completed=rows)

        return replay_log(prepared, deployment, progress=progress, **given)  # type: ignore[arg-type]


def _value(replayed: Replayed) -> Valuation:
    actions = action_set(replayed.campaign)
    held_out = HeldOut.of(replayed.held_out, actions)
    policy = policy_of(replayed.learned)
    rng = np.random.default_rng(seed_of(replayed.campaign.campaign_id, "held-out"))
    return value_held_out(policy, actions, held_out, rng)


def _remarks(prepared: Prepared) -> list[str]:
    """What is odd about the log."""
    summary, lines = prepared.summary, []
    if summary.disorder is not None:
        lines.append(
            f"The log is not in order of time (first at line {summary.disorder}): it was sorted."
        )
    if summary.bad:
        lines.append(f"{summary.bad:,} rows cannot be read and are left out, the first:")
        lines += [f"  {row}" for row in summary.bad_rows]
    if summary.skipped:
        lines.append(f"{summary.skipped:,} rows are left out, as the mapping's `where` says.")
    return lines


def _table(mapping: LogMapping, replayed: Replayed, valuation: Valuation) -> Table:
    summary, learned = replayed.summary, replayed.learned
    table = Table(title=f"Replay of {mapping.name}", title_justify="left", show_header=False)
    table.add_column("what", style="bold")
    table.add_column("figure")
    table.add_row("rows", f"{summary.rows:,}")
    whose = "" if mapping.user else ", as many as rows: the log does not tell them apart"
    table.add_row("users", f"{summary.users:,}{whose}")
    table.add_row("span", f"{_date(summary.first_ms)} to {_date(summary.last_ms)}")
    table.add_row("feedback", _counts(summary.feedback))
    table.add_row("actions", f"{len(replayed.campaign.templates):,}")
    table.add_row("propensities", valuation.propensity_kind)
    table.add_row(
        "learned",
        f"{learned.examples:,} decisions before {_date(summary.split_at_ms)}, "
        f"with {_counts(learned.feedback)}",
    )
    table.add_row("held out", f"{valuation.n:,} decisions, {valuation.rewarded:,} with a reward")
    table.add_row("the log's own policy", _estimate(valuation.logging))
    for name, estimate in _estimates(valuation):
        if estimate is not None:
            table.add_row(
                f"learned policy, {name}",
                f"{_estimate(estimate)}, worth {estimate.effective_sample_size:,.0f} decisions, "
                f"largest weight {estimate.max_weight:.1f}",
            )
    return table


def _estimates(valuation: Valuation) -> list[tuple[str, Estimate | None]]:
    return [
        ("IPS", valuation.ips),
        ("SNIPS", valuation.snips),
        ("adaptive DR", valuation.adaptive),
    ]


def _verdict(mapping: LogMapping, valuation: Valuation) -> str:
    if valuation.diagnosis is None:
        return valuation.refusal or ""
    sentence = valuation.diagnosis.sentence
    if valuation.propensity_kind == ESTIMATED:
        told = " and ".join(mapping.propensity.by) or "nothing"
        sentence += (
            " The propensities are estimated: this holds as far as the log's system told apart "
            f"{told}, and drew at random otherwise."
        )
    return sentence


def _figures(replayed: Replayed, valuation: Valuation) -> list[Figure]:
    summary, logged = replayed.summary, valuation.logging
    kind = f"{valuation.propensity_kind} propensities"
    figures = [
        Figure(name="rows", value=float(summary.rows), unit="rows"),
        Figure(name="users", value=float(summary.users), unit="users"),
        Figure(name="bad rows", value=float(summary.bad), unit="rows"),
        Figure(name="span", value=(summary.last_ms - summary.first_ms) / 86_400_000, unit="days"),
        Figure(name="learned", value=float(replayed.learned.examples), unit="decisions"),
        Figure(name="held out", value=float(valuation.n), unit="decisions"),
        Figure(name="held out with a reward", value=float(valuation.rewarded), unit="decisions"),
        *(
            Figure(name=f"feedback: {feedback}", value=float(count), unit="rewards")
            for feedback, count in sorted(summary.feedback.items())
        ),
        *_estimate_figures("logging policy", logged, "reward a decision"),
    ]
    for name, estimate in _estimates(valuation):
        if estimate is None:
            continue
        figures += _estimate_figures(name, estimate, f"reward a decision, {kind}", logged.value)
        figures += [
            Figure(
                name=f"{name} effective sample size",
                value=estimate.effective_sample_size,
                unit="decisions",
            ),
            Figure(name=f"{name} largest weight", value=estimate.max_weight, unit="weight"),
        ]
    if valuation.diagnosis is not None:
        figures.append(
            Figure(
                name="lift",
                value=valuation.diagnosis.lift,
                unit="reward a decision",
                bar=f"verdict: {valuation.diagnosis.verdict}",
            )
        )
    return figures


def _estimate_figures(
    name: str, estimate: Estimate, unit: str, peer: float | None = None
) -> list[Figure]:
    return [
        Figure(
            name=name,
            value=estimate.value,
            unit=unit,
            peer=None if peer is None else "logging policy",
            peer_value=peer,
            ratio=estimate.value / peer if peer else None,
        ),
        Figure(name=f"{name}, 95 % low", value=estimate.low, unit=unit),
        Figure(name=f"{name}, 95 % high", value=estimate.high, unit=unit),
    ]


def _estimate(estimate: Estimate) -> str:
    return (
        f"{estimate.value:.5g} a decision ({100 * estimate.confidence:g} %: "
        f"{estimate.low:.5f} to {estimate.high:.5f})"
    )


def _counts(feedback: object) -> str:
    assert hasattr(feedback, "items")
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(feedback.items())) or "none"


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
