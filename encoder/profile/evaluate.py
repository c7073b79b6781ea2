"""What an encoder is worth, on the newest decisions, which it has never seen."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from encoder.profile.config import TrainingConfig
from encoder.profile.data import BINARY_TASKS, Split, TrainingData
from encoder.profile.logistic import Matrix, auc, crossed, hashed_matrix, tuned_scores
from encoder.profile.losses import corrupt, token_logits
from encoder.profile.train import Trained, encode, tensors, train
from schemas.features import FeatureBatch, Ragged

__all__ = ["FULL", "Evaluation", "ablations", "evaluate", "head_scores"]

FULL = "full model"
FEWEST = 20  # positives among the test rows: below, an AUC says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well is foreseen what came of the test rows; nan where it cannot be said.

    Attributes
    ----------
    tasks
        AUC by task of: the encoder's own head (``head``), a logistic regression on z (``probe``)
        and one on the hashed features (``hashed``).
    tokens
        AUC of hidden tokens against those of other users.
    numbers
        Share of the variance of hidden numbers' places that comes back (R squared).
    next_event
        Share of the next events foreseen, and that of the most common one.
    cold
        AUC of the click head where nothing is known of the user but the action.
    """

    tasks: dict[str, dict[str, float]]
    tokens: float
    numbers: float
    next_event: dict[str, float]
    cold: float

    def metrics(self) -> dict[str, float]:
        """All of it as one table of names, as the manifest holds it."""
        found = {
            f"auc {task} {kind}": value
            for task, kinds in self.tasks.items()
            for kind, value in kinds.items()
        }
        found |= {"auc hidden tokens": self.tokens, "r2 hidden numbers": self.numbers}
        found |= {f"next event {kind}": value for kind, value in self.next_event.items()}
        found["auc clicked cold"] = self.cold
        return {name: value for name, value in found.items() if np.isfinite(value)}


def evaluate(trained: Trained, split: Split) -> Evaluation:
    """Judge an encoder by the test rows of a split."""
    parts = (split.train, split.valid, split.test)
    hashed = [_crossed(hashed_matrix(trained.inputs, part), part) for part in parts]
    encoded = [_encoded(trained, part) for part in parts]
    heads = head_scores(trained, split.test)
    tasks = {
        task: {
            "head": auc(heads[task], split.test.labels[task]),
            "probe": _tuned_auc(encoded, split, task),
            "hashed": _tuned_auc(hashed, split, task),
        }
        for task in _judgeable(split)
    }
    tokens, numbers = _reconstruction(trained, split.test)
    return Evaluation(
        tasks=tasks,
        tokens=tokens,
        numbers=numbers,
        next_event=_next_event(trained, split.test),
        cold=_cold(trained, split.test),
    )


def head_scores(trained: Trained, data: TrainingData) -> dict[str, NDArray[np.float32]]:
    """Logits of each binary task for the action that each user got, (n,)."""
    device = next(trained.net.parameters()).device
    with torch.no_grad():
        said = trained.net(tensors(trained.inputs, data.features, device))
    rows = np.arange(len(data))
    return {task: getattr(said, task).cpu().numpy()[rows, data.actions] for task in BINARY_TASKS}


def ablations(
    split: Split, full: Trained, told: Callable[[str], None], *, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Train once more without each part; AUC on the test rows by variant, task and judge.

    Judges are as in `Evaluation.tasks`: the encoder's own head, where the variant has one for the
    task, and a logistic regression on z, which is what a bandit sees of it.

    Parameters
    ----------
    full
        The model with all of its parts, trained on the split.
    told
        Called with each variant's name before it is trained.

    Returns
    -------
    By variant, the full one first: AUC by ``task judge``.
    """
    config = full.config
    variants: dict[str, tuple[Split, TrainingConfig]] = {
        "without auto-encoder": (split, replace(config, reconstruct=False)),
        "without multi-task": (split, replace(config, multi_task=False)),
        "without hashing (vocabulary)": _vocabulary(split, config),
    }
    found = {FULL: _judged(full, split)}
    for name, (rows, settings) in variants.items():
        told(name)
        found[name] = _judged(train(rows.train, rows.valid, settings, device=device), rows)
    return found


def _judged(trained: Trained, split: Split) -> dict[str, float]:
    encoded = [_encoded(trained, part) for part in (split.train, split.valid, split.test)]
    heads = head_scores(trained, split.test)
    found = {}
    for task in _judgeable(split):
        if trained.config.multi_task or task == BINARY_TASKS[0]:
            found[f"{task} head"] = auc(heads[task], split.test.labels[task])
        found[f"{task} probe"] = _tuned_auc(encoded, split, task)
    return found


def _judgeable(split: Split) -> list[str]:
    """Tasks of which enough happened to be learned and to be judged by."""
    parts = (split.train, split.test)
    return [t for t in BINARY_TASKS if all((p.labels[t] == 1).sum() >= FEWEST for p in parts)]


def _tuned_auc(parts: list[Matrix], split: Split, task: str) -> float:
    labels = [part.labels[task] for part in (split.train, split.valid, split.test)]
    return auc(tuned_scores(parts, labels), labels[2])


def _vocabulary(split: Split, config: TrainingConfig) -> tuple[Split, TrainingConfig]:
    """An index of its own for each feature of the training rows; what is new there is left out."""
    lists = (split.train.features.tokens, split.train.features.events)
    known = np.unique(np.concatenate([one.ids for one in lists]))

    def own(ragged: Ragged) -> Ragged:
        place = np.minimum(np.searchsorted(known, ragged.ids), len(known) - 1)
        there = known[place] == ragged.ids
        return Ragged(
            ids=np.where(there, place, 0).astype(np.uint32),
            values=np.where(there, ragged.values, 0.0).astype(np.float32),
            starts=ragged.starts,
        )

    def mapped(data: TrainingData) -> TrainingData:
        features = data.features
        return replace(
            data,
            features=FeatureBatch(
                tokens=own(features.tokens),
                events=own(features.events),
                numbers=features.numbers,
            ),
        )

    bits = max(int(np.ceil(np.log2(max(len(known), 2)))), 4)
    both = Split(train=mapped(split.train), valid=mapped(split.valid), test=mapped(split.test))
    return both, replace(config, bits=bits)


def _crossed(x: Matrix, data: TrainingData) -> Matrix:
    return crossed(x, data.actions, len(data.action_names))


def _encoded(trained: Trained, data: TrainingData) -> Matrix:
    """Z and 1, crossed with the action: what a linear model on z sees, (n, d)."""
    z = encode(trained, data.features)
    return _crossed(Matrix(np.hstack([z, np.ones((len(z), 1))]).astype(np.float64)), data)


def _reconstruction(trained: Trained, data: TrainingData) -> tuple[float, float]:
    device = next(trained.net.parameters()).device
    inputs = tensors(trained.inputs, data.features, device)
    generator = torch.Generator().manual_seed(0)
    config = replace(trained.config, token_dropout=0.15, profile_dropout=0.0)
    seen, hidden_tokens, hidden_numbers = corrupt(inputs, config, generator)
    others = torch.randperm(len(data), generator=generator).to(device)
    net = trained.net
    with torch.no_grad():
        said = net(seen)
        there = token_logits(net, said.query, inputs.token_index)[hidden_tokens]
        absent = token_logits(net, said.query, inputs.token_index[others])
        absent = absent[inputs.token_weight[others] > 0]
        numbers = float("nan")
        if bool(hidden_numbers.any()):
            true = inputs.numbers[hidden_numbers]
            apart = float(((said.numbers[hidden_numbers] - true) ** 2).mean())
            numbers = 1.0 - apart / float(true.var(correction=0))
    scores = torch.cat([there, absent]).cpu().numpy()
    labels = np.concatenate([np.ones(len(there)), np.zeros(len(absent))])
    return auc(scores, labels), numbers


def _next_event(trained: Trained, data: TrainingData) -> dict[str, float]:
    known = data.next_event >= 0
    if not known.any():
        return {}
    device = next(trained.net.parameters()).device
    with torch.no_grad():
        said = trained.net(tensors(trained.inputs, data.features, device)).next_event
    true = data.next_event[known]
    foreseen = said.argmax(dim=1).cpu().numpy()[known]
    return {
        "foreseen": float((foreseen == true).mean()),
        "most common": float(np.bincount(true).max() / len(true)),
    }


def _cold(trained: Trained, data: TrainingData) -> float:
    nothing = Ragged(
        ids=np.zeros(0, np.uint32),
        values=np.zeros(0, np.float32),
        starts=np.zeros(len(data) + 1, np.int64),
    )
    cold = replace(data, features=FeatureBatch(tokens=nothing, events=nothing, numbers=nothing))
    return auc(head_scores(trained, cold)["clicked"], data.labels["clicked"])
