"""Results of an evaluation for other programs: every sample of every wave with its time, and a DataFrame of a run.

write_waves(results, Path("waves.csv"))       a row for each sample; .parquet where pandas and pyarrow are installed
windows_frame(results)                        a pandas DataFrame, a row for each window and method
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autohr.errors import AutoHRError
from autohr.files import replacing
from autohr.lab.evaluate.results import Results

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("method", "recording", "window", "t_s", "bvp", "true_bvp")
"""Columns of the waves: ``window`` counts from 0 within the recording, ``t_s`` is the time in the video."""
FORMATS = (".csv", ".parquet")


def write_waves(results: Sequence[Results], path: Path) -> int:
    """Write each sample of each window's wave, and of the reference's, and return the number of rows.

    Windows without a wave (networks that give a rate, windows that could not be read) have no rows. A value that is
    not there is empty.

    Raises
    ------
    AutoHRError
        Another ending than ``FORMATS``; pandas or pyarrow is missing for .parquet; the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise AutoHRError(f"{str(path)!r} ends in neither of {', '.join(FORMATS)}; name a file that does.")
    if path.suffix.lower() == ".parquet":
        frame = _pandas("A .parquet file").DataFrame(_samples(results), columns=list(COLUMNS))
        with replacing(path) as aside:
            try:
                frame.to_parquet(aside, index=False)
            except ImportError:
                raise AutoHRError("A .parquet file needs pyarrow: pip install pyarrow. A .csv needs nothing.") from None
        return len(frame)
    n_rows = 0
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for *names, t_s, bvp, true_bvp in _samples(results):
            writer.writerow([*names, f"{t_s:.4f}", *("" if np.isnan(v) else f"{v:.6g}" for v in (bvp, true_bvp))])
            n_rows += 1
    return n_rows


def _samples(results: Sequence[Results]) -> Iterator[tuple[str, str, int, float, float, float]]:
    for one in results:
        numbers: dict[str, int] = {}
        for window in one.windows:
            number = numbers.get(window.recording_id, 0)
            numbers[window.recording_id] = number + 1
            waves = [window.bvp, window.true_bvp]
            length = max((len(wave) for wave in waves if wave is not None), default=0)
            bvp, true_bvp = (np.full(length, np.nan) if wave is None else wave for wave in waves)
            t_s = window.start_s + np.arange(length) / (window.fps or 1.0)
            for at_s, value, truth in zip(t_s, bvp, true_bvp, strict=True):
                yield one.method.label, window.recording_id, number, float(at_s), float(value), float(truth)


def windows_frame(results: Sequence[Results]) -> pd.DataFrame:
    """Return a DataFrame with a row for each window of each method: times, rates, truth, confidence, groups.

    Of several runs: ``pandas.concat(windows_frame(read_results(run)).assign(run=str(run)) for run in runs)``.
    Raises AutoHRError where pandas is not installed.
    """
    rows: list[dict[str, Any]] = []
    for one in results:
        for window in one.windows:
            fields = {name: value for name, value in vars(window).items() if name not in ("bvp", "true_bvp", "groups")}
            rows.append({**fields, "scored": window.scored, **{f"group_{k}": v for k, v in window.groups.items()}})
    return _pandas("A DataFrame").DataFrame(rows)


def _pandas(what: str) -> Any:
    try:
        import pandas
    except ModuleNotFoundError:
        raise AutoHRError(f"{what} needs pandas: pip install pandas.") from None
    return pandas
