"""How a campaign's waves stand: figures, and the table that shows them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from schemas.campaign import Campaign
from schemas.ids import BASELINE, NO_SEND, POLICY
from schemas.learning import Tally, WaveReport

__all__ = ["Figures", "WaveFigures", "figures", "is_over", "table", "wave_figures"]

Z_95 = 1.959964  # the 97.5 % quantile of the normal distribution
MOST_ROWS = 20  # of a triggered campaign, whose waves have no end
CLICK, PURCHASE = "click", "purchase"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one group of decisions came to.

    Attributes
    ----------
    closed
        Sends whose outcome is known: what `reward` is the mean of.
    reward
        Mean reward of a send; None where no outcome is known yet.
    low, high
        Its 95 % interval, by the normal approximation; None below two outcomes.
    """

    sends: int
    closed: int
    undelivered: int
    clicks: int
    purchases: int
    reward: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFigures:
    """What one wave came to."""

    wave: int
    status: str
    policy_version: int
    decided: int
    open: int
    policy: Figures
    baseline: Figures
    reasons: dict[str, int]


def figures(tallies: Iterable[Tally]) -> Figures:
    """Sum tallies of sends: those whose action is a template."""
    sent = [tally for tally in tallies if tally.action != NO_SEND]
    closed = sum(tally.closed for tally in sent)
    total = sum(tally.reward_sum for tally in sent)
    squares = sum(tally.reward_square_sum for tally in sent)
    mean = total / closed if closed else None
    low = high = None
    if mean is not None and closed > 1:
        # s^2 = (sum r^2 - n mean^2) / (n - 1), above 0 but for rounding
        variance = max(0.0, squares - closed * mean**2) / (closed - 1)
        half = Z_95 * math.sqrt(variance / closed)
        low, high = mean - half, mean + half
    return Figures(
        sends=sum(tally.decisions for tally in sent),
        closed=closed,
        undelivered=sum(tally.undelivered for tally in sent),
        clicks=sum(tally.feedback.get(CLICK, 0) for tally in sent),
        purchases=sum(tally.feedback.get(PURCHASE, 0) for tally in sent),
        reward=mean,
        low=low,
        high=high,
    )


def wave_figures(report: WaveReport) -> WaveFigures:
    """The figures of one wave's report."""
    reasons: dict[str, int] = {}
    for tally in report.tallies:
        reasons[tally.reason] = reasons.get(tally.reason, 0) + tally.decisions
    return WaveFigures(
        wave=report.wave,
        status=report.status,
        policy_version=report.policy_version,
        decided=report.decided,
        open=report.open,
        policy=figures(t for t in report.tallies if t.reason == POLICY),
        baseline=figures(t for t in report.tallies if t.reason == BASELINE),
        reasons=reasons,
    )


def is_over(campaign: Campaign, reports: Sequence[WaveReport]) -> bool:
    """Whether no wave runs, and none will."""
    ended = all(report.ended_at_ms is not None for report in reports)
    last = not campaign.triggered and len(reports) >= campaign.waves
    return ended and (campaign.status == "stopped" or last)


def table(campaign: Campaign, reports: Sequence[WaveReport]) -> Table:
    """The campaign as a table, a row for each wave."""
    shown = Table(
        title=f"{campaign.campaign_id}, version {campaign.version}: {campaign.status}, "
        + _course(campaign, len(reports)),
        title_justify="left",
        caption="reward: per send whose outcome is known, with its 95 % interval",
        caption_justify="left",
        box=SIMPLE,
        pad_edge=False,
        padding=0,
    )
    for name in ("wave", "status", "policy", "decided", "open", "sends", "clicks", "purchases"):
        shown.add_column(name, justify="left" if name == "status" else "right", no_wrap=True)
    for name in ("reward policy", "reward baseline"):  # a narrow screen breaks them at the ±
        shown.add_column(name, justify="right", min_width=8)
    for report in reports[-MOST_ROWS:] if campaign.triggered else reports:
        wave = wave_figures(report)
        shown.add_row(
            Text(str(wave.wave)),
            Text(wave.status),
            Text(f"v{wave.policy_version}"),
            *_counts(wave.decided, wave.open, wave.policy, wave.baseline),
            _reward(wave.policy),
            _reward(wave.baseline),
        )
    if len(reports) > 1:
        tallies = [tally for report in reports for tally in report.tallies]
        policy = figures(t for t in tallies if t.reason == POLICY)
        baseline = figures(t for t in tallies if t.reason == BASELINE)
        shown.add_section()
        shown.add_row(
            Text("all"),
            Text(""),
            Text(""),
            *_counts(
                sum(r.decided for r in reports), sum(r.open for r in reports), policy, baseline
            ),
            _reward(policy),
            _reward(baseline),
        )
    return shown


def _course(campaign: Campaign, started: int) -> str:
    if not campaign.triggered:
        return f"{started} of {campaign.waves} waves started"
    shown = f", the last {MOST_ROWS} shown" if started > MOST_ROWS else ""
    return f"{started} waves triggered by {campaign.trigger_event}{shown}"


def _counts(decided: int, still_open: int, *groups: Figures) -> tuple[Text, ...]:
    counts = (
        decided,
        still_open,
        sum(group.sends for group in groups),
        sum(group.clicks for group in groups),
        sum(group.purchases for group in groups),
    )
    return tuple(Text(f"{count:,}") for count in counts)


def _reward(group: Figures) -> Text:
    if group.reward is None:
        return Text("-")
    if group.high is None:
        return Text(f"{group.reward:.4f}")
    return Text(f"{group.reward:.4f} ±{group.high - group.reward:.4f}")
