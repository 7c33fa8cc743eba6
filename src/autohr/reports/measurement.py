"""Page of ``autohr measure ... --html OUT``: one self-contained HTML file for a video or several.

The page loads nothing, and the same input gives the same bytes (``reports/page.py``).

The spectrum on the page is a picture of the wave, drawn with plain numpy. It is not the estimator: the number on the
page is ``hr_bpm`` as it was measured.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from autohr.reports.page import (
    Chart,
    clause,
    colour,
    count_words,
    draw,
    hide_password,
    inline_script,
    is_number,
    picture,
    render,
    time_axis,
    time_words,
    write_page,
)
from autohr.types import MEASUREMENT_SCHEMA, FaceMeasurement, Float, Measurement, Pulse, Refusal, Window

STRETCH_S = 12.0
"""Length of the drawn wave: 8 beats at 40 bpm, 36 at 180, where a beat is still 10 pixels wide on a phone."""

WHOLE_WAVE_S = 15.0
"""Length up to which a wave is drawn whole."""

BAND_BPM = (40.0, 180.0)
"""Range of the spectrum: the rates that autohr measures."""

PIECE_S = 10.0
"""Length of the pieces of the wave whose spectra are averaged, so that a rate that drifts over minutes still shows as
one peak. 10 s is the default window of a measurement."""

MAX_MARKS = 600
MAX_ROWS = 1200
"""Largest numbers of windows drawn and listed. 600 and 1200 are 10 and 20 minutes at one window a second, and keep the
page of a long video under 1 MB. The page says how many are left out and where to find them."""

MAX_DRAWN_FACES = 150
"""Largest number of faces with charts and a picture on one page: 12 MB, and 15 s of drawing."""


@dataclass(frozen=True)
class _Verdict:
    """Result in words, shown as "word: why". The style sheet has a colour for each kind: good, bad or none."""

    kind: str
    word: str
    why: str


@dataclass(frozen=True)
class _FaceView:
    """Values of one face for the template."""

    face: FaceMeasurement
    anchor: str
    verdict: _Verdict
    crop: Markup | None
    """A data URI."""
    n_reliable: int
    charts: tuple[Chart, ...]
    rows: tuple[Window, ...]
    reasons: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class _FileView:
    """Values of one file for the template; ``measurement`` is None if it was refused."""

    path: str
    name: str
    anchor: str
    measurement: Measurement | None
    verdict: _Verdict | None
    """Verdict on the file if no face was measured, None otherwise."""
    faces: tuple[_FaceView, ...] = ()
    command: str = ""
    n_not_drawn: int = 0
    """Faces without charts, because the page has many others."""


def write_measurement_page(
    results: Sequence[Measurement | Refusal],
    out: Path,
    *,
    made_at: str | None = None,
    command: str | None = None,
    names: Sequence[str] = (),
) -> None:
    """Write the page of ``results`` to ``out``, whole or not at all; a missing folder is made.

    Parameters
    ----------
    results
        One or more measurements and refusals.
    out
        The file.
    made_at
        Time of the page, printed as it is given.
    command
        Command line that made the page. Without it the page shows for each file the line that measures it again.
    names
        Names of the files on a page of several. Default: their paths without the folders that all have in common.

    Raises
    ------
    ValueError
        There are no results, or ``out`` is a folder.
    AutoHRError
        The file cannot be written.
    """
    write_page(render_measurement_page(results, made_at=made_at, command=command, names=names), out)


def render_measurement_page(
    results: Sequence[Measurement | Refusal],
    *,
    made_at: str | None = None,
    command: str | None = None,
    names: Sequence[str] = (),
) -> str:
    """Return the page as text; parameters as ``write_measurement_page``."""
    if not results:
        raise ValueError("results is empty; give at least one Measurement, or a Refusal for a file that was refused.")
    is_one = len(results) == 1
    names = [hide_password(name) for name in names or _short_names([result.path for result in results])]
    files: list[_FileView] = []
    n_drawn = 0
    for number, result in enumerate(results):
        n_left = None if is_one else MAX_DRAWN_FACES - n_drawn
        view = _view_file(result, f"file-{number + 1}", n_left)
        files.append(view if is_one else replace(view, name=names[number] or view.name))
        n_drawn += len(view.faces) - view.n_not_drawn
    measured = [file for file in files if is_one or file.measurement is not None]
    verdicts = Counter(
        "refused" if file.measurement is None else (file.faces[0].verdict.kind if file.faces else "none")
        for file in files
    )
    script, policy = ("", "") if is_one else inline_script("sort.js")
    return render(
        "measurement.html.j2",
        {
            "files": files,
            "measured": measured,
            "refusals": _group_refusals(files),
            "verdicts": verdicts,
            "script": script,
            "policy": policy,
            "max_drawn": MAX_DRAWN_FACES,
            "n_rows": sum(max(1, len(file.faces)) for file in files),
            "has_picture": any(view.crop for file in files for view in file.faces),
            "made_at": made_at,
            "command": None if command is None else hide_password(command),
            "schema": MEASUREMENT_SCHEMA,
            "max_rows": MAX_ROWS,
        },
    )


# -- from a result to what the template shows


def _short_names(paths: Sequence[str]) -> list[str]:
    """Return paths without the folders that all of them have in common."""
    parts = [re.split(r"(?<=[/\\])", path) for path in paths]
    n_common = 0
    for pieces in zip(*parts, strict=False):
        if len(set(pieces)) > 1 or any(n_common >= len(one) - 1 for one in parts):
            break
        n_common += 1
    return ["".join(one[n_common:]) for one in parts]


def _group_refusals(files: Sequence[_FileView]) -> list[tuple[str, list[_FileView]]]:
    """Return pairs (reason, refused files), most frequent first; reasons that differ in name or figures are one."""
    groups: dict[str, list[tuple[str, _FileView]]] = {}
    for file in files:
        if file.measurement is None and file.verdict is not None:
            why = file.verdict.why.replace(repr(file.path), "this file").replace(file.path, "this file")
            groups.setdefault(re.sub(r"\d+(\.\d+)?", "#", why), []).append((why, file))
    out = []
    for group in sorted(groups.values(), key=len, reverse=True):
        example = " (the figures are those of the first)" if len({why for why, _ in group}) > 1 else ""
        out.append((group[0][0].rstrip(".") + example, [file for _, file in group]))
    return out


def _view_file(result: Measurement | Refusal, anchor: str, n_left: int | None = None) -> _FileView:
    path = hide_password(result.path)
    name = re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path
    if isinstance(result, Refusal):
        return _FileView(path, name, anchor, None, _no_rate(hide_password(result.reason)))
    # The face to take when only one is wanted comes first.
    ordered = sorted(result.faces, key=lambda face: face is not result.face)
    n_drawn = len(ordered) if n_left is None else min(len(ordered), max(0, n_left))
    faces = tuple(
        _view_face(face, result.duration_s, f"{anchor}-face-{i + 1}", is_drawn=i < n_drawn)
        for i, face in enumerate(ordered)
    )
    verdict = None if faces else _no_rate("no face was measured in this video")
    # "--" keeps a file whose name starts with a dash from being read as an option.
    learned = "" if result.weights is None else f"--weights {shlex.quote(result.weights)} "
    command = f"autohr measure --method {shlex.quote(result.method)} {learned}--html report.html -- {shlex.quote(path)}"
    return _FileView(path, name, anchor, result, verdict, faces, command, len(ordered) - n_drawn)


def _view_face(face: FaceMeasurement, duration_s: float, anchor: str, *, is_drawn: bool) -> _FaceView:
    n_reliable = sum(window.reliable for window in face.windows)
    return _FaceView(
        face=face,
        anchor=anchor,
        verdict=_judge(face, n_reliable),
        crop=None if face.crop is None or face.crop.size == 0 or not is_drawn else picture(face.crop),
        n_reliable=n_reliable,
        charts=tuple(_charts(face, duration_s, anchor)) if is_drawn else (),
        rows=face.windows[:MAX_ROWS],
        reasons=_group_reasons(face.windows),
    )


def _judge(face: FaceMeasurement, n_reliable: int) -> _Verdict:
    if not is_number(face.hr_bpm):
        return _no_rate(face.why_unreliable or "nothing could be measured")
    if not face.reliable:
        why = clause(face.why_unreliable or "the pulse was not clear enough")
        return _Verdict("bad", "Not reliable", f"{why}. Do not use this number.")
    if not face.windows:
        return _Verdict("good", "Reliable", "the pulse was clear.")
    passed = f"{n_reliable} of {len(face.windows)} windows" if len(face.windows) > 1 else "the one window measured"
    return _Verdict("good", "Reliable", f"the pulse was clear in {passed}.")


def _no_rate(reason: str) -> _Verdict:
    return _Verdict("none", "No heart rate", f"{clause(reason)}.")


def _group_reasons(windows: Sequence[Window]) -> tuple[tuple[int, str], ...]:
    """Return pairs (number of windows, reason), most frequent first; reasons that differ only in figures are one."""
    groups: dict[str, list[str]] = {}
    for window in windows:
        why = window.why_unreliable
        if why is None and not (window.reliable and is_number(window.hr_bpm)):
            why = "No rate was found." if not is_number(window.hr_bpm) else "Not reliable; no reason was given."
        if why is not None:
            groups.setdefault(re.sub(r"-?\d+(\.\d+)?", "#", why), []).append(why)
    out = []
    for whys in sorted(groups.values(), key=len, reverse=True):
        example = " (the figures are those of the first such window)" if len(set(whys)) > 1 else ""
        out.append((len(whys), " ".join(whys[0].split()).rstrip(".") + example))
    return tuple(out)


# -- charts


def _charts(face: FaceMeasurement, duration_s: float, anchor: str) -> Iterator[Chart]:
    yield _chart_rate(face, duration_s, anchor)
    yield _chart_wave(face, anchor)
    yield _chart_spectrum(face, anchor)


def _chart_rate(face: FaceMeasurement, duration_s: float, anchor: str) -> Chart:
    title = "Heart rate over time"
    about = "One mark for each window of time, at its middle. Stronger colour means more confidence."
    windows = sorted(face.windows, key=lambda window: window.start_s)
    if not windows:
        return Chart(title, about, why_not="No window of time was measured.")
    start_s = min(0.0, windows[0].start_s)
    end_s = max(duration_s if is_number(duration_s) else 0.0, max(window.end_s for window in windows), start_s + 1.0)
    rated = [window for window in windows if is_number(window.hr_bpm)]
    gaps = _find_gaps(rated, start_s, end_s)
    every = math.ceil(len(windows) / MAX_MARKS)
    drawn = windows[::every]
    rates = [float(window.hr_bpm) for window in rated if window.hr_bpm is not None]
    answer = face.hr_bpm if is_number(face.hr_bpm) else None

    def paint(axes: Axes, wide: bool) -> None:
        size = float(np.clip((560 if wide else 260) / len(drawn), 3.0, 7.5))
        for low_s, high_s in gaps:
            axes.axvspan(low_s, high_s, facecolor=colour("gap"), edgecolor="none", zorder=0)
        if answer is not None:
            axes.axhline(answer, color=colour("muted"), linewidth=1.0, dashes=(4, 3), zorder=1)
        for run in _runs_that_touch(drawn, every):
            axes.plot(*_points(run), color=colour("muted"), linewidth=0.8, alpha=0.5, zorder=2)
        for level in range(5):
            # The eye tells five strengths apart, and five series make a smaller file than one colour a mark.
            alpha = 0.4 + 0.6 * level / 4
            some = [window for window in drawn if is_number(window.hr_bpm) and _confidence_level(window) == level]
            good, bad = [w for w in some if w.reliable], [w for w in some if not w.reliable]
            axes.plot(
                *_points(good), "o", color=colour("good"), markersize=size, markeredgewidth=0, alpha=alpha, zorder=4
            )
            axes.plot(
                *_points(bad),
                "o",
                markerfacecolor="none",
                markeredgecolor=colour("bad"),
                markersize=size,
                markeredgewidth=1.4,
                alpha=alpha,
                zorder=3,
            )
        nothing = [_middle_s(window) for window in drawn if not is_number(window.hr_bpm)]
        axes.plot(
            nothing,
            [0.06] * len(nothing),
            "x",
            color=colour("muted"),
            markersize=size,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=3,
        )
        shown = [*rates, *([answer] if answer is not None else [])]
        # At least 24 bpm from bottom to top: a steady pulse should look steady.
        middle, half = (max(shown) + min(shown)) / 2 if shown else 80.0, 12.0
        half = max(half, 1.15 * (max(shown) - min(shown)) / 2) if shown else half
        axes.set_ylim(middle - half, middle + half)
        axes.yaxis.set_major_locator(MaxNLocator(5 if wide else 4, integer=True, steps=[1, 2, 5, 10]))
        if not shown:
            axes.set_yticks([])
        time_axis(axes, start_s, end_s, wide)
        axes.set_title("beats per minute", loc="left")

    n_reliable = sum(window.reliable for window in rated)
    legend = [("dot", f"reliable ({n_reliable})")] if n_reliable else []
    caption = f"{count_words(len(windows), 'window')}, {n_reliable} reliable"
    if rates:
        few = len(rates) == 1
        caption += f"; rate {rates[0]:.1f} bpm" if few else f"; rates from {min(rates):.1f} to {max(rates):.1f} bpm"
    if n_reliable < len(rated):
        legend.append(("ring", f"not reliable ({len(rated) - n_reliable})"))
    if len(rated) < len(windows):
        legend.append(("cross", f"window without a rate ({len(windows) - len(rated)})"))
    if answer is not None:
        legend.append(("dash", f"the answer, {answer:.1f} bpm"))
    if gaps:
        legend.append(("gap", "time without a rate"))
        caption += f"; no rate for {time_words(sum(high_s - low_s for low_s, high_s in gaps))} in all"
    if every > 1:
        caption += f"; one mark in {every} is drawn"
    return draw(title, about, caption + ".", tuple(legend), anchor + "-rate", paint)


def _chart_wave(face: FaceMeasurement, anchor: str) -> Chart:
    title = "Pulse wave"
    about = (
        "Each beat of the heart fills the skin with a little more blood, and its colour changes. This is that change, "
        "far too small for the eye. It has no unit."
    )
    pulse = face.bvp
    if pulse is None or not np.isfinite(pulse.bvp).any():
        return Chart(title, about, why_not="There is no wave: this method gives a rate only, or no wave was found.")
    low_s, high_s, is_whole = _choose_stretch(pulse, face.windows)
    t_s = pulse.start_s + np.arange(pulse.bvp.size) / pulse.fps
    inside = (t_s >= low_s - 1e-9) & (t_s <= high_s + 1e-9)
    step = max(1, int(inside.sum()) // 800)
    t_s, wave = t_s[inside][::step], pulse.bvp[inside][::step]
    seen = np.isfinite(wave)
    beats_s = np.array([beat_s for beat_s in face.beats_s if low_s <= beat_s <= high_s], dtype=np.float64)
    gaps = _find_nan_gaps(t_s, wave)

    def paint(axes: Axes, wide: bool) -> None:
        for gap_low_s, gap_high_s in gaps:
            axes.axvspan(gap_low_s, gap_high_s, facecolor=colour("gap"), edgecolor="none", zorder=0)
        axes.plot(t_s, wave, color=colour("pulse"), linewidth=1.6 if wide else 1.3, zorder=2)
        if seen.any():
            heights = np.interp(beats_s, t_s[seen], wave[seen])
            axes.plot(beats_s, heights, "o", color=colour("ink"), markersize=5 if wide else 4, zorder=3)
        axes.set_yticks([])
        axes.margins(y=0.12)
        time_axis(axes, low_s, high_s, wide)
        axes.set_title("more blood in the skin ↑", loc="left")

    has_rate = any(is_number(window.hr_bpm) for window in face.windows)
    where = "the whole wave" if is_whole else "around the most confident window" if has_rate else "from its middle"
    caption = f"From {time_words(low_s)} to {time_words(high_s)}, {where}. "
    caption += f"{count_words(beats_s.size, 'beat')} marked." if beats_s.size else "No beats were marked in it."
    legend = [("curve", "pulse wave")]
    if beats_s.size:
        legend.append(("beat", "a beat that was found"))
    if gaps:
        legend.append(("gap", "no wave here"))
    return draw(title, about, caption, tuple(legend), anchor + "-wave", paint)


def _chart_spectrum(face: FaceMeasurement, anchor: str) -> Chart:
    title = "Which rhythm is in the wave"
    about = (
        "How strong each rhythm is in the whole wave (its spectrum). One high narrow peak means a clear pulse; a flat "
        "or jagged picture means noise. This is a picture only: the rate was measured by a finer method."
    )
    spectrum = None if face.bvp is None else _spectrum(face.bvp)
    if spectrum is None:
        return Chart(title, about, why_not="There is no spectrum: that needs a wave of at least 5 seconds with no gap.")
    bpm, power = spectrum
    answer = face.hr_bpm if is_number(face.hr_bpm) else None

    def paint(axes: Axes, wide: bool) -> None:
        if answer is not None:
            role = "good" if face.reliable else "bad"
            axes.axvline(answer, color=colour(role), linewidth=1.6, dashes=(4, 3), zorder=3)
        axes.fill_between(bpm, power, color=colour("pulse"), alpha=0.18, linewidth=0, zorder=1)
        axes.plot(bpm, power, color=colour("pulse"), linewidth=1.6, zorder=2)
        axes.set_xlim(*BAND_BPM)
        axes.set_ylim(0.0, 1.08)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(FixedLocator(list(range(40, 181, 20 if wide else 40))))
        axes.set_xlabel("beats per minute")
        axes.set_title("strength ↑", loc="left")

    peak_bpm = float(bpm[np.argmax(power)])
    caption = f"The strongest rhythm between {BAND_BPM[0]:.0f} and {BAND_BPM[1]:.0f} bpm is near {peak_bpm:.0f} bpm"
    caption += f"; the answer is {answer:.1f} bpm." if answer is not None else "; no answer was drawn from it."
    legend = [("curve", "strength of the rhythm")]
    if answer is not None:
        legend.append(("dash-good" if face.reliable else "dash-bad", f"the answer, {answer:.1f} bpm"))
    return draw(title, about, caption, tuple(legend), anchor + "-spectrum", paint)


def _spectrum(pulse: Pulse) -> tuple[Float, Float] | None:
    """Return (rates in bpm, power relative to the highest), averaged over pieces; None under 5 s without a gap.

    Each piece is first scaled to unit energy, so that one strong movement does not fill the picture.
    """
    shortest, longest = math.ceil(PIECE_S / 2 * pulse.fps), max(2, round(PIECE_S * pulse.fps))
    bpm = np.arange(BAND_BPM[0], BAND_BPM[1] + 0.25, 0.5)
    total = np.zeros_like(bpm)
    waves = np.exp(-2j * np.pi * np.outer(bpm / 60.0, np.arange(longest) / pulse.fps))
    seen = np.isfinite(pulse.bvp)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        for begin in range(first, max(first + 1, last - longest + 1), max(1, longest // 2)):
            piece = pulse.bvp[begin : min(begin + longest, last)]
            if piece.size < max(shortest, 2):
                continue
            piece = (piece - piece.mean()) * np.hanning(piece.size)
            energy = float(np.sum(piece**2))
            if energy > 0:
                total += np.abs(waves[:, : piece.size] @ piece) ** 2 / energy
    highest = float(total.max())
    return (bpm, total / highest) if highest > 0 else None


def _choose_stretch(pulse: Pulse, windows: Sequence[Window]) -> tuple[float, float, bool]:
    """Return (start, end, is_whole) of the part to draw: STRETCH_S seconds around the most confident window."""
    seen = np.flatnonzero(np.isfinite(pulse.bvp))
    first_s, last_s = pulse.start_s + seen[0] / pulse.fps, pulse.start_s + seen[-1] / pulse.fps
    if last_s - first_s <= WHOLE_WAVE_S:
        return first_s, max(last_s, first_s + 1.0 / pulse.fps), True
    rated = [window for window in windows if is_number(window.hr_bpm)]
    best = max(rated, key=lambda window: (window.reliable, window.confidence), default=None)
    middle_s = (first_s + last_s) / 2 if best is None else _middle_s(best)
    low_s = float(np.clip(middle_s - STRETCH_S / 2, first_s, last_s - STRETCH_S))
    return low_s, low_s + STRETCH_S, False


def _find_gaps(windows: Sequence[Window], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Return the times from ``start_s`` to ``end_s`` that no window covers.

    A second at the ends is no gap: windows a stride apart seldom end with the video.
    """
    gaps, covered_s = [], start_s
    for window in windows:
        if window.start_s - covered_s > (1.0 if covered_s == start_s else 0.1):
            gaps.append((covered_s, window.start_s))
        covered_s = max(covered_s, window.end_s)
    if end_s - covered_s > 1.0:
        gaps.append((covered_s, end_s))
    return gaps


def _find_nan_gaps(t_s: Float, wave: Float) -> list[tuple[float, float]]:
    lost = ~np.isfinite(wave)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8)))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(float(t_s[max(0, first - 1)]), float(t_s[min(last, t_s.size - 1)])) for first, last in pairs]


def _runs_that_touch(windows: Sequence[Window], every: int) -> list[list[Window]]:
    """Return runs of windows with a rate that a line may join: each starts before the one before it ends.

    One in ``every`` windows is drawn, so that they lie further apart.
    """
    runs: list[list[Window]] = []
    previous: Window | None = None
    for window in windows:
        if is_number(window.hr_bpm):
            reach_s = 0.5 if previous is None else 0.5 + (every - 1) * (previous.end_s - previous.start_s)
            if previous is not None and window.start_s <= previous.end_s + reach_s:
                runs[-1].append(window)
            else:
                runs.append([window])
            previous = window
        else:
            previous = None
    return [run for run in runs if len(run) > 1]


def _points(windows: Sequence[Window]) -> tuple[list[float], list[float]]:
    rated = [(_middle_s(window), window.hr_bpm) for window in windows if window.hr_bpm is not None]
    return [t_s for t_s, _ in rated], [hr_bpm for _, hr_bpm in rated]


def _middle_s(window: Window) -> float:
    return (window.start_s + window.end_s) / 2


def _confidence_level(window: Window) -> int:
    return round(4 * min(1.0, max(0.0, window.confidence))) if is_number(window.confidence) else 0
