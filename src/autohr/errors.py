"""Errors with causes outside the program, as opposed to a caller's mistake in an argument (``ValueError``).

    AutoHRError                 caught by the CLI and printed in one line, exit code 1
    +-- VideoError              a file, folder, camera or address that gives no usable frames
    +-- NoFace                  frames, but no face to measure
    +-- SignalTooShort          a face, but for too little time
    +-- UnknownName             a name that its table does not hold
    +-- BadRecording            a recording of a dataset that contradicts itself
    +-- BadWeights              a file of weights that is damaged, foreign or does not fit
    +-- BadRecipe               a recipe with an unknown key or a contradiction
    +-- Stopped                 work that a signal ended, to be continued by the same command
    +-- WorkerDied              a worker process that was killed
    +-- WindowsTooShort         stored windows that are too short for a scoring

Every message names the value, what is allowed, and what to do next.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class AutoHRError(Exception):
    """Base of all errors of this package. The message is one line that a user can act on."""


class VideoError(AutoHRError):
    """The video cannot be opened, is not a video, or breaks a limit."""


class NoFace(AutoHRError):
    """No face was found, or in too few frames."""


class SignalTooShort(AutoHRError):
    """A signal shorter than the least length that the question needs."""


class UnknownName(AutoHRError):
    """A name that its table does not hold; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"Unknown {kind} {name!r}. Known: {', '.join(names)}.{hint}")


def with_notes(reason: str, notes: Iterable[str]) -> str:
    """Return the reason of a refusal followed by what was noticed on the way, in one line.

    Examples
    --------
    >>> with_notes("No face in 30 frames.", ["The last 2 frames were damaged."])
    'No face in 30 frames. Noticed while reading: The last 2 frames were damaged.'
    >>> with_notes("No face in 30 frames.", [])
    'No face in 30 frames.'
    """
    noticed = " ".join(note.replace("\n", " ") for note in notes)
    return f"{reason} Noticed while reading: {noticed}" if noticed else reason


class BadRecording(AutoHRError):
    """A recording whose video, clock or reference contradict each other."""


class BadWeights(AutoHRError):
    """Weights that are damaged, foreign, or made for another net."""


class BadRecipe(AutoHRError):
    """A recipe with an unknown key, a wrong type or a contradiction."""


def escape_controls(text: str, *, keep_newlines: bool = False) -> str:
    r"""Return the text with everything escaped that a terminal would act on or could not show.

    Control characters (ANSI escapes begin with one), marks that turn the direction of text, line separators and lone
    surrogates (bytes of a file name that are not UTF-8) become Python's escapes. Tabs stay, and line ends with
    ``keep_newlines``.

    Examples
    --------
    >>> print(escape_controls("face\x1b[31m.mp4"))
    face\x1b[31m.mp4
    """

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        if character == "\n" and keep_newlines:
            return character
        return character.encode("unicode_escape").decode("ascii")

    return _CONTROLS.sub(escape, text)


_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb]"
)


def in_short(error: Exception) -> str:
    """Return the message of an error in one line of at most 200 characters, whatever a file put into it."""
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file, such that no spreadsheet takes text for a formula.

    Text that begins with ``=``, ``+``, ``-``, ``@`` (or their wide forms) or a tab gets an apostrophe before it, as
    OWASP advises, and ``escape_controls`` applies: a carriage return would end the row. Numbers stay numbers, in text
    too; None is an empty cell.

    Examples
    --------
    >>> [csv_cell(value) for value in ("=1+1.mp4", "-3.20", -3.2, None, "face.mp4")]
    ["'=1+1.mp4", '-3.20', -3.2, '', 'face.mp4']
    """
    if value is None:
        return ""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    text = escape_controls(value)
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, header: bool = True) -> str:
    r"""Return rows of these columns as CSV, each value by ``csv_cell``; a column that a row lacks is empty.

    Examples
    --------
    >>> csv_table(("path", "hr_bpm", "why"), [{"path": "=a.mp4", "hr_bpm": 71.5}])
    "path,hr_bpm,why\n'=a.mp4,71.5,\n"
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    if header:
        table.writerow(columns)
    table.writerows([csv_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


_FORMULA_STARTS = tuple("=+-@\t\uff1d\uff0b\uff0d\uff20")
_NUMBER = re.compile(r"[+-]?[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?")


class Stopped(AutoHRError):
    """Work that was ended by a signal; the same command continues it."""


class WorkerDied(AutoHRError):
    """A worker process that was killed, or that ended, in the middle of its job."""


class WindowsTooShort(AutoHRError):
    """Stored windows that are all shorter than a scoring can read."""
