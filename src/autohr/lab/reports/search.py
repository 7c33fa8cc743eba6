"""The page of an architecture search: the cell it found, and how it came to it. Made from the run directory alone.

A search that is still going on has a page too, of its epochs so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.lab.reports.cells import INPUTS, Strengths, cell_words, draw_cells, op_words, state_words
from autohr.lab.reports.charts import Look, column, damage_is_named, draw_running_mean, name_axes, render_page
from autohr.lab.reports.training import settings_of
from autohr.lab.runs import Run, open_run
from autohr.reports.page import Chart, Sizes, colour, count_words, draw
from autohr.types import Float

Record = dict[str, Any]

_OPS = "none skip conv_3x3x3 tdc_3x3x3_theta=0.2 tdc_3x3x3_theta=1 conv_1x3x3 conv_1x5x5 conv_3x1x1 conv_5x1x1"
OPS_OF: dict[int, tuple[str, ...]] = {
    9: tuple(name.replace("_theta", " theta") for name in _OPS.split()),
    7: tuple(name for name in _OPS.split() if "theta" not in name),
}
"""Names of the operations by their number, for a search that has not ended: its log holds numbers, and its results,
written last, hold the names. The same as ``SPACE`` and ``SPACE_WITHOUT_TDC`` of the nets, which a page may not import;
a test compares them."""

N_COLUMNS = {True: 3, False: 2}
"""Columns of small drawings, one for each edge, in the wide picture and in the narrow one."""


@dataclass(frozen=True)
class SearchRun:
    """Search as its run directory records it."""

    name: str
    ops: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    """(node, source)."""
    steps: tuple[Record, ...]
    epochs: tuple[Record, ...]
    op_strengths: Float
    """(n_epochs, n_sets, n_edges, n_ops): softmax of the alphas."""
    edge_strengths: Float
    """(n_epochs, n_sets, n_edges): softmax of the betas over the edges of each node."""
    result: Record
    """results/search.json; {} while the search goes on."""
    genotype: Record
    recipe: Record

    @property
    def shown(self) -> int:
        """Place of the epoch whose cell is the result: a search that stopped for a collapse keeps an earlier one."""
        same = [k for k, record in enumerate(self.epochs) if record["genotype"]["cells"] == self.genotype["cells"]]
        sound = [k for k in same if not self.epochs[k].get("collapsed")]
        return max(sound or same or [len(self.epochs) - 1])

    @property
    def frozen_epochs(self) -> int:
        """Number of epochs before the first step with a loss of the architecture, which stands still until then."""
        moved = [record["step"] for record in self.steps if record.get("alpha_loss") is not None]
        first_step = min(moved) if moved else np.inf if self.steps else 0
        return sum(record["step"] < first_step for record in self.epochs)

    def strengths(self) -> list[Strengths]:
        """Return, for each cell of the result, the product by which its edges were chosen."""
        weights = self.op_strengths[self.shown] * self.edge_strengths[self.shown][..., None]
        strengths: list[dict[tuple[int, int], float]] = [{} for _ in self.genotype["cells"]]
        for number, node, source, op in _choices(self.genotype["cells"]):
            place = self.edges.index((node, source))
            strengths[number][node, source] = float(weights[number, place, self.ops.index(op.replace("θ", "theta"))])
        return list(strengths)

    def chosen(self, number: int) -> dict[tuple[int, int], str]:
        """Return (node, source) -> operation of one cell of the result."""
        return {(node, source): op for _, node, source, op in _choices([self.genotype["cells"][number]])}


def read_search(run_dir: Path) -> SearchRun:
    """Read what a search has left in a run directory so far.

    Raises AutoHRError where there is no such run, no epoch logged yet, or a damaged file.
    """
    run = open_run(run_dir)
    records = run.read_log()
    epochs = tuple(record for record in records if "op_strengths" in record)
    if not epochs:
        raise AutoHRError(f"{str(run_dir)!r} has not ended its first epoch yet; there is nothing to show.")
    with damage_is_named(run_dir, "run the search"):
        return _from_records(run, records, epochs)


def _from_records(run: Run, records: Sequence[Record], epochs: tuple[Record, ...]) -> SearchRun:
    file = run.results / "search.json"
    result = read_json(file) if file.exists() else {}
    op_strengths = np.array([record["op_strengths"] for record in epochs], dtype=np.float64)
    edge_strengths = np.array([record["edge_strengths"] for record in epochs], dtype=np.float64)
    genotype = result.get("genotype") or epochs[-1]["genotype"]
    n_nodes = len(genotype["cells"][0])
    edges = result.get("edges") or [(node, source) for node in range(n_nodes) for source in range(len(INPUTS) + node)]
    ops = result.get("ops") or OPS_OF[op_strengths.shape[-1]]
    shape = (len(epochs), len(genotype["cells"]), len(edges), len(ops))
    if op_strengths.shape != shape or edge_strengths.shape != shape[:-1]:
        raise ValueError(f"strengths {op_strengths.shape} and {edge_strengths.shape} where {shape} was expected")
    return SearchRun(
        name=run.root.resolve().name,
        ops=tuple(map(str, ops)),
        edges=tuple((int(node), int(source)) for node, source in edges),
        steps=tuple(record for record in records if "loss" in record),
        epochs=epochs,
        op_strengths=op_strengths,
        edge_strengths=edge_strengths,
        result=result,
        genotype=genotype,
        recipe=dict(run.config.get("recipe", {})),
    )


def render_search_page(run_dir: Path, *, made_at: str | None = None) -> str:
    """Return the page of a run directory that ``autohr search`` wrote; AutoHRError as ``read_search``."""
    found = read_search(run_dir)
    with damage_is_named(run_dir, "run the search"):
        return render_page("search", _view(found, made_at))


def _view(found: SearchRun, made_at: str | None) -> dict[str, Any]:
    last = found.epochs[found.shown]
    return {
        "name": found.name,
        "title": str(found.recipe.get("title", "")),
        "genotype": found.genotype,
        "ended": bool(found.result),
        "result": found.result,
        "last": last,
        "n_epochs": len(found.epochs),
        "n_ops": len(found.ops),
        "verdict": _verdict(found),
        "cells": draw_cells(found.genotype, found.strengths(), key="cell"),
        "charts": _charts(found),
        "history": _history(found),
        "settings": settings_of(found.recipe),
        "made_at": made_at,
    }


def _verdict(found: SearchRun) -> dict[str, Any]:
    """Return what the page says of skips and zeros that took the cell over."""
    last = found.epochs[found.shown]
    n_edges = sum(len(cell) * 2 for cell in found.genotype["cells"])
    mean = found.op_strengths[found.shown].mean((0, 1))
    shares = {name: float(mean[found.ops.index(name)]) for name in ("none", "skip") if name in found.ops}
    unsound = [record for record in found.epochs if record.get("collapsed")]
    fallen = bool(found.result.get("collapse")) or bool(found.epochs[-1].get("collapsed"))
    return {
        "collapsed": fallen,
        "why": str(unsound[-1].get("collapse") or "") if unsound else "",
        "epochs": [record["epoch"] for record in unsound],
        "kept": last["epoch"],
        "skips": last.get("skips"),
        "n_edges": n_edges,
        "shares": shares,
        "even": 1 / len(found.ops),
    }


def _history(found: SearchRun) -> list[dict[str, Any]]:
    """Return a row for each epoch: its cell, and how many of its choices are others than in the epoch before."""
    rows: list[dict[str, Any]] = []
    before: set[tuple[int, int, int, str]] | None = None
    for record in found.epochs:
        cells = record["genotype"]["cells"]
        choices = _choices(cells)
        rows.append(
            {
                "record": record,
                "cells": [cell_words(cell) for cell in cells],
                "changed": None if before is None else len(choices - before),
                "is_result": record is found.epochs[found.shown],
            }
        )
        before = choices
    return rows


def _choices(cells: Sequence[Any]) -> set[tuple[int, int, int, str]]:
    """Return (cell, node, source, operation) of every edge."""
    return {
        (number, node, int(edge["source"]), op_words(edge))
        for number, cell in enumerate(cells)
        for node, pair in enumerate(cell)
        for edge in pair
    }


# ---------------------------------------------------------------------------------------------------------------------
# Charts


def _charts(found: SearchRun) -> list[Chart]:
    n_sets = found.op_strengths.shape[1]
    charts = []
    for number in range(n_sets):
        block = "" if n_sets == 1 else f", block {number + 1}"
        charts += [_chart_map(found, number, block), _chart_lines(found, number, block)]
    return [*charts, _chart_entropy(found), _chart_loss(found)]


def _edge_words(edge: tuple[int, int]) -> str:
    return f"{state_words(edge[1])} → {edge[0]}"


def _chart_map(found: SearchRun, number: int, block: str) -> Chart:
    """Draw edges down, operations across: the share that each has on its edge."""
    shares, weights = found.op_strengths[found.shown, number], found.edge_strengths[found.shown, number]
    n_edges, n_ops = shares.shape
    top = max(float(shares.max()), 1e-9)
    chosen = found.chosen(number)
    sizes: Sizes = {"wide": (820.0, 130.0 + 26 * n_edges, 12.0), "narrow": (340.0, 150.0 + 24 * n_edges, 10.0)}

    def paint(axes: Axes, wide: bool) -> None:
        width, height, _ = sizes["wide" if wide else "narrow"]
        left, below = (110.0, 26.0) if wide else (80.0, 26.0)
        above = height - below - (26 if wide else 24) * n_edges
        axes.set_position((left / width, below / height, 1 - (left + 10) / width, 1 - (above + below) / height))
        axes.grid(False)
        axes.set_xlim(-0.5, n_ops + 0.5)
        axes.set_ylim(n_edges - 0.5, -0.5)

        def write(column: int, row: int, share: float, **look: Any) -> None:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", **look)

        def frame(column: int, row: int, **look: Any) -> None:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **look))

        for row, edge in enumerate(found.edges):
            for place, op in enumerate(found.ops):
                share = float(shares[row, place])
                frame(place, row, facecolor=colour("link"), alpha=0.75 * share / top, linewidth=0)
                if chosen.get(edge) == op.replace("theta", "θ"):
                    frame(place, row, fill=False, edgecolor=colour("ink"), linewidth=1.8)
                write(place, row, share, color=colour("ink"))
            write(n_ops, row, float(weights[row]), color=colour("muted"), style="italic")
        axes.xaxis.tick_top()
        axes.xaxis.set_major_locator(FixedLocator(list(range(n_ops + 1))))
        axes.set_xticklabels([*(name.replace("theta=", "θ ") for name in found.ops), "the edge"], rotation=90)
        axes.yaxis.set_major_locator(FixedLocator(list(range(n_edges))))
        axes.set_yticklabels([_edge_words(edge) for edge in found.edges])
        axes.tick_params(pad=3)
        axes.spines["bottom"].set_visible(False)

    epoch = found.epochs[found.shown]["epoch"]
    about = "Per cent of each edge's softmax; the last column is the edge's own share among those of its node."
    caption = f"After epoch {epoch}. Framed: what the cell took, the largest product of the two but for none"
    caption += " (a budget may change it)."
    return draw(f"Strengths{block}", about, caption, (), f"map-{number}", paint, sizes)


def _chart_lines(found: SearchRun, number: int, block: str) -> Chart:
    """Draw how the operations' shares went over the epochs, one small drawing for each edge."""
    shares, epochs, chosen = found.op_strengths[:, number], column(found.epochs, "epoch"), found.chosen(number)
    heights = {wide: 26 + 104.0 * -(-len(found.edges) // N_COLUMNS[wide]) for wide in (True, False)}
    sizes: Sizes = {"wide": (820.0, heights[True], 11.5), "narrow": (340.0, heights[False], 9.5)}
    top = 1.08 * float(shares.max())

    def paint(axes: Axes, wide: bool) -> None:
        picture = axes.figure
        assert picture is not None
        axes.set_axis_off()
        width, height, letters = sizes["wide" if wide else "narrow"]
        for place, edge in enumerate(found.edges):
            row, number_in_row = divmod(place, N_COLUMNS[wide])
            cell = width / N_COLUMNS[wide]
            box = (number_in_row * cell + 26, height - 104 * row - 92, cell - 34, 68)
            small = picture.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            small.patch.set_visible(False)
            small.grid(True, color=colour("line"), linewidth=0.6)
            small.spines[["top", "right", "left"]].set_visible(False)
            small.spines["bottom"].set_color(colour("muted"))
            small.tick_params(colors=colour("muted"), length=0, pad=3, labelsize=0.85 * letters)
            marker: Look = {"marker": "o" if len(epochs) == 1 else None, "markersize": 3}
            for op, name in enumerate(found.ops):
                small.plot(epochs, 100 * shares[:, place, op], **_line_style(name, chosen.get(edge)), **marker)
            small.set_ylim(0, 100 * top)
            small.yaxis.set_major_locator(MaxNLocator(3))
            small.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            words = f"{_edge_words(edge)}: {chosen[edge]}" if edge in chosen else _edge_words(edge)
            small.set_title(words, loc="left", fontsize=letters, color=colour("ink" if edge in chosen else "muted"))

    legend = (("curve", "what the cell took"), ("blue", "skip"), ("dash", "none"), ("line", "the others (thin)"))
    about = "Per cent of each edge's softmax after each epoch, one drawing for each edge. All have one scale."
    even = f"with {len(found.ops)} operations an even share is {100 / len(found.ops):.0f} %"
    caption = f"{count_words(len(epochs), 'epoch')}; {even}."
    return draw(f"Operations over the epochs{block}", about, caption, legend, f"lines-{number}", paint, sizes)


def _line_style(name: str, chosen: str | None) -> dict[str, Any]:
    """Return how the line of an operation is drawn."""
    if name.replace("theta", "θ") == chosen:
        return {"color": colour("pulse"), "linewidth": 2.2, "zorder": 5}
    if name == "skip":
        return {"color": colour("link"), "linewidth": 1.5, "zorder": 4}
    if name == "none":
        return {"color": colour("muted"), "linewidth": 1.4, "dashes": (4, 2.5), "zorder": 3}
    return {"color": colour("ink"), "linewidth": 0.6, "zorder": 2}


def _chart_entropy(found: SearchRun) -> Chart:
    epochs, alpha, beta = (column(found.epochs, name) for name in ("epoch", "alpha_entropy", "beta_entropy"))
    frozen = found.frozen_epochs

    def paint(axes: Axes, wide: bool) -> None:
        if frozen:
            axes.axvspan(epochs[0] - 0.5, epochs[frozen - 1] + 0.5, color=colour("gap"), linewidth=0)
        axes.plot(epochs, alpha, "o-", color=colour("pulse"), markersize=3.5, linewidth=1.6)
        axes.plot(epochs, beta, "o-", color=colour("link"), markersize=3.5, linewidth=1.6)
        low = float(np.nanmin(np.concatenate([alpha, beta, [1.0]])))
        axes.set_ylim(max(0.0, low - 0.1 * max(1 - low, 0.02)), 1 + 0.1 * max(1 - low, 0.02))
        axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 5, integer=True))
        name_axes(axes, "epoch", "share of the largest possible")

    legend = [("curve", "of the operations"), ("blue", "of the edges")]
    if frozen:
        legend.append(("gap", "warm-up: only weights learn"))
    about = "1: every choice is as likely as another, and nothing has been decided. Falling: the search decides."
    caption = f"At the end {alpha[-1]:.3f} for the operations and {beta[-1]:.3f} for the edges."
    return draw("Entropy of the choices", about, caption, tuple(legend), "entropy", paint)


def _chart_loss(found: SearchRun) -> Chart:
    about = "Of the weights on their half of the recordings, and of the architecture on the other half."
    if not found.steps:
        return Chart("Losses", about, why_not="No step was logged.")
    at = column(found.steps, "step")
    curves = {"pulse": column(found.steps, "loss"), "link": column(found.steps, "alpha_loss")}

    def paint(axes: Axes, wide: bool) -> None:
        for role, values in curves.items():
            known = np.isfinite(values)
            if known.any():
                draw_running_mean(axes, at[known], values[known], role, 1000)
        name_axes(axes, "step", "overall loss")

    legend = (("curve", "of the weights"), ("blue", "of the architecture"))
    caption = f"{len(at)} steps logged; thick: running mean over a fiftieth of the run."
    return draw("Losses", about, caption, legend, "loss", paint)
