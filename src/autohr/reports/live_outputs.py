"""Output files of ``autohr live``, written while the session runs.

    CSV     one row for each reading, as soon as it is there; readings of several faces come in order of time
    JSON    written whole at the end; until then its readings are lines of ``.OUT.TIME.live.jsonl`` beside it

What the lines hold needs no memory, so a session may last for days, and a kill leaves what was measured until then. At
the end the answer is made from all of it, which takes 2.5 kB of memory for each reading: 0.7 GB for three days.
"""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError
from autohr.files import GrowingFile, hidden_beside, is_plain
from autohr.reports.journal import Outcome
from autohr.reports.outputs import CsvFile, ResultFiles
from autohr.reports.readings import window_csv
from autohr.types import Estimate, Measurement, Reading, Window

LINES_SCHEMA = "autohr.live/1"
"""Name and version of the layout of the lines."""


class LiveFiles:
    """Writer of the outputs of a session. ``add`` may be called by another thread than ``finish``, before it.

    Parameters
    ----------
    source, method, weights
        Named in the outputs.
    json_out, csv_out
        The outputs; with neither, the lines alone are kept, in a file without a name.
    started_at
        Time of the session's start, such as "2026-11-28T05:45:00Z"; part of the name of the lines, so that no session
        overwrites what another one has left.
    """

    def __init__(
        self,
        *,
        source: str,
        method: str,
        weights: str | None,
        started_at: str = "",
        json_out: Path | None = None,
        csv_out: Path | None = None,
    ) -> None:
        self._json_out, self._csv = json_out, None if csv_out is None else CsvFile(csv_out)
        self._source, self._method, self._weights = source, method, weights
        header = {"schema": LINES_SCHEMA, "source": source, "method": method, "weights": weights}
        self._header = json.dumps({**header, "started_at": started_at}).encode() + b"\n"
        is_named = json_out is not None and is_plain(json_out)
        name = f"{started_at.replace(':', '')}.live.jsonl"
        self._lines = GrowingFile(hidden_beside(json_out, name) if is_named and json_out is not None else None)
        self._lengths = array("L")
        self.broken: BrokenPipeError | None = None
        """The error of an output whose reader went away: the session should end."""

    def add(self, readings: Sequence[Reading]) -> None:
        """Write readings; an output that fails keeps no other one from being written."""
        for reading in readings:
            line = json.dumps(_fields(reading), default=lambda value: value.item()).encode() + b"\n"
            place = self._lines.append(line if self._lengths else self._header + line)
            self._lengths.append(place.stop - place.start)
        if self._csv is None or self.broken is not None:
            return
        try:
            for reading in readings:
                window = Window(**reading.estimate.rate_fields(), start_s=reading.start_s, end_s=reading.end_s)
                row = self._source, reading.face_id, window, self._method, self._weights
                self._csv.append(window_csv(*row, header=self._csv.is_empty))
        except BrokenPipeError as error:
            self.broken = error

    def first(self, n_readings: int) -> Iterator[Reading]:
        """Read the first readings back, without their waves."""
        start = 0
        for length in self._lengths[:n_readings]:
            *_, line = self._lines.read(slice(start, start + length)).splitlines()
            start += length
            fields = json.loads(line)
            yield Reading(**{**fields, "estimate": Estimate(**fields["estimate"])})

    def finish(self, result: Measurement | None) -> tuple[list[str], Path | None]:
        """Write the rest: the JSON of ``result``, or without one keep the lines.

        Returns
        -------
            One sentence for each output that could not be written, and the file with the lines if it was kept.

        Raises
        ------
        BrokenPipeError
            The reader of an output went away; the others are written.
        """
        errors: list[str] = []

        def attempt(write: Callable[[], None]) -> None:
            try:
                write()
            except AutoHRError as error:
                errors.append(str(error))
            except BrokenPipeError as error:
                self.broken = error

        if self._csv is not None:
            attempt(self._csv.close)
        n_errors = len(errors)
        if self._json_out is not None and result is not None:
            files = ResultFiles(json_out=self._json_out)
            files.add(Outcome(result))
            attempt(lambda: errors.extend(files.finish()[0]))
        kept = None
        if result is not None and len(errors) == n_errors:
            self._lines.remove()
        else:
            kept = self._lines.keep()
        if self.broken is not None:
            raise self.broken
        return errors, kept


def _fields(reading: Reading) -> dict[str, Any]:
    """Return what is kept of a reading: everything but the waves and the evidence."""
    fields = {field.name: getattr(reading, field.name) for field in dataclasses.fields(reading)}
    return {**fields, "estimate": reading.estimate.rate_fields()}
