"""ResNet-18: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385).

picture (B, C, H, W) -> features (B, 512). Any size from 1x1 up. Our own code, in the paper's layout; weights begin by
chance. Checked against: 11,177,025 parameters with one linear output.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 512


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
    """The network without its classifier."""

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )
        blocks: list[nn.Module] = []
        before = 64
        for channels, stride in ((64, 1), (128, 2), (256, 2), (FEATURES, 2)):
            blocks += [Block(before, channels, stride), Block(channels, channels, 1)]
            before = channels
        self.blocks = nn.Sequential(*blocks)

    def forward(self, picture: Tensor) -> Tensor:
        """Return features (B, 512) of picture (B, C, H, W)."""
        features: Tensor = self.blocks(self.stem(picture)).mean((2, 3))
        return features
