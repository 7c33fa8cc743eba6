"""The page of a training run: its curves, its best validation, its recipe. Made from the run directory alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.lab.reports.charts import (
    DASHES,
    Look,
    Record,
    column,
    draw_running_mean,
    name_axes,
    render_page,
    running_mean,
)
from autohr.lab.runs import Run, open_run
from autohr.reports.page import Chart, colour, draw


def render_training_page(run_dir: Path, *, made_at: str | None = None) -> str:
    """Return the page of a run directory that ``autohr train`` wrote.

    Raises AutoHRError where there is no such run, or nothing logged in it yet.
    """
    run = open_run(run_dir)
    records = run.read_log()
    steps = [record for record in records if "loss" in record]
    vals = [record["val"] for record in records if "val" in record]
    if not steps:
        raise AutoHRError(f"{str(run_dir)!r} has logged no training step yet; there is nothing to show.")
    scored = [val for val in vals if val.get("mae_bpm") is not None]
    recipe = run.config.get("recipe", {})
    n_steps = max(int(record["step"]) for record in steps)
    return render_page(
        "training",
        {
            "name": run.root.name,
            "title": str(recipe.get("title", "")),
            "n_steps": n_steps,
            "best": min(scored, key=lambda val: float(val["mae_bpm"])) if scored else None,
            "charts": [_chart_loss(steps, vals), _chart_error(vals, n_steps)],
            "settings": settings_of(recipe),
            "data": _data(run),
            "made_at": made_at,
        },
    )


def settings_of(recipe: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return (section, (field, value)...) of the whole recipe."""
    plain = {key: value for key, value in recipe.items() if not isinstance(value, dict)}
    sections = {"": plain} if plain else {}
    sections |= {key: value for key, value in recipe.items() if isinstance(value, dict)}
    return [(name, [(field, _in_words(value)) for field, value in fields.items()]) for name, fields in sections.items()]


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _data(run: Run) -> dict[str, Any]:
    """Return how many recordings trained and validated, and why others did neither."""
    try:
        data = read_json(run.results / "data.json")
        return {"n_train": len(data["train"]), "n_val": len(data["val"]), "left_out": dict(data["left_out"])}
    except (AutoHRError, ValueError, KeyError, TypeError):
        return {"n_train": None, "n_val": None, "left_out": {}}


def _chart_loss(steps: Sequence[Record], vals: Sequence[Record]) -> Chart:
    at, loss = column(steps, "step"), column(steps, "loss")
    _, means = running_mean(at, loss)

    def paint(axes: Axes, wide: bool) -> None:
        draw_running_mean(axes, at, loss, "pulse", 1500)
        if vals:
            look: Look = {"color": colour("link"), "markersize": 3.5, "linewidth": 1.0}
            axes.plot(column(vals, "step"), column(vals, "loss"), "o-", **look)
        axes.set_xlim(0, 1.02 * at.max())
        name_axes(axes, "step", "overall loss")

    legend = [("curve", "training, and its running mean over a fiftieth of the run")]
    if vals:
        legend.append(("blue", "validation"))
    about = "What training makes smaller. Its size means little; that it falls, and does not rise again, is the point."
    caption = f"{len(steps)} steps logged; running mean from {means[0]:.3f} to {means[-1]:.3f}."
    return draw("Loss", about, caption, tuple(legend), "loss", paint)


def _chart_error(vals: Sequence[Record], n_steps: int) -> Chart:
    about = "Mean absolute error of the rate on subjects that are not trained on, beside always giving the mean rate."
    if not vals:
        return Chart("Error of the heart rate", about, why_not="This run has not been validated.")
    chance, errors = vals[-1].get("chance_mae_bpm"), column(vals, "mae_bpm")

    def paint(axes: Axes, wide: bool) -> None:
        axes.plot(column(vals, "step"), errors, "o-", color=colour("link"), markersize=3.5, linewidth=1.4)
        if chance is not None:
            axes.axhline(chance, color=colour("muted"), linewidth=1.0, dashes=DASHES)
        axes.set_ylim(bottom=0)
        # As the loss above it, so that one step is one place.
        axes.set_xlim(0, 1.02 * n_steps)
        name_axes(axes, "step", "beats per minute")

    legend = (("blue", "mean absolute error"), ("dash", "of always the mean rate"))
    caption = f"{len(vals)} validations; the last {errors[-1]:.2f} bpm, the best {np.nanmin(errors):.2f} bpm."
    return draw("Error of the heart rate", about, caption, legend, "error", paint)
