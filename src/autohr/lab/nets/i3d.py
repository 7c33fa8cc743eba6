"""I3D (Carreira, Zisserman, CVPR 2017, arXiv:1705.07750), the RGB stream, with one output: the heart rate.

Paper: Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset.

clip (B, 3, T, H, W) in [0, 1], fps (B,) -> hr_bpm (B,); of the variant ``I3DWave`` bvp (B, T).

Any T from 4 up, any H and W from 16 up. The original: 64 frames of 224x224, from -1 to 1. Inception-v1 whose 2D
convolutions became 3D ones, padded as TensorFlow does: just enough, and where that is odd, one more at the end.

The variant, which is ours, gives a wave: the same layers, with time halved twice and not four times, the upsampler of
PhysNet after them, and the mean over the picture alone. It is a method of its own in the tables, "I3D (wave)".

Differs from the original: one output in place of 400 classes, and the mean over all that is left of the picture and of
time in place of a pool of 2x7x7, which would need 224 pixels; weights begin by chance, where the original's began with
those of ImageNet and Kinetics. How it was trained for Table I of AutoHR is in no paper that we read: that figure comes
from RhythmNet's, which says that it regresses. The regression in ``rates.py`` is ours. Checked against:
the published parameter counts, with one output and with 400.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._inputs import INPUTS, check_input, checked, prepare_input
from autohr.lab.nets._rates import as_hr_bpm
from autohr.lab.nets._spec import Preset, check_whole
from autohr.lab.nets._tdc import Triple
from autohr.lab.nets.autohr import make_upsampler

Branches = tuple[int, int, int, int, int, int]
"""Channels of an Inception block: 1x1; 1x1 and 3x3x3; 1x1 and 3x3x3; 1x1 after the pool."""

MIXED: dict[str, Branches] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class I3DConfig:
    """The defaults are the published network with one output. Refuses with ValueError what cannot be built."""

    n_outputs: int = 1
    """400 is the published classifier, of which only the first output would be a rate."""
    dropout: float = 0.5
    """Before the last layer."""
    divide: int = 1
    """The published numbers of channels are divided by this, and rounded up."""
    input: str = "rgb"
    """One of ``inputs.INPUTS``: "rgb", -1 to 1, is the published one."""

    def __post_init__(self) -> None:
        check_input(self.input)
        check_whole("n_outputs", self.n_outputs, 1, 1000)
        check_whole("divide", self.divide, 1, 64)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} must lie in 0..1, without 1.")


_SMALL = I3DConfig(divide=6, input="difference", dropout=0.2)
PRESETS = {
    "paper": Preset(I3DConfig(), size_px=112, n_frames=160, what="I3D as published, with one output"),
    "small": Preset(
        _SMALL,
        size_px=64,
        n_frames=256,
        what="a sixth of the channels, and an input that learns sooner than raw frames",
    ),
}
"""The sizes of small are ours."""


def filled(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Return x with zeros around it as TensorFlow's "same" padding has them; no stride is wider than its kernel."""
    pads: list[int] = []
    for size, width, step in zip(x.shape[2:], kernel, stride, strict=True):
        missing = width - step + -size % step
        pads = [missing // 2, missing - missing // 2, *pads]
    return F.pad(x, pads) if torch.compiler.is_compiling() or any(pads) else x


class Unit(nn.Module):
    """Convolution, batch norm, ReLU: (B, C, T, H, W) -> (B, C', T/s, H/s, W/s), rounded up."""

    def __init__(self, in_channels: int, channels: int, width: int = 1, stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride = (width,) * 3, stride
        # In a Sequential, so that inference can fold the batch norm into the convolution.
        self.layers = nn.Sequential(
            nn.Conv3d(in_channels, channels, width, stride, bias=False),
            nn.BatchNorm3d(channels, eps=1e-3, momentum=0.01),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x after convolution, batch norm and ReLU."""
        out: Tensor = self.layers(filled(x, self.kernel, self.stride))
        return out


class Pool(nn.Module):
    """Max-pool with "same" padding. What it fills with is 0, and no maximum is below, for it follows a ReLU."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the largest values of x."""
        return F.max_pool3d(filled(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """An Inception block: four branches side by side, their channels one after the other."""

    def __init__(self, in_channels: int, channels: Branches) -> None:
        super().__init__()
        one, before_a, a, before_b, b, after_pool = channels
        self.branches = nn.ModuleList(
            [
                Unit(in_channels, one),
                nn.Sequential(Unit(in_channels, before_a), Unit(before_a, a, 3)),
                nn.Sequential(Unit(in_channels, before_b), Unit(before_b, b, 3)),
                nn.Sequential(Pool((3, 3, 3), (1, 1, 1)), Unit(in_channels, after_pool)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the branches side by side."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def make_features(config: I3DConfig, keep_time: bool) -> tuple[nn.Sequential, int]:
    """Return all layers before the head, and the number of their channels.

    With ``keep_time`` they halve time twice, (B, C, T/4, H/32, W/32), otherwise four times.
    """

    def few(channels: int) -> int:
        return -(-channels // config.divide)

    in_channels = few(192)

    def mixed(*names: str) -> list[nn.Module]:
        nonlocal in_channels
        blocks: list[nn.Module] = []
        for name in names:
            one, before_a, a, before_b, b, after_pool = (few(channels) for channels in MIXED[name])
            blocks.append(Mixed(in_channels, (one, before_a, a, before_b, b, after_pool)))
            in_channels = one + a + b + after_pool
        return blocks

    early = 1 if keep_time else 2
    layers = nn.Sequential(  # shapes for (B, 3, 64, 224, 224), time halved
        Unit(INPUTS[config.input].channels, few(64), 7, stride=(early, 2, 2)),  # (B, 64, 32, 112, 112)
        Pool((1, 3, 3), (1, 2, 2)),
        Unit(few(64), few(64)),
        Unit(few(64), few(192), 3),
        Pool((1, 3, 3), (1, 2, 2)),
        *mixed("3b", "3c"),  # (B, 480, 32, 28, 28)
        Pool((3, 3, 3), (2, 2, 2)),
        *mixed("4b", "4c", "4d", "4e", "4f"),  # (B, 832, 16, 14, 14)
        Pool((2, 2, 2), (2, 2, 2)),
        *mixed("5b", "5c"),  # (B, 1024, 8, 7, 7)
    )
    return layers, in_channels


class I3D(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: I3DConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or I3DConfig()
        self.features, channels = make_features(config, keep_time=False)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Conv3d(channels, config.n_outputs, 1)

    def forward(self, clip: Tensor, fps: Tensor | None = None) -> Tensor:
        """Return hr_bpm (B,) of clip (B, 3, T, H, W) at fps (B,)."""
        transform = INPUTS[self.config.input].transform
        x = 2 * checked(clip) - 1 if self.config.input == "rgb" else transform(checked(clip))
        x = self.features(x.to(self.head.weight.dtype)).mean((2, 3, 4), keepdim=True)
        return as_hr_bpm(self.head(self.drop(x))[:, 0, 0, 0, 0], fps).to(clip.dtype)


class I3DWave(nn.Module):
    """The variant that gives a wave; see the top of this file."""

    def __init__(self, config: I3DConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or I3DConfig()
        self.features, channels = make_features(config, keep_time=True)
        self.upsample = make_upsampler(channels)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Conv3d(channels, config.n_outputs, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Return bvp (B, T) of clip (B, 3, T, H, W)."""
        x = prepare_input(clip, self.config.input, self.head.weight.dtype)
        x = self.upsample(self.features(x).mean((3, 4), keepdim=True))  # (B, C, T, 1, 1)
        bvp: Tensor = self.head(self.drop(x))[:, 0, : clip.shape[2], 0, 0].to(clip.dtype)
        return bvp
