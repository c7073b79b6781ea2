"""The demo's pictures, as SVG and PNG."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.simulation.wave_figures import WaveFigures

__all__ = ["draw_charts"]

INK, QUIET, GRID = "#1f2933", "#616e7c", "#e4e7eb"
LINES = {  # name of a line: colour, dashes
    "oracle": ("#52606d", [6, 4]),
    "policy": ("#0b69a3", [1, 0]),
    "best single": ("#b7791f", [6, 4]),
    "uniform": ("#9aa5b1", [6, 4]),
    "baseline": ("#c05621", [1, 0]),
}
TEMPLATE_COLOURS = (
    *("#0b69a3", "#7cc4fa", "#8d2b0b", "#f29b7c", "#14803c", "#8ed081", "#6b46c1", "#c4b5fd"),
)
WIDTH, HEIGHT = 620, 300


def draw_charts(folder: Path, waves: Sequence[WaveFigures]) -> dict[str, str]:
    """Draw both pictures into a folder, each as SVG and PNG.

    Returns
    -------
    Name to the SVG's text.
    """
    import altair as alt  # noqa: PLC0415 - half a second that no other command has to wait
    import vl_convert  # noqa: PLC0415 - the same

    alt.data_transformers.disable_max_rows()
    drawn = {}
    for name, chart in {
        "reward_per_send": _rewards(alt, waves),
        "template_shares": _shares(alt, waves),
    }.items():
        svg = vl_convert.vegalite_to_svg(_styled(chart).to_dict())
        (folder / f"{name}.svg").write_text(svg)
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))
        drawn[name] = svg
    return drawn


def _rewards(alt: Any, waves: Sequence[WaveFigures]) -> Any:
    """Draw lines of what is expected, and points with intervals of what was realised."""
    lines: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for wave in waves:
        for name, value in (
            ("oracle", wave.oracle),
            ("policy", wave.policy),
            ("best single", wave.best_single),
            ("uniform", wave.uniform),
        ):
            # a line of one wave would be a point, and not be seen
            places = (wave.wave,) if len(waves) > 1 else (0.9, 1.0, 1.1)
            lines += [{"wave": place, "line": name, "reward": value} for place in places]
        for name, mean, aside in (
            ("policy", wave.policy_realised, -0.06),
            ("baseline", wave.baseline_realised, 0.06),
        ):
            if mean.n > 1:
                point = {"wave": wave.wave + aside, "line": name, "reward": mean.value}
                points.append({**point, "low": max(mean.low, 0.0), "high": mean.high})
    lines = [row for row in lines if not math.isnan(row["reward"])]
    names = list(LINES)
    colour = alt.Color(
        "line:N",
        scale=alt.Scale(domain=names, range=[LINES[name][0] for name in names]),
        legend=None,
    )
    dash = alt.StrokeDash(
        "line:N",
        scale=alt.Scale(domain=names, range=[LINES[name][1] for name in names]),
        legend=None,
    )
    last = waves[-1].wave
    x = alt.X(
        "wave:Q",
        title="wave",
        scale=alt.Scale(domain=[0.8, last + 0.2], nice=False),
        axis=alt.Axis(values=[wave.wave for wave in waves], format="d", grid=False),
    )
    y = alt.Y("reward:Q", title="reward per send", scale=alt.Scale(zero=True))
    base = alt.Chart(alt.Data(values=lines)).encode(x=x, y=y, color=colour)
    realised = alt.Chart(alt.Data(values=points)).encode(x=x, color=colour)
    labels = _apart(
        [
            *((row["line"], row["reward"]) for row in lines if row["wave"] == last),
            *(
                (row["line"], row["reward"])
                for row in points
                if row["line"] == "baseline" and round(row["wave"]) == last
            ),
        ],
        gap=0.055 * max([row["reward"] for row in lines] + [row["high"] for row in points]),
    )
    named = [{"wave": last + 0.2, "line": name, "at": at} for name, at in labels]
    return (
        base.mark_line(strokeWidth=2).encode(strokeDash=dash)
        + realised.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
            y=alt.Y("low:Q", title="reward per send"), y2="high:Q"
        )
        + realised.mark_circle(size=40, opacity=1).encode(y=y)
        + alt.Chart(alt.Data(values=named))
        .mark_text(align="left", dx=8, fontSize=12, fontWeight=600, clip=False)
        .encode(x=x, y="at:Q", text="line:N", color=colour)
    )


def _apart(labels: Sequence[tuple[str, float]], gap: float) -> list[tuple[str, float]]:
    """Move labels up until none lies on another."""
    placed: list[tuple[str, float]] = []
    for name, at in sorted(labels, key=lambda label: label[1]):
        least = placed[-1][1] + gap if placed else at
        placed.append((name, max(at, least)))
    return placed


def _shares(alt: Any, waves: Sequence[WaveFigures]) -> Any:
    """Draw how the policy's probability was shared out between the templates."""
    names = list(waves[0].shares)
    rows = [
        {"wave": wave.wave, "template": name, "share": share, "rank": rank}
        for wave in waves
        for rank, (name, share) in enumerate(wave.shares.items())
        if not math.isnan(share)
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(stroke="white", strokeWidth=1)
        .encode(
            x=alt.X(
                "wave:O", title="wave", axis=alt.Axis(labelAngle=0), scale=alt.Scale(padding=0.25)
            ),
            y=alt.Y(
                "share:Q",
                title="mean probability",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color(
                "template:N",
                title=None,
                sort=names,
                scale=alt.Scale(domain=names, range=list(TEMPLATE_COLOURS)),
            ),
            order=alt.Order("rank:Q", sort="descending"),  # as the legend has them
        )
    )


def _styled(chart: Any) -> Any:
    return (
        chart.properties(width=WIDTH, height=HEIGHT, background="white", padding=12)
        .configure(font="Helvetica, Arial, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=QUIET,
            titleColor=INK,
            gridColor=GRID,
            domainColor=GRID,
            tickColor=GRID,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=10,
        )
        .configure_legend(labelColor=INK, labelFontSize=12, symbolType="square")
    )
