"""AutoHR (Yu, Li, Niu, Shi, Zhao, IEEE Signal Processing Letters 2020, arXiv:2004.12292).

Paper: AutoHR: A Strong End-to-end Baseline for Remote Heart Rate Measurement with Neural Searching.

clip (B, 3, T, H, W) in [0, 1] -> bvp (B, T).

Any T from 4 up: a multiple of 4 is taken as it is, another is filled up at its end with copies of the last frame, and
the wave cut back to T. Any H and W from 16 up. The paper: 160 frames of 112x112.

    stem     conv 1x5x5, batch norm, ReLU, max-pool            T x H x W  ->  T x H/2 x W/2
    block    two cells; after the first three a max-pool       1x2x2, 2x2x2, 2x2x2
    head     two transposed convolutions, each doubling T; mean over the picture; one channel

Differs from the paper: the searched cell is a reconstruction (``genotype.GENOTYPES``), for the published one is in no
public source; a cell reads the two cells before it, c_k-2 and c_k-1, as in PC-DARTS and the author's neighbouring code,
where the text and Fig. 3b show one input node (``SpaceConfig.n_inputs`` = 1); what Fig. 3 leaves open (order within the
stem, overlapping pools, strides of the c_k-2 branch, the head's ELU) follows the author's neighbouring code; the mean
over the picture is a plain mean, which can be exported; ``input`` and the ``small`` preset are ours. Checked against:
the shapes of Fig. 3a.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autohr.lab.nets._genotype import GENOTYPES, N_BLOCKS, Cell, Genotype, as_genotype
from autohr.lab.nets._inputs import INPUTS, check_input, prepare_input
from autohr.lab.nets._operations import OPS
from autohr.lab.nets._spec import Preset
from autohr.lab.nets._tdc import Triple

POOLS: tuple[Triple, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
"""Strides (T, H, W) of the max-pools after the first three blocks (AutoHR, Sec. II-B)."""


MAX_CONFIG_VALUES = {"stem_channels": 1024, "channels": 1024, "cells_per_block": 16, "stem_stride": 4}
"""Upper limits for values read from a file, so that a hostile file cannot exhaust memory."""


@dataclass(frozen=True)
class AutoHRConfig:
    """The defaults are the paper's network. Refuses with ValueError what cannot be built."""

    genotype: Genotype = field(default_factory=lambda: GENOTYPES["fig5_plausible_v1"])
    """Also given as a name of ``GENOTYPES`` or as the object that ``Genotype.as_dict`` makes."""
    stem_channels: int = 16
    """Twice the 8 of the search (AutoHR, Sec. III-B)."""
    channels: int = 32
    """Channels of every node; a cell's output has n_nodes times as many. The text: "doubled"; Fig. 3: 48 = 3 x 16."""
    cells_per_block: int = 2
    stem_stride: int = 1
    """Spatial stride (height and width) of the stem convolution. 1 as in the paper; 2 costs a quarter."""
    input: str = "rgb"
    """One of ``inputs.INPUTS``: "rgb" is the paper's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "genotype", as_genotype(self.genotype))
        check_input(self.input)
        for name, most in MAX_CONFIG_VALUES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name}={value!r} must be a whole number from 1 to {most}.")


_V2 = GENOTYPES["fig5_plausible_v2"]

PRESETS: dict[str, Preset] = {
    "paper": Preset(
        AutoHRConfig(),
        size_px=112,
        n_frames=160,
        what="AutoHR as published, its cell reconstructed: 1.04 M parameters, 58 GFLOP per second of video",
    ),
    "small": Preset(
        AutoHRConfig(genotype=_V2, stem_channels=16, channels=16, stem_stride=2, input="difference"),
        size_px=64,
        n_frames=160,
        what="live on a part of one core: 0.22 M parameters, 1.0 GFLOP per second of video",
    ),
    "tiny": Preset(
        AutoHRConfig(genotype=_V2, stem_channels=8, channels=8, stem_stride=2, input="difference"),
        size_px=64,
        n_frames=160,
        what="trained on two cores: 0.05 M parameters, 0.3 GFLOP per second of video",
    ),
}
"""A second of video is 30 frames of ``size_px``; two FLOP to a multiplication with addition. The sizes of small and
tiny are ours: the shipped cell of fewest parameters, a first layer that learns sooner than raw frames, and
first features of 16x16, on whose number the cost hangs."""


def make_stem(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Return the stem: (B, C, T, H, W) to (B, C', T, H/2, W/2), or half of that with stride 2."""
    return nn.Sequential(
        nn.Conv3d(in_channels, channels, (1, 5, 5), (1, stride, stride), padding=(0, 2, 2), bias=False),
        nn.BatchNorm3d(channels),
        nn.ReLU(),
        max_pool((1, 2, 2)),
    )


def max_pool(stride: Triple) -> nn.MaxPool3d:
    """Return a max-pool that overlaps: 3 wide wherever it halves.

    Odd sizes then round up, as they do in a strided 1x1x1 convolution.
    """
    kernel = (1 if stride[0] == 1 else 3, 1 if stride[1] == 1 else 3, 1 if stride[2] == 1 else 3)
    return nn.MaxPool3d(kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2))


def preprocess(in_channels: int, channels: int, stride: Triple = (1, 1, 1)) -> nn.Sequential:
    """Return the layers that bring one input of a cell to the cell's width and size."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv3d(in_channels, channels, 1, stride, bias=False),
        nn.BatchNorm3d(channels, affine=False),
    )


def make_upsampler(channels: int) -> nn.Sequential:
    """Return the layers (B, C, T, H, W) to (B, C, 4 T, H, W)."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.ConvTranspose3d(channels, channels, (4, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
            nn.BatchNorm3d(channels),
            nn.ELU(),
        ]
    return nn.Sequential(*layers)


class SearchedCell(nn.Module):
    """c_k-2 (B, C0, ...) and c_k-1 (B, C1, T, H, W) -> (B, n_nodes * C, T, H, W)."""

    def __init__(self, cell: Cell, in_channels: tuple[int, int], channels: int, stride_before: Triple) -> None:
        """Build the cell.

        ``stride_before`` is that of the pool that c_k-1 went through and c_k-2 did not; (1, 1, 1) for none.
        """
        super().__init__()
        self.reads_before_last = len(cell[0]) > 1
        if self.reads_before_last:
            self.from_before_last = preprocess(in_channels[0], channels, stride_before)
        self.from_last = preprocess(in_channels[1], channels)
        self.sources = tuple(tuple(edge.source for edge in node) for node in cell)
        self.ops = nn.ModuleList(
            nn.ModuleList(OPS[edge.op](channels, edge.theta, True) for edge in node) for node in cell
        )

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """Return the outputs of the nodes side by side."""
        x = self.from_last(last)
        # A cell that does not read c_k-2 still counts its sources from there.
        states = [self.from_before_last(before_last) if self.reads_before_last else x, x]
        for sources, ops in zip(self.sources, self.ops, strict=True):
            parts = [op(states[source]) for source, op in zip(sources, ops, strict=True)]  # type: ignore[call-overload]
            states.append(functools.reduce(torch.add, parts))
        return torch.cat(states[2:], dim=1)


class AutoHR(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: AutoHRConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AutoHRConfig()
        width = config.genotype.n_nodes * config.channels
        self.stem = make_stem(INPUTS[config.input].channels, config.stem_channels, config.stem_stride)
        self.blocks = nn.ModuleList()
        self.pools = nn.ModuleList(max_pool(stride) for stride in POOLS)
        incoming = (config.stem_channels, config.stem_channels)
        for block in range(N_BLOCKS):
            cells = nn.ModuleList()
            for place in range(config.cells_per_block):
                stride = POOLS[block - 1] if block and place == 0 else (1, 1, 1)
                cells.append(SearchedCell(config.genotype.cell_of_block(block), incoming, config.channels, stride))
                incoming = (incoming[1], width)
            self.blocks.append(cells)
        self.upsample = make_upsampler(width)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Return bvp (B, T) of clip (B, 3, T, H, W)."""
        # Shapes of the paper's size in the comments: clip (B, 3, 160, 112, 112).
        T = clip.shape[2]
        x = prepare_input(clip, self.config.input, self.head.weight.dtype)
        before_last = last = self.stem(x)  # (B, 16, 160, 56, 56)
        for block, pool in zip(self.blocks, [*self.pools, nn.Identity()], strict=True):
            for cell in block:  # type: ignore[attr-defined]
                before_last, last = last, cell(before_last, last)
            last = pool(last)  # (B, 96, 160, 28, 28), (80, 14, 14), (40, 7, 7), (40, 7, 7)
        x = self.upsample(last)  # (B, 96, 160, 7, 7)
        x = self.head(x.mean((3, 4), keepdim=True))  # (B, 1, 160, 1, 1)
        bvp: Tensor = x[:, 0, :T, 0, 0].to(clip.dtype)
        return bvp
