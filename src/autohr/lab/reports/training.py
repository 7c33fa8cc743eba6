"""The page of a training run: its curves, its best validation, its recipe. Made from the run directory alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from autohr.errors import AutoHRError
from autohr.files import read_json
from autohr.lab.runs import Run, open_run
from autohr.reports.page import Chart, colour, draw, render
from autohr.types import Float

Record = dict[str, Any]


def render_training_page(run_dir: Path, *, made_at: str | None = None) -> str:
    """The page of a run directory that ``autohr train`` wrote, as text.

    Raises:
        AutoHRError: no such run, or nothing logged in it yet.
    """
    run = open_run(run_dir)
    records = run.read_log()
    steps = [record for record in records if "loss" in record]
    vals = [record["val"] for record in records if "val" in record]
    if not steps:
        raise AutoHRError(f"{str(run_dir)!r} has logged no training step yet; there is nothing to show.")
    judged = [val for val in vals if val.get("mae_bpm") is not None]
    recipe = run.config.get("recipe", {})
    n_steps = max(int(record["step"]) for record in steps)
    return render(
        "training.html.j2",
        {
            "name": run.root.name,
            "title": str(recipe.get("title", "")),
            "n_steps": n_steps,
            "best": min(judged, key=lambda val: float(val["mae_bpm"])) if judged else None,
            "charts": [_chart_loss(steps, vals), _chart_error(vals, n_steps)],
            "settings": settings_of(recipe),
            "data": _data(run),
            "made_at": made_at,
        },
        "autohr.lab.reports",
    )


def settings_of(recipe: Record) -> list[tuple[str, list[tuple[str, str]]]]:
    """(section, (field, value)...) of the recipe, all of it."""
    plain = [(key, _said(value)) for key, value in recipe.items() if not isinstance(value, dict)]
    sections = [("", plain)] if plain else []
    for key, value in recipe.items():
        if isinstance(value, dict):
            sections.append((key, [(field, _said(content)) for field, content in value.items()]))
    return sections


def _said(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _data(run: Run) -> dict[str, Any]:
    """How many recordings trained, validated and did neither, and why not."""
    file = run.results / "data.json"
    try:
        said = read_json(file)
        return {"n_train": len(said["train"]), "n_val": len(said["val"]), "left_out": dict(said["left_out"])}
    except (AutoHRError, ValueError, KeyError, TypeError):
        return {"n_train": None, "n_val": None, "left_out": {}}


def _columns(records: Sequence[Record], name: str) -> tuple[Float, Float]:
    values = [np.nan if record.get(name) is None else float(record[name]) for record in records]
    return np.array([float(record["step"]) for record in records]), np.array(values)


def _chart_loss(steps: Sequence[Record], vals: Sequence[Record]) -> Chart:
    at, loss = _columns(steps, "loss")
    width = min(len(loss), max(1, len(loss) // 50))
    smooth = np.convolve(loss, np.full(width, 1 / width), mode="valid")
    smooth_at = at[width // 2 : width // 2 + len(smooth)]
    thin = max(1, len(at) // 1500)

    def paint(axes: Axes, wide: bool) -> None:
        axes.plot(at[::thin], loss[::thin], color=colour("pulse"), linewidth=0.7, alpha=0.3)
        axes.plot(smooth_at[::thin], smooth[::thin], color=colour("pulse"), linewidth=1.7)
        if vals:
            axes.plot(*_columns(vals, "loss"), "o-", color=colour("link"), markersize=3.5, linewidth=1.0)
        axes.set_xlim(0, 1.02 * at.max())
        axes.set_xlabel("step")
        axes.set_title("overall loss", loc="left")

    legend = [("curve", "training, and its running mean over a fiftieth of the run")]
    if vals:
        legend.append(("blue", "validation"))
    about = "What training makes smaller. Its size means little; that it falls, and does not rise again, is the point."
    caption = f"{len(steps)} steps logged; running mean from {smooth[0]:.3f} to {smooth[-1]:.3f}."
    return draw("Loss", about, caption, tuple(legend), "loss", paint)


def _chart_error(vals: Sequence[Record], n_steps: int) -> Chart:
    about = "Mean absolute error of the rate on subjects that are not trained on, beside always giving the mean rate."
    if not vals:
        return Chart("Error of the heart rate", about, why_not="This run has not been validated.")
    chance = vals[-1].get("chance_mae_bpm")

    def paint(axes: Axes, wide: bool) -> None:
        axes.plot(*_columns(vals, "mae_bpm"), "o-", color=colour("link"), markersize=3.5, linewidth=1.4)
        if chance is not None:
            axes.axhline(chance, color=colour("muted"), linewidth=1.0, dashes=(4, 3))
        axes.set_ylim(bottom=0)
        # As the loss above it, so that one step is one place.
        axes.set_xlim(0, 1.02 * n_steps)
        axes.set_xlabel("step")
        axes.set_title("beats per minute", loc="left")

    legend = [("blue", "mean absolute error"), ("dash", "of always the mean rate")]
    _, errors = _columns(vals, "mae_bpm")
    caption = f"{len(vals)} validations; the last {errors[-1]:.2f} bpm, the best {np.nanmin(errors):.2f} bpm."
    return draw("Error of the heart rate", about, caption, tuple(legend), "error", paint)
