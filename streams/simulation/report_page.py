"""The demo's report: one page with its pictures in it."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from streams.simulation.figures import Figure
from streams.simulation.outcome import OF_ORACLE, OVER_SINGLE, Outcome
from streams.simulation.wave_figures import Mean, WaveFigures

__all__ = ["write_report"]

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 Helvetica, Arial, sans-serif; color: #1f2933; background: #f5f7fa;
       margin: 0; }
main { max-width: 900px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 0 0 4px; }
p { margin: 4px 0 12px; }
.quiet { color: #616e7c; }
.card { background: white; border: 1px solid #e4e7eb; border-radius: 8px; padding: 20px;
        margin-top: 20px; overflow-x: auto; }
.card svg { max-width: 100%; height: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 16px;
         margin-top: 20px; }
.tile { background: white; border: 1px solid #e4e7eb; border-radius: 8px; padding: 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.3; }
.yes { color: #14803c; } .no { color: #b42318; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
        font-size: 14px; }
th { text-align: right; font-weight: 600; color: #616e7c; }
td { text-align: right; white-space: nowrap; }
th, td { padding: 6px 8px; border-bottom: 1px solid #e4e7eb; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; white-space: normal; }
"""


def write_report(
    path: Path,
    outcome: Outcome,
    *,
    seed: int,
    people: int,
    figures: Sequence[Figure],
    pictures: Mapping[str, str],
) -> None:
    """Write the page, which needs nothing but itself.

    Parameters
    ----------
    pictures
        SVG by name, as `draw_charts` gives them.
    """
    verdict = "".join(f"<p>{escape(line)}</p>" for line in outcome.verdict())
    waves = len(outcome.waves)
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Groundswell: a campaign in {waves} wave{"s" * (waves > 1)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>A campaign in {waves} wave{"s" * (waves > 1)}</h1>
<p class="quiet">Groundswell on a simulated company of {people:,} people, seed {seed}, on a real
Kafka. Every number on this page was computed from what stood on the bus.</p>
<div class="tiles">{_tiles(outcome)}</div>
<div class="card">{verdict}</div>
<div class="card">
<h2>Reward per send</h2>
<p class="quiet">Lines: the expectation under the truth, for the people that the policy sent to;
the policy's under the probabilities that it logged. Points: what its sends, and the baseline's
({escape(_baseline(outcome))}), happened to earn, with 95&nbsp;% intervals.</p>
{pictures["reward_per_send"]}
</div>
<div class="card">
<h2>What the policy sends</h2>
<p class="quiet">The mean probability of each template, floor included.</p>
{pictures["template_shares"]}
</div>
<div class="card">
<h2>Wave by wave</h2>
{_waves_table(outcome.waves)}
</div>
<div class="card">
<h2>All figures</h2>
{_figures_table(figures)}
</div>
</main>
</body>
</html>
"""
    )


def _baseline(outcome: Outcome) -> str:
    return f"{sum(wave.baseline_realised.n for wave in outcome.waves):,} sends of one template"


def _tiles(outcome: Outcome) -> str:
    last = outcome.last
    tiles = (
        (
            f"{last.over_single:.2f}&nbsp;x",
            f"the best single template, in the last wave (bar: {OVER_SINGLE:.2f})",
            last.over_single >= OVER_SINGLE,
        ),
        (
            f"{100 * last.of_oracle:.1f} %",
            f"of the oracle, in the last wave (bar: {100 * OF_ORACLE:.0f} %)",
            last.of_oracle >= OF_ORACLE,
        ),
        (
            f"{last.over_uniform:.2f}&nbsp;x",
            "a random template, in the last wave",
            None,
        ),
        (
            f"{outcome.repeated}",
            "decisions or outcomes committed twice (bar: 0)",
            outcome.repeated == 0,
        ),
    )
    return "".join(
        f'<div class="tile"><b class="{_class(holds)}">{value}</b>{escape(what)}</div>'
        for value, what, holds in tiles
    )


def _class(holds: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[holds]


def _waves_table(waves: Sequence[WaveFigures]) -> str:
    head = (
        *("wave", "sends", "clicks", "purchases", "policy, realised", "baseline, realised"),
        *("policy", "uniform", "best single", "oracle", "of oracle"),
    )
    rows = (
        (
            str(wave.wave),
            f"{wave.sends:,}",
            f"{wave.feedback.get('click', 0):,}",
            f"{wave.feedback.get('purchase', 0):,}",
            _mean(wave.policy_realised),
            _mean(wave.baseline_realised),
            f"<b>{wave.policy:.4f}</b>",
            f"{wave.uniform:.4f}",
            f"{wave.best_single:.4f}",
            f"{wave.oracle:.4f}",
            f"{100 * wave.of_oracle:.1f} %",
        )
        for wave in waves
    )
    return _table(head, rows)


def _mean(mean: Mean) -> str:
    if not mean.n:
        return "none sent"
    return f"{mean.value:.3f} ± {mean.high - mean.value:.3f}"


def _figures_table(figures: Sequence[Figure]) -> str:
    rows = (
        (
            escape(figure.name),
            _number(figure.value),
            escape(figure.unit),
            escape(figure.peer or ""),
            _number(figure.peer_value),
            _number(figure.ratio),
            escape(figure.bar or ""),
            "" if figure.holds is None else _answer(figure.holds),
        )
        for figure in figures
    )
    return _table(("figure", "value", "unit", "peer", "peer's", "ratio", "bar", "holds"), rows)


def _answer(holds: bool) -> str:
    return f'<span class="{_class(holds)}">{"yes" if holds else "no"}</span>'


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
