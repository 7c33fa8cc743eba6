"""The operations of AutoHR's search space (Fig. 3c): (B, C, T, H, W) -> the same shape. Last, a pool of other nets.

Each is ReLU, convolution without bias, batch norm, in the order of DARTS and of the author's own code.
Kernels are (T, H, W) tuples: the author's "TCDC_3x1x1" is silently 3x3x3, because an int was passed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._tdc import TemporalDifferenceConv3d, Triple


class Zero(nn.Module):
    """No connection. A product, not new zeros, so that it stays in the graph during search."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the shape of x."""
        return x * 0.0


def conv(channels: int, kernel: Triple, affine: bool) -> nn.Sequential:
    """Return ReLU, convolution and batch norm."""
    same = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv3d(channels, channels, kernel, padding=same, bias=False),
        nn.BatchNorm3d(channels, affine=affine),
    )


def tdc(channels: int, kernel: Triple, theta: float | None, affine: bool) -> nn.Sequential:
    """Return ReLU, temporal difference convolution and batch norm."""
    if theta is None:
        raise ValueError("A tdc needs a theta; the paper's are 0.2 and 1.0.")
    return nn.Sequential(
        nn.ReLU(),
        TemporalDifferenceConv3d(channels, channels, kernel, theta=theta),
        nn.BatchNorm3d(channels, affine=affine),
    )


OPS: dict[str, Callable[[int, float | None, bool], nn.Module]] = {
    "none": lambda channels, theta, affine: Zero(),
    "skip": lambda channels, theta, affine: nn.Identity(),
    "conv_3x3x3": lambda channels, theta, affine: conv(channels, (3, 3, 3), affine),
    "tdc_3x3x3": lambda channels, theta, affine: tdc(channels, (3, 3, 3), theta, affine),
    "conv_1x3x3": lambda channels, theta, affine: conv(channels, (1, 3, 3), affine),
    "conv_1x5x5": lambda channels, theta, affine: conv(channels, (1, 5, 5), affine),
    "conv_3x1x1": lambda channels, theta, affine: conv(channels, (3, 1, 1), affine),
    "conv_5x1x1": lambda channels, theta, affine: conv(channels, (5, 1, 1), affine),
}
"""(channels, theta, affine) -> module. ``tdc_3x3x3`` at its two thetas makes the paper's nine: ``_genotype.SPACE``.
``affine`` is False in a supernet, True in a derived network."""


def mean_pool(x: Tensor) -> Tensor:
    """Return the means over 2x2 pixels, (B, C, T, H/2, W/2), in float32, for torch has no other on CPUs."""
    return F.avg_pool3d(x.float(), (1, 2, 2)).to(x.dtype)
