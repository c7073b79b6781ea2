"""A training run as it stands, to go on from: tensors as safetensors, the rest as JSON."""

from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from schemas.errors import EncoderError

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]

BEST, OPTIMISER = "best.", "optimiser."


class Progress(msgspec.Struct):
    """How far a run is.

    Attributes
    ----------
    fingerprint
        Of the configuration and the data: another run does not go on from here.
    epoch
        Epochs done.
    history
        Of each epoch: its losses on the training and validation rows, by name.
    """

    fingerprint: str
    epoch: int = 0
    best_epoch: int = -1
    best_score: float | None = None
    history: list[dict[str, float]] = []


def save_checkpoint(
    path: Path,
    progress: Progress,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    best: dict[str, torch.Tensor],
) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    tensors |= {BEST + name: tensor.contiguous() for name, tensor in best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"{OPTIMISER}{number}.{name}"] = torch.as_tensor(tensor).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    save_file(tensors, written, {"progress": msgspec.json.encode(progress).decode()})
    written.replace(path)


def load_checkpoint(
    path: Path, fingerprint: str, net: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Go on from a checkpoint: fills net and optimiser, gives the progress and the best so far.

    Raises
    ------
    EncoderError
        If it cannot be read, or is of another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = msgspec.json.decode(file.metadata()["progress"], type=Progress)
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise EncoderError(
            f"{path} is no checkpoint that can be read ({error}): delete it to begin anew"
        ) from error
    if progress.fingerprint != fingerprint:
        raise EncoderError(
            f"{path} belongs to a run with other data or settings: delete it to begin anew, or "
            "give another folder"
        )
    state = optimiser.state_dict()
    for key in [key for key in tensors if key.startswith(OPTIMISER)]:
        number, _, name = key.removeprefix(OPTIMISER).partition(".")
        state["state"].setdefault(int(number), {})[name] = tensors.pop(key)
    optimiser.load_state_dict(state)
    best = {
        key.removeprefix(BEST): tensors.pop(key) for key in list(tensors) if key.startswith(BEST)
    }
    net.load_state_dict(tensors)
    return progress, best
