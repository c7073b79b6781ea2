"""The network: hashed embedding bags and numbers, to z, to what z is to know."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.profile.config import TrainingConfig

__all__ = ["Inputs", "Outputs", "ProfileNet"]


class Inputs(NamedTuple):
    """What `schemas.encoder_inputs.EncoderInputs.arrays` gives, as tensors, in its order."""

    token_index: Tensor  # int64 (B, L)
    token_weight: Tensor  # (B, L)
    event_index: Tensor  # int64 (B, K)
    event_weight: Tensor  # (B, K)
    numbers: Tensor  # (B, m)
    known: Tensor  # (B, m)


class Outputs(NamedTuple):
    """What the heads say.

    Attributes
    ----------
    clicked, purchased, unsubscribed
        Logits by action, (B, n_actions).
    next_event
        Logits by type of event, (B, n_events).
    query
        Its product with a token's embedding is the logit of that token, (B, embedding).
    numbers
        The numbers' places, (B, m).
    """

    clicked: Tensor
    purchased: Tensor
    unsubscribed: Tensor
    next_event: Tensor
    query: Tensor
    numbers: Tensor


class ActionHead(nn.Module):
    """Logits by action: what all actions share, and what each has of its own."""

    def __init__(self, z_size: int, actions: int) -> None:
        super().__init__()
        self.shared = nn.Linear(z_size, 1)
        self.own = nn.Linear(z_size, actions)
        nn.init.normal_(self.own.weight, std=0.02)

    def forward(self, z: Tensor) -> Tensor:
        shared: Tensor = self.shared(z) + self.own(z)
        return shared  # (B, n_actions)


class ProfileNet(nn.Module):
    """Encoder and heads.

    Parameters
    ----------
    numbers, actions, events
        How many numbers go in, and how many actions and types of event there are.
    """

    def __init__(self, config: TrainingConfig, numbers: int, actions: int, events: int) -> None:
        super().__init__()
        self.bins = config.bins
        d = config.embedding
        self.embedding = nn.Embedding(1 << config.bits, d)
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)
        width = 2 * d + numbers * (config.bins + 1)
        self.first = nn.Linear(width, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.third = nn.Linear(config.hidden, config.z_size)
        self.straight = nn.Linear(width, config.z_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.clicked = ActionHead(config.z_size, actions)
        self.purchased = ActionHead(config.z_size, actions)
        self.unsubscribed = ActionHead(config.z_size, actions)
        self.next_event = nn.Linear(config.z_size, max(events, 1))
        self.decoder = nn.Linear(config.z_size, config.hidden)
        self.to_query = nn.Linear(config.hidden, d)
        self.to_numbers = nn.Linear(config.hidden, max(numbers, 1))
        self.token_bias = nn.Embedding(1 << config.bits, 1)
        nn.init.zeros_(self.token_bias.weight)

    def start_at(self, labels: Mapping[str, NDArray[np.float32]]) -> None:
        """Have the heads say the average at first: what is rare is not unlearned for epochs.

        Parameters
        ----------
        labels
            By task: 0, 1 or nan, (n,).
        """
        for task, values in labels.items():
            rate = float(np.nanmean(values))
            head = getattr(self, task)
            nn.init.constant_(head.shared.bias, math.log(rate / (1.0 - rate)))
            nn.init.zeros_(head.own.bias)

    def bag(self, index: Tensor, weight: Tensor) -> Tensor:
        """Weighted sum of embeddings, (B, d)."""
        bag: Tensor = (self.embedding(index) * weight.unsqueeze(-1)).sum(dim=1)
        return bag

    def pieces(self, numbers: Tensor, known: Tensor) -> Tensor:
        """Piecewise linear encoding of places in [-1, 1], (B, m * bins).

        Gorishniy, Rubachev & Babenko 2022, "On Embeddings for Numerical Features", eq. 1.
        """
        edges = torch.linspace(-1.0, 1.0, self.bins + 1, device=numbers.device)[:-1]
        filled = (numbers.unsqueeze(-1) - edges) * (self.bins / 2.0)  # (B, m, bins)
        return (filled.clamp(0.0, 1.0) * known.unsqueeze(-1)).flatten(1)

    def behind_z(self) -> list[nn.Linear]:
        """The layers that read z."""
        heads = (self.clicked, self.purchased, self.unsubscribed)
        own = [layer for head in heads for layer in (head.shared, head.own)]
        return [*own, self.next_event, self.decoder]

    def encode(self, inputs: Inputs) -> Tensor:
        """The encoding z, (B, z_size); white once training has ended (`whitening`)."""
        x = torch.cat(
            [
                self.bag(inputs.token_index, inputs.token_weight),
                self.bag(inputs.event_index, inputs.event_weight),
                self.pieces(inputs.numbers, inputs.known),
                inputs.known,
            ],
            dim=1,
        )  # (B, width)
        h = self.dropout(torch.relu(self.first(x)))
        h = self.dropout(torch.relu(self.second(h)))
        z: Tensor = self.third(h) + self.straight(x)
        return z

    def forward(self, inputs: Inputs) -> Outputs:
        """What the heads say of each user."""
        z = self.encode(inputs)
        decoded = torch.relu(self.decoder(z))
        return Outputs(
            clicked=self.clicked(z),
            purchased=self.purchased(z),
            unsubscribed=self.unsubscribed(z),
            next_event=self.next_event(z),
            query=self.to_query(decoded),
            numbers=self.to_numbers(decoded),
        )
