"""The evaluation report: figures as JSON, a page, and the learning curves as a picture."""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encoder.profile.evaluate import Evaluation

__all__ = ["ablation_table", "draw_curves", "write_report"]

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;"
    "color:#1f2933}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .9rem;"
    "border-bottom:1px solid #e4e7eb;text-align:right}"
    "th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}p{color:#616e7c}"
)

EXPLAINED = (
    "An AUC of 0.5 is chance. The logistic regressions have coefficients of their own for each "
    "template, and a penalty that is chosen on the validation rows."
)


def draw_curves(folder: Path, history: Sequence[Mapping[str, float]], best_epoch: int) -> str:
    """Draw each loss by epoch, on training and validation rows, as SVG and PNG; the SVG's text."""
    import altair as alt  # noqa: PLC0415  # half a second that only a report has to wait
    import vl_convert  # noqa: PLC0415  # the same

    rows = [
        {
            "epoch": epoch,
            "rows": "validation" if name.startswith("valid ") else "training",
            "loss": name.partition(" ")[2].replace("_", " "),
            "value": value,
        }
        for epoch, losses in enumerate(history, start=1)
        for name, value in losses.items()
    ]
    lines = (
        alt.Chart()
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, title="epoch")),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "rows:N",
                scale=alt.Scale(domain=["training", "validation"], range=["#9aa5b1", "#0b69a3"]),
                legend=alt.Legend(orient="top", title=None),
            ),
        )
        .properties(width=250, height=140)
    )
    rule = alt.Chart().mark_rule(color="#c05621", strokeDash=[4, 4]).encode(x="kept:Q")
    chart = (
        alt.layer(lines, rule, data=alt.Data(values=[{**r, "kept": best_epoch + 1} for r in rows]))
        .facet(facet=alt.Facet("loss:N", title=None), columns=2)
        .resolve_scale(y="independent")
    )
    drawn: dict[str, Any] = chart.to_dict()
    svg: str = vl_convert.vegalite_to_svg(drawn)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.svg").write_text(svg)
    (folder / "curves.png").write_bytes(vl_convert.vegalite_to_png(drawn, scale=2))
    return svg


def write_report(
    folder: Path,
    *,
    label: str,
    evaluation: Evaluation,
    ablations: Mapping[str, Mapping[str, float]] | None,
    curves: str,
    facts: Mapping[str, object],
) -> None:
    """Write ``report.json`` and ``report.html``.

    Parameters
    ----------
    ablations
        As `encoder.profile.evaluate.ablations` gives them; None where it was not asked for.
    curves
        SVG of the learning curves.
    facts
        What else is worth telling, by name.
    """
    metrics = evaluation.metrics()
    found = {"encoder": label, "metrics": metrics, "ablations": ablations, "facts": dict(facts)}
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    parts = [
        f"<h1>{html.escape(label)}</h1>",
        _table([["", *facts], ["", *(str(value) for value in facts.values())]]),
        "<h2>What is foreseen of the newest decisions (AUC)</h2>",
        _table(
            [
                ["task", "the encoder's head", "linear probe on z", "logistic on hashed features"],
                *(
                    [task, *(f"{kinds[kind]:.4f}" for kind in ("head", "probe", "hashed"))]
                    for task, kinds in evaluation.tasks.items()
                ),
            ]
        ),
        f"<p>{EXPLAINED}</p>",
        "<h2>The rest</h2>",
        _table(
            [
                ["figure", "value"],
                *(
                    [name, f"{value:.4f}"]
                    for name, value in metrics.items()
                    if not name.endswith((" head", " probe", " hashed"))
                ),
            ]
        ),
    ]
    if ablations:
        parts += [
            "<h2>Without its parts (AUC, and what is lost or won beside the full model)</h2>",
            _table(ablation_table(ablations)),
        ]
    parts += ["<h2>Learning curves</h2>", curves]
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(label)}</title>"
    (folder / "report.html").write_text(f"{page}<style>{STYLE}</style>{''.join(parts)}\n")


def ablation_table(ablations: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows of cells, a head first: each variant's AUCs, and how far they are from the first's."""
    full = next(iter(ablations.values()))
    rows = [["variant", *full]]
    for name, aucs in ablations.items():
        cells = []
        for column, value in full.items():
            apart = f" ({aucs[column] - value:+.4f})" if aucs is not full and column in aucs else ""
            cells.append(f"{aucs[column]:.4f}{apart}" if column in aucs else "-")
        rows.append([name, *cells])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in body
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"
