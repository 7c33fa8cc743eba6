"""Measurements as CSV tables: one row a reading (``--csv`` and the local page), or one a face (``--summary-csv``)."""

from __future__ import annotations

from collections.abc import Sequence

from autohr.errors import csv_table
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
    rows: list[dict[str, object]] = []
    for result in results:
        if not isinstance(result, Measurement):
            rows.append({"path": result.path, "reliable": "false", "why_unreliable": result.reason})
            continue
        for face in result.faces:
            rows += [_row(result.path, face.id, window, result.method, result.weights) for window in face.windows]
    return csv_table(CSV_COLUMNS, rows, header=header)


def window_csv(
    path: str, face_id: int, window: Window, method: str, weights: str | None, *, header: bool = True
) -> str:
    """Return the row of one reading, as ``readings_csv`` does of all."""
    return csv_table(CSV_COLUMNS, [_row(path, face_id, window, method, weights)], header=header)


def _row(path: str, face_id: int, window: Window, method: str, weights: str | None) -> dict[str, object]:
    return {
        "path": path,
        "face_id": face_id,
        "start_s": f"{window.start_s:.3f}",
        "end_s": f"{window.end_s:.3f}",
        "hr_bpm": None if window.hr_bpm is None else f"{window.hr_bpm:.2f}",
        "confidence": f"{window.confidence:.3f}",
        "reliable": str(window.reliable).lower(),
        "snr_db": None if window.snr_db is None else f"{window.snr_db:.2f}",
        "why_unreliable": window.why_unreliable,
        "method": method,
        "weights": weights,
    }


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
                    "hr_bpm": None if face.hr_bpm is None else f"{face.hr_bpm:.2f}",
                    "confidence": f"{face.confidence:.3f}",
                    "reliable": str(bool(face.reliable)).lower(),
                    "reason": face.why_unreliable,
                    "measured_s": f"{face.measured_s:.3f}",
                    "lowest_bpm": f"{min(rates):.2f}" if rates else None,
                    "highest_bpm": f"{max(rates):.2f}" if rates else None,
                    "start_s": f"{face.start_s:.3f}",
                    "end_s": f"{face.end_s:.3f}",
                    "duration_s": f"{result.duration_s:.3f}",
                    "method": result.method,
                    "weights": result.weights,
                }
            )
    return csv_table(SUMMARY_COLUMNS, ({**row, "name": name, "path": result.path} for row in rows), header=header)
