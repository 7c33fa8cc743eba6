"""DeepPhys (Chen, McDuff, ECCV 2018, arXiv:1805.07888).

Paper: DeepPhys: Video-Based Physiological Measurement Using Convolutional Attention Networks.

clip (B, 3, T, H, W) in [0, 1] -> bvp (B, T).

Any T from 4 up, any H and W from 16 up; pictures are brought to ``size_px`` by the mean over areas. Two branches of the
same shape look at every frame alone: one at its change to the next frame, one at the frame itself, which says where
to look. The net estimates the step of the pulse from a frame to the next; the wave is the sum of its steps.

    d[t]      (c[t+1] - c[t]) / (c[t+1] + c[t]) of frames c clipped to 1/255..1, over its standard deviation, to +-3
    branches  conv 3x3 same, conv 3x3 valid, gate, mean-pool 2, dropout; twice
    gate      sigmoid of a 1x1 convolution of the appearance, over its sum, times H W / 2
    head      dense 128, dropout, dense 1

Differs from the paper: standard deviations are those of the clip given, not of the whole video, which the net cannot
know; pictures are made smaller by areas (as MTTS-CAN, by the same group) and not bicubically; the mean of the steps,
which is a drift and no pulse, is taken off before they are summed. Layers were read in MTTS-CAN's and rPPG-Toolbox's
versions, not in the authors' own, which is not public. Checked against: the published parameter counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._inputs import STEADY, checked
from autohr.lab.nets._operations import mean_pool
from autohr.lab.nets._spec import Preset, check_whole

DARKEST = 1 / 255
DIFFERENCE_CLIP = 3.0
"""Largest difference, in standard deviations (DeepPhys, Sec. 3.2)."""


@dataclass(frozen=True)
class DeepPhysConfig:
    """The defaults are the paper's network. Refuses with ValueError what cannot be built."""

    size_px: int = 36
    """Side of the pictures that it looks at; rPPG-Toolbox takes 72."""
    channels: int = 32
    """Channels of the first two convolutions; the others have twice as many."""
    dense: int = 128
    dropout: float = 0.25
    """After each pool; before the last layer twice as much."""

    def __post_init__(self) -> None:
        for name, least, most in (("size_px", 16, 256), ("channels", 1, 512), ("dense", 1, 4096)):
            check_whole(name, getattr(self, name), least, most)
        if not 0 <= self.dropout <= 0.5:
            raise ValueError(f"dropout={self.dropout!r} must lie between 0 and 0.5.")


PRESETS = {
    "paper": Preset(DeepPhysConfig(), size_px=36, n_frames=128, what="DeepPhys as published"),
    "small": Preset(
        DeepPhysConfig(channels=16, dense=64),
        size_px=36,
        n_frames=256,
        what="half of the channels of DeepPhys",
    ),
}
"""The sizes of small are ours. A frame is read alone, so that the number of frames is that of the loss."""


class Stage(nn.Module):
    """(B, C, T, H, W) -> (B, C', T, H - 2, W - 2): the two convolutions before a gate. Each frame alone."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.same = nn.Conv3d(in_channels, channels, (1, 3, 3), padding=(0, 1, 1))
        self.valid = nn.Conv3d(channels, channels, (1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of x."""
        return torch.tanh(self.valid(torch.tanh(self.same(x))))


def attention(gate: Tensor) -> Tensor:
    """Return the attention of a gate (B, 1, T, H, W) before its sigmoid; every frame's mean is 1/2."""
    weight = torch.sigmoid(gate.float())
    height, width = weight.shape[3:]
    return 0.5 * height * width * weight / weight.sum((3, 4), keepdim=True)


class DeepPhys(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: DeepPhysConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DeepPhysConfig()
        widths = [(3, config.channels), (config.channels, 2 * config.channels)]
        self.motion = nn.ModuleList(Stage(*width) for width in widths)
        self.appearance = nn.ModuleList(Stage(*width) for width in widths)
        self.gates = nn.ModuleList(nn.Conv3d(channels, 1, 1) for _, channels in widths)
        self.drop = nn.Dropout(config.dropout)
        side = ((config.size_px - 2) // 2 - 2) // 2  # 7 of 36
        self.dense = nn.Linear(2 * config.channels * side * side, config.dense)
        self.drop_last = nn.Dropout(2 * config.dropout)
        self.head = nn.Linear(config.dense, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Return bvp (B, T) of clip (B, 3, T, H, W)."""
        # Shapes of the paper's size in the comments.
        size = self.config.size_px
        c = F.adaptive_avg_pool3d(checked(clip), (clip.shape[2], size, size)).clamp_min(DARKEST)
        now, following = c[:, :, :-1], c[:, :, 1:]
        motion = in_its_sd((following - now) / (following + now)).clamp(-DIFFERENCE_CLIP, DIFFERENCE_CLIP)
        appearance = in_its_sd(now - now.mean((1, 2, 3, 4), keepdim=True))
        motion, appearance = (x.to(self.head.weight.dtype) for x in (motion, appearance))
        for of_motion, of_appearance, gate in zip(self.motion, self.appearance, self.gates, strict=True):
            motion, appearance = of_motion(motion), of_appearance(appearance)  # (B, 32, T-1, 34, 34), (64, 15, 15)
            motion = motion * attention(gate(appearance)).to(motion.dtype)
            motion, appearance = (self.drop(mean_pool(x)) for x in (motion, appearance))
        features = motion.permute(0, 2, 1, 3, 4).flatten(2)  # (B, T-1, 3136)
        steps = self.head(self.drop_last(torch.tanh(self.dense(features))))[..., 0].float()  # (B, T-1)
        bvp = torch.cumsum(steps - steps.mean(1, keepdim=True), dim=1)
        return F.pad(bvp, (1, 0)).to(clip.dtype)


def in_its_sd(x: Tensor) -> Tensor:
    """Return x (B, ...) over its standard deviation in each clip; a still clip stays near zero."""
    return x / (x.var((1, 2, 3, 4), keepdim=True) + STEADY**2).sqrt()
