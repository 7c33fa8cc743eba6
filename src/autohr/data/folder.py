"""Anyone's own videos with a CSV of rates or waves: the data set ``folder``.

    ROOT/
        anna.mp4            any video that can be read; folders inside ROOT are not looked into
        ben.mov
        rates.csv           video,hr_bpm[,subject][,any other column]       one line for each video
        ben.csv             time_s,bvp and/or hr_bpm                        a sensor's values, 0 s is the first frame

A video needs a line in ``rates.csv``, or a CSV of its own with the same name, or both. ``video`` is the file's name
with or without its ending. ``hr_bpm`` in ``rates.csv`` is one rate for the whole video; it may be left empty, or the
column left out, where the video has a CSV of its own. Values in that CSV may be empty where the sensor knew nothing.
Every other column of ``rates.csv`` is a group that tables can be split by ("light", "skin", "task").

Who is who: ``subject`` names the person. Without that column each video is taken as another person, and the manifest
says so; fill it in when somebody is in two videos, or a net may be tested on a face that it was trained on.

Columns are separated by commas, with a header, in any order; capitals and blanks around names do not count.
"""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autohr.data.columns import below_half_rate, read_lines
from autohr.data.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.errors import BadRecording, VideoError
from autohr.types import Float
from autohr.video.decode import list_videos, open_video

DATASET = "folder"
RATES = "rates.csv"
OWN_COLUMNS = ("time_s", "bvp", "hr_bpm")
HR_BPM = (20.0, 300.0)
"""Rates outside are a slip of the pen, or beats per second: the slowest and fastest hearts on record, rounded."""
USUAL_FPS = 30.0
"""Taken for the frame rate where the header does not say it; a denser wave is smoothed to what that can show."""


@dataclass(frozen=True)
class _Row:
    """One line of ``rates.csv``."""

    line: int
    hr_bpm: float | None = None
    subject: str | None = None
    groups: dict[str, str] = field(default_factory=dict)


def list_recordings(root: Path) -> Listing:
    """Every video directly in ``root``; those without a label, and lines without a video, are absent with the reason.

    Raises:
        BadRecording: no such folder, no video in it, two videos of one name, or a ``rates.csv`` with a missing column,
            something that is no rate, or two lines for one video.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadRecording(f"There is no folder {str(root)!r}. Name the folder that holds your videos.")
    videos = {video.stem: video for video in list_videos(root)}
    if not videos:
        raise BadRecording(f"There is no video in {str(root)!r}. Put videos in it, and {RATES} beside them.")
    for video in list_videos(root):
        if videos[video.stem] != video:
            raise BadRecording(
                f"{str(root)!r} holds {video.name!r} and {videos[video.stem].name!r}: which of them {video.stem!r} is "
                "cannot be told. Rename one."
            )
    rows, has_subjects = _read_rates(root / RATES) if (root / RATES).is_file() else ({}, False)
    recordings, absent = [], []
    for stem, video in videos.items():
        row = rows.pop(video.name, None) or rows.pop(stem, None)
        own = video.with_suffix(".csv")
        subject = row.subject if row is not None and row.subject is not None else stem
        name = f"{DATASET}/{subject}/{stem}"
        if own.is_file() and own.name != RATES:
            label = functools.partial(_read_own, own, video, None if row is None else row.hr_bpm)
        elif row is not None and row.hr_bpm is not None:
            label = functools.partial(_constant, row.hr_bpm, video)
        else:
            why = f"no line in {RATES}" if row is None else f"line {row.line} of {RATES} has no hr_bpm"
            absent.append(Absent(name, f"{video.name} has no label: {why} and there is no {own.name}", known_gap=False))
            continue
        groups = {} if row is None else row.groups
        recordings.append(Recording(DATASET, subject, stem, video, label, groups=groups))
    absent += [
        Absent(
            f"{DATASET}/{row.subject or Path(name).stem}/{Path(name).stem}",
            f"line {row.line} of {RATES} names {name!r}, which is no video in the folder",
            known_gap=False,
        )
        for name, row in rows.items()
    ]
    absent += [
        Absent(f"{DATASET}/{one.stem}/{one.stem}", f"{one.name} has no video of its name beside it", known_gap=False)
        for one in sorted(root.glob("*.csv"))
        if one.name != RATES and one.stem not in videos and one.stem not in {Path(name).stem for name in rows}
    ]
    notes = () if has_subjects else ("No column subject: every video is taken as another person.",)
    return Listing(tuple(recordings), tuple(absent), notes)


def _read_rates(path: Path) -> tuple[dict[str, _Row], bool]:
    """Lines by what they call their video, and whether there is a column ``subject``."""
    table, names = _read_table(path, needed=("video",))
    rows: dict[str, _Row] = {}
    for line, cells in table:
        video, rate = cells["video"], cells.get("hr_bpm", "")
        if not video:
            raise BadRecording(f"{str(path)!r}, line {line}: no video is named. Fill it in, or remove the line.")
        known = next((name for name in rows if name in (video, Path(video).stem) or Path(name).stem == video), None)
        if known is not None:
            raise BadRecording(
                f"{str(path)!r}, line {line}: {video!r} has a line already, number {rows[known].line}. Remove one; "
                "rates that change belong into a CSV of the video's own."
            )
        rows[video] = _Row(
            line=line,
            hr_bpm=_rate(rate, path, line) if rate else None,
            subject=cells.get("subject") or None,
            groups={name: cells[name] for name in names if name not in ("video", "hr_bpm", "subject") and cells[name]},
        )
    return rows, "subject" in names


def _read_own(path: Path, video: Path, whole_bpm: float | None) -> Reference:
    """The reference in a video's own CSV; ``whole_bpm`` is the rate in ``rates.csv``, used where it has none.

    Raises:
        BadRecording: a missing column, something that is no number, or times that do not increase.
    """
    table, names = _read_table(path, needed=("time_s",))
    if "bvp" not in names and "hr_bpm" not in names:
        raise BadRecording(f"{str(path)!r}, line 1: neither bvp nor hr_bpm among the columns {', '.join(names)}.")
    columns: dict[str, Float] = {name: np.full(len(table), np.nan) for name in OWN_COLUMNS if name in names}
    for k, (line, cells) in enumerate(table):
        for name, values in columns.items():
            if cells[name] or name == "time_s":
                values[k] = _rate(cells[name], path, line) if name == "hr_bpm" else _number(cells[name], path, line)
        if k and columns["time_s"][k] <= columns["time_s"][k - 1]:
            raise BadRecording(
                f"{str(path)!r}, line {line}: time_s {columns['time_s'][k]:g} does not follow "
                f"{columns['time_s'][k - 1]:g}. Sort the lines; each time may stand once."
            )
    if len(table) < 2:
        raise BadRecording(f"{str(path)!r} has one line of values; at least two are needed.")
    t_s, bvp, hr_bpm = columns["time_s"], columns.get("bvp"), columns.get("hr_bpm")
    notes = []
    if whole_bpm is not None and hr_bpm is None:
        hr_bpm = np.full(len(t_s), whole_bpm)
    elif whole_bpm is not None:
        notes.append(f"The rates are those of {path.name}; {whole_bpm:g} bpm in {RATES} was not used.")
    if bvp is not None:
        use = np.isfinite(bvp)
        if use.sum() >= 2:
            bvp[use] = below_half_rate(t_s[use], bvp[use], _fps(video))
    return Reference(t_s, bvp, hr_bpm, notes=tuple(notes))


def _constant(hr_bpm: float, video: Path) -> Reference:
    """One rate for as long as the video lasts, once a second."""
    end_s = _duration_s(video)
    t_s = np.append(np.arange(0.0, end_s, 1.0), end_s) if end_s > 0 else np.array([0.0, 1.0])
    return Reference(t_s, None, np.full(len(t_s), hr_bpm))


def _duration_s(video: Path) -> float:
    """Length of a video by its header, or by its last frame where that does not say; 0 where it cannot be read, which
    is said of the video itself later."""
    try:
        with open_video(video) as frames:
            if frames.duration_s is not None:
                return frames.duration_s
            last_s = 0.0
            for frame in frames:
                last_s = frame.t_s
            return last_s
    except VideoError:
        return 0.0


def _fps(video: Path) -> float:
    try:
        with open_video(video) as frames:
            return frames.fps_nominal or USUAL_FPS
    except VideoError:
        return USUAL_FPS


def _read_table(path: Path, needed: tuple[str, ...]) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """([(line, {column: cell})], names of the columns); blank lines are left out.

    Raises:
        BadRecording: a column that is needed is missing or there twice, a line with more or fewer cells, or no line.
    """
    reader = csv.reader(read_lines(path), skipinitialspace=True)
    names: list[str] = []
    table = []
    for cells in reader:
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            continue
        if not names:
            names = [cell.lower() for cell in cells]
            missing = [name for name in needed if name not in names]
            if missing or len(set(names)) < len(names):
                wrong = f"no column {missing[0]}" if missing else "two columns of one name"
                raise BadRecording(
                    f"{str(path)!r}, line {reader.line_num}: {wrong}; the columns are {', '.join(names)}. "
                    f"The first line must name the columns, {', '.join(needed)} among them, separated by commas."
                )
            continue
        if len(cells) != len(names):
            raise BadRecording(
                f"{str(path)!r}, line {reader.line_num}: {len(cells)} cells where the header has {len(names)}. "
                "Numbers need a decimal point, not a comma."
            )
        table.append((reader.line_num, dict(zip(names, cells, strict=True))))
    if not table:
        raise BadRecording(f"{str(path)!r} holds a header and nothing else; add a line.")
    return table, names


def _number(cell: str, path: Path, line: int) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRecording(f"{str(path)!r}, line {line}: {cell[:40]!r} is not a number. Correct it.")
    return value


def _rate(cell: str, path: Path, line: int) -> float:
    value = _number(cell, path, line)
    if not HR_BPM[0] <= value <= HR_BPM[1]:
        raise BadRecording(
            f"{str(path)!r}, line {line}: hr_bpm {value:g} must lie between {HR_BPM[0]:g} and {HR_BPM[1]:g} beats per "
            "minute. Correct it, or leave it empty where it is not known."
        )
    return value


SPEC = DatasetSpec(
    name=DATASET,
    title="own videos",
    list_recordings=list_recordings,
    access="none needed: your own videos, with a CSV",
    sure="our own layout",
)
