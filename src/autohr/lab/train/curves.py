"""Loss and error curves of a training run, drawn from its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autohr.errors import AutoHRError
from autohr.files import replacing
from autohr.lab.runs import Run
from autohr.lab.train.steps import STEPS

COLOURS = {"loss": "#1f5fa8", "val": "#c8501e", "share": "#2c8a57", "chance": "#777777"}


def draw_curves(run: Run) -> tuple[Path, Path]:
    """Draw results/curves.svg and .png of ``run``, and return both paths.

    Top: the training loss of each step (thin), its running mean (thick) and the validation loss. Middle: the first two
    parts of the loss. Bottom: the validation's mean absolute error beside that of a constant guess, and the share
    within 5 bpm.
    """
    records = run.read_log()
    steps = [record for record in records if "loss" in record]
    vals = [record["val"] for record in records if "val" in record]
    if not steps:
        raise AutoHRError(f"{str(run.root)!r} has logged no training step yet; there is nothing to draw.")

    with matplotlib.rc_context({"svg.hashsalt": "autohr", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(8, 9), layout="constrained")
        loss_axes, part_axes, error_axes = figure.subplots(3, 1, sharex=True)
        _draw_steps(loss_axes, steps, "loss", COLOURS["loss"], "training")
        if vals:
            loss_axes.plot(*_columns(vals, "loss"), "o-", ms=3, color=COLOURS["val"], label="validation")
        loss_axes.set(title=f"Training of {run.root.name}", ylabel="overall loss")
        loss_axes.legend()

        first, *others = [name for step in STEPS.values() for name in step.parts if name in steps[0]]
        _draw_steps(part_axes, steps, first, COLOURS["loss"], first)
        part_axes.set_ylabel(f"{first} loss", color=COLOURS["loss"])
        second = next((name for name in others if name != first), None)
        if second is not None:
            other = part_axes.twinx()
            other.grid(False)
            _draw_steps(other, steps, second, COLOURS["val"], second)
            other.set_ylabel(f"{second} loss", color=COLOURS["val"])

        if vals:
            error_axes.plot(*_columns(vals, "mae_bpm"), "o-", ms=3, color=COLOURS["val"], label="MAE")
            error_axes.axhline(
                vals[-1]["chance_mae_bpm"], ls="--", color=COLOURS["chance"], label="MAE of a constant guess"
            )
            at, share = _columns(vals, "within_5_bpm")
            share_axes = error_axes.twinx()
            share_axes.grid(False)
            share_axes.plot(at, 100 * share, "s:", ms=3, color=COLOURS["share"])
            share_axes.set_ylim(0, 100)
            share_axes.set_ylabel("within 5 bpm, %", color=COLOURS["share"])
            error_axes.set_ylim(bottom=0)
            error_axes.legend()
        else:
            error_axes.text(0.5, 0.5, "no validation yet", ha="center", transform=error_axes.transAxes)
        error_axes.set(xlabel="step", ylabel="validation MAE, bpm")

        svg, png = run.results / "curves.svg", run.results / "curves.png"
        with replacing(svg) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})
        with replacing(png) as aside:
            figure.savefig(aside, format="png", dpi=120)
    return svg, png


def _columns(records: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    values = [np.nan if record[name] is None else record[name] for record in records]
    return np.array([record["step"] for record in records]), np.array(values, dtype=float)


def _draw_steps(axes: Axes, steps: list[dict[str, Any]], name: str, colour: str, label: str) -> None:
    """Draw a value of every step, thin, under its running mean over a fiftieth of the run."""
    at, values = _columns(steps, name)
    width = min(len(values), max(1, len(values) // 50))
    smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
    axes.plot(at, values, color=colour, alpha=0.25, lw=0.7)
    axes.plot(at[width // 2 : width // 2 + len(smooth)], smooth, color=colour, lw=1.6, label=label)
