"""Temporal difference convolution, TDC (AutoHR, Yu et al., IEEE Signal Processing Letters 2020, Eq. 1).

A 3D convolution whose neighbouring frames see the difference to the current frame instead of their own colour:

    O(t, p) = sum over frames tau != 0 and places n of   w[tau, n] * (I(t + tau, p + n) - theta * I(t, p))
            + sum over places n of                       w[0, n] * I(t, p + n)

Here tau and n count from the kernel's centre. The subtracted part reads only I(t, p), where the kernel's centre tap
already looks. So TDC is ONE ordinary convolution whose centre tap is lowered by theta times the sum of all weights
outside the centre frame.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]
"""(T, H, W)."""


def fold_theta(weight: Tensor, theta: float) -> Tensor:
    """Return the kernel (out, in, kt, kh, kw) of the plain convolution that equals TDC with this kernel and theta.

    All of kt, kh, kw are odd. Differentiable. With theta 0, or one frame, it is ``weight`` itself.
    """
    kt, kh, kw = weight.shape[2:]
    if theta == 0 or kt == 1:
        return weight
    neighbours = weight.sum((2, 3, 4), keepdim=True) - weight[:, :, kt // 2].sum((2, 3))[:, :, None, None, None]
    at_centre = F.pad(theta * neighbours, (kw // 2, kw // 2, kh // 2, kh // 2, kt // 2, kt // 2))
    return weight - at_centre


class TemporalDifferenceConv3d(nn.Module):
    """TDC: (B, in, T, H, W) -> (B, out, T', H', W'), one convolution. Parameters and first values are ``Conv3d``'s.

    Not a subclass of ``Conv3d``: tools that fuse or quantise a ``Conv3d`` read its ``weight`` as the whole truth, and
    here ``plain_weight()`` is.

    ``theta`` is fixed, not learned; the paper takes it from 0 (a plain convolution) to 1. Any number is computed.
    ``padding`` None means dilation * (kernel - 1) / 2 zeros on each side, the only padding with which the kernel's
    centre stands on the pixel that Eq. 1 subtracts; another is refused, and so is an even kernel, which has no centre.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Triple = 3,
        *,
        theta: float,
        stride: int | Triple = 1,
        padding: int | Triple | None = None,
        dilation: int | Triple = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = _triple("kernel_size", kernel_size)
        self.stride = _triple("stride", stride)
        self.dilation = _triple("dilation", dilation)
        if any(k % 2 == 0 for k in self.kernel_size):
            raise ValueError(
                f"kernel_size={self.kernel_size} has no centre, which TDC subtracts. Give odd sizes (T, H, W)."
            )
        kt, kh, kw = self.kernel_size
        dt, dh, dw = self.dilation
        self.padding = (dt * (kt - 1) // 2, dh * (kh - 1) // 2, dw * (kw - 1) // 2)
        if padding is not None and _triple("padding", padding, least=0) != self.padding:
            raise ValueError(
                f"padding={padding} moves the kernel's centre off the pixel that TDC subtracts. "
                f"Leave padding out, or give {self.padding} for kernel {self.kernel_size}, dilation {self.dilation}."
            )
        if not math.isfinite(theta):
            raise ValueError(f"theta={theta} is not a finite number. The paper uses 0 to 1.")
        if groups < 1 or in_channels % groups or out_channels % groups or min(in_channels, out_channels) < 1:
            raise ValueError(
                f"in_channels={in_channels} and out_channels={out_channels} must be positive multiples of "
                f"groups={groups}."
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.theta = float(theta)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kt, kh, kw))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first values of a ``Conv3d``, from the same random numbers."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def plain_weight(self) -> Tensor:
        """Return the kernel (out, in / groups, kt, kh, kw) of the plain convolution that this is."""
        return fold_theta(self.weight, self.theta)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.plain_weight(), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def as_conv3d(self) -> nn.Conv3d:
        """Return a plain ``Conv3d`` of equal output, for inference and export."""
        conv = nn.Conv3d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            bias=self.bias is not None,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(self.plain_weight())
            if conv.bias is not None and self.bias is not None:
                conv.bias.copy_(self.bias)
        return conv

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, theta={self.theta:g}, "
            f"stride={self.stride}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}"
        )


def _triple(name: str, value: int | Triple, least: int = 1) -> Triple:
    triple = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(triple) != 3 or any(not isinstance(v, int) or v < least for v in triple):
        raise ValueError(f"{name}={value!r} must be a whole number from {least} up, or three of them (T, H, W).")
    return triple
