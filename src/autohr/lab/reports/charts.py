"""Parts that the laboratory's pages share: dots, running means, axes, columns of records, and damaged files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from autohr.errors import AutoHRError, in_short
from autohr.reports.page import colour, render
from autohr.types import Float

Record = Mapping[str, Any]
Look = dict[str, Any]
"""Arguments of a drawing function of matplotlib."""
Flags = NDArray[np.bool_]
DASHES = (4, 3)
"""Lengths of dash and gap of a line that is no measurement."""


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """Return the page of one of this room's templates."""
    return render(f"{template}.html.j2", values, "autohr.lab.reports")


@contextlib.contextmanager
def damage_is_named(path: Path, made_by: str) -> Iterator[None]:
    """Turn what a damaged file causes into one AutoHRError that names ``path``; ``made_by`` is what to do again."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, OSError, EOFError) as error:
        reason = f"{type(error).__name__}: {in_short(error)}"
        raise AutoHRError(f"{str(path)!r} is missing or damaged ({reason}); {made_by} again.") from None


def column(records: Sequence[Record], name: str) -> Float:
    """Return a field of records, (N,); NaN where it is missing."""
    return np.array([np.nan if record.get(name) is None else float(record[name]) for record in records])


def running_mean(at: Float, values: Float) -> tuple[Float, Float]:
    """Return (places, means) of values (N,) over a fiftieth of them."""
    width = min(len(values), max(1, len(values) // 50))
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    return at[width // 2 : width // 2 + len(means)], means


def draw_running_mean(axes: Axes, at: Float, values: Float, role: str, max_points: int) -> None:
    """Draw values thin and their running mean thick, at most about ``max_points`` of each."""
    thin = max(1, len(at) // max_points)
    mean_at, means = running_mean(at, values)
    axes.plot(at[::thin], values[::thin], color=colour(role), linewidth=0.65, alpha=0.3)
    axes.plot(mean_at[::thin], means[::thin], color=colour(role), linewidth=1.7)


def draw_dots(axes: Axes, x: Float, y: Float, is_good: Flags, size: float, alpha: float) -> None:
    """Draw filled green dots where ``is_good``, orange rings elsewhere."""
    bad = ~is_good
    ring: Look = {"markerfacecolor": "none", "markeredgecolor": colour("bad"), "markeredgewidth": 1.3, "zorder": 3}
    axes.plot(x[bad], y[bad], "o", markersize=size, alpha=alpha, **ring)
    good: Look = {"color": colour("good"), "markeredgewidth": 0, "zorder": 4}
    axes.plot(x[is_good], y[is_good], "o", markersize=size, alpha=alpha, **good)


def name_axes(axes: Axes, x: str | None, y: str) -> None:
    """Name both axes; the vertical one in a title at the left, where it can be read."""
    if x is not None:
        axes.set_xlabel(x)
    axes.set_title(y, loc="left")


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """Put names under columns at 0, 1, ... and a scale at the side."""
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.grid(False)
    axes.xaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    axes.set_xticklabels(list(names))
