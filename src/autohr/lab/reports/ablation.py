"""The bars of an ablation beside the paper's: a page, and a picture of its own. Made from ``ablation.json`` alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from autohr.lab.evaluate.stored import AblationResult, read_ablation
from autohr.lab.reports.charts import Look, name_axes, name_columns, render_page
from autohr.reports.page import Chart, Sizes, colour, draw, standalone
from autohr.types import Float

SIZES: Sizes = {"wide": (820.0, 330.0, 12.5), "narrow": (340.0, 330.0, 11.0)}

WRAP = {True: 12, False: 7}
"""Letters of a label on one line below a bar, in the wide drawing and in the narrow one."""


def render_ablation_page(out: Path, *, made_at: str | None = None) -> str:
    """Return the page of a folder that ``autohr ablate`` wrote; AutoHRError where there is none, or a damaged file."""
    result = read_ablation(out)
    values = {"name": out.resolve().name, "result": result, "chart": draw_bars(result), "made_at": made_at}
    return render_page("ablation", values)


def ablation_svg(out: Path) -> str:
    """Return the bars as an SVG that stands alone; AutoHRError as ``render_ablation_page``."""
    return standalone(draw_bars(read_ablation(out)))


def draw_bars(result: AblationResult) -> Chart:
    """Draw two bars for each of the panel's, or one and a word where it did not run here."""
    bars = result.bars

    def column(name: str) -> Float:
        values = [getattr(bar, name) for bar in bars]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    published, here, low, high = map(column, ("published_bpm", "rmse_bpm", "low_bpm", "high_bpm"))
    places = np.arange(len(bars))
    made = np.isfinite(here)
    top = float(np.nanmax(np.concatenate([published, here, high]))) if bars else 1.0

    def paint(axes: Axes, wide: bool) -> None:
        printed = np.isfinite(published)
        axes.bar(places[printed] - 0.2, published[printed], 0.38, color=colour("link"), zorder=2)
        axes.bar(places[made] + 0.2, here[made], 0.38, color=colour("pulse"), zorder=2)
        above: Look = {"textcoords": "offset points", "ha": "center"}
        for place, value, bottom, roof in zip(places[made] + 0.2, here[made], low[made], high[made], strict=True):
            if np.isfinite(bottom) and np.isfinite(roof):
                axes.plot([place, place], [bottom, roof], color=colour("ink"), linewidth=1.2, zorder=3)
            if wide or len(bars) < 6:
                at = (place, max(value, roof) if np.isfinite(roof) else value)
                axes.annotate(f"{value:.1f}", at, (0, 3), color=colour("ink"), **above)
        for place in places[~made]:
            look = {**above, "va": "bottom", "rotation": 90, "color": colour("muted")}
            axes.annotate("not run", (place + 0.2, 0), (0, 4), **look)
        axes.set_ylim(0, 1.12 * top)
        name_columns(axes, [_wrapped(bar.label, WRAP[wide]) for bar in bars])
        name_axes(axes, None, "RMSE, bpm: left the paper, right here")

    legend = [("block blue", "the paper, Fig. 4")]
    if made.any():
        legend.append(("block", "here, with its 95 % interval"))
    return draw(
        f"Fig. 4({result.panel}): {result.title}",
        "Lower is better. The paper's bars and ours were not made on the same data unless the protocol says so.",
        f"{int(made.sum())} of {len(bars)} bars were run here. Paper: {result.source}.",
        tuple(legend),
        f"ablation-{result.name}",
        paint,
        SIZES,
    )


def _wrapped(label: str, width: int) -> str:
    """Return the label on lines of ``width`` letters, where its words allow it."""
    return textwrap.fill(label, width, break_long_words=False, break_on_hyphens=False)
