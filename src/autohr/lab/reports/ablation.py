"""The bars of an ablation beside the paper's: a page, and a picture of its own. Made from ``ablation.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.reports.page import Chart, Sizes, colour, draw, render, standalone

FILE = "ablation.json"

SIZES: Sizes = {"wide": (820.0, 330.0, 12.5), "narrow": (340.0, 330.0, 11.0)}

WRAP = {True: 12, False: 7}
"""Letters of a label on one line below a bar, in the wide drawing and in the narrow one."""


def render_ablation_page(out: Path, *, made_at: str | None = None) -> str:
    """The page of a folder that ``autohr ablate`` wrote, as text.

    Raises:
        AutoHRError: no such ablation, or a damaged file.
    """
    said = read_json(out / FILE)
    return render(
        "ablation.html.j2",
        {"name": out.resolve().name, "said": said, "chart": _chart(out, said), "made_at": made_at},
        "autohr.lab.reports",
    )


def ablation_svg(out: Path) -> str:
    """The bars as a picture that stands alone, SVG.

    Raises:
        AutoHRError: no such ablation, or a damaged file.
    """
    return standalone(_chart(out, read_json(out / FILE)))


def _chart(out: Path, said: Mapping[str, Any]) -> Chart:
    try:
        return draw_bars(said)
    except (KeyError, TypeError, ValueError) as error:
        raise AutoHRError(f"{str(out / FILE)!r} is damaged ({error}); run the ablation again.") from None


def draw_bars(said: Mapping[str, Any]) -> Chart:
    """Two bars for each of the panel's, or one and a word where it did not run here."""
    bars = said["bars"]
    places = np.arange(len(bars))
    published = np.array([bar["published_bpm"] for bar in bars], dtype=np.float64)
    here = np.array([np.nan if bar["rmse_bpm"] is None else bar["rmse_bpm"] for bar in bars], dtype=np.float64)
    made = np.isfinite(here)
    low = np.array([np.nan if bar["low_bpm"] is None else bar["low_bpm"] for bar in bars], dtype=np.float64)
    high = np.array([np.nan if bar["high_bpm"] is None else bar["high_bpm"] for bar in bars], dtype=np.float64)
    top = float(np.nanmax(np.concatenate([published, here, high])))

    def paint(axes: Axes, wide: bool) -> None:
        axes.bar(places - 0.2, published, 0.38, color=colour("link"), zorder=2)
        axes.bar(places[made] + 0.2, here[made], 0.38, color=colour("pulse"), zorder=2)
        for place, value, bottom, roof in zip(places[made] + 0.2, here[made], low[made], high[made], strict=True):
            if np.isfinite(bottom) and np.isfinite(roof):
                axes.plot([place, place], [bottom, roof], color=colour("ink"), linewidth=1.2, zorder=3)
            if wide or len(bars) < 6:
                axes.annotate(
                    f"{value:.1f}",
                    (place, max(value, roof) if np.isfinite(roof) else value),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    color=colour("ink"),
                )
        for place in places[~made]:
            axes.annotate(
                "not run",
                (place + 0.2, 0),
                (0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                rotation=90,
                color=colour("muted"),
            )
        axes.set_ylim(0, 1.12 * top)
        axes.set_xlim(-0.6, len(bars) - 0.4)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_locator(FixedLocator(list(places)))
        axes.set_xticklabels([_wrapped(str(bar["label"]), WRAP[wide]) for bar in bars])
        axes.xaxis.grid(False)
        axes.set_title("RMSE, bpm: left the paper, right here", loc="left")

    legend = [("block blue", "the paper, Fig. 4")]
    if made.any():
        legend.append(("block", "here, with its 95 % interval"))
    n_made = int(made.sum())
    caption = f"{n_made} of {len(bars)} bars were run here. Paper: {said['source']}."
    return draw(
        f"Fig. 4({said['panel']}): {said['title']}",
        "Lower is better. The paper's bars and ours were not made on the same data unless the protocol says so.",
        caption,
        tuple(legend),
        f"ablation-{said['name']}",
        paint,
        SIZES,
    )


def _wrapped(label: str, width: int) -> str:
    """The label on lines of ``width`` letters, where its words allow it."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
