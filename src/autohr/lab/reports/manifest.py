"""The page of a dataset's manifest: what was prepared, what was left out and why, and what looks wrong.

``write_manifest_page(manifest, out)`` is the door. ``manifest`` is what ``manifest.json`` holds (data/manifest.py), so
the page can be made again from that file, years later, without the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from autohr.lab.reports.charts import DASHES, draw_dots, name_axes, render_page
from autohr.reports.page import Chart, colour, draw, write_page

OPEN_ROWS = 40
"""Rows of the longest table of recordings that is not folded."""
MAX_LISTED = 20
"""Number of findings of one kind that are listed one by one; the rest is in the table and in the JSON."""


def write_manifest_page(manifest: Mapping[str, Any], out: Path) -> None:
    """Write the page to ``out``, whole or not at all; a missing folder is made.

    Raises ValueError where ``out`` is a folder or the manifest has another schema, AutoHRError where the disk refuses.
    """
    write_page(render_manifest_page(manifest), out)


def render_manifest_page(manifest: Mapping[str, Any]) -> str:
    """Return the page; ValueError for another schema."""
    if manifest.get("schema") != "autohr.manifest/1":
        raise ValueError(f"schema {manifest.get('schema')!r} is not 'autohr.manifest/1'; prepare the dataset again.")
    rows: Sequence[Mapping[str, Any]] = manifest["recordings"]
    findings: dict[str, list[str]] = {}
    for finding in manifest["findings"]:
        findings.setdefault(finding["kind"], []).append(finding["says"])
    return render_page(
        "manifest",
        {
            "manifest": manifest,
            "findings": findings,
            "max_listed": MAX_LISTED,
            "open_rows": OPEN_ROWS,
            "made_at": None,
            "charts": [_chart_rates(rows), _chart_lengths(rows), _chart_lags(rows)],
            "refused": any(kind["refused"] for kind in manifest["kinds"].values()),
        },
    )


def _chart_rates(rows: Sequence[Mapping[str, Any]]) -> Chart:
    title = "Heart rates of the labels"
    about = "A line for each recording from its lowest to its highest rate, a dot at the mean; slowest first."
    known = sorted((row for row in rows if row.get("hr_mean_bpm") is not None), key=lambda row: row["hr_mean_bpm"])
    if not known:
        return Chart(title, about, why_not="No recording with a rate was kept.")
    low, mean, high = (np.array([row[f"hr_{name}_bpm"] for row in known]) for name in ("min", "mean", "max"))
    at = np.arange(1, len(known) + 1)

    def paint(axes: Axes, wide: bool) -> None:
        size = float(np.clip((560 if wide else 260) / len(known), 1.5, 7.0))
        axes.vlines(at, low, high, color=colour("muted"), linewidth=min(2.0, size), alpha=0.5)
        axes.plot(at, mean, "o", color=colour("pulse"), markersize=size, markeredgewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(8 if wide else 4, integer=True))
        axes.set_xlim(0, len(known) + 1)
        name_axes(axes, "recordings", "beats per minute")

    caption = f"From {low.min():.0f} to {high.max():.0f} bpm, mean {mean.mean():.0f} bpm, in {len(known)} recordings."
    return draw(title, about, caption, (), "rates", paint)


def _chart_lengths(rows: Sequence[Mapping[str, Any]]) -> Chart:
    title = "Length of label and video"
    about = "Above the line the label is longer than its video, below it shorter."
    known = [row for row in rows if row.get("label_minus_video_s") is not None]
    if not known:
        return Chart(title, about, why_not="No recording has both a label and a video.")
    video_s, more_s = (np.array([row[name] for row in known]) for name in ("video_s", "label_minus_video_s"))

    def paint(axes: Axes, wide: bool) -> None:
        is_odd = [bool(set(row["findings"]) & {"length", "frames"}) for row in known]
        draw_dots(axes, video_s, more_s, ~np.array(is_odd), size=5.5, alpha=0.85)
        axes.axhline(0, color=colour("muted"), linewidth=1.0, dashes=DASHES)
        half = max(1.0, 1.15 * float(np.abs(more_s).max()))
        axes.set_ylim(-half, half)
        axes.xaxis.set_major_locator(MaxNLocator(8 if wide else 4))
        name_axes(axes, "seconds of video", "seconds more in the label")

    caption = f"The label is {more_s.min():+.2f} to {more_s.max():+.2f} s longer than its video."
    return draw(title, about, caption, _LEGEND, "lengths", paint)


def _chart_lags(rows: Sequence[Mapping[str, Any]]) -> Chart:
    title = "Shift between label and face"
    about = "To the right of the line the label's beats come after the face's. The higher a dot, the surer it is."
    known = [row for row in rows if row.get("lag_s") is not None]
    if not known:
        return Chart(title, about, why_not="No recording that was kept has a label with a wave.")
    lag_s, r = (np.array([row[name] for row in known]) for name in ("lag_s", "lag_r"))

    def paint(axes: Axes, wide: bool) -> None:
        draw_dots(axes, lag_s, r, np.array(["lag" not in row["findings"] for row in known]), size=5.5, alpha=0.85)
        axes.axvline(0, color=colour("muted"), linewidth=1.0, dashes=DASHES)
        half = max(0.5, 1.15 * float(np.abs(lag_s).max()))
        axes.set_xlim(-half, half)
        axes.set_ylim(min(0.0, float(r.min()) - 0.05), 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(9 if wide else 5))
        name_axes(axes, "seconds by which the label is late", "correlation")

    caption = f"Median {np.median(lag_s):+.3f} s; median correlation {np.median(r):.2f}. No label was shifted."
    return draw(title, about, caption, _LEGEND, "lags", paint)


_LEGEND = (("dot", "as it should be"), ("ring", "found odd, see above"))
