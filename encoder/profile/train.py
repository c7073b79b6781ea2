"""Training: epochs until validation stops improving, seeded, and resumable after any of them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.profile.checkpoint import Progress, load_checkpoint, save_checkpoint
from encoder.profile.config import TrainingConfig
from encoder.profile.data import BINARY_TASKS, TrainingData
from encoder.profile.inputs import fit_inputs, seen_indices
from encoder.profile.losses import Labels, Uncertainty, corrupt, loss_names, losses
from encoder.profile.model import Inputs, ProfileNet
from encoder.profile.whitening import whiten
from schemas.encoder_inputs import INPUTS, EncoderInputs
from schemas.features import FeatureBatch

__all__ = ["Trained", "encode", "tensors", "train"]

ENCODE_AT_ONCE = 4096

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained encoder.

    Attributes
    ----------
    history
        Of each epoch: its losses, by name.
    best_epoch
        The one that was kept, from 0.
    """

    net: ProfileNet
    inputs: EncoderInputs
    config: TrainingConfig
    action_names: tuple[str, ...]
    history: list[dict[str, float]]
    best_epoch: int


def tensors(inputs: EncoderInputs, features: FeatureBatch, device: torch.device) -> Inputs:
    """The model's inputs for n users."""
    arrays = inputs.arrays(features)
    return Inputs(*(torch.from_numpy(arrays[name]).to(device) for name in INPUTS))


def train(
    data: TrainingData,
    valid: TrainingData,
    config: TrainingConfig,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train an encoder.

    Parameters
    ----------
    checkpoint
        File that each epoch is kept in; where it is there already, training goes on from it.
    on_epoch
        Told of each epoch, counted from 1, and its losses.

    Raises
    ------
    EncoderError
        If the checkpoint is of another run.
    """
    at = torch.device(device)
    torch.manual_seed(config.seed)
    inputs = fit_inputs(data, config)
    rows, held_out = tensors(inputs, data.features, at), tensors(inputs, valid.features, at)
    labels, held_out_labels = Labels(data, at), Labels(valid, at)
    net = ProfileNet(config, len(inputs.numbers), len(data.action_names), len(data.event_names)).to(
        at
    )
    names = loss_names(labels, rows, config)
    net.start_at({task: data.labels[task] for task in BINARY_TASKS if task in names})
    weights = Uncertainty(names, config.auxiliary).to(at)
    both = nn.ModuleDict({"net": net, "weights": weights})
    optimiser = torch.optim.AdamW(
        both.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    progress = Progress(fingerprint=_fingerprint(data, valid, config))
    best = _copy(net)
    if checkpoint is not None and checkpoint.exists():
        progress, best = load_checkpoint(checkpoint, progress.fingerprint, both, optimiser)
    while progress.epoch < config.epochs and not _stalled(progress, config):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + progress.epoch)
        torch.manual_seed(config.seed * 1_000_033 + progress.epoch)  # of the dropout
        found = _epoch(net, weights, optimiser, rows, labels, config, generator)
        told = {f"train {name}": value for name, value in found.items()}
        told |= _validate(net, held_out, held_out_labels, names)
        score = _score(told, names)
        progress.epoch += 1
        progress.history.append(told)
        young = progress.epoch <= config.warm_up
        if young or progress.best_score is None or score < progress.best_score:
            progress.best_score, progress.best_epoch = score, progress.epoch - 1
            best = _copy(net)
        if checkpoint is not None:
            save_checkpoint(checkpoint, progress, both, optimiser, best)
        if on_epoch is not None:
            on_epoch(progress.epoch, told)
    net.load_state_dict(best)
    _forget_unseen(net, seen_indices(data, inputs))
    whiten(net, _encodings(net, rows))
    net.eval()
    return Trained(
        net=net,
        inputs=inputs,
        config=config,
        action_names=data.action_names,
        history=progress.history,
        best_epoch=progress.best_epoch,
    )


def encode(trained: Trained, features: FeatureBatch) -> NDArray[np.float32]:
    """Encodings z of n users by torch, (n, z_size)."""
    device = next(trained.net.parameters()).device
    parts = [np.zeros((0, trained.config.z_size), dtype=np.float32)]
    with torch.no_grad():
        for start in range(0, len(features), ENCODE_AT_ONCE):
            some = features.rows(np.arange(start, min(start + ENCODE_AT_ONCE, len(features))))
            parts.append(trained.net.encode(tensors(trained.inputs, some, device)).cpu().numpy())
    return np.concatenate(parts)


def _epoch(
    net: ProfileNet,
    weights: Uncertainty,
    optimiser: torch.optim.Optimizer,
    rows: Inputs,
    labels: Labels,
    config: TrainingConfig,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the training rows; each loss as the mean over its batches."""
    net.train()
    sums: dict[str, list[float]] = {}
    order = torch.randperm(len(rows.numbers), generator=generator).to(rows.numbers.device)
    for batch in order.split(config.batch):
        if len(batch) < 2:
            continue
        inputs = Inputs(*(part[batch] for part in rows))
        seen, hidden_tokens, hidden_numbers = corrupt(inputs, config, generator)
        others = torch.randperm(len(batch), generator=generator).to(batch.device)
        parts = losses(
            net,
            net(seen),
            labels.rows(batch),
            weights.bases,
            inputs,
            hidden_tokens,
            hidden_numbers,
            others,
        )
        optimiser.zero_grad(set_to_none=True)
        weights(parts).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        for name, loss in parts.items():
            sums.setdefault(name, []).append(float(loss.detach()))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _validate(
    net: ProfileNet, inputs: Inputs, labels: Labels, names: dict[str, float]
) -> dict[str, float]:
    """Each loss on the validation rows; what is to be reconstructed is hidden the same way."""
    net.eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        config = TrainingConfig(profile_dropout=0.0)
        seen, hidden_tokens, hidden_numbers = corrupt(inputs, config, generator)
        others = torch.randperm(len(inputs.numbers), generator=generator)
        hidden = losses(
            net, net(seen), labels, names, inputs, hidden_tokens, hidden_numbers, others
        )
        whole = losses(
            net, net(inputs), labels, names, inputs, hidden_tokens, hidden_numbers, others
        )
    supervised = {*BINARY_TASKS, "next_event"}
    found = {n: whole[n] if n in supervised else loss for n, loss in hidden.items()}
    return {f"valid {name}": float(loss) for name, loss in found.items()}


def _score(told: dict[str, float], names: dict[str, float]) -> float:
    """What early stopping watches: the log-likelihood of what users did with what they got."""
    watched = [name for name in BINARY_TASKS if name in names] or list(names)
    return sum(told.get(f"valid {name}", 0.0) for name in watched)


def _stalled(progress: Progress, config: TrainingConfig) -> bool:
    since = max(progress.best_epoch, config.warm_up - 1)
    return progress.epoch - 1 - since >= config.patience


def _copy(net: ProfileNet) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _encodings(net: ProfileNet, rows: Inputs) -> Tensor:
    net.eval()
    with torch.no_grad():
        parts = [
            net.encode(Inputs(*(part[start : start + ENCODE_AT_ONCE] for part in rows)))
            for start in range(0, len(rows.numbers), ENCODE_AT_ONCE)
        ]
    return torch.cat(parts)


def _forget_unseen(net: ProfileNet, seen: NDArray[np.bool_]) -> None:
    """What no training row had says nothing: its embedding is zero."""
    with torch.no_grad():
        unseen = torch.from_numpy(~seen).to(net.embedding.weight.device)
        net.embedding.weight[unseen] = 0.0
        net.token_bias.weight[unseen] = 0.0


def _fingerprint(data: TrainingData, valid: TrainingData, config: TrainingConfig) -> str:
    digest = sha256(msgspec.json.encode(asdict(replace(config, epochs=1, warm_up=0, patience=1))))
    for part in (data, valid):
        for lists in (part.features.tokens, part.features.events, part.features.numbers):
            digest.update(lists.ids.tobytes() + lists.values.tobytes())
        digest.update(part.at_ms.tobytes() + part.actions.tobytes())
        for task in BINARY_TASKS:
            digest.update(part.labels[task].tobytes())
    return digest.hexdigest()
