"""rPPGNet (Yu, Peng, Li, Hong, Zhao, ICCV 2019, arXiv:1907.11921), without its video enhancer.

Paper: Remote Heart Rate Measurement from Highly Compressed Facial Videos: an End-to-end Deep Learning Solution with
Video Enhancement.

clip (B, 3, T, H, W) in [0, 1] -> bvp (B, T); with ``parts`` what its losses compare as well.

Any T from 4 up, any H and W from 16 up. The paper: 64 frames of 128x128. Time is never pooled, and no layer but the
first sees the whole picture: a branch on the first features says where skin is, and what is skin is attended to.

    stem      conv 1x5x5                              T x H x W      mean-pool 1x2x2
    f64       two factorised convolutions             T x H/2 x W/2  -> skin branch; mean-pool
    f32       two                                     T x H/4 x W/4  -> auxiliary wave; mean-pool
    f16       three                                   T x H/8 x W/8  -> the wave; and of each of its quarters one
    skin      conv 1x3x3 twice and a shortcut, conv 1x3x3, sigmoid

A factorised convolution is 1x3x3 to M channels, then 3x1x1; M is such that both together have as many weights as
3x3x3 would.

Differs from the paper: STVEN, the enhancer of compressed videos that goes before, is left out: Table II of AutoHR is
without it. The released file has two convolutions that are never used, and lets the first quarter share the head of
the whole wave: the two are left out, the sharing is kept. Attention is multiplied by H W, so that features keep their
size: without it they are so small that half precision loses them in the head's bias; a correlation sees no difference.
The masks that the skin branch learns from are our own estimate (``train/steps.py``), where the paper has a skin filter
of bob. Checked against: the published parameter counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._inputs import INPUTS, check_input, checked
from autohr.lab.nets._operations import mean_pool
from autohr.lab.nets._spec import Preset, check_whole


@dataclass(frozen=True)
class RPPGNetConfig:
    """The defaults are the paper's network. Refuses with ValueError what cannot be built."""

    channels: int = 16
    """Channels of the stem; the next stage has twice, the others four times as many."""
    input: str = "rgb"
    """One of ``inputs.INPUTS``: "rgb" is the paper's."""

    def __post_init__(self) -> None:
        check_input(self.input)
        check_whole("channels", self.channels, 1, 256)


PRESETS = {
    "paper": Preset(RPPGNetConfig(), size_px=128, n_frames=64, what="rPPGNet as published, without STVEN"),
    "small": Preset(
        RPPGNetConfig(channels=8, input="difference"),
        size_px=64,
        n_frames=128,
        what="half of the channels, and an input that learns sooner than raw frames",
    ),
}
"""The sizes of small are ours."""


def factorised(in_channels: int, channels: int) -> list[nn.Module]:
    """Return a factorised convolution: (B, C, T, H, W) to (B, C', T, H, W)."""
    between = 27 * in_channels * channels // (9 * in_channels + 3 * channels)
    return [
        nn.Conv3d(in_channels, between, (1, 3, 3), padding=(0, 1, 1)),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(between, channels, (3, 1, 1), padding=(1, 0, 0)),
        nn.BatchNorm3d(channels),
        nn.ReLU(),
    ]


def attended(features: Tensor, skin: Tensor) -> Tensor:
    """Return features (B, C, T, H, W), strongest where they and skin (B, 1, T, 2^k H, 2^k W) in 0..1 are."""
    x = features.float()
    _, _, n_frames, height, width = x.shape
    place = torch.sigmoid(x.mean(1, keepdim=True)) + torch.sigmoid(x.amax(1, keepdim=True))
    place = place + F.adaptive_avg_pool3d(skin.float(), (n_frames, height, width))
    weight = torch.softmax(place.flatten(3), dim=3).reshape(place.shape)
    return (x * weight * (height * width)).to(features.dtype)


class RPPGNet(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: RPPGNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RPPGNetConfig()
        few, some, many = config.channels, 2 * config.channels, 4 * config.channels
        self.stem = nn.Sequential(
            nn.Conv3d(INPUTS[config.input].channels, few, (1, 5, 5), padding=(0, 2, 2)), nn.BatchNorm3d(few), nn.ReLU()
        )
        self.f64 = nn.Sequential(*factorised(few, some), *factorised(some, some))
        self.f32 = nn.Sequential(*factorised(some, many), *factorised(many, many))
        self.f16 = nn.Sequential(*factorised(many, many), *factorised(many, many), *factorised(many, many))
        self.skin_main = nn.Sequential(
            nn.Conv3d(some, 16, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.Conv3d(16, 8, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(8),
            nn.ReLU(),
        )
        self.skin_shortcut = nn.Sequential(nn.Conv3d(some, 8, 1), nn.BatchNorm3d(8), nn.ReLU())
        self.skin_head = nn.Conv3d(8, 1, (1, 3, 3), padding=(0, 1, 1))
        self.head = nn.Conv3d(many, 1, 1)
        self.auxiliary_head = nn.Conv3d(many, 1, 1)
        self.quarter_heads = nn.ModuleList(nn.Conv3d(many, 1, 1) for _ in range(3))

    def forward(self, clip: Tensor, parts: bool = False) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return bvp (B, T) of clip (B, 3, T, H, W).

        With ``parts`` also the waves (B, 5, T) of the auxiliary head and the quarters, and the skin (B, T, H/2, W/2)
        before its sigmoid.
        """
        x = INPUTS[self.config.input].transform(checked(clip)).to(self.head.weight.dtype)
        f64 = self.f64(mean_pool(self.stem(x)))
        f32 = self.f32(mean_pool(f64))
        f16 = self.f16(mean_pool(f32))
        skin_logit = self.skin_head(self.skin_main(f64) + self.skin_shortcut(f64)).float()
        skin = torch.sigmoid(skin_logit)
        main = attended(f16, skin)
        bvp = wave(self.head, main).to(clip.dtype)
        if not parts:
            return bvp
        half_height, half_width = main.shape[3] // 2, main.shape[4] // 2
        quarters = [
            main[:, :, :, rows, columns]
            for rows in (slice(None, half_height), slice(-half_height, None))
            for columns in (slice(None, half_width), slice(-half_width, None))
        ]
        waves = [wave(self.auxiliary_head, attended(f32, skin))]
        waves += [wave(head, one) for head, one in zip([self.head, *self.quarter_heads], quarters, strict=True)]
        return bvp, torch.stack(waves, dim=1), skin_logit[:, 0]


def wave(head: nn.Module, features: Tensor) -> Tensor:
    """Return the wave (B, T) of features (B, C, T, H, W)."""
    out: Tensor = head(features.mean((3, 4), keepdim=True))[:, 0, :, 0, 0]
    return out
