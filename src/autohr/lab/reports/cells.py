"""A searched cell drawn as in Fig. 5 of the paper: c_k-2 and c_k-1 at the left, nodes 0, 1, 2, and c_k at the right.

A genotype is here what ``Genotype.as_dict`` gives, as it lies in a run: pages are made without the nets.

The layout is searched for. Nodes may stand high, in the middle or low, an edge may bend to either side, and its label
may lie at several places along it; of all that, the drawing with the fewest collisions is taken. The search is small
and deterministic.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Outline

from autohr.reports.page import Chart, Sizes, colour, draw
from autohr.types import Float

Genotype = Mapping[str, Any]
Strengths = Mapping[tuple[int, int], float]
"""(node, source) -> strength with which the search chose that edge and its operation, 0 to 1."""

SIZES: Sizes = {"wide": (820.0, 300.0, 12.5), "narrow": (340.0, 440.0, 11.0)}

INPUTS = ("c_k-2", "c_k-1")

FAMILIES: dict[str, tuple[str, str, str]] = {
    "temporal": ("link", "blue", "along time"),
    "spatial": ("good", "green", "within a frame"),
    "spatiotemporal": ("ink", "line", "both"),
    "difference": ("pulse", "curve", "both, on differences between frames (TDC)"),
    "skip": ("muted", "dash", "skip: nothing computed"),
}
"""Family of operations -> (role of its colour, swatch in the legend, words)."""

FAMILY_OF = {
    "skip": "skip",
    "conv_3x3x3": "spatiotemporal",
    "tdc_3x3x3": "difference",
    "conv_1x3x3": "spatial",
    "conv_1x5x5": "spatial",
    "conv_3x1x1": "temporal",
    "conv_5x1x1": "temporal",
}

RADIUS = 15.0
"""Radius of a node, CSS pixels. An input or the output is a box of twice that height, and wider."""
BOX_WIDTH = 44.0
LETTER = 0.6
"""Width of a letter as a share of its size: that of wide fonts, so that a label fits its box in any."""
MARGIN = 4.0
HEAD = 11.0
"""Room before a state, for the heads of arrows; CSS pixels, as all lengths here."""
BENDS = (0.0, -0.14, 0.14, -0.28, 0.28, -0.45, 0.45)
"""Distances by which a curve may leave the straight line, as shares of its length."""
PLACES = (0.5, 0.37, 0.63, 0.74)
"""Places of a label on its curve."""
HEIGHTS = (0.2, 0.5, 0.8)
"""Heights of the nodes, as shares of the picture's."""
INPUT_HEIGHTS = {False: (0.25, 0.75), True: (0.09, 0.91)}
"""Heights of c_k-2 and c_k-1, without and with tight columns, between which no label fits, only below or above."""
TIGHT = 120.0
"""Distance of columns below which they are tight."""
N_SAMPLES = 22
"""Points of a curve that are checked for collisions: closer together than the smallest label is high."""
GOOD_COST = 20.0
"""Cost of a layout that bends its edges a little, and in which nothing collides."""
MAX_ROUNDS = 12
"""Rounds of the search for one layout; it settles in three or four."""


@dataclass(frozen=True)
class Layout:
    """Places of everything in the drawing of one cell; CSS pixels, y downwards."""

    states: Float
    """(n_states, 2): c_k-2, c_k-1, the nodes, c_k."""
    controls: Float
    """(n_edges, 2): the middle point of each edge's quadratic curve; those to c_k come last."""
    labels: Float
    """(n_labels, 2): centre of the label of each edge but those to c_k."""
    cost: float
    """0 where nothing collides and nothing is bent."""


def op_words(edge: Mapping[str, Any]) -> str:
    """Return an edge's operation, such as ``tdc_3x3x3 θ=0.2``."""
    theta = edge.get("theta")
    return str(edge["op"]) if theta is None else f"{edge['op']} θ={float(theta):g}"


def state_words(state: int) -> str:
    """Return a source as the paper calls it: 0 is c_k-2, 1 is c_k-1, 2 is node 0."""
    return INPUTS[state] if state < len(INPUTS) else f"node {state - len(INPUTS)}"


def cell_words(cell: Sequence[Sequence[Mapping[str, Any]]], strengths: Strengths | None = None) -> str:
    """Return a cell in words, for who cannot see the drawing: one clause for each node."""
    clauses = []
    for number, node in enumerate(cell):
        edges = []
        for edge in node:
            strength = (strengths or {}).get((number, int(edge["source"])))
            number_words = "" if strength is None else f" ({strength:.2f})"
            edges.append(f"{op_words(edge)} of {state_words(int(edge['source']))}{number_words}")
        clauses.append(f"node {number} = {' + '.join(edges)}")
    return "; ".join(clauses)


def draw_cells(genotype: Genotype, strengths: Sequence[Strengths] | None = None, *, key: str = "cell") -> list[Chart]:
    """Draw one chart for a shared genotype, one for each block of a varied one.

    Without ``strengths`` of each cell all lines are equally wide; ``key`` begins the drawings' ids. Raises KeyError,
    TypeError or ValueError for what is not a genotype's dict.
    """
    cells = genotype["cells"]
    if strengths is not None and len(strengths) != len(cells):
        raise ValueError(f"Strengths of {len(strengths)} cell(s) for a genotype of {len(cells)}.")
    name, kind = str(genotype["name"]), str(genotype["kind"])
    return [
        draw_cell(
            cell,
            None if strengths is None else strengths[number],
            title=f"Cell {name}" if kind == "shared" else f"Cell {name}, block {number + 1}",
            key=f"{key}-{number}",
        )
        for number, cell in enumerate(cells)
    ]


def draw_cell(
    cell: Sequence[Sequence[Mapping[str, Any]]], strengths: Strengths | None = None, *, title: str, key: str
) -> Chart:
    """Draw one cell: ``cell[node]`` is the two edges of a node, each with op, source and perhaps theta.

    Raises KeyError, TypeError, ValueError as ``draw_cells``.
    """
    strengths = strengths or {}
    edges = [(int(edge["source"]), len(INPUTS) + node) for node, pair in enumerate(cell) for edge in pair]
    ops = [edge for pair in cell for edge in pair]
    values = [strengths.get((target - len(INPUTS), source)) for source, target in edges]
    families = [FAMILY_OF[str(edge["op"])] for edge in ops]
    lines = {
        wide: tuple(_label(edge, value, wide) for edge, value in zip(ops, values, strict=True))
        for wide in (True, False)
    }
    strongest = max((value for value in values if value is not None), default=1.0) or 1.0
    widths = [1.8 if value is None else 1.0 + 4.5 * value / strongest for value in values]

    def paint(axes: Axes, wide: bool) -> None:
        width, height, letters = SIZES["wide" if wide else "narrow"]
        layout = find_layout(tuple(edges), len(cell), lines[wide], width, height, letters)
        axes.set_position((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        _paint(axes, layout, edges, lines[wide], families, widths, letters)

    about = "Each node adds up two operations; the cell hands on all nodes side by side."
    if values and None not in values:
        about += (
            " A line is the wider the more the search wanted it; the number is the product that it is chosen by, "
            "softmax of the operation times softmax of the edge."
        )
    shown = [(swatch, words) for name, (_, swatch, words) in FAMILIES.items() if name in families]
    return draw(title, about, f"{_first_up(cell_words(cell, strengths))}.", tuple(shown), key, paint, SIZES)


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def _label(edge: Mapping[str, Any], value: float | None, wide: bool) -> tuple[str, ...]:
    """Return the lines of an edge's label: short ones, which leave more room than one long one."""
    theta = edge.get("theta")
    more = [] if theta is None else [f"θ {float(theta):g}"]
    if value is not None:
        more.append(f"{value:.2f}")
    return (str(edge["op"]), *([" · ".join(more)] if more and wide else more))


# ---------------------------------------------------------------------------------------------------------------------
# Layout


@functools.lru_cache(maxsize=64)
def find_layout(
    edges: tuple[tuple[int, int], ...],
    n_nodes: int,
    lines: tuple[tuple[str, ...], ...],
    width: float,
    height: float,
    letters: float,
) -> Layout:
    """Return the first layout without collisions, or the one with the fewest.

    ``edges`` are (source, target) of each labelled edge, numbered as ``Layout.states``; ``lines`` are its label's;
    ``letters`` is the size of letters in CSS pixels.
    """
    sizes = np.array([_label_size(one, letters) for one in lines])
    outgoing = [(len(INPUTS) + node, len(INPUTS) + n_nodes) for node in range(n_nodes)]
    columns = np.linspace(BOX_WIDTH / 2 + MARGIN, width - BOX_WIDTH / 2 - MARGIN, n_nodes + 2)
    inputs = INPUT_HEIGHTS[bool(columns[1] - columns[0] < TIGHT)]
    best: Layout | None = None
    for heights in _arrangements(n_nodes):
        ys = height * np.array([*inputs, *heights, 0.5])
        states = np.column_stack([[columns[0], *columns], ys])
        found = _bend(states, [*edges, *outgoing], sizes, width, height)
        if best is None or found.cost < best.cost:
            best = found
        if best.cost < GOOD_COST:
            break
    assert best is not None
    return best


def _arrangements(n_nodes: int) -> list[tuple[float, ...]]:
    """Return the heights of the nodes that are tried: all of a small cell, up and down in turn of a large one."""
    if n_nodes <= 3:
        return list(itertools.product(HEIGHTS, repeat=n_nodes))
    low, _, high = HEIGHTS
    return [tuple((low, high)[(node + first) % 2] for node in range(n_nodes)) for first in (0, 1)]


def _label_size(lines: Sequence[str], letters: float) -> tuple[float, float]:
    return LETTER * letters * max(map(len, lines)) + 8, 1.2 * letters * len(lines) + 6


def _bend(states: Float, edges: Sequence[tuple[int, int]], sizes: Float, width: float, height: float) -> Layout:
    """Return the layout with the best bend and place for every edge.

    Each edge in turn takes what collides least with the others, until none would change.
    """
    n_labels = len(sizes)
    ends = np.array(edges)
    # Curves: every edge with every bend. Candidates: every curve with every place of its label, if it has one.
    curve_edge, bends = np.repeat(np.arange(len(edges)), len(BENDS)), np.tile(BENDS, len(edges))
    start, end = states[ends[curve_edge, 0]], states[ends[curve_edge, 1]]
    along = end - start
    controls = (start + end) / 2 + bends[:, None] * np.column_stack([-along[:, 1], along[:, 0]])
    curves = _curve(start, controls, end, np.linspace(0, 1, N_SAMPLES))  # (curves, samples, 2)
    curve_cost = 12 * np.abs(bends) + 400 * _outside(curves, width, height).sum(1)
    # (states, 2): half the size of each.
    reach = np.full((len(states), 2), RADIUS)
    reach[[0, 1, -1], 0] = BOX_WIDTH / 2
    for state, place in enumerate(states):
        is_end = (ends[curve_edge] == state).any(1)
        hits = (np.abs(curves - place) < reach[state] + MARGIN).all(2).sum(1)
        curve_cost += np.where(is_end, 0, 150 * hits)

    n_places = np.where(curve_edge < n_labels, len(PLACES), 1)
    curve_of = np.repeat(np.arange(len(curves)), n_places)
    places = np.concatenate([PLACES[:n] for n in n_places])
    owner = curve_edge[curve_of]
    has_label = owner < n_labels
    labels = _curve(start[curve_of], controls[curve_of], end[curve_of], places[:, None])[:, 0]
    half = np.where(has_label[:, None], sizes[np.minimum(owner, n_labels - 1)] / 2, 0.0)
    hidden = _outside(labels - half, width, height) | _outside(labels + half, width, height)
    on_state = (np.abs(labels[:, None] - states) < half[:, None] + reach + HEAD).all(2).any(1)
    own = curve_cost[curve_of] + 8 * np.abs(places - 0.5) + 4000 * has_label * (hidden | on_state)

    overlap = (np.abs(labels[:, None] - labels) < half[:, None] + half + MARGIN).all(2)
    # A curve below a foreign label looks as if the label were its own.
    below = (np.abs(curves[:, None] - labels[:, None]) < half[:, None] + 2).all(3).sum(2) * has_label
    shared = 4000.0 * overlap * has_label * has_label[:, None] + 120.0 * (below[curve_of] + below[curve_of].T)
    shared += 40 * _crossings(curves)[np.ix_(curve_of, curve_of)]
    shared[owner[:, None] == owner] = 0

    best_cost, best = np.inf, np.zeros(len(edges), dtype=int)
    groups = [np.flatnonzero(owner == number) for number in range(len(edges))]
    for order in (range(len(edges)), range(len(edges) - 1, -1, -1)):
        chosen = np.array([group[0] for group in groups])
        for _ in range(MAX_ROUNDS):
            before = chosen.copy()
            for number in order:
                others = np.delete(chosen, number)
                costs = own[groups[number]] + shared[np.ix_(groups[number], others)].sum(1)
                chosen[number] = groups[number][int(np.argmin(costs))]
            if (chosen == before).all():
                break
        cost = float(own[chosen].sum() + shared[np.ix_(chosen, chosen)].sum() / 2)
        if cost < best_cost:
            best_cost, best = cost, chosen
    return Layout(states, controls[curve_of[best]], labels[best[:n_labels]], best_cost)


def _curve(start: Float, control: Float, end: Float, t: Float) -> Float:
    """Return points (n, samples, 2) of n quadratic curves at ``t`` (samples,) or (n, samples)."""
    t = np.broadcast_to(t, (len(start), t.shape[-1]))[..., None]
    points: Float = (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * control[:, None] + t**2 * end[:, None]
    return points


def _outside(points: Float, width: float, height: float) -> np.ndarray:
    return np.asarray(((points < 1) | (points > np.array([width, height]) - 1)).any(-1))


def _crossings(curves: Float) -> np.ndarray:
    """Return (n, n) bool: True where two curves cross, their meeting at a common end left out."""
    # Six pieces each are as straight as it needs, and the first and last lie at the ends.
    points = curves[:, np.linspace(2, curves.shape[1] - 3, 7).round().astype(int)]
    a, b = points[:, None, :-1, None], points[:, None, 1:, None]
    c, d = points[None, :, None, :-1], points[None, :, None, 1:]

    def side(p: Float, q: Float, r: Float) -> Float:
        turned: Float = (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1])
        return turned - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    crossed = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return np.asarray(crossed.any((2, 3)))


# ---------------------------------------------------------------------------------------------------------------------
# Paint
# ---------------------------------------------------------------------------------------------------------------------


def _paint(
    axes: Axes,
    layout: Layout,
    edges: Sequence[tuple[int, int]],
    lines: Sequence[Sequence[str]],
    families: Sequence[str],
    widths: Sequence[float],
    letters: float,
) -> None:
    output = len(layout.states) - 1
    n_nodes = output - len(INPUTS)
    for number, control in enumerate(layout.controls):
        if number < len(edges):
            (source, target), line_width = edges[number], widths[number]
            role, style = FAMILIES[families[number]][0], "dashed" if families[number] == "skip" else "solid"
        else:
            source, target, line_width, role, style = len(INPUTS) + number - len(edges), output, 1.0, "muted", "solid"
        _arrow(axes, layout.states[source], control, layout.states[target], line_width, colour(role), style)
    for centre, text, family in zip(layout.labels, lines, families, strict=True):
        width, height = _label_size(text, letters)
        corner = (centre[0] - width / 2, centre[1] - height / 2)
        frame: dict[str, Any] = {
            "facecolor": colour("card"),
            "edgecolor": colour(FAMILIES[family][0]),
            "linewidth": 1.0,
            "zorder": 4,
        }
        axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=6", **frame))
        for row, words in enumerate(text):
            y = centre[1] + (row - (len(text) - 1) / 2) * 1.2 * letters
            role = "ink" if row == 0 else "muted"
            axes.text(centre[0], y + 0.35 * letters, words, ha="center", color=colour(role), zorder=5)
    names = [
        *((("c", name.removeprefix("c_"))) for name in INPUTS),
        *((str(n), "") for n in range(n_nodes)),
        ("c", "k"),
    ]
    for (x, y), (name, below) in zip(layout.states, names, strict=True):
        look: dict[str, Any] = {"facecolor": colour("gap"), "edgecolor": colour("ink"), "linewidth": 1.3, "zorder": 6}
        if below:
            box = "round,pad=0,rounding_size=8"
            axes.add_patch(FancyBboxPatch((x - BOX_WIDTH / 2, y - RADIUS), BOX_WIDTH, 2 * RADIUS, boxstyle=box, **look))
            axes.text(x - 1, y + 0.35 * letters, name, ha="right", color=colour("ink"), zorder=7)
            axes.text(x, y + 0.7 * letters, below, ha="left", color=colour("ink"), fontsize=0.8 * letters, zorder=7)
        else:
            axes.add_patch(Circle((x, y), RADIUS, **look))
            axes.text(x, y + 0.35 * letters, name, ha="center", color=colour("ink"), zorder=7)


def _arrow(axes: Axes, start: Float, control: Float, end: Float, width: float, drawn: str, style: str) -> None:
    """Draw a quadratic curve that ends in a head before the state that it leads to."""
    curve = Outline([start, control, end], [Outline.MOVETO, Outline.CURVE3, Outline.CURVE3])
    axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=drawn, linewidth=width, linestyle=style, zorder=2))
    t = np.linspace(0.5, 1, 120)
    points = _curve(start[None], control[None], end[None], t)[0]
    is_box = np.array([BOX_WIDTH / 2 + 1, RADIUS + 1])
    away = np.abs(points - end)
    outside = (away > is_box).any(1) & (np.hypot(*away.T) > RADIUS + 1)
    tip = points[int(np.flatnonzero(outside)[-1])] if outside.any() else points[0]
    back = tip - end
    back = back / max(1e-9, float(np.hypot(*back)))
    across = np.array([-back[1], back[0]])
    length, half = 7.0 + width, 3.0 + 0.8 * width
    corners = [tip, tip + length * back + half * across, tip + length * back - half * across]
    axes.add_patch(Polygon(corners, closed=True, facecolor=drawn, edgecolor="none", zorder=3))
