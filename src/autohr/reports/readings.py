"""Readings of measurements as a CSV table, for ``autohr measure --csv`` and the local page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from autohr.errors import csv_cell
from autohr.types import Measurement, Refusal

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
                row = [
                    result.path,
                    face.id,
                    f"{window.start_s:.3f}",
                    f"{window.end_s:.3f}",
                    None if window.hr_bpm is None else f"{window.hr_bpm:.2f}",
                    f"{window.confidence:.3f}",
                    str(window.reliable).lower(),
                    None if window.snr_db is None else f"{window.snr_db:.2f}",
                    window.why_unreliable,
                    result.method,
                    result.weights,
                ]
                table.writerow(map(csv_cell, row))
    return text.getvalue()
