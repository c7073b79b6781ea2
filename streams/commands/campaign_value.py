"""``groundswell campaign value``: what policies would have earned, on a campaign's own log."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from schemas.campaign import Campaign
from schemas.errors import SettingsError
from schemas.hashing import seed_of
from schemas.learning import LearningExample
from schemas.registry import codec_for
from schemas.topics import LEARNING_EXAMPLES
from schemas.wire import Unreadable
from streams.commands.campaign_file import read_policy
from streams.commands.connect import Bootstrap, connect
from streams.commands.marked_yaml import load
from streams.core.encoding import action_set, told_apart
from streams.core.evaluation import Estimate
from streams.core.evaluation.campaign_log import CampaignLog
from streams.core.evaluation.held_out import Valuation
from streams.core.policies import create
from streams.core.policies.parameters import ParameterValue
from streams.kafka.campaign_client import CampaignClient
from streams.kafka.cluster import cluster_of
from streams.kafka.read import read_all
from streams.settings import Settings

__all__ = ["value"]


def value(
    name: Annotated[str, typer.Argument(help="The campaign's name.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="What to value, as in a campaign's YAML; may be given again. Without it the "
            "campaign's own policy, uniform choice and the baseline.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        float,
        typer.Option(min=0.01, max=0.99, help="Share of the decisions that is learned from."),
    ] = 0.5,
    bootstrap: Bootstrap = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Value policies on the campaign's own log, before they send anything.

    Each learns from the first waves, then is valued on the later ones, which the campaign's own
    policy decided while it went on learning. The intervals hold for such a log: `adaptive` is the
    estimate to believe. Fatigue and clipped rewards are not part of what is valued.

    Example: groundswell campaign value spring-sale --policy uniform --policy '{name: fixed,
    params: {action: twenty-off}}'
    """
    settings = connect(bootstrap)
    codec = codec_for(settings.registry)
    campaign = CampaignClient(cluster_of(settings), settings.topic_prefix, codec).campaign(name)
    wanted = _wanted(campaign, policy)
    log = CampaignLog.of(_examples(settings, name), action_set(campaign), split)
    found = {}
    for label, (kind, params) in wanted.items():
        # what tells templates apart by features alone is given them, as in a campaign of its own
        actions = action_set(told_apart(replace(campaign, policy=kind, policy_params=params)))
        learned = create(kind, params, log.d_user, actions.d_action)
        log.teach(learned, actions)
        rng = np.random.default_rng(seed_of(name, label))
        found[label] = log.value(learned, rng, actions)
    if as_json:
        typer.echo(msgspec.json.encode(_plain(name, log, found)).decode())
        return
    _show(Console(), name, log, found)


def _wanted(
    campaign: Campaign, given: list[str] | None
) -> dict[str, tuple[str, dict[str, ParameterValue]]]:
    """Policies by what they are called in the answer."""
    if given:
        return {text: read_policy(load(text.encode(), "--policy")) for text in given}
    wanted: dict[str, tuple[str, dict[str, ParameterValue]]] = {
        campaign.policy: (campaign.policy, dict(campaign.policy_params)),
        "uniform": ("uniform", {}),
    }
    if campaign.baseline_action is not None:
        wanted[f"baseline, {campaign.baseline_action}"] = (
            "fixed",
            {"action": campaign.baseline_action},
        )
    return wanted


def _examples(settings: Settings, name: str) -> Iterator[LearningExample]:
    codec = codec_for(settings.registry)
    for record in read_all(cluster_of(settings), settings.topic_prefix + LEARNING_EXAMPLES.name):
        read = codec.try_decode(record.value, LearningExample)
        if isinstance(read, Unreadable):
            raise SettingsError(
                f"{record.topic}[{record.partition}]@{record.offset} cannot be read "
                f"({read.reason}): was it written with another registry?"
            )
        if read.campaign_id == name:
            yield read


def _show(console: Console, name: str, log: CampaignLog, found: dict[str, Valuation]) -> None:
    first = next(iter(found.values()))
    console.print(
        f"{name}: learned from {log.n_learned:,} outcomes before wave {log.first_held_out}, valued "
        f"on {first.n:,} decisions since, {first.rewarded:,} with a reward."
    )
    if log.left_out:
        console.print(
            f"{log.left_out:,} outcomes are left out: of another encoder's contexts, or of "
            "templates that are no longer there."
        )
    table = Table(box=SIMPLE, pad_edge=False)
    for column in ("policy", "adaptive", "95 % interval", "IPS", "SNIPS", "worth"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    table.add_row("the log's own", *_cells(first.logging), "", "", f"{first.n:,}")
    for label, valuation in found.items():
        if valuation.adaptive is None or valuation.ips is None or valuation.snips is None:
            table.add_row(label, "", "", "", "", "")
            continue
        table.add_row(
            label,
            *_cells(valuation.adaptive),
            f"{valuation.ips.value:.5f}",
            f"{valuation.snips.value:.5f}",
            f"{valuation.adaptive.effective_sample_size:,.0f}",
        )
    console.print(table)
    for label, valuation in found.items():
        said = valuation.refusal if valuation.diagnosis is None else valuation.diagnosis.sentence
        console.print(f"{label}: {said}", markup=False, highlight=False)


def _cells(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.5f}", f"{estimate.low:.5f} to {estimate.high:.5f}"


def _plain(name: str, log: CampaignLog, found: dict[str, Valuation]) -> dict[str, object]:
    return {
        "campaign": name,
        "learned": log.n_learned,
        "first_held_out_wave": log.first_held_out,
        "left_out": log.left_out,
        "policies": {label: msgspec.to_builtins(one) for label, one in found.items()},
    }
