"""Everything that the commands print: lines, tables, measurements, counts, progress bars and errors.

Control characters in file names, and whatever the terminal's encoding cannot show, are printed as escapes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autohr.errors import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

    from autohr.types import FaceMeasurement, Measurement, Refusal

NOT_MEDICAL = "Not a medical device: do not base a diagnosis or a treatment on it."


def prepare_streams() -> None:
    """Open the streams that the caller closed, and let none of them fail on a character."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file that is opened gets this number, and prints go into it.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Send standard output nowhere from here on: what could not be flushed would fail once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_line(line: str) -> None:
    """Print one line on stdout."""
    print(escape_controls(line), flush=True)


def print_text(text: str) -> None:
    """Print text of several lines on stdout."""
    print(escape_controls(text, keep_newlines=True))


def print_progress(line: str, *, end: str = "\n") -> None:
    """Print one line on stderr. A terminal that was closed is no reason to stop the work."""
    with contextlib.suppress(OSError):
        print(escape_controls(line) if end else line, end=end, file=sys.stderr, flush=True)


def print_error(message: str) -> None:
    """Print one line on stderr, with the name of the program before it."""
    print_progress(f"autohr: {message}")


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal what is being waited for, such as "Opening camera 0", until the block ends."""
    is_shown = sys.stderr.isatty()
    if is_shown:
        print_progress(f"{escape_controls(what)} ...", end="")
    try:
        yield
    finally:
        if is_shown:
            print_progress("\r\033[K", end="")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout, without borders."""
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(as_markup, row))
    console().print(table)


def console() -> Console:
    """Return rich's console, as wide as the terminal; for a file or pipe wide enough that no cell is broken."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 200)


def as_markup(text: str) -> str:
    """Return rich markup that shows the text as it is, control characters escaped."""
    from rich.markup import escape

    return escape(escape_controls(text))


def in_words(value: Any, keys: tuple[str, ...] = ()) -> str:
    """Return a value of a weights header as text for one cell.

    Parameters
    ----------
    value
        Any JSON value.
    keys
        If an object has any of these keys, only they are shown.

    Examples
    --------
    >>> in_words({"datasets": ["synthetic"], "minutes": 12.34567, "seed": 1}, ("datasets", "minutes"))
    'datasets synthetic, minutes 12.35'
    """
    if isinstance(value, dict):
        shown = [key for key in keys if key in value] or list(value)
        return ", ".join(f"{key} {in_words(value[key])}" for key in shown)
    if isinstance(value, list):
        return " ".join(in_words(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "not stated" if value is None else str(value)


def print_measurement(result: Measurement) -> None:
    """Print the rate of each face, whether to trust it, and what was noticed in the video."""
    from rich.table import Table

    screen = console()
    screen.print(
        f"[bold]{as_markup(result.path)}[/bold]  {result.duration_s:.1f} s, {result.fps_mean:.1f} frames per second, "
        f"method {as_markup(result.method)}"
        + ("" if result.weights is None else f", weights {as_markup(result.weights)}")
    )
    table = Table(box=None, pad_edge=False)
    for name, is_whole in {
        "face": True,
        "heart rate": True,
        "confidence": True,
        "signal/noise": False,
        "time": False,
        "readings": False,
    }.items():
        # The verdict and the rate stay on one line, however narrow the terminal is.
        table.add_column(name, no_wrap=is_whole)
    for face in result.faces:
        table.add_row(
            str(face.id),
            "none" if face.hr_bpm is None else f"{face.hr_bpm:.1f} bpm",
            f"{100 * face.confidence:.0f} %, "
            + ("[green]reliable[/green]" if face.reliable else "[red]NOT reliable[/red]"),
            "" if face.snr_db is None else f"{face.snr_db:.1f} dB",
            f"{face.start_s:.1f} to {face.end_s:.1f} s",
            f"{sum(window.reliable for window in face.windows)} of {len(face.windows)} reliable",
        )
    screen.print(table)
    frames = result.frames
    for line in (
        *(remark for face in result.faces for remark in _remarks(face)),
        f"Frames: {frames.read} read, {frames.face} with a face, {frames.repaired} repaired, {frames.dropped} dropped.",
        *result.notes,
    ):
        screen.print(f"  {as_markup(line)}")


def _remarks(face: FaceMeasurement) -> list[str]:
    """Return sentences on the reliability and the heart-rate variability of a face."""
    lines = []
    if face.why_unreliable is not None:
        lines.append(f"do not trust this rate: {face.why_unreliable}.")
    if face.hrv is not None:
        hrv = face.hrv
        figures = [
            f"{name} {value:.0f} ± {error:.0f} {unit}"
            for name, value, error, unit in (
                ("SDNN", hrv.sdnn_ms, hrv.sdnn_error_ms, "ms"),
                ("RMSSD", hrv.rmssd_ms, hrv.rmssd_error_ms, "ms"),
                ("pNN50", hrv.pnn50_pct, hrv.pnn50_error_pct, "%"),
            )
            if value is not None and error is not None
        ]
        lines.append(f"variability over {hrv.duration_s:.0f} s: {', '.join(figures)}.")
        if hrv.withheld is not None:
            lines.append(f"too uncertain to be given: {hrv.withheld}.")
    elif face.reliable and face.why_no_hrv is not None and face.measured_s >= 60:
        lines.append(f"no variability: {face.why_no_hrv.rstrip('.')}.")
    return [f"Face {face.id}: {line}" for line in lines]


class ResultPrinter:
    """Standard output of a command that saves its results elsewhere: a failure of the terminal does not stop it."""

    def __init__(self, *, is_quiet: bool) -> None:
        self.is_quiet = is_quiet
        self.has_failed = False

    def print_result(self, result: Measurement | Refusal, bug: str | None = None) -> None:
        """Print a measurement; print the reason of a refusal, or the traceback of a bug, on stderr."""
        from autohr.types import Refusal

        if bug is not None:
            with contextlib.suppress(OSError):
                print(escape_controls(bug, keep_newlines=True), file=sys.stderr, flush=True)
        elif isinstance(result, Refusal):
            print_error(result.reason)
        else:
            self._try(lambda: print_measurement(result))

    def print_line(self, text: str) -> None:
        """Print one line."""
        self._try(lambda: print_line(text))

    def _try(self, write: Callable[[], None]) -> None:
        if self.is_quiet or self.has_failed:
            return
        try:
            write()
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except SystemExit as closed:
            # This is how rich reports that the reader of a pipe went away.
            raise BrokenPipeError from closed
        except OSError as error:
            self.has_failed = True
            print_error(f"The output cannot be printed: {error.strerror}. Files are still written.")
            drop_output()


class Count:
    """A line on stderr that counts finished items and estimates the time left. Called with (done, total).

    A terminal gets one line that is overwritten, a pipe or file ten lines at most.
    """

    def __init__(self, what: str) -> None:
        self._what, self._is_terminal = escape_controls(what), sys.stderr.isatty()
        # The pace is that of the last 30 items: those that an earlier run has finished count at once.
        self._stamps = deque([(0, time.monotonic())], maxlen=30)

    def __enter__(self) -> Count:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            print_progress("\r\033[K", end="")

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are finished."""
        if done < self._stamps[-1][0]:
            # The same work begins again with other crops, whose pace is another.
            self._stamps.clear()
        self._stamps.append((done, time.monotonic()))
        (before, then_s), (_, now_s) = self._stamps[0], self._stamps[-1]
        line = f"{self._what}: {done} of {total}"
        if done > before:
            line += f", {(now_s - then_s) / (done - before) * (total - done):.0f} s left"
        if self._is_terminal:
            print_progress(f"\r\033[K{line}", end="")
        elif done == total or done % max(1, total // 10) == 0:
            print_progress(line)


LOG_EVERY_S = 60.0
"""Time between two lines of progress where stderr is no terminal: some hundred lines for a night of work."""


class BatchProgress:
    """Bars on stderr: one for each file being measured, and one for all, from a second on.

    A pipe or a file gets the line of all files once in ``LOG_EVERY_S``.
    """

    def __init__(self, n_files: int, n_done: int = 0) -> None:
        """Begin with ``n_done`` of ``n_files`` finished, which count nothing in the time that is left."""
        self._n_files, self._n_done, self._n_before = n_files, n_done, n_done
        self._is_shown = sys.stderr.isatty()
        self._is_log = not self._is_shown
        self._began_s = self._last_s = time.monotonic()
        self._running: dict[str, tuple[float, float, float | None]] = {}
        self._bars: Any = None

    def __enter__(self) -> BatchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()

    def update(self, name: str, done_s: float = 0.0, total_s: float | None = None) -> None:
        """Show that ``done_s`` of ``total_s`` seconds of a file are measured."""
        now_s = time.monotonic()
        began_s, *_ = self._running.get(name, (now_s, 0.0, None))
        self._running[name] = began_s, done_s, total_s
        if self._is_log and now_s - self._last_s >= LOG_EVERY_S:
            self._last_s = now_s
            counted, _, left = self._of_all(now_s)
            print_progress(f"{counted}{left and ', '}{left}")
        if not self._is_shown or now_s - self._began_s < 1.0 or now_s - self._last_s < 0.1:
            return
        self._last_s = now_s
        try:
            self._draw(now_s)
        except OSError:
            # A terminal that was closed is no reason to stop the work.
            self._is_shown = False

    def finish(self, name: str) -> None:
        """Count a file as finished."""
        self._running.pop(name, None)
        self._n_done += 1

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the bars while something else is printed."""
        self._erase()
        yield

    def _erase(self) -> None:
        bars, self._bars = self._bars, None
        if bars is not None:
            with contextlib.suppress(OSError):
                bars.stop()

    def _draw(self, now_s: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True, emoji=False),
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bars.start()
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        for name, (began_s, done_s, total_s) in self._running.items():
            note = f"{done_s:.0f} s"
            if total_s:
                note = f"{min(done_s, total_s):.0f} of {total_s:.0f} s{_left(now_s - began_s, done_s / total_s)}"
            self._bars.add_task(as_markup(name), total=total_s, completed=done_s, note=note)
        counted, done, left = self._of_all(now_s)
        self._bars.add_task(counted, total=self._n_files, completed=done, note=left)
        self._bars.refresh()

    def _of_all(self, now_s: float) -> tuple[str, float, str]:
        """Return "12 of 500 files", the files done with the shares of those at work, and the time left in words."""
        shares = [min(1.0, done_s / total_s) for _, done_s, total_s in self._running.values() if total_s]
        done, to_do = self._n_done + sum(shares), self._n_files - self._n_before
        left = _left(now_s - self._began_s, (done - self._n_before) / to_do)
        return f"{self._n_done} of {self._n_files} files", done, left.removeprefix(", ")


def _left(passed_s: float, share: float) -> str:
    """Return the time left of work of which a share took ``passed_s``, as words after a comma; none at its start.

    Examples
    --------
    >>> _left(60.0, 0.25)
    ', 3 min left'
    """
    if (share <= 0.01 and passed_s < 10.0) or share <= 0:
        return ""
    left_s = max(0.0, passed_s * (1 - share) / share)
    for unit, unit_s, least in (("h", 3600.0, 2.0), ("min", 60.0, 2.0)):
        if left_s >= least * unit_s:
            return f", {left_s / unit_s:.0f} {unit} left"
    return f", {left_s:.0f} s left"


class ProgressBar:
    """A bar on stderr for a measurement that takes longer than a second. Called with (done_s, total_s)."""

    def __init__(self, name: str) -> None:
        self._name, self._is_shown = name, sys.stderr.isatty()
        self._began_s = time.monotonic()
        self._last_s = 0.0
        self._bar: Any = None
        self._opening = contextlib.ExitStack()

    def __enter__(self) -> ProgressBar:
        if self._is_shown:
            self._opening.enter_context(waiting(f"Opening {Path(self._name).name}"))
        return self

    def __exit__(self, *_: object) -> None:
        self._opening.close()
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()

    def __call__(self, done_s: float, total_s: float | None) -> None:
        """Show that ``done_s`` of ``total_s`` seconds are measured."""
        now_s = time.monotonic()
        if not self._is_shown or now_s - self._began_s < 1.0 or now_s - self._last_s < 0.1:
            return
        self._last_s = now_s
        self._opening.close()
        try:
            self._draw(done_s, total_s)
        except OSError:
            # A terminal that was closed is no reason to stop the work.
            self._is_shown = False

    def _draw(self, done_s: float, total_s: float | None) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f} of {task.total:.0f} s" if total_s else "{task.completed:.0f} s"),
                TimeRemainingColumn(),
                console=Console(stderr=True, emoji=False),
                transient=True,
            )
            self._task = self._bar.add_task(as_markup(Path(self._name).name), total=total_s)
            self._bar.start()
        self._bar.update(self._task, completed=min(done_s, total_s) if total_s else done_s)
