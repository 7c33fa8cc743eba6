"""The page of an architecture search: the cell it found, and how it came to it. Made from the run directory alone.

A search that is still going on has a page too, of its epochs so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from autohr.lab.reports.training import settings_of
from autohr.lab.runs import Run, open_run
from autohr.reports.page import Chart, Sizes, colour, count_words, draw, render
from autohr.types import Float

Record = dict[str, Any]

KIND = "search"
"""In config.json of a search's run."""

_OPS = "none skip conv_3x3x3 tdc_3x3x3_theta=0.2 tdc_3x3x3_theta=1 conv_1x3x3 conv_1x5x5 conv_3x1x1 conv_5x1x1"
OPS_OF: dict[int, tuple[str, ...]] = {
    9: tuple(name.replace("_theta", " theta") for name in _OPS.split()),
    7: tuple(name for name in _OPS.split() if "theta" not in name),
}
"""Names of the operations by their number, for a search that has not ended: its log holds numbers, and its results,
written last, hold the names. The same as ``nets.genotype.SPACE`` and ``SPACE_WITHOUT_TDC``, which a page may not
import; ``tests/test_search_report.py`` compares them."""

N_COLUMNS = {True: 3, False: 2}
"""Of the small drawings, one for each edge: in the wide picture and in the narrow one."""


@dataclass(frozen=True)
class Found:
    """A search as its run directory tells it."""

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
        """Number of the epoch whose cell is the result: a search that stopped for a collapse keeps an earlier one."""
        same = [k for k, record in enumerate(self.epochs) if record["genotype"]["cells"] == self.genotype["cells"]]
        sound = [k for k in same if not self.epochs[k].get("collapsed")]
        return max(sound or same or [len(self.epochs) - 1])

    def strengths(self) -> list[Strengths]:
        """Of each cell of the result: the product by which its edges were chosen."""
        weights = self.op_strengths[self.shown] * self.edge_strengths[self.shown][..., None]
        found: list[Strengths] = []
        for number, cell in enumerate(self.genotype["cells"]):
            own = {}
            for node, pair in enumerate(cell):
                for edge in pair:
                    place = self.edges.index((node, int(edge["source"])))
                    name = op_words(edge).replace("θ", "theta")
                    own[node, int(edge["source"])] = float(weights[number, place, self.ops.index(name)])
            found.append(own)
        return found


def read_search(run_dir: Path) -> Found:
    """What a search has left in a run directory so far.

    Raises:
        AutoHRError: no such run, no epoch logged yet, or damaged files.
    """
    run = open_run(run_dir)
    records = run.read_log()
    epochs = tuple(record for record in records if "op_strengths" in record)
    if not epochs:
        raise AutoHRError(f"{str(run_dir)!r} has not ended its first epoch yet; there is nothing to show.")
    try:
        return _found(run, records, epochs)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise AutoHRError(f"{str(run_dir)!r} is damaged ({error!r}); run the search again.") from None


def _found(run: Run, records: Sequence[Record], epochs: tuple[Record, ...]) -> Found:
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
    return Found(
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
    """The page of a run directory that ``autohr search`` wrote, as text.

    Raises:
        AutoHRError: see ``read_search``.
    """
    found = read_search(run_dir)
    try:
        return render("search.html.j2", _view(found, made_at), "autohr.lab.reports")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise AutoHRError(f"{str(run_dir)!r} is damaged ({error!r}); run the search again.") from None


def _view(found: Found, made_at: str | None) -> dict[str, Any]:
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


def _verdict(found: Found) -> dict[str, Any]:
    """Whether skips or zeros took the cell over, in words."""
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


def _history(found: Found) -> list[dict[str, Any]]:
    """One row for each epoch: its cell, and how many of its choices are others than in the epoch before."""
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
    return {
        (number, node, int(edge["source"]), op_words(edge))
        for number, cell in enumerate(cells)
        for node, pair in enumerate(cell)
        for edge in pair
    }


# ---------------------------------------------------------------------------------------------------------------------
# Charts
# ---------------------------------------------------------------------------------------------------------------------


def _charts(found: Found) -> list[Chart]:
    n_sets = found.op_strengths.shape[1]
    charts = []
    for number in range(n_sets):
        block = "" if n_sets == 1 else f", block {number + 1}"
        charts += [_chart_map(found, number, block), _chart_lines(found, number, block)]
    return [*charts, _chart_entropy(found), _chart_loss(found)]


def _edge_words(edge: tuple[int, int]) -> str:
    return f"{state_words(edge[1])} → {edge[0]}"


def _chart_map(found: Found, number: int, block: str) -> Chart:
    """Edges down, operations across: the share that each has on its edge."""
    shares = found.op_strengths[found.shown, number]
    weights = found.edge_strengths[found.shown, number]
    n_edges, n_ops = shares.shape
    top = max(float(shares.max()), 1e-9)
    chosen = {(node, source): op for (_, node, source, op) in _choices([found.genotype["cells"][number]])}
    sizes: Sizes = {"wide": (820.0, 130.0 + 26 * n_edges, 12.0), "narrow": (340.0, 150.0 + 24 * n_edges, 10.0)}

    def paint(axes: Axes, wide: bool) -> None:
        width, height, _ = sizes["wide" if wide else "narrow"]
        left, below = (110.0, 26.0) if wide else (80.0, 26.0)
        above = height - below - (26 if wide else 24) * n_edges
        axes.set_position((left / width, below / height, 1 - (left + 10) / width, 1 - (above + below) / height))
        axes.grid(False)
        axes.set_xlim(-0.5, n_ops + 0.5)
        axes.set_ylim(n_edges - 0.5, -0.5)
        for row in range(n_edges):
            for column in range(n_ops):
                share = float(shares[row, column])
                is_chosen = chosen.get(found.edges[row]) == found.ops[column].replace("theta", "θ")
                axes.add_patch(
                    Rectangle(
                        (column - 0.46, row - 0.46),
                        0.92,
                        0.92,
                        facecolor=colour("link"),
                        alpha=0.75 * share / top,
                        linewidth=0,
                    )
                )
                if is_chosen:
                    axes.add_patch(
                        Rectangle(
                            (column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=colour("ink"), linewidth=1.8
                        )
                    )
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour("ink"))
            axes.text(
                n_ops, row, f"{100 * weights[row]:.0f}", ha="center", va="center", color=colour("muted"), style="italic"
            )
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


def _chart_lines(found: Found, number: int, block: str) -> Chart:
    """One small drawing for each edge: how its operations' shares went over the epochs."""
    shares = found.op_strengths[:, number]
    epochs = np.array([float(record["epoch"]) for record in found.epochs])
    chosen = {(node, source): op for (_, node, source, op) in _choices([found.genotype["cells"][number]])}
    n_edges = len(found.edges)
    heights = {wide: 26 + 104.0 * -(-n_edges // N_COLUMNS[wide]) for wide in (True, False)}
    sizes: Sizes = {"wide": (820.0, heights[True], 11.5), "narrow": (340.0, heights[False], 9.5)}
    top = 1.08 * float(shares.max())

    def paint(axes: Axes, wide: bool) -> None:
        picture = axes.figure
        assert picture is not None
        axes.set_axis_off()
        width, height, letters = sizes["wide" if wide else "narrow"]
        n_columns = N_COLUMNS[wide]
        for place, edge in enumerate(found.edges):
            row, column = divmod(place, n_columns)
            cell = width / n_columns
            box = (column * cell + 26, height - 104 * row - 92, cell - 34, 68)
            small = picture.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            small.patch.set_visible(False)
            small.grid(True, color=colour("line"), linewidth=0.6)
            small.spines[["top", "right", "left"]].set_visible(False)
            small.spines["bottom"].set_color(colour("muted"))
            small.tick_params(colors=colour("muted"), length=0, pad=3, labelsize=0.85 * letters)
            for op, name in enumerate(found.ops):
                drawn, width_px, dashes, order = _line_style(name, chosen.get(edge))
                small.plot(
                    epochs,
                    100 * shares[:, place, op],
                    color=colour(drawn),
                    linewidth=width_px,
                    dashes=dashes,
                    zorder=order,
                    marker="o" if len(epochs) == 1 else None,
                    markersize=3,
                )
            small.set_ylim(0, 100 * top)
            small.yaxis.set_major_locator(MaxNLocator(3))
            small.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            words = f"{_edge_words(edge)}: {chosen[edge]}" if edge in chosen else _edge_words(edge)
            small.set_title(words, loc="left", fontsize=letters, color=colour("ink" if edge in chosen else "muted"))

    legend = [("curve", "what the cell took"), ("blue", "skip"), ("dash", "none"), ("line", "the others (thin)")]
    about = "Per cent of each edge's softmax after each epoch, one drawing for each edge. All have one scale."
    even_pct = 100 / len(found.ops)
    caption = (
        f"{count_words(len(epochs), 'epoch')}; with {len(found.ops)} operations an even share is {even_pct:.0f} %."
    )
    return draw(f"Operations over the epochs{block}", about, caption, tuple(legend), f"lines-{number}", paint, sizes)


def _line_style(name: str, chosen: str | None) -> tuple[str, float, tuple[float, ...], int]:
    """(role, width, dashes, order) of an operation's line."""
    if name.replace("theta", "θ") == chosen:
        return "pulse", 2.2, (), 5
    if name == "skip":
        return "link", 1.5, (), 4
    if name == "none":
        return "muted", 1.4, (4, 2.5), 3
    return "ink", 0.6, (), 2


def _chart_entropy(found: Found) -> Chart:
    epochs = np.array([float(record["epoch"]) for record in found.epochs])
    alpha, beta = (_column(found.epochs, name) for name in ("alpha_entropy", "beta_entropy"))
    frozen = _frozen_epochs(found)

    def paint(axes: Axes, wide: bool) -> None:
        if frozen:
            axes.axvspan(epochs[0] - 0.5, epochs[frozen - 1] + 0.5, color=colour("gap"), linewidth=0)
        axes.plot(epochs, alpha, "o-", color=colour("pulse"), markersize=3.5, linewidth=1.6)
        axes.plot(epochs, beta, "o-", color=colour("link"), markersize=3.5, linewidth=1.6)
        low = float(np.nanmin(np.concatenate([alpha, beta, [1.0]])))
        axes.set_ylim(max(0.0, low - 0.1 * max(1 - low, 0.02)), 1 + 0.1 * max(1 - low, 0.02))
        axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 5, integer=True))
        axes.set_xlabel("epoch")
        axes.set_title("share of the largest possible", loc="left")

    legend = [("curve", "of the operations"), ("blue", "of the edges")]
    if frozen:
        legend.append(("gap", "warm-up: only weights learn"))
    about = "1: every choice is as likely as another, and nothing has been decided. Falling: the search decides."
    caption = f"At the end {alpha[-1]:.3f} for the operations and {beta[-1]:.3f} for the edges."
    return draw("Entropy of the choices", about, caption, tuple(legend), "entropy", paint)


def _frozen_epochs(found: Found) -> int:
    """Epochs at the beginning in which the architecture stood still: no step of them has a loss of its own for it."""
    moved = [record["step"] for record in found.steps if record.get("alpha_loss") is not None]
    if not moved:
        return len(found.epochs) if found.steps else 0
    return sum(record["step"] < min(moved) for record in found.epochs)


def _chart_loss(found: Found) -> Chart:
    about = "Of the weights on their half of the recordings, and of the architecture on the other half."
    if not found.steps:
        return Chart("Losses", about, why_not="No step was logged.")
    at = np.array([float(record["step"]) for record in found.steps])
    curves = [_column(found.steps, name) for name in ("loss", "alpha_loss")]
    width = min(len(at), max(1, len(at) // 50))
    thin = max(1, len(at) // 1000)

    def paint(axes: Axes, wide: bool) -> None:
        for values, drawn in zip(curves, ("pulse", "link"), strict=True):
            known = np.isfinite(values)
            if not known.any():
                continue
            smooth = np.convolve(values[known], np.full(width, 1 / width), mode="valid")
            axes.plot(at[known][::thin], values[known][::thin], color=colour(drawn), linewidth=0.6, alpha=0.3)
            begin = width // 2
            axes.plot(
                at[known][begin : begin + len(smooth)][::thin], smooth[::thin], color=colour(drawn), linewidth=1.7
            )
        axes.set_xlabel("step")
        axes.set_title("overall loss", loc="left")

    legend = [("curve", "of the weights"), ("blue", "of the architecture")]
    caption = f"{len(at)} steps logged; thick: running mean over a fiftieth of the run."
    return draw("Losses", about, caption, tuple(legend), "loss", paint)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> Float:
    return np.array([np.nan if record.get(name) is None else float(record[name]) for record in records])
