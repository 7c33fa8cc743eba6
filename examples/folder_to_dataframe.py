"""Measure every video of a folder and put the rates into a table, one row for each face.

    python examples/folder_to_dataframe.py videos/ [rates.csv]

With pandas installed the table is a DataFrame; without it, a list of dicts that is written as CSV all the same.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import autohr
from autohr.errors import AutoHRError

SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
COLUMNS = ("video", "face", "hr_bpm", "confidence", "reliable", "snr_db", "remark")


def rates(folder: Path) -> list[dict[str, Any]]:
    """Return one row for each face; a video that is refused has one row that says why."""
    method = autohr.load_method()  # loaded once for all videos
    rows: list[dict[str, Any]] = []
    for video in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row["video"] = video.relative_to(folder).as_posix()
        try:
            faces = autohr.measure(video, method).faces
        except AutoHRError as refused:
            rows.append({**row, "reliable": False, "remark": str(refused)})
            continue
        for face in faces:
            rows.append(
                {
                    **row,
                    "face": face.id,
                    "hr_bpm": face.hr_bpm,
                    "confidence": face.confidence,
                    "reliable": face.reliable,
                    "snr_db": face.snr_db,
                    "remark": face.why_unreliable,
                }
            )
    return rows


def main(folder: Path, out: Path | None = None) -> None:
    """Print the table, and write it as CSV where a name is given."""
    rows = rates(folder)
    try:
        import pandas as pd
    except ImportError:
        for row in rows:
            print(row)
    else:
        print(pd.DataFrame(rows, columns=COLUMNS).to_string(index=False))
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:3]))
