r"""Output files of ``autohr measure`` and ``autohr live``: JSON, CSV and a page, saved while a batch runs.

    CSV     the rows of a result are appended when it comes
    JSON    one line for each result goes into a work file beside the output, OUT.PID.partial.jsonl; at the end the
            output is written whole from it and the work file removed
    HTML    written at the end

An output that cannot be written is reported at the end and keeps no other one from being written. Names of files that
are no UTF-8 are written losslessly as JSON escapes (``"\\udce9"``), and as the same escapes in plain text into the CSV;
the page shows a replacement mark.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from autohr.errors import AutoHRError, escape_controls
from autohr.files import cannot_write, make_folder, open_output, own_stream, replacing, utf8, work_file
from autohr.reports.readings import readings_csv
from autohr.types import MEASUREMENT_SCHEMA, Measurement, Refusal


class ResultFiles:
    """Writer of the outputs of one command. Call ``add`` for each result, then ``finish`` once, whatever happened."""

    def __init__(
        self,
        *,
        json_out: Path | None = None,
        csv_out: Path | None = None,
        html_out: Path | None = None,
        is_array: bool = False,
        made_at: str | None = None,
        command: str | None = None,
    ) -> None:
        """Open nothing before the first result.

        Parameters
        ----------
        is_array
            True if the JSON is an array of results, not the one result.
        made_at, command
            Printed on the page, see ``write_measurement_page``.
        """
        self._json_out, self._html_out = json_out, html_out
        self._csv_out, self._csv = csv_out, _GrowingFile(csv_out)
        self._is_array, self._made_at, self._command = is_array, made_at, command
        has_work_file = json_out is not None and is_array and _is_plain(json_out)
        self._lines = _GrowingFile(work_file(json_out) if json_out is not None and has_work_file else None)
        self._results: list[Measurement | Refusal] = []
        self._n_results = 0

    def add(self, result: Measurement | Refusal, error_kind: str = "") -> None:
        """Save a result. ``error_kind`` is the class of the error behind a refusal.

        Raises
        ------
        BrokenPipeError
            The reader of an output went away.
        """
        self._n_results += 1
        if self._json_out is not None:
            self._lines.append(json.dumps(as_json(result, error_kind), allow_nan=False).encode() + b"\n")
        if self._html_out is not None:
            self._results.append(result)
        if self._csv_out is not None:
            text = readings_csv([result], header=self._n_results == 1)
            if _is_terminal(self._csv_out):
                text = escape_controls(text, keep_newlines=True)
            self._csv.append(utf8(text))

    def finish(self) -> list[str]:
        """Write the rest; return one sentence for each output that could not be written.

        Without any result nothing is written.

        Raises
        ------
        BrokenPipeError
            The reader of an output went away; the other outputs are written.
        """
        errors: list[str] = []
        broken: BrokenPipeError | None = None
        for write in (self._csv.close, self._finish_json, self._finish_page) if self._n_results else ():
            try:
                write()
            except AutoHRError as error:
                errors.append(str(error))
            except BrokenPipeError as error:
                broken = error
        if broken is not None:
            raise broken
        return errors

    def _finish_json(self) -> None:
        if self._json_out is None:
            return
        try:
            make_folder(self._json_out.parent)
            with replacing(self._json_out) as aside, aside.open("wb") as file:
                for piece in self._json_pieces():
                    file.write(piece.encode())
        except AutoHRError as error:
            kept = self._lines.keep()
            raise AutoHRError(f"{error}{'' if kept is None else f' The results are in {str(kept)!r}.'}") from error
        self._lines.remove()

    def _json_pieces(self) -> Iterator[str]:
        """Yield the JSON text in pieces: one line for a terminal or pipe, indented by one space for a file."""
        assert self._json_out is not None
        is_file = own_stream(self._json_out) is None
        if self._is_array:
            yield "["
        for number, line in enumerate(self._lines.lines()):
            text = json.dumps(json.loads(line), indent=1) if is_file else line.decode().rstrip("\n")
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

        write_measurement_page(self._results, self._html_out, made_at=self._made_at, command=self._command)


def as_json(result: Measurement | Refusal, error_kind: str) -> dict[str, Any]:
    """Return the JSON object of a result: the measurement, or the error with its class and its message."""
    if isinstance(result, Measurement):
        return result.as_dict()
    return {"schema": MEASUREMENT_SCHEMA, "path": result.path, "error": {"kind": error_kind, "message": result.reason}}


def _is_plain(path: Path) -> bool:
    """Return True where a path names a regular file, or none yet, and not a device, pipe or stream."""
    try:
        return own_stream(path) is None and (path.is_file() or not path.exists())
    except OSError:
        return False


def _is_terminal(path: Path) -> bool:
    handle = own_stream(path)
    try:
        return handle is not None and os.isatty(handle)
    except OSError:
        return False


class _GrowingFile:
    """File to which bytes are appended. Those that the disk refuses wait in memory: there may be room later.

    Without a path all stays in memory. A device, pipe or stream is written on at its place.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._is_plain = path is not None and _is_plain(path)
        self._file: BinaryIO | None = None
        self._n_bytes = 0
        self._waiting = b""
        self._error: OSError | None = None

    def append(self, content: bytes) -> None:
        """Write content, after what still waits."""
        self._waiting += content
        if self._path is None:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb+", buffering=0) if self._is_plain else open_output(self._path)
            _write_all(self._file, self._waiting, self._n_bytes if self._is_plain else None)
        except BrokenPipeError:
            self._waiting = b""
            raise
        except OSError as error:
            self._error = error
            return
        self._n_bytes += len(self._waiting)
        self._waiting, self._error = b"", None

    def lines(self) -> Iterator[bytes]:
        """Read back every line of a plain file; the open file can be read even if its folder was removed meanwhile."""
        if self._file is not None:
            self._file.seek(0)
            reader = io.BufferedReader(cast(io.RawIOBase, self._file))
            try:
                # Not `yield from`, which closes the reader, and the file with it, if the caller stops early.
                while line := reader.readline():
                    yield line
            finally:
                reader.detach()
        yield from io.BytesIO(self._waiting)

    def close(self) -> None:
        """Write what still waits, and all of it again if the file was removed meanwhile.

        Raises
        ------
        AutoHRError
            Something could not be written.
        """
        try:
            if self._file is not None and self._is_plain and not os.fstat(self._file.fileno()).st_nlink:
                self._waiting = b"".join(self.lines())
                self._file.close()
                self._file, self._n_bytes = None, 0
            if self._waiting:
                self.append(b"")
            if self._file is not None:
                self._file.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            self._error = error
        if self._error is not None and self._path is not None:
            raise cannot_write(self._path, self._error)

    def keep(self) -> Path | None:
        """Close the file as far as it can be written; return its path if it holds anything."""
        with contextlib.suppress(AutoHRError):
            self.close()
        return self._path if self._n_bytes and self._path is not None and self._path.exists() else None

    def remove(self) -> None:
        """Close and delete the file."""
        if self._file is not None and self._path is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _write_all(file: BinaryIO, content: bytes, at: int | None) -> None:
    """Write all bytes to an unbuffered file at an offset, or at the end with None.

    Raises
    ------
    OSError
        The disk refuses; the file is then cut to its content before.
    """
    if at is not None:
        file.seek(at)
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        if at is not None:
            with contextlib.suppress(OSError):
                file.truncate(at)
        raise
