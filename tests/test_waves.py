"""Waves and windows of an evaluation, as other programs read them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from autohr.errors import AutoHRError
from autohr.lab.evaluate.export import COLUMNS, windows_frame, write_waves
from autohr.lab.evaluate.results import Account, MethodInfo, Results, WindowResult


def window(start_s: float, n: int | None, n_true: int | None, recording: str = "d/s1/1") -> WindowResult:
    return WindowResult(
        recording_id=recording,
        dataset="d",
        subject="s1",
        session="1",
        fold=None,
        groups={"scenario": "rest"},
        start_s=start_s,
        end_s=start_s + 1.0,
        fps=10.0,
        why=None,
        method="pos",
        weights=None,
        bvp=None if n is None else np.arange(n) / 7,
        true_bvp=None if n_true is None else -np.arange(n_true) / 3,
        hr_bpm=70.0,
        true_hr_bpm=72.0,
    )


RESULTS = (
    Results(
        MethodInfo("pos", "pos", "POS"),
        {"name": "reference"},
        (window(0.5, 10, 10), window(1.5, None, 10), window(0.0, None, None, "d/s2/1")),
        (Account("d/s1/1", "scored", None, 2, 2), Account("d/s2/1", "scored", None, 1, 1)),
    ),
    Results(MethodInfo("chrom", "chrom", "CHROM"), {"name": "reference"}, (window(0.5, 10, None),), ()),
)


def test_every_sample_has_its_time(tmp_path: Path) -> None:
    assert write_waves(RESULTS, tmp_path / "waves.csv") == 30
    with (tmp_path / "waves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 30
    assert {(row["method"], row["recording"], row["window"]) for row in rows} == {
        ("pos", "d/s1/1", "0"),
        ("pos", "d/s1/1", "1"),
        ("chrom", "d/s1/1", "0"),
    }
    first = [row for row in rows if row["method"] == "pos" and row["window"] == "0"]
    assert [float(row["t_s"]) for row in first] == pytest.approx(0.5 + np.arange(10) / 10)
    assert [float(row["bvp"]) for row in first] == pytest.approx(np.arange(10) / 7, rel=1e-5)
    assert {row["bvp"] for row in rows if row["window"] == "1"} == {""}
    assert {row["true_bvp"] for row in rows if row["method"] == "chrom"} == {""}


def test_a_table_has_a_row_for_each_window() -> None:
    pytest.importorskip("pandas")
    frame = windows_frame(RESULTS)
    assert len(frame) == 4 and set(frame["method"]) == {"pos"} and frame["scored"].all()
    assert {"recording_id", "hr_bpm", "true_hr_bpm", "group_scenario"} <= set(frame.columns)


def test_what_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AutoHRError, match=r"ends in neither of \.csv, \.parquet"):
        write_waves(RESULTS, tmp_path / "waves.xlsx")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AutoHRError, match="pip install pandas"):
        write_waves(RESULTS, tmp_path / "waves.parquet")
    with pytest.raises(AutoHRError, match="pip install pandas"):
        windows_frame(RESULTS)
