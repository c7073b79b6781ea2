"""What a training run is told."""

from dataclasses import dataclass

from schemas.errors import EncoderError

__all__ = ["TrainingConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Settings of a training run.

    Attributes
    ----------
    z_size
        Columns of an encoding.
    bits
        The embedding has 2**bits rows.
    bins
        Pieces of a number's piecewise linear encoding.
    warm_up, patience
        The first epochs are not judged: validation gets worse before what is not linear is found.
        Then training ends after so many without improvement, and the best one is kept.
    token_dropout, profile_dropout
        Shares of features, and of whole profiles, that training hides: what is hidden is to be
        reconstructed, and a profile of which nothing is known is to be encoded as the average.
    auxiliary
        Weight of reconstruction, next event and unsubscribing beside clicks and purchases.
    reconstruct, multi_task
        For ablations: whether the auto-encoder is trained too, and all tasks or the click alone.
    """

    z_size: int = 32
    bits: int = 14
    embedding: int = 32
    hidden: int = 128
    bins: int = 8
    most_tokens: int = 128
    most_events: int = 64
    most_numbers: int = 64
    dropout: float = 0.1
    token_dropout: float = 0.1
    profile_dropout: float = 0.02
    auxiliary: float = 0.05
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    batch: int = 512
    epochs: int = 40
    warm_up: int = 10
    patience: int = 6
    seed: int = 1
    reconstruct: bool = True
    multi_task: bool = True

    def __post_init__(self) -> None:
        bounds = {
            "z_size": (1, 256),
            "bits": (4, 24),
            "embedding": (1, 512),
            "hidden": (1, 4096),
            "bins": (1, 64),
            "most_numbers": (0, 256),
            "batch": (2, 65_536),
            "epochs": (1, 10_000),
            "warm_up": (0, 10_000),
            "patience": (1, 10_000),
            "seed": (0, 2**63 - 1),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise EncoderError(f"{name} must be {least} to {most}, got {getattr(self, name)}")
        if self.auxiliary <= 0.0:
            raise EncoderError(f"auxiliary must be above 0, got {self.auxiliary}")
        for name in ("dropout", "token_dropout", "profile_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise EncoderError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
