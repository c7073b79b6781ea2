"""The report of an encoder: figures, the parts left out, and the learning curves as a picture."""

# torch is of an extra: where it is missing nothing here can be imported

import json

import pytest

pytest.importorskip("torch", reason="training needs the extra: encoder")

from encoder.profile.evaluate import Evaluation
from encoder.profile.report import ablation_table, draw_curves, write_report

HISTORY = [
    {"train clicked": 0.7 - 0.1 * n, "valid clicked": 0.69 - 0.05 * n, "train tokens": 1.3 - n / 9}
    for n in range(4)
]
JUDGED = Evaluation(
    tasks={"clicked": {"head": 0.71, "probe": 0.705, "hashed": 0.68}},
    tokens=0.9,
    numbers=float("nan"),
    next_event={"foreseen": 0.8, "most common": 0.6},
    cold=0.55,
)
PARTS = {
    "full model": {"clicked head": 0.71, "purchased head": 0.66},
    "without multi-task": {"clicked head": 0.7},
}


def test_each_variant_is_told_beside_the_full_model():
    assert ablation_table(PARTS) == [
        ["variant", "clicked head", "purchased head"],
        ["full model", "0.7100", "0.6600"],
        ["without multi-task", "0.7000 (-0.0100)", "-"],
    ]


def test_learning_curves_are_a_picture_of_each_loss(tmp_path):
    svg = draw_curves(tmp_path / "made", HISTORY, best_epoch=2)
    assert (tmp_path / "made" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "made" / "curves.svg").read_text() == svg
    for words in ("clicked", "tokens", "validation", "epoch"):
        assert words in svg, words


def test_the_report_has_every_figure_and_hides_no_markup(tmp_path):
    write_report(
        tmp_path,
        label="people<b>@1.0.0",
        evaluation=JUDGED,
        ablations=PARTS,
        curves="<svg id=curves></svg>",
        facts={"decisions": 1234},
    )
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["metrics"]["auc clicked hashed"] == 0.68
    assert "r2 hidden numbers" not in told["metrics"]  # nan is no JSON
    assert told["ablations"] == PARTS
    page = (tmp_path / "report.html").read_text()
    for cell in ("0.7100", "0.7050", "0.6800", "0.7000 (-0.0100)", "1234", "0.9000", "0.5500"):
        assert f"<td>{cell}</td>" in page, cell
    assert "<svg id=curves></svg>" in page
    assert "people&lt;b&gt;@1.0.0" in page


def test_a_report_without_ablations_has_no_table_of_them(tmp_path):
    write_report(tmp_path, label="people", evaluation=JUDGED, ablations=None, curves="", facts={})
    assert "Without its parts" not in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["ablations"] is None
