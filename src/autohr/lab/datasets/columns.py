"""Columns of numbers in the text files of datasets. Every error names the file and the line.

    read_lines(path) -> its lines        read_columns(path, names) -> (N, C)        to_numbers(one line) -> its numbers

Waves and clocks are made fit for a ``Reference`` here too: ``increasing``, ``frame_clock``, ``below_half_rate``,
``known_rate``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording
from autohr.files import read_limited
from autohr.types import Float

MAX_BACKWARD_SHARE = 0.05
"""Largest share of samples that may be dropped because their time does not lie after all earlier ones. Ours."""

MAX_TEXT_BYTES = 2**28
"""Largest text file that is read, in bytes. Chosen by us: an hour of a wave at 1 kHz has about 70 MB."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without their ends (LF or CRLF), and without blank lines at the end.

    Raises
    ------
    BadRecording
        The file is missing, cannot be read, is larger than ``MAX_TEXT_BYTES``, is no text, or is empty.
    """
    if not path.exists():
        raise BadRecording(f"{str(path)!r} is missing; copy it again.")
    try:
        text = read_limited(path, "text file", MAX_TEXT_BYTES, BadRecording).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRecording(f"{str(path)!r} is not a text file; copy it again.") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise BadRecording(f"{str(path)!r} is empty; copy it again.")
    return text.rstrip().split("\n")


def to_numbers(line: str, path: Path, number: int, *, separator: str | None = ",") -> list[float]:
    """Return the numbers of line ``number`` (from 1) of ``path``; ``separator`` None is any run of blanks.

    Raises
    ------
    BadRecording
        One of them is no finite number.
    """
    values = []
    for cell in line.split(separator):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise BadRecording(f"{str(path)!r}, line {number}: {cell.strip()[:40]!r} is not a number; copy it again.")
        values.append(value)
    return values


def read_columns(path: Path, names: Sequence[str], *, header: bool = False, separator: str | None = ",") -> Float:
    """Read the table of ``path``: (N, C) float64, N rows of the C columns ``names``, without blank lines at the end.

    Parameters
    ----------
    header
        Whether the first line holds exactly these names (blanks around them do not count).
    separator
        Between the columns; None is any run of blanks.

    Raises
    ------
    BadRecording
        The file is missing, empty or no text; another header; a line with more or fewer columns, or
        with something that is no finite number; no row.
    """
    lines = read_lines(path)
    if header:
        found = [cell.strip() for cell in lines[0].split(separator)]
        if found != list(names):
            raise BadRecording(
                f"{str(path)!r}, line 1: the header is {lines[0].strip()[:80]!r}, not {', '.join(names)!r}; "
                "this is another file, or its first line was cut off."
            )
    first = 2 if header else 1
    rows = []
    for number, line in enumerate(lines[first - 1 :], start=first):
        row = to_numbers(line, path, number, separator=separator)
        if len(row) != len(names):
            raise BadRecording(
                f"{str(path)!r}, line {number}: {len(row)} column(s), not {len(names)} ({', '.join(names)}); "
                "the line was cut off, or this is another file."
            )
        rows.append(row)
    if not rows:
        raise BadRecording(f"{str(path)!r} holds a header and no row; copy it again.")
    return np.array(rows, dtype=np.float64)


def increasing(t_s: Float, path: Path) -> NDArray[np.bool_]:
    """Return a mask (N,) of the samples whose time lies after all earlier ones.

    Raises
    ------
    BadRecording
        More than ``MAX_BACKWARD_SHARE`` of them would go, or fewer than two stay.
    """
    keep = np.ones(len(t_s), dtype=bool)
    keep[1:] = t_s[1:] > np.maximum.accumulate(t_s)[:-1]
    if keep.sum() < 2 or (~keep).mean() > MAX_BACKWARD_SHARE:
        raise BadRecording(
            f"The clock in {str(path)!r} does not go forward at {(~keep).sum()} of its {len(t_s)} samples; "
            f"at most {100 * MAX_BACKWARD_SHARE:.0f} % are allowed. Look at its times."
        )
    return keep


def stumbles(keep: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return the note for what ``increasing`` leaves out; none where it leaves out nothing."""
    n = int((~keep).sum())
    return (f"{n} sample(s) of the reference left out: their time did not go forward.",) if n else ()


def frame_clock(t_s: Float, path: Path) -> Float:
    """Return the frames' times (N,) from 0 on; one that does not increase is put between its neighbours.

    Raises
    ------
    BadRecording
        As ``increasing``.
    """
    keep = increasing(t_s, path)
    return np.asarray(np.interp(np.arange(len(t_s)), np.flatnonzero(keep), (t_s - t_s[0])[keep]), dtype=np.float64)


def known_rate(hr_bpm: Float) -> Float | None:
    """Return rates (N,) with NaN for "none" (0 and below); None where the sensor never gave one."""
    known = hr_bpm > 0
    return np.where(known, hr_bpm, np.nan) if known.any() else None


def below_half_rate(t_s: Float, wave: Float, fps: float) -> Float:
    """Remove from wave (N,), at the increasing times ``t_s`` (N,), what a video of ``fps`` cannot show.

    It is a mean weighted by a Hann window two frames long, after the wave was put on an even clock: -6 dB at half the
    frame rate and null at the rate itself, which loses 10 % of 4 Hz at 20 frames per second. A wave of no more than 1.2
    samples a frame comes back as it is. NaN stays NaN; beside it the wave is as if a line bridged it.
    """
    known = np.isfinite(wave)
    fs = (len(t_s) - 1) / float(t_s[-1] - t_s[0])
    if fs <= 1.2 * fps or known.sum() < 2:
        return wave
    # Twice the mean rate, so that samples between two even ones are not weakened by the interpolation.
    step_s = 0.5 / fs
    even_s = np.arange(t_s[0], t_s[-1] + step_s, step_s)
    half = max(1, round(1 / (fps * step_s)))
    window = np.hanning(2 * half + 1)[1:-1]
    even = np.interp(even_s, t_s[known], wave[known])
    padded = np.pad(even, half - 1, mode="reflect" if len(even) >= half else "edge")
    smooth = np.convolve(padded, window / window.sum(), mode="valid")
    return np.where(known, np.interp(t_s, even_s, smooth), np.nan)
