"""Measurements as CSV tables: one row a reading (``--csv`` and the local page), or one a face (``--summary-csv``)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autohr.errors import csv_cell
from autohr.types import Measurement, Refusal, Window

CSV_COLUMNS = (
    "path",
    "face_id",
    "start_s",
    "end_s",
    "hr_bpm",
    "confidence",
    "reliable",
    "snr_db",
    "why_unreliable",
    "method",
    "weights",
)

SUMMARY_COLUMNS = (
    "name",
    "face_id",
    "main_face",
    "hr_bpm",
    "confidence",
    "reliable",
    "error_kind",
    "reason",
    "measured_s",
    "lowest_bpm",
    "highest_bpm",
    "start_s",
    "end_s",
    "duration_s",
    "method",
    "weights",
    "path",
)
"""Columns of the summary. ``lowest_bpm`` and ``highest_bpm`` are of the reliable windows; ``measured_s`` is the time
that lies in a window; ``reason`` says why a rate is not reliable, or why a file was refused."""


def readings_csv(results: Sequence[Measurement | Refusal], *, header: bool = True) -> str:
    """Return one row for each reading; a refused file is one row with its reason. Text is that of ``csv_cell``.

    Examples
    --------
    >>> from autohr.types import Refusal
    >>> print(readings_csv([Refusal("a.mp4", "No face.")], header=False))
    a.mp4,,,,,,false,,No face.,,
    <BLANKLINE>
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if header:
        table.writerow(CSV_COLUMNS)
    for result in results:
        if not isinstance(result, Measurement):
            cells = [result.path, "", "", "", "", "", "false", "", result.reason, "", ""]
            table.writerow(map(csv_cell, cells))
            continue
        for face in result.faces:
            for window in face.windows:
                table.writerow(_window_row(result.path, face.id, window, result.method, result.weights))
    return text.getvalue()


def window_csv(
    path: str, face_id: int, window: Window, method: str, weights: str | None, *, header: bool = True
) -> str:
    """Return the row of one reading, as ``readings_csv`` does of all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if header:
        table.writerow(CSV_COLUMNS)
    table.writerow(_window_row(path, face_id, window, method, weights))
    return text.getvalue()


def _window_row(path: str, face_id: int, window: Window, method: str, weights: str | None) -> list[object]:
    row = [
        path,
        face_id,
        f"{window.start_s:.3f}",
        f"{window.end_s:.3f}",
        "" if window.hr_bpm is None else f"{window.hr_bpm:.2f}",
        f"{window.confidence:.3f}",
        str(window.reliable).lower(),
        "" if window.snr_db is None else f"{window.snr_db:.2f}",
        window.why_unreliable or "",
        method,
        weights or "",
    ]
    return [csv_cell(cell) for cell in row]


def summary_csv(result: Measurement | Refusal, name: str, error_kind: str = "", *, header: bool = True) -> str:
    """Return one row for each face of a file; a refused file is one row with its reason.

    Parameters
    ----------
    name
        Name of the file in the table.
    error_kind
        Class of the error behind a refusal.

    Examples
    --------
    >>> print(summary_csv(Refusal("v/a.mp4", "No face."), "a.mp4", "NoFace", header=False))
    a.mp4,,true,,,false,NoFace,No face.,,,,,,,,,v/a.mp4
    <BLANKLINE>
    """
    rows: list[dict[str, object]] = []
    if not isinstance(result, Measurement):
        rows.append({"main_face": "true", "reliable": "false", "error_kind": error_kind, "reason": result.reason})
    else:
        for face in result.faces:
            rates = [window.hr_bpm for window in face.windows if window.reliable and window.hr_bpm is not None]
            rows.append(
                {
                    "face_id": face.id,
                    "main_face": str(face is result.face).lower(),
                    "hr_bpm": "" if face.hr_bpm is None else f"{face.hr_bpm:.2f}",
                    "confidence": f"{face.confidence:.3f}",
                    "reliable": str(bool(face.reliable)).lower(),
                    "reason": face.why_unreliable or "",
                    "measured_s": f"{face.measured_s:.3f}",
                    "lowest_bpm": f"{min(rates):.2f}" if rates else "",
                    "highest_bpm": f"{max(rates):.2f}" if rates else "",
                    "start_s": f"{face.start_s:.3f}",
                    "end_s": f"{face.end_s:.3f}",
                    "duration_s": f"{result.duration_s:.3f}",
                    "method": result.method,
                    "weights": result.weights or "",
                }
            )
    text = io.StringIO()
    table = csv.DictWriter(text, SUMMARY_COLUMNS, restval="", lineterminator="\n")
    if header:
        table.writeheader()
    for row in rows:
        table.writerow({key: csv_cell(cell) for key, cell in {**row, "name": name, "path": result.path}.items()})
    return text.getvalue()
