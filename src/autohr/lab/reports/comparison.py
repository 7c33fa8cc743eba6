"""The page of ``autohr compare-cells``: cells trained under one budget, and whether search beat luck.

Made from ``results/comparison.json`` alone (``lab/searches.py`` writes it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.lab.reports.cells import cell_words, draw_cells
from autohr.reports.page import Chart, Sizes, colour, draw, render
from autohr.types import Float

FILE = "comparison.json"

SIZES: Sizes = {"wide": (820.0, 300.0, 12.5), "narrow": (340.0, 280.0, 11.0)}

LOOKS: dict[str, tuple[str, str]] = {
    "searched": ("pulse", "block"),
    "random": ("link", "block blue"),
    "reconstruction": ("good", "block green"),
    "given": ("muted", "block grey"),
}
"""Group of cells -> (role of its colour, swatch)."""

MOST_DRAWN = 12
"""Cells that are drawn, the best first; all are in words."""


def render_comparison_page(out: Path, *, made_at: str | None = None) -> str:
    """The page of a folder that ``autohr compare-cells`` wrote, as text.

    Raises:
        AutoHRError: no such comparison, or a damaged file.
    """
    file = out / "results" / FILE
    said = read_json(file)
    try:
        rows = [_row(cell) for cell in said["cells"]]
        values = {
            "name": out.resolve().name,
            "said": said,
            "rows": rows,
            "charts": [_chart_groups(said, rows), _chart_cost(rows)],
            "drawings": _drawings(rows),
            "made_at": made_at,
        }
        return render("comparison.html.j2", values, "autohr.lab.reports")
    except (KeyError, TypeError, ValueError) as error:
        raise AutoHRError(f"{str(file)!r} is damaged ({error!r}); run the comparison again.") from None


def _row(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell as the template shows it: means over its trainings, and their SD where there are several."""
    row: dict[str, Any] = {"cell": cell, "swatch": LOOKS[cell["group"]][1]}
    for name in ("mae_bpm", "rmse_bpm", "within_5_bpm"):
        values = [one[name] for one in cell["trainings"]]
        known = bool(values) and None not in values
        row[name] = float(np.mean(values)) if known else None
        row[f"{name}_sd"] = float(np.std(values, ddof=1)) if known and len(values) > 1 else None
    row["wall_s"] = sum(one["wall_s"] for one in cell["trainings"])
    genotype = cell["genotype"]
    row["words"] = [cell_words(one) for one in genotype["cells"]]
    return row


def _drawings(rows: list[dict[str, Any]]) -> list[Chart]:
    """The cells of shared genotypes, the best first."""
    shared = [row for row in rows if row["cell"]["genotype"]["kind"] == "shared"]
    shared.sort(key=lambda row: np.inf if row["mae_bpm"] is None else row["mae_bpm"])
    charts = []
    for number, row in enumerate(shared[:MOST_DRAWN]):
        genotype = dict(row["cell"]["genotype"]) | {"name": f"{row['cell']['label']} ({row['cell']['group']})"}
        charts += draw_cells(genotype, key=f"cell-{number}")
    return charts


def _maes(row: Mapping[str, Any]) -> Float:
    return np.array([np.nan if one["mae_bpm"] is None else one["mae_bpm"] for one in row["cell"]["trainings"]])


def _chart_groups(said: Mapping[str, Any], rows: list[dict[str, Any]]) -> Chart:
    """A dot for each cell, small ones for its trainings, and the mean and SD of each group."""
    title, about = "Error of each cell", "Mean absolute error on the held-out subjects; lower is better."
    done = [row for row in rows if row["mae_bpm"] is not None]
    if not done:
        return Chart(title, about, why_not="No cell is trained yet.")
    names = [name for name in LOOKS if any(row["cell"]["group"] == name for row in done)]
    groups = {group["name"]: group for group in said["groups"]}

    def paint(axes: Axes, wide: bool) -> None:
        for place, name in enumerate(names):
            own = [row for row in done if row["cell"]["group"] == name]
            offsets = 0.32 * (np.arange(len(own)) - (len(own) - 1) / 2) / max(1, len(own) - 1)
            for offset, row in zip(offsets, own, strict=True):
                maes = _maes(row)
                x = place + offset
                if len(maes) > 1:
                    axes.plot([x, x], [maes.min(), maes.max()], color=colour("line"), linewidth=1.2, zorder=2)
                    axes.plot(np.full(len(maes), x), maes, "o", color=colour("muted"), markersize=2.5, zorder=3)
                axes.plot(x, row["mae_bpm"], "o", color=colour(LOOKS[name][0]), markersize=7, zorder=4)
            if name in groups and groups[name]["mean"]["mae_bpm"] is not None:
                mean, sd = groups[name]["mean"]["mae_bpm"], groups[name]["sd"]["mae_bpm"]
                axes.plot([place - 0.3, place + 0.3], [mean, mean], color=colour("ink"), linewidth=1.6, zorder=5)
                if sd is not None:
                    x = place + 0.36
                    axes.plot([x, x], [mean - sd, mean + sd], color=colour("ink"), linewidth=1.2, zorder=5)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.grid(False)
        axes.xaxis.set_major_locator(FixedLocator(list(range(len(names)))))
        axes.set_xticklabels(["reconstr." if name == "reconstruction" and not wide else name for name in names])
        axes.set_title("MAE, bpm", loc="left")

    legend = [(LOOKS[name][1], name) for name in names] + [("line", "mean of a group, and its SD over cells")]
    best = min(done, key=lambda row: float(row["mae_bpm"]))
    caption = f"Best: {best['cell']['label']} ({best['cell']['group']}), {best['mae_bpm']:.2f} bpm."
    if any(len(row["cell"]["trainings"]) > 1 for row in done):
        caption += " Small dots: the trainings of one cell with different seeds."
    return draw(title, about, caption, tuple(legend), "groups", paint, SIZES)


def _chart_cost(rows: list[dict[str, Any]]) -> Chart:
    """Whether a cell is good because it is dear."""
    title, about = "Error against cost", "A cell may be better only because its network computes more."
    done = [row for row in rows if row["mae_bpm"] is not None]
    if not done:
        return Chart(title, about, why_not="No cell is trained yet.")
    cost = np.array([row["cell"]["gflop_per_s"] for row in done], dtype=np.float64)
    error = np.array([row["mae_bpm"] for row in done])

    def paint(axes: Axes, wide: bool) -> None:
        for x, y, row in zip(cost, error, done, strict=True):
            axes.plot(x, y, "o", color=colour(LOOKS[row["cell"]["group"]][0]), markersize=7, zorder=4)
            if wide:
                # Towards the middle, so that no name leaves the drawing.
                right = x > (cost.min() + cost.max()) / 2
                axes.annotate(
                    row["cell"]["label"],
                    (x, y),
                    (-7 if right else 7, 3),
                    textcoords="offset points",
                    ha="right" if right else "left",
                    color=colour("muted"),
                    fontsize=10.5,
                )
        axes.margins(x=0.12, y=0.15)
        axes.set_xlabel("GFLOP per second of video")
        axes.set_title("MAE, bpm", loc="left")

    caption = f"{cost.min():.2f} to {cost.max():.2f} GFLOP per second of video, two to a multiplication with addition."
    groups = dict.fromkeys(row["cell"]["group"] for row in done)
    legend = [(LOOKS[name][1], name) for name in groups]
    return draw(title, about, caption, tuple(legend), "cost", paint, SIZES)
