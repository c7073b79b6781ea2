"""What training minimises: reconstruction and tasks, each weighted by its own uncertainty."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from encoder.profile.config import TrainingConfig
from encoder.profile.data import BINARY_TASKS, TrainingData
from encoder.profile.model import Inputs, Outputs, ProfileNet

__all__ = ["Labels", "Uncertainty", "corrupt", "loss_names", "losses"]

TOKENS, NUMBERS, NEXT_EVENT = "tokens", "numbers", "next_event"
FEEDBACK = ("clicked", "purchased")


class Labels:
    """A part's labels as tensors; nan and -1 where nobody knows."""

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self.actions = torch.from_numpy(data.actions).to(device)
        self.binary = {t: torch.from_numpy(data.labels[t]).to(device) for t in BINARY_TASKS}
        self.next_event = torch.from_numpy(data.next_event).to(device)

    def rows(self, rows: Tensor) -> "Labels":
        """The labels of these rows."""
        part = object.__new__(Labels)
        part.actions = self.actions[rows]
        part.binary = {task: values[rows] for task, values in self.binary.items()}
        part.next_event = self.next_event[rows]
        return part


def loss_names(labels: Labels, inputs: Inputs, config: TrainingConfig) -> dict[str, float]:
    """The losses of a run, each with what knowing nothing but the average costs (nats a row).

    A task that is always the same, or never known, teaches nothing and is left out.
    """
    bases: dict[str, float] = {}
    for task in BINARY_TASKS if config.multi_task else BINARY_TASKS[:1]:
        known = labels.binary[task][~labels.binary[task].isnan()]
        rate = float(known.mean()) if len(known) else 0.0
        if 0.0 < rate < 1.0:
            bases[task] = -rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate)
    if config.multi_task:
        known = labels.next_event[labels.next_event >= 0]
        shares = torch.bincount(known).double() / max(len(known), 1)
        if int((shares > 0).sum()) > 1:
            shares = shares[shares > 0]
            bases[NEXT_EVENT] = float(-(shares * shares.log()).sum())
    if config.reconstruct:
        bases[TOKENS] = 2.0 * math.log(2.0)  # one that was there and one that was not, a coin each
        if inputs.numbers.shape[1] and bool(inputs.known.any()):
            bases[NUMBERS] = float(inputs.numbers[inputs.known > 0].double().var(correction=0))
            if bases[NUMBERS] <= 0.0:
                del bases[NUMBERS]
    return bases


class Uncertainty(nn.Module):
    """Weights of several losses, learned with them.

    Kendall, Gal & Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses", eq. 7
    and 10, with s = log sigma^2. Each loss is first divided by what the average costs, so that a
    rare event starts on a level with the others.

    Parameters
    ----------
    bases
        What the average costs, by loss; see `loss_names`.
    auxiliary
        Share of what is no feedback to a notification: reconstruction is learned from every
        feature of every row, and would drown the few clicks.
    """

    def __init__(self, bases: dict[str, float], auxiliary: float) -> None:
        super().__init__()
        self.bases = bases
        self.auxiliary = auxiliary
        self.log_variance = nn.ParameterDict({n: nn.Parameter(torch.zeros(())) for n in bases})

    def forward(self, parts: dict[str, Tensor]) -> Tensor:
        """Add up a batch's losses under their weights."""
        total = torch.zeros(())
        for name, loss in parts.items():
            s = self.log_variance[name]
            half = 0.5 if name == NUMBERS else 1.0  # of a Gaussian, as in eq. 7
            share = 1.0 if name in FEEDBACK else self.auxiliary
            total = total + share * (half * torch.exp(-s) * loss / self.bases[name] + 0.5 * s)
        return total


def corrupt(
    inputs: Inputs, config: TrainingConfig, generator: torch.Generator
) -> tuple[Inputs, Tensor, Tensor]:
    """Hide a share of what is known, for the auto-encoder to bring back.

    Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".

    Returns
    -------
    The inputs with it hidden, and which tokens (B, L) and numbers (B, m) that were there are so.
    """

    def keep(shape: tuple[int, ...], dropped: float) -> Tensor:
        return (torch.rand(shape, generator=generator) >= dropped).to(inputs.numbers.device)

    whole = keep((len(inputs.numbers), 1), config.profile_dropout)
    tokens = keep(tuple(inputs.token_weight.shape), config.token_dropout) & whole
    events = keep(tuple(inputs.event_weight.shape), config.token_dropout) & whole
    numbers = keep(tuple(inputs.numbers.shape), config.token_dropout) & whole
    hidden = Inputs(
        token_index=inputs.token_index,
        token_weight=inputs.token_weight * tokens,
        event_index=inputs.event_index,
        event_weight=inputs.event_weight * events,
        numbers=inputs.numbers * numbers,
        known=inputs.known * numbers,
    )
    partly = whole  # nobody can bring back what nothing is left of
    return (
        hidden,
        (inputs.token_weight > 0) & ~tokens & partly,
        (inputs.known > 0) & ~numbers & partly,
    )


def losses(
    net: ProfileNet,
    outputs: Outputs,
    labels: Labels,
    names: dict[str, float],
    inputs: Inputs,
    hidden_tokens: Tensor,
    hidden_numbers: Tensor,
    others: Tensor,
) -> dict[str, Tensor]:
    """Each loss of a batch, in nats a row (numbers: squared places).

    Parameters
    ----------
    inputs
        As they were before anything was hidden.
    others
        A shuffling of the rows, (B,): whose tokens stand for such that were not there.
    """
    parts: dict[str, Tensor] = {}
    for task in BINARY_TASKS:
        y = labels.binary[task]
        known = ~y.isnan()
        if task in names and bool(known.any()):
            logits = getattr(outputs, task).gather(1, labels.actions.unsqueeze(1)).squeeze(1)
            parts[task] = F.binary_cross_entropy_with_logits(logits[known], y[known])
    known = labels.next_event >= 0
    if NEXT_EVENT in names and bool(known.any()):
        parts[NEXT_EVENT] = F.cross_entropy(outputs.next_event[known], labels.next_event[known])
    if TOKENS in names and bool(hidden_tokens.any()):
        parts[TOKENS] = _token_loss(net, outputs, inputs, hidden_tokens, others)
    if NUMBERS in names and bool(hidden_numbers.any()):
        apart = (outputs.numbers - inputs.numbers)[hidden_numbers]
        parts[NUMBERS] = (apart**2).mean()
    return parts


def token_logits(net: ProfileNet, query: Tensor, index: Tensor) -> Tensor:
    """How sure the decoder is that each token was there, (B, L)."""
    logits: Tensor = (net.embedding(index) * query.unsqueeze(1)).sum(-1)
    bias: Tensor = net.token_bias(index).squeeze(-1)
    return logits + bias


def _token_loss(
    net: ProfileNet, outputs: Outputs, inputs: Inputs, hidden: Tensor, others: Tensor
) -> Tensor:
    """Tell hidden tokens from those of other users.

    Negative sampling, Mikolov et al. 2013, "Distributed Representations of Words", eq. 4.
    """
    there = token_logits(net, outputs.query, inputs.token_index)[hidden]
    absent_index, absent_weight = inputs.token_index[others], inputs.token_weight[others]
    absent = token_logits(net, outputs.query, absent_index)[absent_weight > 0]
    return F.softplus(-there).mean() + F.softplus(absent).mean()
