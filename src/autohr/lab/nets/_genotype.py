"""Genotypes, which say what a cell is made of. They are data: search writes JSON, ``AutoHR`` is built from it.

    cell      c_k-2, c_k-1 -> nodes 0, 1, 2 -> their outputs side by side
    node      the sum of two edges; of a cell that reads c_k-1 alone, node 0 has one
    edge      one operation on one source; sources: 0 is c_k-2, 1 is c_k-1, 2 is node 0, 3 is node 1, ...

"shared" has one cell for the whole network, "varied" one for each of its four blocks (AutoHR, Sec. II-B).
No published file holds the cell that the paper found: two genotypes here are RECONSTRUCTIONS, the third is of a small
search of our own (see ``GENOTYPES``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autohr.errors import BadRecipe
from autohr.files import read_json, write_json

SCHEMA = "autohr.genotype/1"
N_BLOCKS = 4
"""Blocks of the network, and so cells of a varied genotype (AutoHR, Fig. 3a)."""
N_INPUTS = 2
"""A cell reads the two cells before it."""
KINDS = ("shared", "varied")

OP_NAMES = (
    "none",
    "skip",
    "conv_3x3x3",
    "tdc_3x3x3",
    "conv_1x3x3",
    "conv_1x5x5",
    "conv_3x1x1",
    "conv_5x1x1",
)
"""Kind and kernel (T x H x W) of every operation; theta of a tdc is a field. ``nets/operations.py`` builds them."""


def _check_op(op: str, theta: float | None) -> None:
    if op not in OP_NAMES:
        raise ValueError(f"Unknown op {op!r}. Known: {', '.join(OP_NAMES)}.")
    if op.startswith("tdc"):
        if isinstance(theta, bool) or not isinstance(theta, (int, float)) or not math.isfinite(theta):
            raise ValueError(f"{op} needs a theta, a finite number (the paper: 0.2 or 1.0), not {theta!r}.")
    elif theta is not None:
        raise ValueError(f"{op} has no theta, but {theta!r} was given. Leave it out.")


@dataclass(frozen=True)
class Op:
    """One candidate operation."""

    op: str
    """One of ``OP_NAMES``."""
    theta: float | None = None
    """Theta of a tdc, None for all others."""

    def __post_init__(self) -> None:
        _check_op(self.op, self.theta)

    def __str__(self) -> str:
        return self.op if self.theta is None else f"{self.op} theta={self.theta:g}"


SPACE: tuple[Op, ...] = (
    Op("none"),
    Op("skip"),
    Op("conv_3x3x3"),
    Op("tdc_3x3x3", 0.2),
    Op("tdc_3x3x3", 1.0),
    Op("conv_1x3x3"),
    Op("conv_1x5x5"),
    Op("conv_3x1x1"),
    Op("conv_5x1x1"),
)
"""The nine candidates of the paper's search, in the order of its Fig. 3c."""

SPACE_WITHOUT_TDC: tuple[Op, ...] = tuple(op for op in SPACE if op.theta is None)
"""The seven of the ablation "without TDC" (which rows it dropped is inferred)."""


@dataclass(frozen=True)
class Edge:
    """One operation on one source."""

    op: str
    source: int
    theta: float | None = None


Node = tuple[Edge, ...]
Cell = tuple[Node, ...]


@dataclass(frozen=True)
class Genotype:
    """Refuses on construction, with ValueError, what no network can be built from. May be made from lists and dicts."""

    name: str
    kind: str
    """ "shared" or "varied"."""
    cells: tuple[Cell, ...]
    """One cell (shared) or four, in the order of the blocks (varied)."""
    origin: str
    """Where it comes from, in one sentence: a reconstruction, or which search."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", _as_cells(self.cells))
        if not isinstance(self.name, str) or not self.name or not isinstance(self.origin, str):
            raise ValueError(f"Genotype name={self.name!r}, origin={self.origin!r} must be texts, the name not empty.")
        if self.kind not in KINDS:
            raise ValueError(f"Genotype kind={self.kind!r} must be one of {', '.join(KINDS)}.")
        wanted = 1 if self.kind == "shared" else N_BLOCKS
        if len(self.cells) != wanted:
            raise ValueError(
                f"A {self.kind} genotype has {wanted} cell(s), one per block if varied, not {len(self.cells)}."
            )
        if len({len(cell) for cell in self.cells}) != 1:
            raise ValueError(f"Cells of {[len(cell) for cell in self.cells]} nodes; all must have as many.")
        for c, cell in enumerate(self.cells):
            if not cell:
                raise ValueError(f"Cell {c} has no nodes; the paper's have 3.")
            for n, node in enumerate(cell):
                _check_node(f"cell {c} node {n}", node, first=N_INPUTS - self.n_inputs, n_sources=N_INPUTS + n)

    @property
    def n_inputs(self) -> int:
        """Number of cells that a cell reads: 1 where node 0 has one edge, as c_k-1 is then all there is for it."""
        return 1 if len(self.cells[0][0]) == 1 else N_INPUTS

    @property
    def n_nodes(self) -> int:
        return len(self.cells[0])

    def cell_of_block(self, block: int) -> Cell:
        return self.cells[0 if self.kind == "shared" else block]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``from_dict`` reads: plain dicts and lists; theta only where there is one."""
        cells = [[[_edge_as_dict(edge) for edge in node] for node in cell] for cell in self.cells]
        return {"schema": SCHEMA, "name": self.name, "kind": self.kind, "origin": self.origin, "cells": cells}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Genotype:
        """Return the genotype of a dict; raise ValueError that says which field, node or edge is wrong."""
        if not isinstance(values, Mapping):
            raise ValueError(f"A genotype is an object with name, kind, origin, cells, not {type(values).__name__}.")
        fields = [field.name for field in dataclasses.fields(cls)]
        if values.get("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"Genotype schema {values['schema']!r}; this version reads {SCHEMA!r}.")
        unknown = sorted(set(values) - {"schema", *fields})
        missing = [name for name in fields if name not in values]
        if unknown or missing:
            raise ValueError(f"A genotype has the fields {', '.join(fields)}; unknown {unknown}, missing {missing}.")
        return cls(**{name: values[name] for name in fields})


MAX_GENOTYPE_BYTES = 1_000_000
"""Largest genotype file that is read. One of four cells has 3 kB; ours."""


def write_genotype(path: Path, genotype: Genotype) -> None:
    """Write a genotype as JSON, whole or not at all; AutoHRError where it cannot be written."""
    write_json(path, genotype.as_dict())


def read_genotype(path: Path) -> Genotype:
    """Return the genotype of a JSON file.

    Raises
    ------
    BadRecipe
        No regular file of at most ``MAX_GENOTYPE_BYTES`` of JSON, or not a genotype; the message says what is wrong.
    """
    values = read_json(path, "genotype", MAX_GENOTYPE_BYTES, BadRecipe)
    try:
        return Genotype.from_dict(values)
    except (ValueError, TypeError) as error:
        raise BadRecipe(f"{str(path)!r} is not a genotype: {error}") from error


def as_genotype(value: Genotype | Mapping[str, Any] | str) -> Genotype:
    """From a name of ``GENOTYPES``, from what ``as_dict`` or ``dataclasses.asdict`` gave, or as it is. ValueError."""
    if isinstance(value, Genotype):
        return value
    if isinstance(value, str):
        if value not in GENOTYPES:
            raise ValueError(
                f"Unknown genotype {value!r}. Known: {', '.join(GENOTYPES)}. Or give one as an object, or in "
                "a recipe as the path of its .json file."
            )
        return GENOTYPES[value]
    return Genotype.from_dict(value)


def _check_node(where: str, node: Sequence[Edge], first: int, n_sources: int) -> None:
    """Raise ValueError for a node that cannot be; its sources are ``first`` to ``n_sources`` - 1."""
    wanted = min(2, n_sources - first)
    if len(node) != wanted:
        one_input = "; node 0 of a cell that reads c_k-1 alone has one" if n_sources == N_INPUTS else ""
        raise ValueError(f"{where} has {len(node)} edge(s); each node keeps two{one_input}.")
    for edge in node:
        try:
            _check_op(edge.op, edge.theta)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if edge.op == "none":
            raise ValueError(f"{where}: 'none' is no connection and must not be in a genotype. Keep another op.")
        if isinstance(edge.source, bool) or not isinstance(edge.source, int) or not first <= edge.source < n_sources:
            raise ValueError(
                f"{where}: source {edge.source!r} must be a whole number from {first} to {n_sources - 1} "
                "(0 is c_k-2, 1 is c_k-1, 2 is node 0, ...)."
            )
    if len({edge.source for edge in node}) < len(node):
        raise ValueError(f"{where}: both edges read source {node[0].source}; they must read two different ones.")


def _as_cells(cells: Any) -> tuple[Cell, ...]:
    """Return lists and dicts, as JSON has them, as tuples and edges."""
    try:
        return tuple(tuple(tuple(_as_edge(edge) for edge in node) for node in cell) for cell in cells)
    except TypeError as error:
        raise ValueError(f"cells must be lists (cells) of lists (nodes) of two edges each: {error}.") from error


def _as_edge(edge: Any) -> Edge:
    if isinstance(edge, Edge):
        return edge
    if isinstance(edge, Mapping) and {"op", "source"} <= set(edge) <= {"op", "source", "theta"}:
        return Edge(**edge)
    raise ValueError(f"An edge has op, source and, for a tdc, theta; not {edge!r}.")


def _edge_as_dict(edge: Edge) -> dict[str, Any]:
    whole = {"op": edge.op, "source": edge.source}
    return whole if edge.theta is None else {**whole, "theta": edge.theta}


_RECONSTRUCTION = (
    "Reconstruction, not the published cell: made to agree with what AutoHR's text says of its Fig. 5, "
    "which no public source holds."
)

GENOTYPES: dict[str, Genotype] = {
    "fig5_plausible_v1": Genotype(
        name="fig5_plausible_v1",
        kind="shared",
        origin=f"{_RECONSTRUCTION} Chosen so that the network has about the 0.99 M parameters remembered for it.",
        cells=(
            (
                (Edge("conv_3x1x1", source=1), Edge("tdc_3x3x3", source=0, theta=0.2)),
                (Edge("conv_5x1x1", source=2), Edge("tdc_3x3x3", source=1, theta=1.0)),
                (Edge("conv_1x5x5", source=3), Edge("conv_1x5x5", source=1)),
            ),
        ),
    ),
    "fig5_plausible_v2": Genotype(
        name="fig5_plausible_v2",
        kind="shared",
        origin=f"{_RECONSTRUCTION} The lighter of the two.",
        cells=(
            (
                (Edge("conv_3x1x1", source=1), Edge("conv_5x1x1", source=0)),
                (Edge("conv_5x1x1", source=1), Edge("tdc_3x3x3", source=2, theta=0.2)),
                (Edge("conv_1x5x5", source=3), Edge("conv_1x5x5", source=2)),
            ),
        ),
    ),
    "searched_small_v1": Genotype(
        name="searched_small_v1",
        kind="shared",
        origin="Found by a search of autohr, not the published cell: recipe search_cpu (320 steps, one core), shared, "
        "with TDC, on synthetic recordings, seed 2; the best of three seeds, and no better than cells by chance "
        "(docs/search.md).",
        cells=(
            (
                (Edge("tdc_3x3x3", source=0, theta=0.2), Edge("tdc_3x3x3", source=1, theta=0.2)),
                (Edge("conv_1x5x5", source=0), Edge("conv_1x5x5", source=2)),
                (Edge("tdc_3x3x3", source=0, theta=1.0), Edge("tdc_3x3x3", source=2, theta=1.0)),
            ),
        ),
    ),
}
"""Shipped genotypes. The two called fig5 are reconstructions: op kinds per node perhaps 60 % likely, exact edges 5 %.
The text they must agree with: temporal convolutions conv_3x1x1 and conv_5x1x1 at nodes 0 and 1, conv_1x5x5 at node 2,
at least one TDC (the search with TDC gave another result than without). ``tests/test_nets.py`` holds these as tests."""
