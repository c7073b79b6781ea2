"""A policy's value beside the logging policy's, as a picture."""

from pathlib import Path

from streams.core.evaluation.held_out import Valuation

__all__ = ["draw_valuation"]

INK, QUIET = "#1f2933", "#616e7c"
WIDTH = 520


def draw_valuation(path: Path, name: str, valuation: Valuation) -> bool:
    """Draw values with their intervals as SVG; False where there is nothing to compare."""
    if valuation.ips is None or valuation.snips is None or valuation.diagnosis is None:
        return False
    import altair as alt  # noqa: PLC0415 - half a second that no other command has to wait
    import vl_convert  # noqa: PLC0415 - the same

    rows = [
        {"what": what, "value": estimate.value, "low": estimate.low, "high": estimate.high}
        for what, estimate in (
            ("the log's own policy", valuation.logging),
            ("learned policy, IPS", valuation.ips),
            ("learned policy, SNIPS", valuation.snips),
            ("learned policy, adaptive DR", valuation.adaptive),
        )
        if estimate is not None
    ]
    base = alt.Chart(
        alt.Data(values=rows),
        title=alt.TitleParams(
            f"{name}: reward a decision, with 95 % intervals",
            subtitle=(
                f"{valuation.n:,} held-out decisions, {valuation.rewarded:,} with a reward, "
                f"{valuation.propensity_kind} propensities: "
                f"{valuation.diagnosis.verdict.replace('-', ' ')}"
            ),
            anchor="start",
            color=INK,
            subtitleColor=QUIET,
        ),
        width=WIDTH,
        height=120,
    ).encode(
        y=alt.Y("what:N", title=None, sort=None),
        color=alt.condition(
            'datum.what == "the log\'s own policy"', alt.value(QUIET), alt.value("#0b69a3")
        ),
    )
    chart = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="reward a decision", scale=alt.Scale(zero=False)), x2="high:Q"
    ) + base.mark_circle(size=90, opacity=1).encode(x="value:Q")
    styled = chart.configure_view(strokeWidth=0).configure_axis(
        labelColor=INK, titleColor=QUIET, labelLimit=200, domain=False
    )
    path.write_text(vl_convert.vegalite_to_svg(styled.to_dict()))
    return True
