"""The page of an evaluation: what was scored and what was not, every method's errors, and pictures of them.

Made from the run directory alone, with no model and no video. ``scatter`` and ``bland_altman`` are the two pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from autohr.lab.evaluate.presets import find_preset
from autohr.lab.evaluate.results import Results, read_results
from autohr.lab.evaluate.scoring import Figures, Scores, check_windows, compare, score
from autohr.lab.evaluate.summary import find_oracles, oracle_notes
from autohr.lab.evaluate.tables import NOTHING, figure
from autohr.lab.reports.charts import DASHES, Flags, draw_dots, name_axes, render_page
from autohr.reports.page import Chart, Sizes, colour, count_words, draw
from autohr.types import Float

SQUARE: Sizes = {"wide": (420.0, 380.0, 12.0), "narrow": (340.0, 320.0, 11.5)}

MAX_POINTS = 1500
"""Largest number of points drawn in one picture; more would only thicken the cloud, and each takes 60 bytes."""

MAX_LISTED = 300
"""Number of recordings listed one by one for each method; the rest is counted, and lies in the run directory."""

BASELINE = "pos"
"""Method that the others are compared with, if it was run: a formula that everybody has."""

Columns = tuple[tuple[str, str, int, str], ...]
"""(field of ``Figures``, heading, decimals, meaning) of each column."""

RATE_COLUMNS: Columns = (
    ("mae_bpm", "MAE", 2, "mean absolute error, bpm"),
    ("rmse_bpm", "RMSE", 2, "root of the mean squared error, bpm"),
    ("sd_bpm", "SD", 2, "standard deviation of the error, bpm"),
    ("pearson_r", "r", 2, "Pearson's correlation of the rates"),
    ("mape_pct", "MAPE", 1, "mean absolute error in percent of the true rate"),
    ("bias_bpm", "Bias", 2, "mean error, bpm; positive is too high"),
)
OTHER_COLUMNS: Columns = (
    ("within_5", "Within 5 bpm", 2, "share of readings within 5 bpm of the truth"),
    ("snr_db", "SNR", 1, "signal-to-noise ratio of the wave, dB"),
    ("macc", "MACC", 2, "greatest correlation of the waves over small lags"),
    ("coverage", "Coverage", 2, "share of all readings that were scored and called reliable"),
    ("reliable_mae_bpm", "Their MAE", 2, "mean absolute error of the readings that were called reliable, bpm"),
    ("reliable_within_5", "Within 5 bpm", 2, "share of the readings called reliable that are within 5 bpm"),
)


def render_evaluation_page(
    run_dir: Path, *, preset: str | None = None, baseline: str = BASELINE, made_at: str | None = None
) -> str:
    """Return the page of a run directory that ``autohr evaluate`` wrote.

    Waves are scored by ``preset``, the protocol's own if None. Others are compared with the method of label
    ``baseline``, or with the first one where it was not run. Raises AutoHRError where there is no such run, no results
    in it, or damaged ones; UnknownName and WindowsTooShort for a preset that is unknown or needs longer windows.
    """
    everything = read_results(run_dir)
    protocol = everything[0].protocol
    rule = find_preset(preset or str(protocol.get("preset") or "reference"))
    for results in everything:
        check_windows(results, rule)
    scores = [score(results, rule) for results in everything]
    base = next((one for one in scores if one.method.label == baseline), scores[0])
    both = zip(everything, scores, strict=True)
    views = [_view(number, results, one, base) for number, (results, one) in enumerate(both)]
    oracles = find_oracles(scores)
    return render_page(
        "evaluation",
        {
            "name": Path(run_dir).resolve().name,
            "protocol": protocol,
            "rule": rule,
            "unit": "a recording, as the mean of its windows" if scores[0].unit == "recording" else "a window",
            "truth": "the device's rate" if scores[0].truth == "device" else "the rate of the reference wave",
            "rate_columns": [(heading, what) for _, heading, _, what in RATE_COLUMNS],
            "other_columns": [(heading, what) for _, heading, _, what in OTHER_COLUMNS],
            "methods": views,
            "oracles": [
                {"title": one.method.title, "figures": one.overall, "rates": rates, "others": others}
                for one in oracles
                for rates, others in [_both_cells(one.overall)]
            ],
            "oracle_notes": oracle_notes(oracles),
            "groups": _groups(scores),
            "base": base,
            "max_listed": MAX_LISTED,
            "made_at": made_at,
        },
    )


def _view(number: int, results: Results, scores: Scores, base: Scores) -> dict[str, Any]:
    """Return a method as the template shows it."""
    anchor = f"method-{number + 1}"
    lost = [
        (account.recording_id, account.state, account.reason or "not stated")
        for account in results.accounts
        if account.state != "scored"
    ]
    rates, others = _both_cells(scores.overall)
    return {
        "anchor": anchor,
        "scores": scores,
        "title": scores.method.title + (" (rates only)" if scores.rate_only else ""),
        "rates": rates,
        "others": others,
        "pictures": (scatter(scores, anchor), bland_altman(scores, anchor)),
        "not_scored": lost[:MAX_LISTED],
        "n_not_scored": len(lost),
        "against": "" if scores is base else _against(scores, base),
    }


def _both_cells(figures: Figures) -> list[list[dict[str, str]]]:
    """Return the cells of RATE_COLUMNS and of OTHER_COLUMNS."""

    def cell(field: str, digits: int) -> dict[str, str]:
        low_high = figures.intervals.get(field)
        between = "" if low_high is None else f"{low_high[0]:.{digits}f} to {low_high[1]:.{digits}f}"
        return {"value": figure(getattr(figures, field), digits), "interval": between}

    return [[cell(field, digits) for field, _, digits, _ in one] for one in (RATE_COLUMNS, OTHER_COLUMNS)]


def _against(scores: Scores, base: Scores) -> str:
    paired = compare(scores, base)
    if paired is None:
        return f"No reading was scored both by {scores.method.title} and by {base.method.title}."
    word = "less" if paired.difference_bpm < 0 else "more"
    p = "no subject differs" if paired.p != paired.p else f"p = {paired.p:.2g}"
    return (
        f"On the same readings its subjects' mean error is {abs(paired.difference_bpm):.2f} bpm {word} than that of "
        f"{base.method.title} (95 % interval of the difference {paired.low_bpm:+.2f} to {paired.high_bpm:+.2f}; "
        f"Wilcoxon over {count_words(paired.n_subjects, 'subject')}, {p})."
    )


def _groups(scores: Sequence[Scores]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return (group, (value, a cell for each method and oracle)...): MAE and, in brackets, scored of all readings."""
    names = sorted({name for one in scores for name in one.groups})
    tables = []
    for name in names:
        values = sorted({value for one in scores for value in one.groups.get(name, {})})
        tables_of = [one.groups.get(name, {}) for one in [*scores, *find_oracles(scores)]]
        rows = [(value, [_group_cell(table, value) for table in tables_of]) for value in values]
        tables.append((name, rows))
    return tables


def _group_cell(table: Mapping[str, Figures], value: str) -> str:
    figures = table.get(value)
    if figures is None:
        return NOTHING
    return f"{figure(figures.mae_bpm)} ({figures.n_scored} of {figures.n})"


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def scatter(scores: Scores, key: str) -> Chart:
    """Draw the estimated over the true rate, one mark for each reading; ``key`` begins the picture's ids."""
    title, about = "Estimated and true rate", "On the line the two agree. Hollow marks were not called reliable."
    true, predicted, reliable = _points(scores)
    if not len(true):
        return Chart(title, about, why_not="No reading was scored.")
    both = np.concatenate([true, predicted])
    low, high = float(both.min()) - 5, float(both.max()) + 5

    def paint(axes: Axes, wide: bool) -> None:
        axes.plot([low, high], [low, high], color=colour("muted"), linewidth=1.0, dashes=DASHES, zorder=1)
        _marks(axes, true, predicted, reliable)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        name_axes(axes, "true rate, bpm", "estimated rate, bpm")

    return draw(title, about, _caption(scores, len(true)), _legend(reliable), f"{key}-scatter", paint, SQUARE)


def bland_altman(scores: Scores, key: str) -> Chart:
    """Draw the error over the mean of the two rates (Bland & Altman 1986), with bias and limits of agreement."""
    title = "Errors (Bland-Altman)"
    about = "Lines: the mean error, and the limits between which 95 % of errors lie if they are normal."
    true, predicted, reliable = _points(scores)
    if not len(true):
        return Chart(title, about, why_not="No reading was scored.")
    figures = scores.overall
    lines = [value for value in (figures.bias_bpm, figures.loa_low_bpm, figures.loa_high_bpm) if value is not None]
    middle, error = (true + predicted) / 2, predicted - true
    reach = 1.1 * max(5.0, float(np.abs(error).max()), *(abs(value) for value in lines))

    def paint(axes: Axes, wide: bool) -> None:
        axes.axhline(0.0, color=colour("line"), linewidth=1.2, zorder=1)
        for place, value in enumerate(lines):
            dashes = (None, None) if place == 0 else DASHES
            axes.axhline(value, color=colour("muted"), linewidth=1.2, dashes=dashes, zorder=2)
        _marks(axes, middle, error, reliable)
        axes.set_xlim(float(middle.min()) - 5, float(middle.max()) + 5)
        axes.set_ylim(-reach, reach)
        name_axes(axes, "mean of estimated and true rate, bpm", "estimated minus true, bpm")

    caption = _caption(scores, len(true))
    if len(lines) == 3:
        caption = f"Mean error {lines[0]:+.2f} bpm, limits {lines[1]:+.2f} and {lines[2]:+.2f} bpm. " + caption
    return draw(title, about, caption, _legend(reliable), f"{key}-errors", paint, SQUARE)


def _points(scores: Scores) -> tuple[Float, Float, Flags]:
    """Return (true, estimated, reliable), (N,) each, of the scored readings that are drawn."""
    scored = scores.scored
    scored = scored[:: max(1, -(-len(scored) // MAX_POINTS))]
    return (
        np.array([unit.true_hr_bpm for unit in scored], dtype=np.float64),
        np.array([unit.hr_bpm for unit in scored], dtype=np.float64),
        np.array([unit.reliable for unit in scored], dtype=bool),
    )


def _marks(axes: Axes, x: Float, y: Float, reliable: Flags) -> None:
    draw_dots(axes, x, y, reliable, size=float(np.clip(90 / np.sqrt(len(x)), 2.5, 6.5)), alpha=0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _caption(scores: Scores, n_drawn: int) -> str:
    n = len(scores.scored)
    thinned = f"; {n_drawn} of them drawn" if n_drawn < n else ""
    return f"{count_words(n, 'reading')} scored of {len(scores.units)}{thinned}."


def _legend(reliable: Flags) -> tuple[tuple[str, str], ...]:
    filled = [("dot", "called reliable")] if reliable.any() else []
    return (*filled, *([] if reliable.all() else [("ring", "not called reliable")]))
