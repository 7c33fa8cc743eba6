"""Space of the search: the supernet, in which every edge is a mixture of all operations, and the derivation of a cell.

PC-DARTS (Xu et al., ICLR 2020) in the space of AutoHR (Yu et al., IEEE Signal Processing Letters 2020, Sec. II-B). On
an edge, the first 1/K of the channels go through all operations, whose results are added by softmax(alpha); the other
channels pass; a shuffle lets the next edge see others of them. A node adds its edges by softmax(beta).

The mixture is computed in two forms of equal output from the same parameters. One operation at a time is the
reference. Fused is what a search runs: of all edges that read one tensor, all operations whose kernels fit into one
shape are one convolution, their batch norms are one, and their weighted sum is a convolution of 1x1x1. A fused
kernel's multiplications by zero cost less than the calls that it saves (``benchmarks/search.py``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autohr.errors import AutoHRError
from autohr.lab.nets._genotype import N_BLOCKS, N_INPUTS, SPACE, SPACE_WITHOUT_TDC, Cell, Edge, Genotype, Op
from autohr.lab.nets._inference import fold
from autohr.lab.nets._inputs import INPUTS, check_input, prepare_input
from autohr.lab.nets._operations import OPS
from autohr.lab.nets._tdc import Triple, fold_theta
from autohr.lab.nets.autohr import (
    MAX_CONFIG_VALUES,
    POOLS,
    AutoHR,
    AutoHRConfig,
    make_stem,
    make_upsampler,
    max_pool,
    preprocess,
)
from autohr.lab.recipes.parsing import STRICT

Kind = Literal["shared", "varied"]

N_NODES = 3
"""Intermediate nodes of a cell (AutoHR, Fig. 3b)."""
EDGES: tuple[tuple[int, int], ...] = tuple(
    (node, source) for node in range(N_NODES) for source in range(N_INPUTS + node)
)
"""(node, source) of every edge, in the order of the rows of alpha and beta. Sources as in a genotype: 0 is c_k-2, 1 is
c_k-1, 2 is node 0, 3 is node 1."""
ALPHA_SD = 1e-3
"""Standard deviation of the first alphas and betas (PC-DARTS)."""

READINGS = ((0, 1), (2,), (3,))
"""Sources that are read together: c_k-2 and c_k-1 are known at once, a node when all edges into it are."""

GROUPS: tuple[Triple, ...] = ((1, 5, 5), (5, 1, 1), (3, 3, 3))
"""Kernels (T, H, W) of the fused convolutions; an operation goes into the first that holds it. Chosen by us: of those
tried, the fewest multiplications by zero."""
_KERNELS: dict[str, Triple] = {
    "conv_3x3x3": (3, 3, 3),
    "tdc_3x3x3": (3, 3, 3),
    "conv_1x3x3": (1, 3, 3),
    "conv_1x5x5": (1, 5, 5),
    "conv_3x1x1": (3, 1, 1),
    "conv_5x1x1": (5, 1, 1),
}


def edges_into(node: int, n_inputs: int = N_INPUTS) -> list[int]:
    """Return the rows of ``EDGES`` that lead to a node; with one input none of them comes from c_k-2."""
    return [row for row, (to, source) in enumerate(EDGES) if to == node and source >= N_INPUTS - n_inputs]


@checked(frozen=True, config=STRICT)
class SpaceConfig:
    """Space that is searched. The defaults are the paper's."""

    kind: Kind = "shared"
    """One cell for all four blocks ("shared"), or one for each ("varied")."""
    tdc: bool = True
    """True to have the two TDCs among the operations."""
    stem_channels: Annotated[int, Field(ge=1, le=MAX_CONFIG_VALUES["stem_channels"])] = 8
    """Channels of the supernet's stem (AutoHR, Fig. 3a)."""
    channels: Annotated[int, Field(ge=1, le=MAX_CONFIG_VALUES["channels"])] = 16
    """Channels of every node of the supernet: the 48 of the figure's head are 3 nodes (inferred)."""
    partial: Annotated[int, Field(ge=1, le=64)] = 4
    """K of PC-DARTS: one channel in K goes through the operations. 4 is PC-DARTS's; 1 sends all, which is DARTS with
    edge normalisation."""
    cells_per_block: Annotated[int, Field(ge=1, le=MAX_CONFIG_VALUES["cells_per_block"])] = 2
    stem_stride: Annotated[int, Field(ge=1, le=MAX_CONFIG_VALUES["stem_stride"])] = 1
    """Spatial stride (height and width) of the stem's convolution. 1 as in the paper."""
    input: str = "rgb"
    """Name in ``INPUTS``; "rgb" is the paper's."""
    n_inputs: Literal[1, 2] = 2
    """Cells that a cell reads: the two before it, c_k-2 and c_k-1, which makes nine edges (PC-DARTS), or c_k-1 alone,
    which makes six (the one input of the text and Fig. 3b)."""
    widen: Annotated[int, Field(ge=1, le=64)] = 2
    """Channels of the derived network over those of the supernet: "doubles after searching"."""

    def __post_init__(self) -> None:
        check_input(self.input)
        if self.channels % self.partial:
            raise ValueError(f"channels={self.channels} must be a multiple of partial={self.partial}.")

    @property
    def ops(self) -> tuple[Op, ...]:
        """Operations of an edge."""
        return SPACE if self.tdc else SPACE_WITHOUT_TDC

    @property
    def rows(self) -> list[int]:
        """Rows of ``EDGES`` that the space has."""
        return sorted(row for node in range(N_NODES) for row in edges_into(node, self.n_inputs))

    @property
    def n_sets(self) -> int:
        """Number of sets of alphas and betas, and so of cells in the genotype."""
        return 1 if self.kind == "shared" else N_BLOCKS

    def net_config(self, genotype: Genotype) -> AutoHRConfig:
        """Return the config of the network that is trained with a derived cell."""
        return AutoHRConfig(
            genotype=genotype,
            stem_channels=self.widen * self.stem_channels,
            channels=self.widen * self.channels,
            cells_per_block=self.cells_per_block,
            stem_stride=self.stem_stride,
            input=self.input,
        )


# Supernet --------------------------------------------------------------------------------------------------------


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Return (B, C, T, H, W) with channel g * n + i at place i * groups + g, where n is C / groups."""
    if groups == 1:
        return x
    # Channels last, as they lie in memory, and as convolutions want them again.
    last = torch.unflatten(x.movedim(1, -1), -1, (groups, -1))
    return last.transpose(-1, -2).flatten(-2).movedim(-1, 1)


class _Reader(nn.Module):
    """Operations of all edges that read one or two sources, added up at each node that they lead to.

    (B, n_sources * c, T, H, W) -> (B, n_nodes * c, T, H, W). Weights are one parameter for each operation, (E, c, c,
    kt, kh, kw); running means of batch norm are one buffer for each group of operations. Both forms read the same.
    """

    def __init__(self, ops: Sequence[Op], rows: Sequence[int], channels: int) -> None:
        super().__init__()
        self.ops, self.rows, self.channels = tuple(ops), list(rows), channels
        self.sources = sorted({EDGES[row][1] for row in rows})
        self.nodes = sorted({EDGES[row][0] for row in rows})
        self.skip = next(i for i, op in enumerate(ops) if op.op == "skip")
        self.groups: list[tuple[Triple, list[int]]] = [(kernel, []) for kernel in GROUPS]
        self.weights = nn.ParameterDict()
        for index, op in enumerate(ops):
            if op.op not in _KERNELS:
                continue
            kernel = _KERNELS[op.op]
            next(held for large, held in self.groups if all(map(int.__le__, kernel, large))).append(index)
            # The initial weights of Conv3d, edge by edge.
            bound = 1 / math.sqrt(channels * math.prod(kernel))
            weight = torch.empty(len(rows), channels, channels, *kernel)
            self.weights[_name(op)] = nn.Parameter(nn.init.uniform_(weight, -bound, bound))
        for number, (_, held) in enumerate(self.groups):
            self.register_buffer(f"mean_{number}", torch.zeros(len(rows) * len(held) * channels))
            self.register_buffer(f"var_{number}", torch.ones(len(rows) * len(held) * channels))
        # Which source an edge reads, which node it leads to: (E, n_sources) and (E, n_nodes) of 0 and 1.
        for name, names, side in (("reads", self.sources, 1), ("leads", self.nodes, 0)):
            one_hot = torch.tensor([[float(EDGES[row][side] == each) for each in names] for row in rows])
            self.register_buffer(name, one_hot, persistent=False)
        self.register_buffer("eye", torch.eye(channels), persistent=False)

    def kernel(self, index: int) -> Tensor:
        """Return the kernels (E, c, c, kt, kh, kw) of operation number ``index`` as a plain convolution, by edge."""
        op = self.ops[index]
        weight: Tensor = self.weights[_name(op)]
        if op.theta is None:
            return weight
        folded: Tensor = fold_theta(weight.flatten(0, 1), op.theta).view_as(weight)
        return folded

    def plain(self, active: Tensor, shares: Tensor) -> Tensor:
        """Compute one operation at a time; shares (E, n_ops)."""
        sums: dict[int, Tensor] = {}
        for edge, row in enumerate(self.rows):
            node, source = EDGES[row]
            x = torch.unflatten(active, 1, (-1, self.channels))[:, self.sources.index(source)]
            parts = [shares[edge, self.skip] * x]
            for number, (_, held) in enumerate(self.groups):
                means, variances = self._running(number)
                for place, index in enumerate(held):
                    kernel = self.kernel(index)[edge]
                    y = F.conv3d(F.relu(x), kernel, padding=_same(kernel.shape[2:]))
                    y = F.batch_norm(y, means[edge, place], variances[edge, place], training=self.training)
                    parts.append(shares[edge, index] * y)
            for part in parts:
                sums[node] = sums[node] + part if node in sums else part
        return torch.cat([sums[node] for node in self.nodes], 1)

    def fused(self, active: Tensor, shares: Tensor) -> Tensor:
        """Compute all operations of a group, on all edges, at once."""
        reads, leads, eye = (cast(Tensor, buffer) for buffer in (self.reads, self.leads, self.eye))
        lit = F.relu(active)
        total = F.conv3d(active, _point(torch.einsum("e,en,es,cd->ncsd", shares[:, self.skip], leads, reads, eye)))
        for number, (large, held) in enumerate(self.groups):
            stacked = torch.stack([_embedded(self.kernel(index), large) for index in held], 1)
            if len(self.sources) > 1:
                # Zeros for the source that an edge does not read.
                stacked = torch.einsum("eocdthw,es->eocsdthw", stacked, reads).flatten(3, 4)
            y = F.conv3d(lit, stacked.flatten(0, 2), padding=_same(large))
            means, variances = self._running(number)
            y = F.batch_norm(y, means.view(-1), variances.view(-1), training=self.training)
            total = total + F.conv3d(y, _point(torch.einsum("eo,en,cd->nceod", shares[:, held], leads, eye)))
        return total

    def _running(self, number: int) -> tuple[Tensor, Tensor]:
        shape = (len(self.rows), len(self.groups[number][1]), self.channels)
        return getattr(self, f"mean_{number}").view(shape), getattr(self, f"var_{number}").view(shape)


def _point(matrix: Tensor) -> Tensor:
    """Return (n, c, ...) as a kernel (n * c, ..., 1, 1, 1)."""
    return matrix.flatten(0, 1).flatten(1)[:, :, None, None, None]


def _name(op: Op) -> str:
    return op.op if op.theta is None else f"{op.op}_{op.theta:g}".replace(".", "_")


def _same(kernel: Sequence[int]) -> Triple:
    return kernel[0] // 2, kernel[1] // 2, kernel[2] // 2


def _embedded(kernel: Tensor, large: Triple) -> Tensor:
    """Return kernels (..., kt, kh, kw) with zeros around them, (..., *large)."""
    missing = [have - has for has, have in zip(kernel.shape[-3:], large, strict=True)]
    return F.pad(kernel, [m // 2 for m in reversed(missing) for _ in range(2)]) if any(missing) else kernel


class SearchCell(nn.Module):
    """Cell of the supernet: c_k-2, c_k-1, shares of operations and of edges -> (B, N_NODES * C, T, H, W)."""

    def __init__(self, space: SpaceConfig, in_channels: tuple[int, int], stride_before: Triple, *, fused: bool) -> None:
        super().__init__()
        self.partial, self.fused, self.n_inputs = space.partial, fused, space.n_inputs
        self.active = space.channels // space.partial
        if space.n_inputs == N_INPUTS:
            self.from_before_last = preprocess(in_channels[0], space.channels, stride_before)
        self.from_last = preprocess(in_channels[1], space.channels)
        self.readers = nn.ModuleList(
            _Reader(space.ops, [row for row in space.rows if EDGES[row][1] in sources], self.active)
            for sources in READINGS
        )

    def forward(
        self, before_last: Tensor, last: Tensor, op_shares: Tensor, edge_shares: Tensor, passing: float = 1.0
    ) -> Tensor:
        """Return the cell's output; op_shares (n_edges, n_ops), edge_shares (n_edges,).

        ``passing`` is a factor of the channels that pass beside the operations.
        """
        x = self.from_last(last)
        # A cell that does not read c_k-2 still counts its sources from there.
        states = [self.from_before_last(before_last) if self.n_inputs == N_INPUTS else x, x]
        shares = op_shares * edge_shares[:, None]
        mixed: dict[int, Tensor] = {}
        for reader in self.readers:
            assert isinstance(reader, _Reader)
            active = torch.cat([states[source][:, : self.active] for source in reader.sources], 1)
            out = (reader.fused if self.fused else reader.plain)(active, shares[reader.rows])
            for node, part in zip(reader.nodes, torch.split(out, self.active, 1), strict=True):
                mixed[node] = mixed[node] + part if node in mixed else part
            # The node after the last source read has all its edges now.
            node = len(states) - N_INPUTS
            states.append(self._node(mixed[node], states, node, passing * edge_shares))
        return torch.cat(states[N_INPUTS:], dim=1)

    def _node(self, mixed: Tensor, states: Sequence[Tensor], node: int, edge_shares: Tensor) -> Tensor:
        """Return a node's output: the mixture and the channels that pass beside the operations.

        The shuffle is the same on all edges, so it comes after their sum.
        """
        if self.partial == 1:
            return mixed
        rows = edges_into(node, self.n_inputs)
        passed = [edge_shares[row] * states[EDGES[row][1]][:, self.active :] for row in rows]
        return shuffle_channels(torch.cat([mixed, functools.reduce(torch.add, passed)], 1), self.partial)


class SearchNet(nn.Module):
    """The supernet: clip (B, 3, T, H, W) in [0, 1] -> bvp (B, T), as ``AutoHR`` with mixtures for cells.

    Architecture parameters, in the state dict: ``alphas`` (n_sets, n_edges, n_ops) and ``betas`` (n_sets, n_edges),
    rows as ``EDGES``, columns as ``space.ops``. All other parameters are weights. Batch norms in cells have no
    parameters (PC-DARTS).
    """

    def __init__(self, space: SpaceConfig | None = None, *, fused: bool = True) -> None:
        super().__init__()
        self.space = space = space or SpaceConfig()
        width = N_NODES * space.channels
        self.stem = make_stem(INPUTS[space.input].channels, space.stem_channels, space.stem_stride)
        self.blocks = nn.ModuleList()
        self.pools = nn.ModuleList(max_pool(stride) for stride in POOLS)
        incoming = (space.stem_channels, space.stem_channels)
        for block in range(N_BLOCKS):
            cells = nn.ModuleList()
            for place in range(space.cells_per_block):
                stride = POOLS[block - 1] if block and place == 0 else (1, 1, 1)
                cells.append(SearchCell(space, incoming, stride, fused=fused))
                incoming = (incoming[1], width)
            self.blocks.append(cells)
        self.upsample = make_upsampler(width)
        self.head = nn.Conv3d(width, 1, 1)
        self.alphas = nn.Parameter(ALPHA_SD * torch.randn(space.n_sets, len(EDGES), len(space.ops)))
        self.betas = nn.Parameter(ALPHA_SD * torch.randn(space.n_sets, len(EDGES)))
        self.passing = 1.0
        """Factor of the channels that pass beside the operations; 1 in PC-DARTS."""

    def architecture(self) -> list[nn.Parameter]:
        """Return the architecture parameters."""
        return [self.alphas, self.betas]

    def weights(self) -> list[nn.Parameter]:
        """Return all other parameters."""
        return [value for name, value in self.named_parameters() if name not in ("alphas", "betas")]

    def forward(self, clip: Tensor) -> Tensor:
        """Return the pulse wave of a clip."""
        T = clip.shape[2]
        x = prepare_input(clip, self.space.input, self.head.weight.dtype)
        op_shares, edge_shares = strengths(self.alphas, self.betas, self.space.n_inputs)
        before_last = last = self.stem(x)
        for number, (block, pool) in enumerate(zip(self.blocks, [*self.pools, nn.Identity()], strict=True)):
            which = number if len(op_shares) > 1 else 0
            for cell in block:  # type: ignore[attr-defined]
                before_last, last = last, cell(before_last, last, op_shares[which], edge_shares[which], self.passing)
            last = pool(last)
        x = self.upsample(last)
        x = self.head(x.mean((3, 4), keepdim=True))
        bvp: Tensor = x[:, 0, :T, 0, 0].to(clip.dtype)
        return bvp


def strengths(alphas: Tensor, betas: Tensor, n_inputs: int = N_INPUTS) -> tuple[Tensor, Tensor]:
    """Return the shares of operations and edges of alphas (n_sets, n_edges, n_ops) and betas (n_sets, n_edges).

    Those of operations add up to 1 on each edge, those of edges to 1 at each node (PC-DARTS's edge normalisation).
    Edges that a cell with one input does not have get 0.
    """
    absent = torch.tensor([source < N_INPUTS - n_inputs for _, source in EDGES], device=betas.device)
    there = betas.masked_fill(absent, -math.inf)
    return torch.softmax(alphas, -1), torch.cat(
        [torch.softmax(there[:, edges_into(node)], -1) for node in range(N_NODES)], -1
    )


def entropies(alphas: Tensor, betas: Tensor, n_inputs: int = N_INPUTS) -> tuple[float, float]:
    """Return the mean entropies of the shares of operations and of edges, 0 (decided) to 1 (undecided).

    Nodes of a single edge, which is no choice, do not count.
    """
    of_ops, of_edges = _entropies(alphas.detach().double(), betas.detach().double(), n_inputs)
    return float(of_ops), float(of_edges)


def entropy_penalty(alphas: Tensor, betas: Tensor, n_inputs: int = N_INPUTS) -> Tensor:
    """Return the sum of both ``entropies``, 0 to 2; differentiable."""
    return torch.stack(_entropies(alphas, betas, n_inputs)).sum()


def _entropies(alphas: Tensor, betas: Tensor, n_inputs: int) -> tuple[Tensor, Tensor]:
    ops, edges = strengths(alphas, betas, n_inputs)
    into = [edges_into(node, n_inputs) for node in range(N_NODES)]
    of_ops = _entropy(ops[:, [row for rows in into for row in rows]])
    of_nodes = [_entropy(edges[:, rows]) for rows in into if len(rows) > 1]
    return of_ops.mean(), torch.stack(of_nodes).mean()


def _entropy(shares: Tensor) -> Tensor:
    """Return the entropies over the last axis, 0 to 1."""
    least = torch.finfo(shares.dtype).tiny
    return -(shares * shares.clamp_min(least).log()).sum(-1) / math.log(shares.shape[-1])


# Cost ------------------------------------------------------------------------------------------------------------

METRICS = ("parameters", "gflop_per_s", "latency_ms_per_s")
"""Costs of a derived network: weights; floating point operations for a second of video, in 1e9 (two for a
multiplication with addition); milliseconds of this machine for a second of video, one clip at a time."""
COST_FPS = 30.0
"""Frames in a second of video, as in the presets of ``nets/autohr.py``."""
LATENCY_REPEATS = 5
"""Runs of an operation, of which the shortest counts: other work of the machine only adds."""


@checked(frozen=True)
class Costs:
    """Costs of the operations in the derived network; a cell's cost is a sum of these."""

    ops: tuple[str, ...]
    """Operations as text, in the order of the space."""
    fixed: Mapping[str, float]
    """Metric -> cost of the network with nothing but skips."""
    per_op: Mapping[str, tuple[tuple[float, ...], ...]]
    """Metric -> (N_BLOCKS, n_ops): cost that one edge of a block's cells adds, all cells of the block together."""


def measure_costs(space: SpaceConfig, size_px: int, n_frames: int, *, latency: bool = False) -> Costs:
    """Return the costs of all operations in the networks that may be derived from ``space``, at a size of clips.

    Parameters and FLOPs are counted, and exact. With ``latency``, each operation is run on this machine in its fastest
    form (``nets/_inference.py``), on as many threads as torch has now; a sum of such times leaves out the effects of
    operations on each other's caches.
    """
    nodes = (edges_into(node, space.n_inputs)[:2] for node in range(N_NODES))
    skip_cell = tuple(tuple(Edge("skip", EDGES[row][1]) for row in rows) for rows in nodes)
    skips = Genotype("skips", "shared", (skip_cell,), "for its cost")
    config = space.net_config(skips)
    with torch.device("meta"):
        net = AutoHR(config).eval()
        clip = torch.zeros(1, 3, n_frames, size_px, size_px)
    shapes: list[torch.Size] = []
    for block in net.blocks:
        block[-1].register_forward_hook(lambda _cell, _given, made: shapes.append(made.shape))  # type: ignore[index]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(clip)
    per_s = COST_FPS / n_frames
    fixed = {
        "parameters": float(sum(parameter.numel() for parameter in net.parameters())),
        "gflop_per_s": counter.get_total_flops() * per_s / 1e9,
    }
    parameters, gflop = [], []
    C = config.channels
    for shape in shapes:
        taps = [math.prod(_KERNELS[op.op]) if op.op in _KERNELS else 0 for op in space.ops]
        parameters.append(tuple(float(config.cells_per_block * (C * C * n + 2 * C) if n else 0) for n in taps))
        gflop.append(tuple(config.cells_per_block * 2 * C * C * n * math.prod(shape[2:]) * per_s / 1e9 for n in taps))
    per_op = {"parameters": tuple(parameters), "gflop_per_s": tuple(gflop)}
    if latency:
        whole = fold(AutoHR(config))
        fixed["latency_ms_per_s"] = per_s * _milliseconds(whole, torch.rand(1, 3, n_frames, size_px, size_px))
        per_op["latency_ms_per_s"] = tuple(
            tuple(
                config.cells_per_block * per_s * _milliseconds(fold(OPS[op.op](C, op.theta, True)), torch.randn(size))
                if op.op in _KERNELS
                else 0.0
                for op in space.ops
            )
            for size in ((1, C, *shape[2:]) for shape in shapes)
        )
    return Costs(tuple(map(str, space.ops)), fixed, per_op)


def _milliseconds(net: nn.Module, x: Tensor) -> float:
    """Return the time of the shortest run."""
    x = x.contiguous(memory_format=torch.channels_last_3d)
    times = []
    with torch.inference_mode():
        for _ in range(LATENCY_REPEATS):
            began_s = time.perf_counter()
            net(x)
            times.append(time.perf_counter() - began_s)
    return 1000 * min(times)


def cost_of(genotype: Genotype, costs: Costs) -> dict[str, float]:
    """Return metric -> cost of the network with this genotype."""
    total = dict(costs.fixed)
    for block in range(N_BLOCKS):
        for node in genotype.cell_of_block(block):
            for edge in node:
                op = str(Op(edge.op, edge.theta))
                if op not in costs.ops:
                    raise ValueError(f"{op!r} is not an operation of this space: {', '.join(costs.ops)}.")
                for metric in total:
                    total[metric] += costs.per_op[metric][block][costs.ops.index(op)]
    return total


def expected_cost(alphas: Tensor, betas: Tensor, costs: Costs, metric: str, n_inputs: int = N_INPUTS) -> Tensor:
    """Return the differentiable mean cost if each node drew its edges by beta and their operations by alpha."""
    ops, edges = strengths(alphas, betas, n_inputs)
    table = torch.tensor(costs.per_op[metric], device=ops.device, dtype=ops.dtype)
    if len(ops) == 1:
        table = table.sum(0, keepdim=True)
    # Two edges of each node, or as many as lead to it.
    drawn = torch.tensor([min(2, len(edges_into(node, n_inputs))) for node, _ in EDGES], device=ops.device)
    return costs.fixed[metric] + torch.einsum("sen,se,sn->", ops, edges * drawn, table)


@dataclass(frozen=True)
class Budget:
    """Limits of the derived network's costs."""

    most: Mapping[str, float]
    """Metric of ``METRICS`` -> limit; a metric that is missing has none."""
    costs: Costs
    n_inputs: int = N_INPUTS

    def excess(self, spent: Mapping[str, float]) -> float:
        """Return the shares by which the limits are passed, added up; 0 where none is."""
        return sum(max(0.0, spent[metric] / limit - 1) for metric, limit in self.most.items())

    def penalty(self, alphas: Tensor, betas: Tensor) -> Tensor:
        """Return ``excess`` of the expected cost; differentiable."""
        total = torch.zeros((), device=alphas.device)
        for metric, limit in self.most.items():
            total = total + torch.relu(expected_cost(alphas, betas, self.costs, metric, self.n_inputs) / limit - 1)
        return total


# Derivation ------------------------------------------------------------------------------------------------------


def derive(
    alphas: Tensor,
    betas: Tensor,
    space: Sequence[Op],
    kind: Kind,
    name: str,
    origin: str,
    budget: Budget | None = None,
    n_inputs: int = N_INPUTS,
) -> Genotype:
    """Return the cell or cells that architecture parameters stand for (PC-DARTS; AutoHR, Sec. II-B).

    The score of an operation on an edge is softmax(alpha) * softmax(beta). Each edge keeps its best operation but
    ``none``, which takes part in the softmax; each node keeps its two best edges. Of equal scores the first in the
    order of ``EDGES`` and of ``space`` wins.

    Over the budget, one edge at a time is changed, in operation or source, whichever loses least score for the cost
    that it saves, until all fits; the origin says so.

    Parameters
    ----------
    alphas
        (n_sets, n_edges, n_ops); n_sets is 1 if shared, N_BLOCKS if varied.
    betas
        (n_sets, n_edges).

    Raises
    ------
    ValueError
        The shapes do not fit each other.
    AutoHRError
        Not even a cell of skips is within the budget.
    """
    n_sets = 1 if kind == "shared" else N_BLOCKS
    if alphas.shape != (n_sets, len(EDGES), len(space)) or betas.shape != alphas.shape[:2]:
        raise ValueError(
            f"alphas {tuple(alphas.shape)} and betas {tuple(betas.shape)} must be {(n_sets, len(EDGES), len(space))} "
            f"and {(n_sets, len(EDGES))} of a {kind} search with {len(space)} operations."
        )
    shares, edges = strengths(alphas.detach().double().cpu(), betas.detach().double().cpu(), n_inputs)
    score = (shares * edges[..., None]).numpy()
    real = [index for index, op in enumerate(space) if op.op != "none"]
    chosen: _Chosen = []
    for cell in score:
        chosen.append([])
        for node in range(N_NODES):
            rows = edges_into(node, n_inputs)
            # max and sorted keep the first of equals.
            best = {row: max(real, key=lambda index, row=row: cell[row, index]) for row in rows}  # type: ignore[misc]
            kept = sorted(rows, key=lambda row: -cell[row, best[row]])[:2]
            chosen[-1].append([(row, best[row]) for row in sorted(kept)])
    genotype = Genotype(name, kind, _as_cells(chosen, space), origin)
    if budget is None or not budget.excess(cost_of(genotype, budget.costs)):
        return genotype
    before, n_changes = cost_of(genotype, budget.costs), 0
    while budget.excess(cost_of(genotype, budget.costs)):
        chosen = _cheapened(chosen, score, space, kind, budget, n_inputs)
        genotype = Genotype(name, kind, _as_cells(chosen, space), origin)
        n_changes += 1
    within = ", ".join(
        f"{metric} {before[metric]:.4g} -> {cost_of(genotype, budget.costs)[metric]:.4g} (at most {limit:.4g})"
        for metric, limit in budget.most.items()
    )
    return dataclasses.replace(genotype, origin=f"{origin} Cheapened to its budget by {n_changes} change(s): {within}.")


_Chosen = list[list[list[tuple[int, int]]]]
"""Cells of nodes of one or two (row of EDGES, column of the space)."""


def _as_cells(chosen: _Chosen, space: Sequence[Op]) -> tuple[Cell, ...]:
    return tuple(
        tuple(tuple(Edge(space[index].op, EDGES[row][1], space[index].theta) for row, index in node) for node in cell)
        for cell in chosen
    )


def _cheapened(chosen: _Chosen, score: Any, space: Sequence[Op], kind: Kind, budget: Budget, n_inputs: int) -> _Chosen:
    """Return the cells with the one change that loses least score for the excess that it removes."""

    def excess(cells: _Chosen) -> float:
        return budget.excess(cost_of(Genotype("x", kind, _as_cells(cells, space), ""), budget.costs))

    now = excess(chosen)
    best: tuple[float, _Chosen] | None = None
    for c, cell in enumerate(chosen):
        for n, node in enumerate(cell):
            for place, (row, index) in enumerate(node):
                others = node[:place] + node[place + 1 :]
                for to_row in [r for r in edges_into(n, n_inputs) if r not in {row for row, _ in others}]:
                    for to_index, op in enumerate(space):
                        if op.op == "none" or (to_row, to_index) == (row, index):
                            continue
                        changed = [[list(pairs) for pairs in each] for each in chosen]
                        changed[c][n] = sorted([(to_row, to_index), *others])
                        saved = now - excess(changed)
                        if saved > 0:
                            rate = (score[c, row, index] - score[c, to_row, to_index]) / saved
                            if best is None or rate < best[0]:
                                best = rate, changed
    if best is None:
        least = cost_of(Genotype("x", kind, _as_cells(chosen, space), ""), budget.costs)
        needed = ", ".join(f"{metric} is {least[metric]:.4g} at least" for metric in budget.most)
        allowed = ", ".join(f"{limit:.4g}" for limit in budget.most.values())
        raise AutoHRError(
            f"No cell is within the budget: {needed}; allowed: {allowed}. Allow more, or use fewer channels or smaller "
            "clips."
        )
    return best[1]


def random_genotype(
    space: Sequence[Op], kind: Kind, rng: np.random.Generator, name: str, n_inputs: int = N_INPUTS
) -> Genotype:
    """Return a random cell, each valid one as likely as any other: the control of a search."""
    real = [index for index, op in enumerate(space) if op.op != "none"]
    chosen: _Chosen = []
    for _ in range(1 if kind == "shared" else N_BLOCKS):
        chosen.append([])
        for node in range(N_NODES):
            rows = edges_into(node, n_inputs)
            kept = sorted(int(row) for row in rng.choice(rows, min(2, len(rows)), replace=False))
            chosen[-1].append([(row, int(rng.choice(real))) for row in kept])
    origin = "Drawn by chance, uniformly from all cells of its space; no search."
    return Genotype(name, kind, _as_cells(chosen, space), origin)


def describe_cell(genotype: Genotype) -> list[str]:
    """Return a line of words for each node."""
    names = ("c_k-2", "c_k-1", *(f"node {n}" for n in range(N_NODES)))
    lines = []
    for number, cell in enumerate(genotype.cells):
        where = f"block {number}, " if genotype.kind == "varied" else ""
        for n, node in enumerate(cell):
            edges = " + ".join(f"{Op(edge.op, edge.theta)} of {names[edge.source]}" for edge in node)
            lines.append(f"{where}node {n}: {edges}")
    return lines


def count_skips(genotype: Genotype) -> int:
    """Return the largest number of skips in one cell."""
    return max(sum(edge.op == "skip" for node in cell for edge in node) for cell in genotype.cells)
