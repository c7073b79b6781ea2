"""Which numbers a model takes, and where their values stand: learned from the training rows."""

import numpy as np
from numpy.typing import NDArray

from encoder.profile.config import TrainingConfig
from encoder.profile.data import TrainingData
from schemas.encoder_inputs import EncoderInputs, NumberInput

__all__ = ["fit_inputs", "seen_indices"]

MOST_KNOTS = 33
FEWEST_KNOWN = 0.005  # of the rows: a number that hardly anybody has says nothing


def fit_inputs(data: TrainingData, config: TrainingConfig) -> EncoderInputs:
    """Choose the numbers that are known most often, with their quantiles as knots."""
    names = data.number_names[: config.most_numbers]
    raw = EncoderInputs(
        bits=config.bits,
        most_tokens=config.most_tokens,
        most_events=config.most_events,
        numbers=[NumberInput(name=list(name), knots=[0.0], places=[0.0]) for name in names],
    ).matrix(data.features.numbers)  # (n, m)
    numbers = []
    for name, values in zip(names, raw.T, strict=True):
        known = values[~np.isnan(values)]
        if len(known) >= max(2, FEWEST_KNOWN * len(values)) and known.min() < known.max():
            knots, places = _knots(known)
            numbers.append(NumberInput(name=list(name), knots=knots, places=places))
    return EncoderInputs(
        bits=config.bits,
        most_tokens=config.most_tokens,
        most_events=config.most_events,
        numbers=numbers,
    )


def _knots(known: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """Quantiles, and the middle of the ranks that share each, in [-1, 1]."""
    ordered = np.sort(known)
    knots = np.unique(np.quantile(ordered, np.linspace(0.0, 1.0, MOST_KNOTS), method="nearest"))
    below = np.searchsorted(ordered, knots, side="left")
    through = np.searchsorted(ordered, knots, side="right")
    places = (below + through) / len(ordered) - 1.0
    return [float(knot) for knot in knots], [float(place) for place in places]


def seen_indices(data: TrainingData, inputs: EncoderInputs) -> NDArray[np.bool_]:
    """Which rows of the embedding any training row uses, (2**bits,)."""
    seen = np.zeros(1 << inputs.bits, dtype=np.bool_)
    mask = np.uint32((1 << inputs.bits) - 1)
    seen[data.features.tokens.ids & mask] = True
    seen[data.features.events.ids & mask] = True
    return seen
