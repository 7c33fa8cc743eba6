"""Questions to a trained supernet: which cell does it need most, and how well it does with a given one.

Selection by perturbation (DARTS-PT; Wang et al., ICLR 2021) replaces the reading of alphas.

The alpha of an operation says how much of it the supernet uses, which need not be what it is worth: it can be large
because the operation is easy to learn. So each operation is taken out of its edge in turn, and the edge keeps the one
without which the supernet loses most. The same then decides which two edges a node keeps.

Differs from the paper: the supernet is not trained on between two decisions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from autohr.lab.nets._genotype import Cell, Edge, Genotype, Op
from autohr.lab.search.space import EDGES, N_NODES, SearchNet, edges_into

OUT = -1e4
"""Alpha or beta of what is taken out: its share is then 0 in any precision."""


def select_by_perturbation(net: SearchNet, loss: Callable[[], float], rng: np.random.Generator) -> tuple[Cell, ...]:
    """Return the cells of the operations and edges that ``net`` needs most; its alphas and betas are as before.

    ``loss`` measures the supernet as it is then; ``rng`` decides in which order edges and nodes are looked at.
    """
    space, alphas, betas = net.space, net.alphas.data, net.betas.data
    before = alphas.clone(), betas.clone()
    real = [index for index, op in enumerate(space.ops) if op.op != "none"]

    def without(values: torch.Tensor, place: tuple[int, ...]) -> float:
        was = float(values[place])
        values[place] = OUT
        try:
            return loss()
        finally:
            values[place] = was

    chosen = np.zeros((space.n_sets, len(EDGES)), int)
    kept: list[list[list[int]]] = []
    try:
        for number in range(space.n_sets):
            for row in map(int, rng.permutation(space.rows)):
                index = max(real, key=lambda i, row=row: without(alphas, (number, row, i)))  # type: ignore[misc]
                others = [i for i in range(len(space.ops)) if i != index]
                alphas[number, row, others] = OUT
                chosen[number, row] = index
            kept.append([[] for _ in range(N_NODES)])
            for node in map(int, rng.permutation(N_NODES)):
                rows = edges_into(node, space.n_inputs)
                if len(rows) > 2:
                    losses = {row: without(betas, (number, row)) for row in rows}
                    out = sorted(rows, key=lambda row: -losses[row])[2:]
                    betas[number, out] = OUT
                    rows = [row for row in rows if row not in out]
                kept[-1][node] = rows
    finally:
        alphas.copy_(before[0])
        betas.copy_(before[1])
    return tuple(
        tuple(
            tuple(
                Edge(space.ops[chosen[number, row]].op, EDGES[row][1], space.ops[chosen[number, row]].theta)
                for row in rows
            )
            for rows in cell
        )
        for number, cell in enumerate(kept)
    )


def score_cell(net: SearchNet, genotype: Genotype, loss: Callable[[], float]) -> float:
    """Return the loss of a shared supernet that is left with the operations and edges of ``genotype`` alone.

    ``loss`` measures the supernet as it is then; alphas and betas are as before on return. Raises ValueError for a cell
    that is not of the supernet's space.
    """
    alphas, betas = net.alphas.data, net.betas.data
    before = alphas.clone(), betas.clone()
    try:
        alphas.fill_(OUT)
        betas.fill_(OUT)
        for node, edges in enumerate(genotype.cells[0]):
            for edge in edges:
                op = Op(edge.op, edge.theta)
                if op not in net.space.ops:
                    raise ValueError(f"{op} is not an operation of this space: {', '.join(map(str, net.space.ops))}.")
                row = EDGES.index((node, edge.source))
                alphas[:, row, net.space.ops.index(op)] = 0.0
                betas[:, row] = 0.0
        return loss()
    finally:
        alphas.copy_(before[0])
        betas.copy_(before[1])
