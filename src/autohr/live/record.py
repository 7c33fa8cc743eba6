"""The readings of a live session, in bounded memory, and as rows, waves and CSV."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autohr.errors import csv_table
from autohr.measure import join_waves
from autohr.signals.filters import standardise
from autohr.types import Pulse, Reading

MAX_WAVES_S = 600.0
"""Waves of readings older than this are let go of: the rate of the whole session is then of all readings, the pulse
wave, beats and variability are of the last ten minutes. Short-term variability is defined on five (Task Force 1996)."""
MAX_WAVES = 1200
"""Waves kept at most, where readings come more often than usual: 6 MB at 30 frames per second."""
MAX_READINGS = 21_600
"""Readings kept at most: six hours at one a second."""
SHOWN_WAVE_S = 8.0
"""Seconds of pulse wave that are shown."""

ROW_COLUMNS = ("time_s", "start_s", "face_id", "hr_bpm", "confidence", "reliable", "why")


class Record:
    """The newest readings of a session, without what only the moment needs; the older ones without their waves."""

    def __init__(self) -> None:
        self.readings: deque[Reading] = deque()
        self.n_readings = 0
        """All that were kept, those included that are gone."""
        self.n_waves = 0
        """Newest readings that still have their waves."""

    def keep(self, reading: Reading) -> None:
        """Append a reading; thin what is older."""
        estimate = reading.estimate
        self.readings.append(replace(reading, estimate=replace(estimate, evidence=None)))
        self.n_readings += 1
        self.n_waves += 1
        while self.n_waves > MAX_WAVES or (
            self.n_waves > 0 and self.readings[-self.n_waves].end_s < reading.end_s - MAX_WAVES_S
        ):
            old = self.readings[-self.n_waves]
            bare = replace(old, estimate=replace(old.estimate, pulse=None, witness=None))
            self.readings[-self.n_waves] = bare
            self.n_waves -= 1
        if len(self.readings) > MAX_READINGS:
            self.readings.popleft()

    def recent_wave(self, newest: Reading) -> Pulse | None:
        """Return the last ``SHOWN_WAVE_S`` of the wave that the newest readings of a face tell together."""
        near = [newest]
        for reading in reversed(self.readings):
            if reading.end_s < newest.end_s - SHOWN_WAVE_S or len(near) > SHOWN_WAVE_S / 0.5:
                break
            if (reading.face_id, reading.segment) == (newest.face_id, newest.segment) and reading.end_s < newest.end_s:
                near.append(reading)
        joined = join_waves(near)
        if joined is None:
            return None
        n_left_out = max(0, len(joined.bvp) - round(SHOWN_WAVE_S * joined.fps))
        bvp = joined.bvp[n_left_out:]
        # Neighbours of a segment overlap, so nothing in it is missing unless strides are longer than windows.
        bvp = standardise(bvp) if np.isfinite(bvp).all() else bvp
        return Pulse(bvp=bvp, fps=joined.fps, start_s=joined.start_s + n_left_out / joined.fps)

    @property
    def n_gone(self) -> int:
        """Number of readings that are no longer here, the first ones."""
        return self.n_readings - len(self.readings)

    def notes(self, *, has_first: bool = False) -> list[str]:
        """Return what is no longer there, one sentence each; ``has_first`` where another place has the first ones."""
        notes = []
        if self.n_waves < self.n_readings:
            notes.append(
                f"Wave, beats and variability are of the last {MAX_WAVES_S / 60:.0f} minutes at most; "
                "the rate is of the whole time."
            )
        if self.n_gone and not has_first:
            notes.append(f"The first {self.n_gone} readings of this long session are gone.")
        return notes


def as_rows(readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """Return one row of ``ROW_COLUMNS`` for each reading."""
    rows = []
    for reading in readings:
        estimate = reading.estimate
        cells = (
            round(reading.end_s, 3),
            round(reading.start_s, 3),
            reading.face_id,
            None if estimate.hr_bpm is None else round(estimate.hr_bpm, 2),
            round(estimate.confidence, 3),
            estimate.reliable,
            estimate.why_unreliable,
        )
        rows.append(dict(zip(ROW_COLUMNS, cells, strict=True)))
    return rows


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV, with a line of names.

    Examples
    --------
    >>> print(as_csv([]), end="")
    time_s,start_s,face_id,hr_bpm,confidence,reliable,why
    """
    return csv_table(ROW_COLUMNS, ({**row, "reliable": str(row["reliable"]).lower()} for row in rows))
