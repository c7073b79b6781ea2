"""Curves of cumulative regret with bands, one picture a world."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["draw_curves"]

WIDTH, HEIGHT = 620, 340


def draw_curves(
    folder: Path, world: str, curves: Mapping[str, np.ndarray], dashed: frozenset[str]
) -> None:
    """Draw mean cumulative regret, and 95 % bands of the mean over seeds, as SVG and PNG.

    Parameters
    ----------
    folder
        Where the picture goes.
    world
        Its name.
    curves
        Regret of each wave, (n_seeds, n_waves), by contestant.
    dashed
        The contestants that are drawn with dashes: the peers.
    """
    import altair as alt
    import vl_convert

    rows = []
    for name, regret in curves.items():
        total = regret.cumsum(axis=1)
        mean = total.mean(axis=0)
        half = (
            1.96 * total.std(axis=0, ddof=1) / np.sqrt(len(total)) if len(total) > 1 else 0 * mean
        )
        rows += [
            {
                "wave": wave,
                "contestant": name,
                "kind": "peer" if name in dashed else "ours",
                "regret": float(mean[wave - 1]),
                "low": float(mean[wave - 1] - half[wave - 1]),
                "high": float(mean[wave - 1] + half[wave - 1]),
            }
            for wave in range(1, len(mean) + 1)
        ]
    plain = alt.Legend(symbolType="square", symbolOpacity=1)  # not as faint as the bands
    colour = alt.Color("contestant:N", title=None, sort=list(curves), legend=plain)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("wave:Q", title="wave", axis=alt.Axis(tickMinStep=1)), color=colour
    )
    bands = base.mark_area(opacity=0.10).encode(
        y=alt.Y("low:Q", title="cumulative regret"),
        y2="high:Q",
    )
    lines = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("regret:Q", title="cumulative regret"),
        strokeDash=alt.StrokeDash(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=["ours", "peer"], range=[[1, 0], [6, 4]]),
        ),
    )
    chart = (bands + lines).properties(
        width=WIDTH, height=HEIGHT, title=world, background="white", padding=12
    )
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    folder.mkdir(parents=True, exist_ok=True)
    stem = world.replace(" ", "_")
    (folder / f"{stem}.svg").write_text(svg)
    (folder / f"{stem}.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))
