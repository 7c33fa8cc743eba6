"""Journal of a batch: each result as soon as it is there, whole, in a file beside the outputs.

The outputs are made from it, in the order of the inputs, whatever the order in which results come. If the batch is
interrupted the journal stays, and ``autohr measure --resume`` takes from it what need not be measured again.

    line 1      {"schema": "autohr.journal/1", "options": {...}}: the options that change results
    the others  {"file": {"path", "size", "mtime_ns", "fps"}, "error_kind", "bug", "result"}: one finished input each

A line holds every bit of a ``Measurement``, where its JSON rounds: outputs made from it are those of a batch that was
not interrupted, byte for byte. (A network on another number of threads rounds differently, by some 1e-6.)
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from autohr.errors import AutoHRError
from autohr.files import GrowingFile, hidden_beside, replacing
from autohr.types import HRV, FaceMeasurement, Frames, Measurement, Pulse, Refusal, Window

JOURNAL_SCHEMA = "autohr.journal/1"
"""Name and version of the layout of a journal."""

MAX_LINE_BYTES = 2**28
"""Longest line of a journal that is read. Chosen by us: an hour of video of one face makes about 1 MB."""

SETTLED = frozenset({"", "NoFace", "SignalTooShort"})
"""Classes of errors after which a file is not tried again: the video itself is the reason. "" is a measurement."""


@dataclass(frozen=True)
class Outcome:
    """Result of one input, or the error that stands in its place."""

    result: Measurement | Refusal
    error_kind: str = ""
    """Class of the error behind a refusal."""
    bug: str | None = None
    """Traceback of an error that is a fault of ours."""

    @property
    def verdict(self) -> Literal["reliable", "not reliable", "refused"]:
        """Verdict on the face to take (``Measurement.face``), or that the file was refused."""
        if not isinstance(self.result, Measurement):
            return "refused"
        is_reliable = bool(self.result.faces) and self.result.face.reliable
        return "reliable" if is_reliable else "not reliable"


@dataclass(frozen=True)
class FileState:
    """State of a file before it is measured, by which a change is seen."""

    path: str
    """Path, as it was given."""
    size: int
    """Bytes; of a folder of pictures, those of all of them."""
    mtime_ns: int
    """Time of the last change; of a folder of pictures, that of the newest."""
    fps: float | None = None
    """Rate that was given for it."""


class Journal:
    """Outcomes on the disk, to be read back in any order.

    Parameters
    ----------
    output
        File that the journal lies beside; None for a temporary file without a name.
    options
        The options that change results, by the names that users know.
    """

    def __init__(self, output: Path | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.path = None if output is None else hidden_beside(output, "resume.jsonl")
        """The file; it is there from the first outcome on."""
        self._options = json.loads(json.dumps(options or {}))
        self._file = GrowingFile(self.path)
        self._is_begun = False
        self._settled: dict[FileState, slice] = {}

    def count_old(self) -> int:
        """Return how many finished files the journal of an earlier run holds, 0 if there is none that can be read."""
        try:
            if self.path is None:
                return 0
            with self.path.open("rb") as file:
                return max(0, sum(line.endswith(b"\n") for line in _lines(file)) - 1)
        except OSError:
            return 0

    def resume(self) -> bool:
        """Take over what an earlier run has finished; return False if there is no journal of one.

        A last line that a kill has cut is left out.

        Raises
        ------
        AutoHRError
            The journal was made with other options, is damaged, or cannot be read or written.
        """
        if self.path is None:
            return False
        try:
            old = self.path.open("rb")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise AutoHRError(
                f"Cannot read {str(self.path)!r}: {error.strerror}. Leave out --resume to measure all again."
            ) from error
        # Copied: an earlier run that is still at work would write into the old one.
        with replacing(self.path) as aside, old, aside.open("wb") as new:
            n_bytes = self._take_over(old, new)
        if n_bytes:
            self._file = GrowingFile(self.path, n_kept=n_bytes)
            self._is_begun = True
        return self._is_begun

    def _take_over(self, old: BinaryIO, new: BinaryIO) -> int:
        """Copy the whole lines of a journal and note where each is; return their length."""
        end = 0
        for number, line in enumerate(_lines(old)):
            if not line.endswith(b"\n"):
                break
            place = slice(end, end + len(line))
            end = place.stop
            new.write(line)
            if number == 0:
                self._check_options(line)
                continue
            try:
                entry = json.loads(line, object_hook=_array_or_object)
                outcome = _outcome(entry)
                state = None if entry["file"] is None else FileState(**entry["file"])
                if state is not None and outcome.error_kind in SETTLED:
                    self._settled[state] = place
            except (KeyError, TypeError, ValueError, zlib.error, RecursionError):
                raise self._is_damaged(number + 1) from None
        return end

    def _check_options(self, line: bytes) -> None:
        try:
            header = json.loads(line)
            before = header["options"]
            if header["schema"] != JOURNAL_SCHEMA or not isinstance(before, dict):
                raise ValueError
        except (KeyError, TypeError, ValueError, RecursionError):
            raise self._is_damaged(1) from None
        differs = [
            f"{name} {_shown(before.get(name))} (now {_shown(self._options.get(name))})"
            for name in {**before, **self._options}
            if before.get(name) != self._options.get(name)
        ]
        if differs:
            raise AutoHRError(
                f"{str(self.path)!r} holds results of other options: {', '.join(differs)}. "
                "Give the same options to go on, or leave out --resume to measure all again."
            )

    def _is_damaged(self, line: int) -> AutoHRError:
        return AutoHRError(
            f"Line {line} of {str(self.path)!r} is damaged, or of another version of autohr. "
            "Leave out --resume to measure all again."
        )

    def find(self, state: FileState | None) -> slice | None:
        """Return the place of what an earlier run has made of a file that is still in this state, None without."""
        return None if state is None else self._settled.get(state)

    def add(self, outcome: Outcome, state: FileState | None = None) -> slice:
        """Write an outcome, all of it before this returns; return its place. What the disk refuses waits in memory.

        Parameters
        ----------
        state
            The file, as it was before; None for what is always measured again, such as a camera.
        """
        entry = {
            "file": None if state is None else dataclasses.asdict(state),
            "error_kind": outcome.error_kind,
            "bug": outcome.bug,
            "result": dataclasses.asdict(outcome.result),
        }
        line = json.dumps(entry, default=_plain).encode() + b"\n"
        if self._is_begun:
            return self._file.append(line)
        self._is_begun = True
        header = json.dumps({"schema": JOURNAL_SCHEMA, "options": self._options}).encode() + b"\n"
        if self.path is not None:
            # Not written over: an earlier run may still be at work in it.
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                self._file = GrowingFile(None)
        place = self._file.append(header + line)
        return slice(place.start + len(header), place.stop)

    def read(self, place: slice) -> Outcome:
        """Return the outcome at a place, equal to what was added in every bit."""
        return _outcome(json.loads(self._file.read(place), object_hook=_array_or_object))

    def keep(self) -> Path | None:
        """Close the journal; return its path if it is there, to be resumed."""
        return self._file.keep()

    def remove(self) -> None:
        """Close and delete the journal."""
        self._file.remove()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(MAX_LINE_BYTES), b"")


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- every bit of a result as JSON


def _plain(value: Any) -> Any:
    """Convert what JSON has no word for: arrays to their bytes, numpy's numbers to Python's."""
    if isinstance(value, np.ndarray):
        content = zlib.compress(np.ascontiguousarray(value).tobytes(), 1)
        return {"dtype": value.dtype.str, "shape": value.shape, "zlib": base64.b64encode(content).decode("ascii")}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written into a journal")


def _array_or_object(fields: dict[str, Any]) -> Any:
    """Return the array that ``_plain`` wrote, and any other object as it is."""
    if "zlib" not in fields:
        return fields
    dtype, shape = np.dtype(fields["dtype"]), tuple(fields["shape"])
    unpacked = zlib.decompressobj().decompress(base64.b64decode(fields["zlib"]), math.prod(shape) * dtype.itemsize + 1)
    return np.frombuffer(unpacked, dtype).reshape(shape)


def _outcome(entry: dict[str, Any]) -> Outcome:
    """Return the outcome of a line; KeyError, TypeError or ValueError where it holds none."""
    fields = entry["result"]
    result = Refusal(**fields) if "reason" in fields else _measurement(fields)
    return Outcome(result, entry["error_kind"], entry["bug"])


def _measurement(fields: dict[str, Any]) -> Measurement:
    nested = {
        "frames": Frames(**fields["frames"]),
        "faces": tuple(map(_face, fields["faces"])),
        "notes": tuple(fields["notes"]),
    }
    return Measurement(**{**fields, **nested})


def _face(fields: dict[str, Any]) -> FaceMeasurement:
    nested = {
        "windows": tuple(Window(**window) for window in fields["windows"]),
        "bvp": None if fields["bvp"] is None else Pulse(**fields["bvp"]),
        "beats_s": tuple(fields["beats_s"]),
        "hrv": None if fields["hrv"] is None else HRV(**fields["hrv"]),
    }
    return FaceMeasurement(**{**fields, **nested})
