"""Results of ablations and of comparisons of cells, as their JSON files hold them.

They are declared here, below the experiments that make them, so that pages are made without the nets.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from autohr.errors import AutoHRError, in_short
from autohr.files import read_json
from autohr.lab.evaluate.validation import parse

T = TypeVar("T")

ABLATION = "ablation.json"
"""Path of an ablation's result in its folder."""
COMPARISON = Path("results") / "comparison.json"
"""Path of a comparison's result in its folder."""


@contextlib.contextmanager
def array_damage() -> Iterator[None]:
    """Raise ValueError where numpy reads a damaged file in this block: its own errors there have no common base."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(in_short(error) or type(error).__name__) from None


@dataclass(frozen=True)
class Bar:
    """Bar of an ablation as it came out here, beside the paper's."""

    key: str
    label: str
    published_bpm: float | None
    """RMSE of the paper."""
    stated: bool
    """True where the paper's text has that figure."""
    rmse_bpm: float | None
    low_bpm: float | None
    high_bpm: float | None
    """95 % interval by drawing subjects."""
    n_scored: int
    n: int
    """Number of recordings scored, and tested."""
    why_not: str | None


@dataclass(frozen=True)
class Oracle:
    """Error of the reference's own wave, scored by the same rule as the bars."""

    rmse_bpm: float | None
    n_scored: int
    n: int


@dataclass(frozen=True)
class AblationResult:
    """Panel of Fig. 4 as it came out here."""

    name: str
    panel: str
    title: str
    source: str
    note: str
    protocol: str
    preset: str
    bars: tuple[Bar, ...]
    oracle: Oracle | None = None
    """Oracle of the first bar; None where no bar was run, and in folders of versions before this field."""
    scoring_notes: tuple[str, ...] = ()
    """Notes on the scoring, one sentence or more each."""


@dataclass(frozen=True)
class Training:
    """Training of a cell as it ended."""

    seed: int
    run: str
    """Name of its folder."""
    n_steps: int
    mae_bpm: float | None
    rmse_bpm: float | None
    within_5_bpm: float | None
    pearson_r: float | None
    chance_mae_bpm: float | None
    """MAE of always giving the mean rate of the training recordings."""
    wall_s: float
    """Time of all calls that worked on it and were not killed."""


def mean_sd(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean and the SD (n - 1) of values; None where one of them, or the spread of one, is not known.

    Examples
    --------
    >>> mean_sd([1.0, 3.0]), mean_sd([1.0]), mean_sd([1.0, None])
    ((2.0, 1.4142135623730951), (1.0, None), (None, None))
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


@dataclass(frozen=True)
class CellResult:
    """Cell with its trainings."""

    label: str
    group: str
    source: str
    genotype: dict[str, Any]
    """Plain values of ``Genotype.as_dict``."""
    parameters: int
    gflop_per_s: float
    """Cost of the whole network for a second of video, 1e9, two to a multiplication with addition."""
    trainings: tuple[Training, ...]
    why_not: str | None
    """Reason for which it is not, or not fully, trained; it is then left out of the groups."""

    def score(self, name: str) -> tuple[float | None, float | None]:
        """Return the mean and SD over its trainings of a score such as "mae_bpm"."""
        return mean_sd([getattr(one, name) for one in self.trainings])


@dataclass(frozen=True)
class Group:
    """Cells of one kind. Means and standard deviations (n - 1) are over cells, each the mean of its trainings."""

    name: str
    n: int
    mean: dict[str, float | None]
    """Score -> mean."""
    sd: dict[str, float | None]
    """Score -> SD; None for a single cell."""


@dataclass(frozen=True)
class Comparison:
    """Searched cells against another group, by the MAE."""

    other: str
    n_searched: int
    n_other: int
    difference_bpm: float
    """Mean of the searched cells minus mean of the others; negative: searched cells err less."""
    spread_bpm: float | None
    """SD within the two groups, pooled; None where both hold one cell."""
    p: float
    """Exact permutation test, one-sided: share of all ways to call so many of these cells searched in which they would
    come out at least as well."""
    least_p: float
    """Smallest p that so few cells can give."""
    beats: bool
    """True for a significant p and a difference above the spread."""
    words: str


@dataclass(frozen=True)
class ComparisonResult:
    """Comparison of cells under one budget."""

    recipe: str
    overrides: tuple[str, ...]
    n_steps: int | None
    batch_size: int
    seeds: tuple[int, ...]
    held_out: tuple[str, ...]
    """Subjects on which all are evaluated, as dataset/subject."""
    n_held_out: int
    """Number of their recordings."""
    n_windows: int | None = field(default=None, kw_only=True)
    """Number of windows of those recordings on which all are evaluated: every one, or as many as the recipe's
    ``fit.val_windows``. None before any training has ended, and in files of versions before this field."""
    cells: tuple[CellResult, ...]
    groups: tuple[Group, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def read_ablation(out: Path) -> AblationResult:
    """Return what ``autohr ablate`` left in a folder; AutoHRError where there is nothing, or a damaged file."""
    return _read(AblationResult, out / ABLATION, "ablation")


def read_comparison(out: Path) -> ComparisonResult:
    """Return what ``autohr compare-cells`` left in a folder; AutoHRError where there is nothing, or a damaged file."""
    return _read(ComparisonResult, out / COMPARISON, "comparison")


def _read(kind: type[T], file: Path, experiment: str) -> T:
    try:
        return parse(kind, read_json(file))
    except ValueError as error:
        raise AutoHRError(f"{str(file)!r} is damaged ({error}); run the {experiment} again.") from None
