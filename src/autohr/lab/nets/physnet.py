"""PhysNet (Yu, Li, Zhao, BMVC 2019, arXiv:1905.02419), the encoder-decoder with 3D convolutions.

Paper: Remote Photoplethysmograph Signal Measurement from Facial Videos Using Spatio-Temporal Networks.

clip (B, 3, T, H, W) in [0, 1] -> bvp (B, T).

Any T from 4 up: a multiple of 4 is taken as it is, another is filled up at its end with copies of the last frame, and
the wave cut back to T. Any H and W from 16 up. The paper: 128 frames of 128x128.

Differs from the paper: ``theta`` turns every 3x3x3 convolution into a temporal difference convolution, which is the
host of AutoHR's ablation (Fig. 4b); the first convolution, 1x5x5, has no neighbouring frames and stays as it is. The
mean over the picture is a plain mean, which exports. Checked against: 768,577 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from autohr.lab.nets._inputs import INPUTS, check_input, prepare_input
from autohr.lab.nets._spec import Preset, check_whole
from autohr.lab.nets._tdc import TemporalDifferenceConv3d
from autohr.lab.nets.autohr import make_upsampler


@dataclass(frozen=True)
class PhysNetConfig:
    """The defaults are the paper's network. Refuses with ValueError what cannot be built."""

    theta: float = 0.0
    """Theta of every 3x3x3 convolution; 0 is PhysNet, AutoHR's Fig. 4b goes to 1."""
    input: str = "rgb"
    """One of ``inputs.INPUTS``: "rgb" is the paper's."""
    channels: int = 16
    """Channels of the first convolution; the second has twice, the others four times as many."""

    def __post_init__(self) -> None:
        check_input(self.input)
        check_whole("channels", self.channels, 1, 256)
        if isinstance(self.theta, bool) or not isinstance(self.theta, (int, float)):
            raise ValueError(f"theta={self.theta!r} must be a number; the paper's are 0 to 1.")


PRESETS = {
    "paper": Preset(PhysNetConfig(), size_px=128, n_frames=128, what="PhysNet as published"),
    "small": Preset(
        PhysNetConfig(input="difference", channels=8),
        size_px=64,
        n_frames=256,
        what="half of the channels, and an input that learns sooner than raw frames",
    ),
}
"""The sizes of small are ours: what two cores train in a quarter of an hour."""


def conv_3x3x3(in_channels: int, channels: int, theta: float) -> list[nn.Module]:
    """Return a convolution with batch norm and ReLU: (B, C, T, H, W) to (B, C', T, H, W)."""
    return [
        TemporalDifferenceConv3d(in_channels, channels, 3, theta=theta, bias=True),
        nn.BatchNorm3d(channels),
        nn.ReLU(),
    ]


class PhysNet(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: PhysNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PhysNetConfig()
        theta, few, some, many = config.theta, config.channels, 2 * config.channels, 4 * config.channels
        self.encoder = nn.Sequential(  # shapes for (B, 3, T, 128, 128)
            nn.Conv3d(INPUTS[config.input].channels, few, (1, 5, 5), padding=(0, 2, 2)),
            nn.BatchNorm3d(few),
            nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),  # (B, 16, T, 64, 64)
            *conv_3x3x3(few, some, theta),
            *conv_3x3x3(some, many, theta),
            nn.MaxPool3d((2, 2, 2)),  # (B, 64, T/2, 32, 32)
            *conv_3x3x3(many, many, theta),
            *conv_3x3x3(many, many, theta),
            nn.MaxPool3d((2, 2, 2)),  # (B, 64, T/4, 16, 16)
            *conv_3x3x3(many, many, theta),
            *conv_3x3x3(many, many, theta),
            nn.MaxPool3d((1, 2, 2)),  # (B, 64, T/4, 8, 8)
            *conv_3x3x3(many, many, theta),
            *conv_3x3x3(many, many, theta),
        )
        self.upsample = make_upsampler(many)
        self.head = nn.Conv3d(many, 1, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Return bvp (B, T) of clip (B, 3, T, H, W)."""
        T = clip.shape[2]
        x = prepare_input(clip, self.config.input, self.head.weight.dtype)
        x = self.encoder(x)  # (B, 64, T/4, 8, 8)
        x = self.upsample(x)  # (B, 64, T, 8, 8)
        x = self.head(x.mean((3, 4), keepdim=True))  # (B, 1, T, 1, 1)
        bvp: Tensor = x[:, 0, :T, 0, 0].to(clip.dtype)
        return bvp
