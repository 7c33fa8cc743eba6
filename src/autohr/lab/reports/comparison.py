"""The page of ``autohr compare-cells``: cells trained under one budget, and whether search beat luck.

Made from ``results/comparison.json`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from autohr.lab.evaluate.stored import COMPARISON, CellResult, Group, read_comparison
from autohr.lab.reports.cells import cell_words, draw_cells
from autohr.lab.reports.charts import Look, damage_is_named, name_axes, name_columns, render_page
from autohr.reports.page import Chart, Sizes, colour, draw

SIZES: Sizes = {"wide": (820.0, 300.0, 12.5), "narrow": (340.0, 280.0, 11.0)}

LOOKS: dict[str, tuple[str, str]] = {
    "searched": ("pulse", "block"),
    "random": ("link", "block blue"),
    "reconstruction": ("good", "block green"),
    "given": ("muted", "block grey"),
}
"""Group of cells -> (role of its colour, swatch)."""

MAX_DRAWN = 12
"""Number of cells that are drawn, the best first; all are in words."""

Row = dict[str, Any]


def render_comparison_page(out: Path, *, made_at: str | None = None) -> str:
    """Return the page of a folder that ``autohr compare-cells`` wrote.

    Raises AutoHRError where there is no comparison, or a damaged file.
    """
    result = read_comparison(out)
    with damage_is_named(out / COMPARISON, "run the comparison"):
        rows = [_row(cell) for cell in result.cells]
        charts = [_chart_groups(result.groups, rows), _chart_cost(rows)]
        values = {"name": out.resolve().name, "result": result, "rows": rows, "charts": charts, "made_at": made_at}
        return render_page("comparison", values | {"drawings": _drawings(rows)})


def _row(cell: CellResult) -> Row:
    """Return a cell as the template shows it: means over its trainings, and their SD where there are several."""
    row: Row = {"cell": cell, "group": cell.group, "label": cell.label, "swatch": LOOKS[cell.group][1]}
    for name in ("mae_bpm", "rmse_bpm", "within_5_bpm"):
        row[name], row[f"{name}_sd"] = cell.score(name)
    row["maes"] = np.array([np.nan if one.mae_bpm is None else one.mae_bpm for one in cell.trainings])
    row["wall_s"] = sum(one.wall_s for one in cell.trainings)
    row["words"] = [cell_words(one) for one in cell.genotype["cells"]]
    return row


def _drawings(rows: Sequence[Row]) -> list[Chart]:
    """Draw the cells of shared genotypes, the best first."""
    shared = [row for row in rows if row["cell"].genotype["kind"] == "shared"]
    shared.sort(key=lambda row: np.inf if row["mae_bpm"] is None else row["mae_bpm"])
    charts = []
    for number, row in enumerate(shared[:MAX_DRAWN]):
        genotype = row["cell"].genotype | {"name": f"{row['label']} ({row['group']})"}
        charts += draw_cells(genotype, key=f"cell-{number}")
    return charts


def _chart_groups(summaries: Sequence[Group], rows: Sequence[Row]) -> Chart:
    """Draw a dot for each cell, small ones for its trainings, and the mean and SD of each group."""
    title, about = "Error of each cell", "Mean absolute error on the held-out subjects; lower is better."
    done = [row for row in rows if row["mae_bpm"] is not None]
    if not done:
        return Chart(title, about, why_not="No cell is trained yet.")
    names = [name for name in LOOKS if any(row["group"] == name for row in done)]
    means = {group.name: (group.mean["mae_bpm"], group.sd["mae_bpm"]) for group in summaries}

    def paint(axes: Axes, wide: bool) -> None:
        for place, name in enumerate(names):
            own = [row for row in done if row["group"] == name]
            offsets = 0.32 * (np.arange(len(own)) - (len(own) - 1) / 2) / max(1, len(own) - 1)
            for x, row in zip(place + offsets, own, strict=True):
                maes = row["maes"]
                if len(maes) > 1:
                    axes.plot([x, x], [maes.min(), maes.max()], color=colour("line"), linewidth=1.2, zorder=2)
                    axes.plot(np.full(len(maes), x), maes, "o", color=colour("muted"), markersize=2.5, zorder=3)
                axes.plot(x, row["mae_bpm"], "o", color=colour(LOOKS[name][0]), markersize=7, zorder=4)
            mean, sd = means.get(name, (None, None))
            if mean is not None:
                axes.plot([place - 0.3, place + 0.3], [mean, mean], color=colour("ink"), linewidth=1.6, zorder=5)
            if mean is not None and sd is not None:
                x = place + 0.36
                axes.plot([x, x], [mean - sd, mean + sd], color=colour("ink"), linewidth=1.2, zorder=5)
        axes.margins(y=0.12)
        name_columns(axes, ["reconstr." if name == "reconstruction" and not wide else name for name in names])
        name_axes(axes, None, "MAE, bpm")

    legend = [(LOOKS[name][1], name) for name in names] + [("line", "mean of a group, and its SD over cells")]
    best = min(done, key=lambda row: float(row["mae_bpm"]))
    caption = f"Best: {best['label']} ({best['group']}), {best['mae_bpm']:.2f} bpm."
    if any(len(row["maes"]) > 1 for row in done):
        caption += " Small dots: the trainings of one cell with different seeds."
    return draw(title, about, caption, tuple(legend), "groups", paint, SIZES)


def _chart_cost(rows: Sequence[Row]) -> Chart:
    """Draw errors over cost, which shows where a cell is good because it is dear."""
    title, about = "Error against cost", "A cell may be better only because its network computes more."
    done = [row for row in rows if row["mae_bpm"] is not None]
    if not done:
        return Chart(title, about, why_not="No cell is trained yet.")
    cost = np.array([row["cell"].gflop_per_s for row in done], dtype=np.float64)

    def paint(axes: Axes, wide: bool) -> None:
        for x, row in zip(cost, done, strict=True):
            axes.plot(x, row["mae_bpm"], "o", color=colour(LOOKS[row["group"]][0]), markersize=7, zorder=4)
            if wide:
                # Towards the middle, so that no name leaves the drawing.
                right = x > (cost.min() + cost.max()) / 2
                look: Look = {"color": colour("muted"), "fontsize": 10.5, "ha": "right" if right else "left"}
                at = (x, row["mae_bpm"])
                axes.annotate(row["label"], at, (-7 if right else 7, 3), textcoords="offset points", **look)
        axes.margins(x=0.12, y=0.15)
        name_axes(axes, "GFLOP per second of video", "MAE, bpm")

    caption = f"{cost.min():.2f} to {cost.max():.2f} GFLOP per second of video, two to a multiplication with addition."
    legend = [(LOOKS[name][1], name) for name in dict.fromkeys(row["group"] for row in done)]
    return draw(title, about, caption, tuple(legend), "cost", paint, SIZES)
