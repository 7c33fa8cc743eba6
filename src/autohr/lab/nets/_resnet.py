"""ResNet-18: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385).

picture (B, C, H, W) -> features (B, C), 512 as published. Any size from 1x1 up. Our own code, in the paper's
layout; weights begin by chance. Checked against: 11,177,025 parameters with one linear output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)
"""Published channels of the four stages, of two blocks each; the stem has as many as the first."""


class Block(nn.Module):
    """(B, C, H, W) -> (B, C', H/s, W/s): two 3x3 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ReLU of the layers and the shortcut."""
        return F.relu(self.layers(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """The network without its classifier, with any number of channels."""

    def __init__(self, in_channels: int = 3, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.n_features = channels[-1]
        before = channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, before, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        for after, stride in zip(channels, (1, 2, 2, 2), strict=True):
            blocks += [Block(before, after, stride), Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*blocks)

    def forward(self, picture: Tensor) -> Tensor:
        """Return features (B, C) of picture (B, C, H, W)."""
        features: Tensor = self.blocks(self.stem(picture)).mean((2, 3))
        return features
