"""A live session in the terminal: the wave, the rate, its confidence, and what would help.

``watch`` feeds frames to a session and draws its state beside them; where the output is no terminal it writes one plain
line a second. It shows ``LiveState`` and computes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TextIO

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from autohr.errors import escape_controls
from autohr.live.session import LiveSession, LiveState
from autohr.types import Float, Frame

DRAWS_PER_S = 8.0
"""Refreshes of the picture. Readings come once a second; the counts and the delay move in between."""
WAVE_ROWS = 7
WAVE_SD = 2.5
"""Standard deviations from the middle to the border of the drawn wave: a pulse's peaks are at about 2."""
BAR_WIDTH = 20
MAX_WAIT_S = 5.0
"""Longest wait for a frame of a file: long enough that the picture says that no frame comes."""

_DIGITS = {  # three by five dots each, drawn two dots to a character
    "0": ("###", "# #", "# #", "# #", "###"),
    "1": ("## ", " # ", " # ", " # ", "###"),
    "2": ("###", "  #", "###", "#  ", "###"),
    "3": ("###", "  #", "###", "  #", "###"),
    "4": ("# #", "# #", "###", "  #", "  #"),
    "5": ("###", "#  ", "###", "  #", "###"),
    "6": ("###", "#  ", "###", "# #", "###"),
    "7": ("###", "  #", "  #", "  #", "  #"),
    "8": ("###", "# #", "###", "# #", "###"),
    "9": ("###", "# #", "###", "  #", "###"),
    "-": ("   ", "   ", "###", "   ", "   "),
}
_BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Unicode's bit of each of the 4 x 2 dots of a braille character, from U+2800 on."""


def watch(
    session: LiveSession,
    frames: Iterable[tuple[Frame, float, bool]],
    *,
    paced: bool = False,
    fast: bool = False,
    out: TextIO | None = None,
) -> None:
    """Feed a session and show it until the frames end or a KeyboardInterrupt comes, which is passed on.

    The terminal is left as it was found, whatever happens: the cursor shown, the screen of before.

    Parameters
    ----------
    frames
        Frame (H, W, 3), its time in seconds, and True if it was coded by itself.
    paced
        Hold frames back until their time has come, so that a file plays like a camera; pauses of the recording are cut
        short to ``MAX_WAIT_S``.
    fast
        Measure every frame as quickly as can be, and drop none.
    out
        Where to show it; stdout if None.
    """
    stream = sys.stdout if out is None else out
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        picture = _Picture(session, console)
        with Live(get_renderable=picture.draw, console=console, screen=True, refresh_per_second=DRAWS_PER_S):
            _feed(session, frames, paced, fast, None)
    else:
        _feed(session, frames, paced, fast, stream)


def _feed(
    session: LiveSession, frames: Iterable[tuple[Frame, float, bool]], paced: bool, fast: bool, lines: TextIO | None
) -> None:
    """Feed a session, and write a plain line to ``lines`` once a second, of the video if it plays fast."""
    began_s = time.monotonic()
    next_line_s = 1.0
    for frame, t_s, whole in frames:
        if fast:
            session.take(frame, t_s, whole=whole)
            now_s = t_s
        else:
            wait_s = began_s + t_s - time.monotonic() if paced else 0.0
            if wait_s > 0:
                time.sleep(min(wait_s, MAX_WAIT_S))
                began_s -= max(0.0, wait_s - MAX_WAIT_S)
            session.offer(frame, t_s, whole=whole)
            now_s = time.monotonic() - began_s
        if lines is not None and now_s >= next_line_s:
            next_line_s = np.floor(now_s) + 1.0
            print(escape_controls(plain_line(session.state())), file=lines, flush=True)


class _Picture:
    """Draws the newest state. In a thread of rich's own, where an error would only be noise: the feeding one has it."""

    def __init__(self, session: LiveSession, console: Console) -> None:
        self._session = session
        self._console = console
        self._last: RenderableType = Text("")

    def draw(self) -> RenderableType:
        try:
            state = self._session.state()
        except Exception:
            return self._last
        size = self._console.size
        is_plain = not self._console.encoding.lower().startswith("utf")
        names = self._session.config.source, self._session.method.name
        self._last = drawn(state, *names, width=size.width, height=size.height, plain=is_plain)
        return self._last


def drawn(
    state: LiveState, source: str, method: str, *, width: int, height: int = 24, plain: bool = False
) -> RenderableType:
    """Draw the state ``width`` characters wide. ``plain``: in ASCII, for terminals that know no more."""
    colour = "green" if state.reliable else "yellow"
    verdict = "reliable" if state.reliable else _why_not(state)
    beside = Text()
    beside.append("beats per minute\n", "bold")
    beside.append(verdict + "\n", colour)
    beside.append(f"confidence {confidence_bar(state.confidence, plain=plain)} {100 * state.confidence:3.0f} %")
    head = Table.grid(padding=(0, 2))
    rate = "--" if state.hr_bpm is None else f"{state.hr_bpm:.0f}"
    head.add_row(Text("\n".join(big(rate, plain=plain)), f"bold {colour}"), beside)
    title = f"autohr live  {escape_controls(source)}, method {escape_controls(method)}  (Ctrl-C ends)"
    values = np.zeros(0) if state.wave is None else state.wave.bvp
    n_rows = max(2, min(WAVE_ROWS, height - 10))
    return Group(
        Text(title, "dim", no_wrap=True, overflow="ellipsis"),
        Text(""),
        head,
        Text(""),
        Text("\n".join(wave_lines(values, max(10, width - 2), n_rows, plain=plain)), colour),
        *(Text("> " + sentence, "bold yellow") for sentence in state.advice[:3]),
        *(Text(line) for line in other_lines(state)),
        Text(""),
        Text(counts_line(state), "dim"),
        Text("Not a medical device.", "dim"),
    )


def _why_not(state: LiveState) -> str:
    return ("no rate" if state.hr_bpm is None else "NOT reliable") + f": {state.why}"


def other_lines(state: LiveState) -> list[str]:
    """Return what there is to say of the other faces: their rates where they are followed, that they are where not."""
    lines = []
    for face in state.faces:
        if face.id != state.face_id:
            rate = "no rate" if face.hr_bpm is None else f"{face.hr_bpm:.0f} bpm, "
            trust = "" if face.hr_bpm is None else "reliable" if face.reliable else "NOT reliable"
            lines.append(f"Face {face.id}: {rate}{trust} (shown above: face {state.face_id})")
    if state.others:
        lines.append("Another face is or was in view; --max-faces measures several.")
    return lines


def counts_line(state: LiveState) -> str:
    """Return what became of the frames; "late" is ``delay_s``, from a frame's offer to its result."""
    frames = state.frames
    refused = f", {frames.refused} refused" if frames.refused else ""
    return (
        f"{state.since_s:.0f} s, {state.readings} readings; {state.fps_in:.1f} fps in, "
        f"{state.fps_measured:.1f} measured, {frames.dropped} of {frames.offered} dropped{refused}, "
        f"{state.delay_s:.2f} s late"
    )


def plain_line(state: LiveState) -> str:
    """Return the state in one line, for pipes and logs."""
    rate = "  no rate" if state.hr_bpm is None else f"{state.hr_bpm:5.1f} bpm"
    verdict = f"{100 * state.confidence:3.0f} %, reliable" if state.reliable else f"NOT reliable: {state.why}"
    advice = "".join(f" {sentence}" for sentence in state.advice)
    others = "".join(f" {line.rstrip('.')}." for line in other_lines(state))
    return f"{state.since_s:6.1f} s  {rate}  {verdict}.{advice}{others}  [{counts_line(state)}]"


def confidence_bar(confidence: float, *, plain: bool = False) -> str:
    """Draw a confidence in 0..1.

    Examples
    --------
    >>> confidence_bar(0.3, plain=True)
    '######..............'
    """
    n_full = round(BAR_WIDTH * min(max(confidence, 0.0), 1.0))
    full, empty = ("#", ".") if plain else ("█", "░")
    return full * n_full + empty * (BAR_WIDTH - n_full)


def big(text: str, *, plain: bool = False) -> list[str]:
    """Draw digits and "-" three characters wide: three lines high, or five in ASCII.

    Examples
    --------
    >>> big("72")
    ['▀▀█ ▀▀█', '  █ █▀▀', '  ▀ ▀▀▀']
    """
    rows = [" ".join(_DIGITS[character][row] for character in text) for row in range(5)]
    if plain:
        return rows
    rows.append(" " * len(rows[0]))
    halves = {("#", "#"): "█", ("#", " "): "▀", (" ", "#"): "▄", (" ", " "): " "}
    return ["".join(halves[pair] for pair in zip(rows[top], rows[top + 1], strict=True)) for top in range(0, 6, 2)]


def wave_lines(values: Float | Sequence[float], width: int, height: int, *, plain: bool = False) -> list[str]:
    """Draw a wave of unit standard deviation in ``height`` lines of ``width`` characters, the newest at the right.

    In braille, 2 x 4 dots to a character, the values joined by upright lines; NaN is left empty. ``plain``: a "*" where
    there would be dots.
    """
    n_columns, n_rows = 2 * width, 4 * height
    dots = np.zeros((n_rows, n_columns), dtype=bool)
    wave = np.asarray(values, dtype=np.float64)
    if len(wave) > 1:
        at = np.linspace(0, len(wave) - 1, n_columns)
        known = np.isfinite(wave)
        shown = np.interp(at, np.flatnonzero(known), wave[known]) if known.any() else np.zeros(n_columns)
        shown[~known[np.rint(at).astype(int)]] = np.nan
        row = np.clip((0.5 - shown / (2 * WAVE_SD)) * (n_rows - 1), 0, n_rows - 1)
        for column in np.flatnonzero(np.isfinite(row)):
            before = row[column - 1] if column and np.isfinite(row[column - 1]) else row[column]
            low, high = sorted((round(float((before + row[column]) / 2)), round(float(row[column]))))
            dots[low : high + 1, column] = True
    cells = dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
    if plain:
        return ["".join("*" if cell.any() else " " for cell in line) for line in cells]
    return ["".join(chr(0x2800 + int((cell * _BRAILLE).sum())) for cell in line) for line in cells]
