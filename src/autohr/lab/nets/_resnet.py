"""ResNet-18: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385).

picture (B, C, H, W) -> features (B, 8 width), 512 as published. Any size from 1x1 up. Our own code, in the paper's
layout; weights begin by chance. Checked against: 11,177,025 parameters with one linear output.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64
"""Channels of the published stem; the last blocks have eight times as many."""


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
    """The network without its classifier, of any width."""

    def __init__(self, in_channels: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.n_features = 8 * width
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        before = width
        for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            blocks += [Block(before, channels, stride), Block(channels, channels, 1)]
            before = channels
        self.blocks = nn.Sequential(*blocks)

    def forward(self, picture: Tensor) -> Tensor:
        """Return features (B, n_features) of picture (B, C, H, W)."""
        features: Tensor = self.blocks(self.stem(picture)).mean((2, 3))
        return features
