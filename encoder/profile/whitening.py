"""Whitening: an encoding has mean 0, and columns of variance 1 that do not hang together."""

import torch
from torch import Tensor

from encoder.profile.model import ProfileNet

__all__ = ["whiten"]

FAINTEST = 1e-3  # of the largest variance: what is fainter is not raised to 1, it would be noise


def whiten(net: ProfileNet, encodings: Tensor) -> None:
    """Whiten a net's encodings, in place; its heads say what they said before.

    A bandit's prior says how large a coefficient may be; it means the same in every release only
    where the columns have the same scale. z becomes its principal axes, each with its largest
    part positive, over their standard deviations: (z - center) W. That is linear, so it goes into
    the layers before z, and its inverse into those behind.

    Parameters
    ----------
    encodings
        z of the training rows, (n, z_size).
    """
    values = encodings.double()
    center = values.mean(dim=0)
    covariance = torch.cov(values.T).reshape(values.shape[1], -1)
    variances, axes = torch.linalg.eigh(covariance)  # rising
    variances, axes = variances.flip(0), axes.flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * largest.sign()
    deviations = variances.clamp(min=max(float(variances[0]) * FAINTEST, 1e-12)).sqrt()
    forth, back = axes / deviations, (axes * deviations).T  # (z_size, z_size) each
    with torch.no_grad():
        net.third.bias.copy_((net.third.bias.double() - center) @ forth)
        for before in (net.third, net.straight):
            before.weight.copy_(forth.T @ before.weight.double())
        for behind in net.behind_z():
            weight = behind.weight.double()
            behind.bias.copy_(behind.bias.double() + weight @ center)
            behind.weight.copy_(weight @ back.T)
