"""Anyone's own videos with a CSV of rates or waves: the data set ``folder``.

    ROOT/
        anna.mp4            any video that can be read
        ben.mov
        rates.csv           video,hr_bpm[,subject][,any other column]       one line for each video
        ben.csv             time_s,bvp and/or hr_bpm                        a sensor's values, 0 s is the first frame

A video needs a line in ``rates.csv``, or a CSV of its own with the same name, or both. ``hr_bpm`` in ``rates.csv`` is
one rate for the whole video; it may be left empty, or the column left out, where the video has a CSV of its own.
Values in that CSV may be empty where the sensor knew nothing. Every other column of ``rates.csv`` is a group that
tables can be split by ("light", "skin", "task").

``video`` is the file's name, with or without its ending; a path before it, in the form of Windows or another, may stay.
A path that leads to a video in a folder inside ROOT is followed; such folders are not looked into otherwise. Capitals,
blanks around a name and the form of its Unicode (composed or decomposed) do not count, unless two files differ in
nothing else: then the name must be exact. Whatever has no counterpart, line or file, is absent with the reason.

Who is who: ``subject`` names the person. Without that column each video is taken as another person, and the manifest
says so; fill it in when somebody is in two videos, or a net may be tested on a face that it was trained on.

The CSV may be as a spreadsheet program saves it: ``csv_table`` says which forms are read.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording, VideoError
from autohr.lab.datasets.columns import below_half_rate
from autohr.lab.datasets.csv_table import Table, read_table
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.types import Float
from autohr.video.decode import open_video
from autohr.video.folders import list_videos

DATASET = "folder"
RATES = "rates.csv"
RATES_COLUMNS = ("video", "hr_bpm", "subject")
OWN_COLUMNS = ("time_s", "bvp", "hr_bpm")
HR_BPM = (20.0, 300.0)
"""Slowest and fastest rate that is taken for one, in bpm: the slowest and fastest hearts on record, rounded. Others are
a slip of the pen, or beats per second."""
USUAL_FPS = 30.0
"""Frame rate taken where the header does not say it; a denser wave is smoothed to what that can show."""
TRUTH = ".truth.json"
"""End of the name of what ``autohr demo`` and ``synth`` write beside a video."""
MAX_NAMED = 20
"""Files that a note names one by one."""


@dataclass(frozen=True)
class _Row:
    """Line of ``rates.csv``."""

    line: int
    video: str
    """Cell of the column video, as written."""
    hr_bpm: float | None = None
    subject: str | None = None
    groups: dict[str, str] = field(default_factory=dict)


def list_recordings(root: Path) -> Listing:
    """List every video directly in ``root``, and those in folders inside it that ``rates.csv`` names.

    Videos without a label, lines without a video and CSVs without a video are absent, each with the reason. Other files
    are named in a note.

    Raises
    ------
    BadRecording
        No such folder; no video in it; two videos of one name; a line that fits two videos, or two lines
        that fit one; a ``rates.csv`` that cannot be read, or with something that is no rate.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadRecording(f"There is no folder {str(root)!r}. Name the folder that holds your videos.")
    folder = _Folder(root)
    rates = _one_of([path for path in folder.others if path.name.casefold() == RATES], root)
    rows, has_subjects, notes = _read_rates(rates) if rates is not None else ([], False, ())
    row_of: dict[Path, _Row] = {}
    lost_of: dict[str, _Row] = {}
    for row in rows:
        video = folder.find(row, rates)
        first = lost_of.setdefault(_plain(row.video), row) if video is None else row_of.setdefault(video, row)
        if first is not row:
            fit = "" if video is None else f": both fit {folder.named(video)!r}"
            raise BadRecording(
                f"{str(rates)!r}, line {row.line}: {row.video!r} has a line already, number {first.line} "
                f"({first.video!r}){fit}. Remove one; rates that change belong into a CSV of the video's own."
            )
    lost = list(lost_of.values())
    videos = [*folder.videos, *(video for video in row_of if video.parent != root)]
    if not videos:
        raise BadRecording(
            f"There is no video in {str(root)!r}. Put videos in it, and {RATES} beside them."
            + "".join(f" Line {row.line} names {row.video!r}: {folder.why_not(row)}." for row in lost[:1])
        )
    _refuse_twins(videos)
    own_of, strays = _own_tables(videos, rates)
    recordings: list[Recording] = []
    absent: list[Absent] = []
    taken: set[str] = set()
    for video in videos:
        known, own = row_of.get(video), own_of.get(video)
        session = _clean(folder.named(video.with_suffix("")))
        subject = known.subject if known is not None and known.subject is not None else session
        if own is not None:
            label = functools.partial(_read_own, own, video, None if known is None else known.hr_bpm)
        elif known is not None and known.hr_bpm is not None:
            label = functools.partial(_constant, known.hr_bpm, video)
        else:
            why = _why_unlabelled(video, known, rates, lost, folder)
            absent.append(Absent(_id(taken, subject, session, video.name), why, known_gap=False))
            continue
        groups = {} if known is None else known.groups
        recording = Recording(DATASET, subject, session, video, label, groups=groups)
        if recording.id in taken:
            raise BadRecording(
                f"{str(root)!r} holds {folder.named(video)!r} and another video that is called {session!r} too, in "
                "another form of Unicode or with other blanks. Rename one."
            )
        taken.add(recording.id)
        recordings.append(recording)
    stray_of = {_plain(one.stem): one.name for one in strays}
    for row in lost:
        stem, name = _stem_of(row.video), _parts(row.video)[-1:] or [row.video]
        absent.append(
            Absent(
                _id(taken, row.subject or stem, stem, f"{name[0]} (line {row.line})"),
                f"line {row.line} of {RATES} names {row.video!r}, which is no video in the folder: "
                + folder.why_not(row)
                + (f"; {stray_of[_plain(stem)]} is there" if _plain(stem) in stray_of else ""),
                known_gap=False,
            )
        )
    for one in strays:
        if _plain(one.stem) in {_plain(_stem_of(row.video)) for row in lost}:
            continue
        near = _closest(one.stem, [video.stem for video in videos])
        absent.append(
            Absent(
                _id(taken, one.stem, one.stem, one.name),
                f"{one.name} has no video of its name beside it{f'; the closest is {near!r}' if near else ''}",
                known_gap=False,
            )
        )
    subject_note = () if has_subjects else ("No column subject: every video is taken as another person.",)
    all_notes = (*subject_note, *notes, *_notes_on_subjects(recordings), *folder.note_on_others(rates, rows))
    return Listing(tuple(recordings), tuple(absent), all_notes)


class _Folder:
    """Files of a folder by name, and the search for the video that a line of ``rates.csv`` means."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.videos = list_videos(root)
        self.others = sorted(path for path in root.iterdir() if path not in set(self.videos) and path.name[0] != ".")
        self._indices: dict[Path, list[dict[str, list[Path]]]] = {root: _index(self.videos)}

    def named(self, path: Path) -> str:
        """Return the path from the root on, with slashes."""
        return path.relative_to(self.root).as_posix()

    def find(self, row: _Row, rates: Path | None) -> Path | None:
        """Return the video that a line means; None where there is none.

        Raises
        ------
        BadRecording
            Two videos fit.
        """
        # A backslash may belong to the name itself, where files can be called so.
        for found in (_look_up(self._indices[self.root], row.video), self._by_path(row.video)):
            if len(found) > 1:
                named = " and ".join(repr(self.named(path)) for path in found)
                raise BadRecording(
                    f"{str(rates)!r}, line {row.line}: {row.video!r} fits {named}. Write the name exactly, with its "
                    "ending, or rename one."
                )
            if found:
                return found[0]
        return None

    def _by_path(self, written: str) -> list[Path]:
        """Return the videos that the longest end of a written path leads to."""
        parts = _parts(written)
        for first in range(len(parts)):
            *folders, name = parts[first:]
            homes = [self.root]
            for part in folders:
                homes = [inside for home in homes for inside in _folders_called(home, part)]
            found = [path for home in homes for path in _look_up(self._index_of(home), name)]
            if found:
                return found
        return []

    def _index_of(self, home: Path) -> list[dict[str, list[Path]]]:
        if home not in self._indices:
            self._indices[home] = _index(list_videos(home))
        return self._indices[home]

    def why_not(self, row: _Row) -> str:
        """Return why a line has no video, in words that follow a colon."""
        name = (_parts(row.video) or [row.video])[-1]
        there = [path for path in self.others if _plain(path.name) == _plain(name)]
        if there:
            path = there[0]
            if path.is_dir():
                return f"{path.name!r} is a folder"
            if path.is_symlink() and not path.exists():
                return f"{path.name!r} is a link that leads nowhere"
            return f"{path.name!r} is there, but {path.suffix or 'a name without an ending'} is not known as a video"
        looked = "" if name == row.video else f"looked for {name!r}; "
        near = _closest(name, [path.name for path in self.videos])
        return looked + (f"the closest name there is {near!r}" if near else "no name there is like it")

    def note_on_others(self, rates: Path | None, rows: Sequence[_Row]) -> list[str]:
        """Return a note on the files that are neither a video nor a table and that no line names."""
        named = {_plain((_parts(row.video) or [row.video])[-1]) for row in rows}
        unread = [
            path.name
            for path in self.others
            if path != rates
            and path.suffix.casefold() != ".csv"
            and not path.name.endswith(TRUTH)
            and not path.is_dir()
            and not {_plain(path.name), _plain(path.stem)} & named
        ]
        if not unread:
            return []
        more = f" and {len(unread) - MAX_NAMED} more" if len(unread) > MAX_NAMED else ""
        return [
            "Not read, for their endings are those of neither a video nor a CSV: "
            f"{', '.join(unread[:MAX_NAMED])}{more}."
        ]


def _index(files: Iterable[Path]) -> list[dict[str, list[Path]]]:
    """Return files by name, by stem, by name in plain form and by stem in plain form, the strictest first."""
    keys: tuple[Callable[[Path], str], ...] = (
        lambda path: path.name,
        lambda path: path.stem,
        lambda path: _plain(path.name),
        lambda path: _plain(path.stem),
    )
    indices: list[dict[str, list[Path]]] = [{} for _ in keys]
    for path in files:
        for index, key in zip(indices, keys, strict=True):
            index.setdefault(key(path), []).append(path)
    return indices


def _look_up(indices: Sequence[dict[str, list[Path]]], name: str) -> list[Path]:
    """Return the files that a name fits by the strictest of ``_index``'s keys that fits any."""
    asked = (name, name, _plain(name), _plain(name))
    return next((index[key] for index, key in zip(indices, asked, strict=True) if key in index), [])


def _folders_called(home: Path, name: str) -> list[Path]:
    """Return the folders directly in ``home`` of that name, or else of one that differs in capitals or form."""
    inside = [path for path in home.iterdir() if path.is_dir()] if home.is_dir() else []
    exact = [path for path in inside if path.name == name]
    return exact or [path for path in inside if _plain(path.name) == _plain(name)]


def _parts(written: str) -> list[str]:
    """Return the parts of a path with either slash, without drive, root, "." and all up to the last ".."."""
    parts = [part for part in re.split(r"[\\/]+", written) if part not in ("", ".")]
    if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
        parts = parts[1:]
    last = max((k for k, part in enumerate(parts) if part == ".."), default=-1)
    return parts[last + 1 :]


def _stem_of(written: str) -> str:
    parts = _parts(written)
    return Path(parts[-1]).stem if parts else written


@functools.lru_cache(maxsize=2**16)
def _plain(name: str) -> str:
    """Return a name without what people do not see: capitals, form of Unicode, kinds and number of blanks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def _clean(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _closest(name: str, names: Sequence[str]) -> str | None:
    """Return the name whose stem is most like that of ``name``; None where none is. Endings are alike in all."""
    by_stem = {_plain(_stem_of(one)): one for one in names}
    near = difflib.get_close_matches(_plain(_stem_of(name)), list(by_stem), n=1)
    return by_stem[near[0]] if near else None


def _id(taken: set[str], subject: str, session: str, name: str) -> str:
    """Return an id for something absent that nothing else has, and take it."""
    one = f"{DATASET}/{subject}/{session}"
    if one in taken:
        one = f"{DATASET}/{subject}/{name}"
    number = 2
    while one in taken:
        one, number = f"{DATASET}/{subject}/{name} ({number})", number + 1
    taken.add(one)
    return one


def _one_of(found: Sequence[Path], root: Path) -> Path | None:
    if len(found) > 1:
        named = " and ".join(repr(path.name) for path in found)
        raise BadRecording(f"{str(root)!r} holds {named}: which of them is meant cannot be told. Remove one.")
    return found[0] if found else None


def _refuse_twins(videos: Sequence[Path]) -> None:
    """Raise BadRecording for two videos in one folder that differ in nothing but the ending."""
    first: dict[Path, Path] = {}
    for video in videos:
        twin = first.setdefault(video.with_suffix(""), video)
        if twin != video:
            raise BadRecording(
                f"{str(video.parent)!r} holds {twin.name!r} and {video.name!r}: which of them {video.stem!r} is cannot "
                "be told. Rename one."
            )


def _own_tables(videos: Sequence[Path], rates: Path | None) -> tuple[dict[Path, Path], list[Path]]:
    """Return the CSV of each video that has one, and the CSVs without a video in the folders of the videos.

    Raises
    ------
    BadRecording
        A CSV that fits two videos, or two that fit one.
    """
    own_of: dict[Path, Path] = {}
    strays = []
    for home in dict.fromkeys(video.parent for video in videos):
        indices = _index([video for video in videos if video.parent == home])
        for one in sorted(home.iterdir()):
            if one.suffix.casefold() != ".csv" or one == rates or one.name[0] == ".":
                continue
            # By the stems alone: a CSV is called as its video is, up to the ending.
            found = indices[1].get(one.stem) or indices[3].get(_plain(one.stem), [])
            if len(found) > 1:
                named = " and ".join(repr(path.name) for path in found)
                raise BadRecording(f"{str(one)!r} fits {named}. Call it exactly as its video.")
            if not found:
                strays.append(one)
            elif found[0] in own_of:
                raise BadRecording(
                    f"{str(home)!r} holds {own_of[found[0]].name!r} and {one.name!r}, which both fit "
                    f"{found[0].name!r}. Remove one."
                )
            else:
                own_of[found[0]] = one
    return own_of, strays


def _why_unlabelled(video: Path, row: _Row | None, rates: Path | None, lost: Sequence[_Row], folder: _Folder) -> str:
    """Return why a video has no label, in one sentence without its full stop."""
    own = f"there is no {video.with_suffix('.csv').name}"
    if row is not None:
        return f"{video.name} has no label: line {row.line} of {RATES} has no hr_bpm and {own}"
    if rates is None:
        near = _closest(RATES, [path.name for path in folder.others if path.suffix.casefold() != ".csv"])
        return f"{video.name} has no label: there is no {RATES}{f', only {near!r},' if near else ''} and {own}"
    near = _closest(video.name, [one.video for one in lost])
    line = next((one.line for one in lost if one.video == near), None)
    hint = f"; the closest name in {RATES} is {near!r} in line {line}" if near else ""
    return f"{video.name} has no label: no line in {RATES} and {own}{hint}"


def _notes_on_subjects(recordings: Sequence[Recording]) -> list[str]:
    """Return a note on each pair of subjects that are spelled alike but for capitals and blanks."""
    spelled: dict[str, str] = {}
    notes = []
    for subject in dict.fromkeys(recording.subject for recording in recordings):
        other = spelled.setdefault(_plain(subject), subject)
        if other != subject:
            notes.append(
                f"Subjects {other!r} and {subject!r} are taken as two people; spell them alike if they are one."
            )
    return notes


def _read_rates(path: Path) -> tuple[list[_Row], bool, tuple[str, ...]]:
    """Return the lines of ``rates.csv``, whether it has a column ``subject``, and notes on how it was read."""
    table = read_table(path, needed=("video",), known=RATES_COLUMNS)
    rows = []
    for line, cells in table.rows:
        video, rate = cells["video"], cells.get("hr_bpm", "")
        if not video:
            raise BadRecording(f"{str(path)!r}, line {line}: no video is named. Fill it in, or remove the line.")
        rows.append(
            _Row(
                line=line,
                video=video,
                hr_bpm=_rate(table, line, rate) if rate else None,
                subject=cells.get("subject") or None,
                groups={name: cells[name] for name in table.names if name not in RATES_COLUMNS and cells[name]},
            )
        )
    return rows, "subject" in table.names, table.notes


def _read_own(path: Path, video: Path, whole_bpm: float | None) -> Reference:
    """Return the reference in a video's own CSV; ``whole_bpm`` is the rate in ``rates.csv``, used where it has none.

    Raises
    ------
    BadRecording
        A missing column, something that is no number, or times that do not increase.
    """
    table = read_table(path, needed=("time_s",), known=OWN_COLUMNS)
    if "bvp" not in table.names and "hr_bpm" not in table.names:
        raise BadRecording(f"{str(path)!r}, line 1: neither bvp nor hr_bpm among the columns {', '.join(table.names)}.")
    columns: dict[str, Float] = {name: np.full(len(table.rows), np.nan) for name in OWN_COLUMNS if name in table.names}
    for k, (line, cells) in enumerate(table.rows):
        for name, values in columns.items():
            if cells[name] or name == "time_s":
                values[k] = (_rate if name == "hr_bpm" else _number)(table, line, cells[name], name)
        if k and columns["time_s"][k] <= columns["time_s"][k - 1]:
            raise BadRecording(
                f"{str(path)!r}, line {line}: time_s {columns['time_s'][k]:g} does not follow "
                f"{columns['time_s'][k - 1]:g}. Sort the lines; each time may stand once."
            )
    if len(table.rows) < 2:
        raise BadRecording(f"{str(path)!r} has one line of values; at least two are needed.")
    t_s, bvp, hr_bpm = columns["time_s"], columns.get("bvp"), columns.get("hr_bpm")
    notes = list(table.notes)
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
    """Return one rate for as long as the video lasts, once a second."""
    end_s = _duration_s(video)
    t_s = np.append(np.arange(0.0, end_s, 1.0), end_s) if end_s > 0 else np.array([0.0, 1.0])
    return Reference(t_s, None, np.full(len(t_s), hr_bpm))


def _duration_s(video: Path) -> float:
    """Return the length of a video by its header, or by its last frame; 0 where it cannot be read (reported later)."""
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


def _number(table: Table, line: int, cell: str, column: str) -> float:
    return table.number(column, line, cell)


def _rate(table: Table, line: int, cell: str, column: str = "hr_bpm") -> float:
    value = table.number(column, line, cell)
    if not HR_BPM[0] <= value <= HR_BPM[1]:
        raise BadRecording(
            f"{str(table.path)!r}, line {line}: hr_bpm {value:g} must lie between {HR_BPM[0]:g} and {HR_BPM[1]:g} "
            "beats per minute. Correct it, or leave it empty where it is not known."
        )
    return value


SPEC = DatasetSpec(
    name=DATASET,
    title="own videos",
    list_recordings=list_recordings,
    access="none needed: your own videos, with a CSV",
    basis="our own layout",
)
