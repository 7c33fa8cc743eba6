r"""Output files of ``autohr measure`` and ``autohr live``: JSON, CSV and a page, saved while a batch runs.

    CSV     the rows of a result are appended when its turn comes, those of readings and those of the summary
    JSON    written whole at the end, from the journal that has each result as soon as it is there (reports/journal.py)
    HTML    written at the end

An output that cannot be written is reported at the end and keeps no other one from being written. Names of files that
are no UTF-8 are written losslessly as JSON escapes (``"\\udce9"``), and as the same escapes in plain text into the CSV;
the page shows a replacement mark.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autohr.errors import AutoHRError, escape_controls
from autohr.files import GrowingFile, make_folder, own_stream, replacing, utf8
from autohr.reports.journal import FileState, Journal, Outcome
from autohr.reports.readings import readings_csv, summary_csv
from autohr.types import MEASUREMENT_SCHEMA, Measurement


class ResultFiles:
    """Writer of the outputs of one command.

    Call ``add`` for each outcome, in any order, and ``write_next`` until it has no more; at the end ``finish`` once,
    whatever happened.
    """

    def __init__(
        self,
        *,
        json_out: Path | None = None,
        csv_out: Path | None = None,
        html_out: Path | None = None,
        summary_out: Path | None = None,
        is_array: bool = False,
        made_at: str | None = None,
        command: str | None = None,
        names: Sequence[str] = (),
        journal: Journal | None = None,
    ) -> None:
        """Open nothing before the first outcome.

        Parameters
        ----------
        is_array
            True if the JSON is an array of results, not the one result.
        names
            Names of the inputs in the summary and on the page. Default: their paths.
        made_at, command
            Printed on the page, see ``write_measurement_page``.
        journal
            Keeps the outcomes until the outputs are written. Without one, a temporary file does.
        """
        self._json_out, self._html_out = json_out, html_out
        self._csv = None if csv_out is None else CsvFile(csv_out)
        self._summary = None if summary_out is None else CsvFile(summary_out)
        self._is_array, self._made_at, self._command = is_array, made_at, command
        self._names = names
        self._journal = Journal() if journal is None else journal
        self._has_outputs = any(out is not None for out in (json_out, csv_out, html_out, summary_out))
        self._places: dict[int, slice] = {}
        self._turn = 0
        self._at_hand: tuple[int, Outcome] | None = None

    def add(self, outcome: Outcome, number: int = 0, state: FileState | None = None) -> None:
        """Save the outcome of an input; ``number`` is the input's place in the outputs, counted from 0.

        ``state`` is the file as it was before it was measured, see ``Journal.add``.
        """
        # Where nothing is written, only what must wait for its turn is saved.
        is_saved = self._has_outputs or number != self._turn
        self._places[number] = self._journal.add(outcome, state) if is_saved else slice(0, 0)
        self._at_hand = number, outcome

    def keep(self, number: int, place: slice) -> None:
        """Take for an input what the journal holds of it from an earlier run."""
        self._places[number] = place

    def has(self, number: int) -> bool:
        """Return True if the outcome of an input is there."""
        return number in self._places

    @property
    def n_done(self) -> int:
        """Number of inputs whose outcome is there."""
        return len(self._places)

    def write_next(self) -> Outcome | None:
        """Write the rows of the input whose turn it is; return its outcome, None if it is not there yet.

        Raises
        ------
        BrokenPipeError
            The reader of an output went away.
        """
        if self._turn not in self._places:
            return None
        number = self._turn
        outcome = self._outcome(number)
        self._turn += 1
        self._write_rows(number, outcome)
        return outcome

    def _outcome(self, number: int) -> Outcome:
        if self._at_hand is not None and self._at_hand[0] == number:
            return self._at_hand[1]
        return self._journal.read(self._places[number])

    def _outcomes(self) -> Iterator[Outcome]:
        return (self._outcome(number) for number in sorted(self._places))

    def _name(self, number: int, outcome: Outcome) -> str:
        return self._names[number] if number < len(self._names) else outcome.result.path

    def _write_rows(self, number: int, outcome: Outcome) -> None:
        result, broken = outcome.result, None
        try:
            if self._csv is not None:
                self._csv.append(readings_csv([result], header=self._csv.is_empty))
        except BrokenPipeError as error:
            # The summary has a reader of its own.
            broken = error
        if self._summary is not None:
            name = self._name(number, outcome)
            self._summary.append(summary_csv(result, name, outcome.error_kind, header=self._summary.is_empty))
        if broken is not None:
            raise broken

    def finish(self, n_inputs: int = 1) -> tuple[list[str], Path | None]:
        """Write the rest; without any outcome nothing is written.

        Parameters
        ----------
        n_inputs
            Number of inputs of the whole batch. The journal is removed if all are done and all outputs are written.

        Returns
        -------
            One sentence for each output that could not be written, and the journal if it was kept.

        Raises
        ------
        BrokenPipeError
            The reader of an output went away; the other outputs are written.
        """
        errors: list[str] = []
        broken: BrokenPipeError | None = None
        writes = (
            self._finish_rows,
            *(table.close for table in (self._csv, self._summary) if table is not None),
            self._finish_json,
            self._finish_page,
        )
        for write in writes if self._places else ():
            try:
                write()
            except AutoHRError as error:
                errors.append(str(error))
            except BrokenPipeError as error:
                broken = error
        if broken is None and not errors and self.n_done == n_inputs:
            self._journal.remove()
            return [], None
        kept = self._journal.keep()
        if broken is not None:
            raise broken
        return errors, kept

    def _finish_rows(self) -> None:
        # After an interruption: those that still waited for another one before them.
        for number in sorted(number for number in self._places if number >= self._turn):
            self._write_rows(number, self._outcome(number))

    def _finish_json(self) -> None:
        if self._json_out is None:
            return
        make_folder(self._json_out.parent)
        with replacing(self._json_out) as aside, aside.open("wb") as file:
            for piece in self._json_pieces():
                file.write(piece.encode())

    def _json_pieces(self) -> Iterator[str]:
        """Yield the JSON text in pieces: one line for a terminal or pipe, indented by one space for a file."""
        assert self._json_out is not None
        is_file = own_stream(self._json_out) is None
        if self._is_array:
            yield "["
        for number, outcome in enumerate(self._outcomes()):
            text = json.dumps(_as_json(outcome), allow_nan=False, indent=1 if is_file else None)
            if not self._is_array:
                yield text
            elif is_file:
                yield (",\n" if number else "\n") + textwrap.indent(text, " ")
            else:
                yield (", " if number else "") + text
        if self._is_array:
            yield "\n]" if is_file else "]"
        yield "\n"

    def _finish_page(self) -> None:
        if self._html_out is None:
            return
        # matplotlib takes half a second to import.
        from autohr.reports.measurement import write_measurement_page

        numbers = sorted(self._places)
        outcomes = [self._outcome(number) for number in numbers]
        write_measurement_page(
            [outcome.result for outcome in outcomes],
            self._html_out,
            made_at=self._made_at,
            command=self._command,
            names=[self._name(number, outcome) for number, outcome in zip(numbers, outcomes, strict=True)],
        )


class CsvFile:
    """CSV file that grows by whole rows."""

    def __init__(self, out: Path) -> None:
        self._out, self._file = out, GrowingFile(out)
        self.is_empty = True

    def append(self, text: str) -> None:
        """Append rows, the first time with the header."""
        self.is_empty = False
        if _is_terminal(self._out):
            text = escape_controls(text, keep_newlines=True)
        self._file.append(utf8(text))

    def close(self) -> None:
        """Write what the disk has refused until now; raise AutoHRError where it still does."""
        self._file.close()


def _as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the JSON object of an outcome: the measurement, or the error with its class and its message."""
    result = outcome.result
    if isinstance(result, Measurement):
        return result.as_dict()
    error = {"kind": outcome.error_kind, "message": result.reason}
    return {"schema": MEASUREMENT_SCHEMA, "path": result.path, "error": error}


def _is_terminal(path: Path) -> bool:
    handle = own_stream(path)
    try:
        return handle is not None and os.isatty(handle)
    except OSError:
        return False
