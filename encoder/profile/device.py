"""Where training runs: on the processor, or on a GPU."""

import torch

from schemas.errors import EncoderError

__all__ = ["choose_device"]

AUTO, CPU, GPU = "auto", "cpu", "cuda"


def choose_device(asked: str) -> str:
    """The device that was asked for; for ``auto`` a GPU where there is one.

    Parameters
    ----------
    asked
        ``auto``, ``cpu``, ``cuda``, or one of several GPUs as ``cuda:1``.

    Raises
    ------
    EncoderError
        If it is none of these, or is not there.
    """
    if asked == AUTO:
        return GPU if torch.cuda.is_available() else CPU
    kind, _, number = asked.partition(":")
    if kind not in (CPU, GPU) or (number and not number.isdecimal()) or asked == f"{CPU}:{number}":
        raise EncoderError(f"device must be auto, cpu, cuda or cuda:N, got {asked!r}")
    if kind == GPU and int(number or 0) >= (found := torch.cuda.device_count()):
        raise EncoderError(
            f"device {asked} is not there, torch finds {found} GPUs: train with --device auto or "
            "cpu, or install torch with the driver's CUDA"
        )
    return asked
