"""MMSE-HR and BP4D+: faces in tasks that stir emotions, as single pictures, with blood pressure and pulse rate.

MMSE-HR is the part of the set that was given out for heart rates, 102 recordings of 40 people; BP4D+ (in full) holds
1400 of 140. Both keep, for a person (F013 a woman, M001 a man) and a task (T1 ... T11):

    ROOT/**/F013/T1/*.jpg                   pictures, 25 a second, 1040x1392; their names are numbers
    ROOT/**/F013/T1/BP_mmHg.txt             the wave of blood pressure, one number a line, 1000 a second
    ROOT/**/F013/T1/Pulse Rate_BPM.txt      pulse rate, as above
    and other files of physiology, not read

Where ``**`` is:

    MMSE-HR     first10subjects_2D/ and first10subjects_Phydatareleased/Phydata/        all tasks of ten people
                T10_T11_30Subjects/ and T10_T11_30PhyBPHRData/                          two tasks of thirty
    BP4D+       2D+3D/ (F001.zip, with F001/T1/*.jpg inside, or unpacked) and Physiology/

Any other nesting is read too, pictures and physiology in one folder included; a zip is read as it is, not unpacked.
Pictures without physiology and physiology without pictures are named as absent. Which 102 (or 1400) there are is listed
nowhere that we could read; so where fewer are found the rest is one absent entry with their number.

Access: from Binghamton University (State University of New York), after an institution's signed licence; for research.

The clocks. Pictures are a 25th of a second apart by their numbers: a number that is missing leaves a gap of its length.
Physiology is 1000 lines a second from the first picture on. Both are put on 100 a second: the wave without what 25
frames per second could not show, the rate as its mean over a second.

Known defects: the pulse rate holds zeros and numbers below 30 where the monitor lost the pulse; values outside 30..240
are unknown here. The monitor derives its rate from the beats before, so it lags behind the wave (from memory). Loaders
disagree whether files have a header line: rPPG-Toolbox takes the first line for one, which costs it a sample; here only
a first line that is no number is one, and it is noted. F042T11 is in the authors' list of MMSE-HR, but there is no such
recording.

Sources: names and rates were read in three loaders, not in real files; the numbers 102, 40 and 25 per second in
papers; 1400 and 140 are from memory. The paper at hand says MMSE-HR's rates are computed from ECG; what is given out is
the rate of a blood-pressure monitor.
"""

from __future__ import annotations

import functools
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from autohr.errors import BadRecording, VideoError
from autohr.lab.datasets.columns import below_half_rate, read_lines
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.types import Float, Frame
from autohr.video.decode import VideoFrame
from autohr.video.folders import IMAGE_SUFFIXES

FPS = 25.0
PHYSIOLOGY_HZ = 1000.0
REFERENCE_HZ = 100.0
"""Samples per second of the reference's clock: four times the frame rate, and a tenth of the sensor's. Ours."""
HR_BPM = (30.0, 240.0)
PRESSURE, RATE = "BP_mmHg.txt", "Pulse Rate_BPM.txt"

NEVER_THERE = {"mmse_hr": {("F042", "T11")}}

_SUBJECT, _TASK = re.compile(r"[FM]\d{3}"), re.compile(r"T\d{1,2}")

Place = tuple[str, str]
"""Subject and task."""


@dataclass(frozen=True)
class Pictures:
    """Place of a recording's pictures: a folder, or a folder inside a zip."""

    path: Path
    inside: str | None = None


def list_mmse_hr(root: Path) -> Listing:
    """List every recording of a folder of MMSE-HR; see ``list_recordings``."""
    return list_recordings(root, MMSE_HR)


def list_bp4d_plus(root: Path) -> Listing:
    """List every recording of a folder of BP4D+; see ``list_recordings``."""
    return list_recordings(root, BP4D_PLUS)


def list_recordings(root: Path, dataset: str) -> Listing:
    """List every recording in order of subject and task.

    Raises
    ------
    BadRecording
        No such folder, or neither pictures nor physiology in it.
    """
    root = Path(root)
    pictures, physiology, notes = _search(root)
    if not pictures and not physiology:
        raise BadRecording(
            f"{str(root)!r} is neither MMSE-HR nor BP4D+: there is no F001/T1 or the like with pictures or a "
            f"{RATE!r} in it. Give the folder above them."
        )
    recordings, absent = [], []
    never = NEVER_THERE.get(dataset, set())
    for place in sorted(pictures.keys() | physiology.keys(), key=_order):
        subject, task = place
        if place in pictures and place in physiology:
            recordings.append(_recording(dataset, place, pictures[place], physiology[place]))
            continue
        here, lacks = (pictures[place].path, "physiology") if place in pictures else (physiology[place], "pictures")
        reason = f"{subject}/{task} has no {lacks} beside {here.relative_to(root).as_posix()!r}; copy them."
        absent.append(Absent(f"{dataset}/{subject}/{task}", reason, place in never))
    for place in sorted(never - pictures.keys() - physiology.keys()):
        absent.append(Absent(f"{dataset}/{'/'.join(place)}", "In the authors' list, but not in the dataset.", True))
    expected = N_RECORDINGS[dataset]
    lacking = expected - len(recordings) - sum(not one.known_gap for one in absent)
    if lacking > 0:
        reason = f"{lacking} of {expected} recordings are not in this copy; which they are is listed nowhere."
        absent.append(Absent(f"{dataset}/unnamed", reason, False))
    return Listing(tuple(recordings), tuple(absent), tuple(notes))


def _order(place: Place) -> tuple[str, int]:
    return place[0], int(place[1][1:])


def _recording(dataset: str, place: Place, pictures: Pictures, physiology: Path) -> Recording:
    subject, task = place
    return Recording(
        dataset=dataset,
        subject=subject,
        session=task,
        video=pictures.path,
        reference=functools.partial(read_reference, physiology),
        video_fps=FPS,
        frame_times_s=functools.partial(read_frame_times, pictures),
        open_frames=None if pictures.inside is None else functools.partial(read_zipped_frames, pictures),
        groups={"task": task, "sex": "female" if subject[0] == "F" else "male"},
    )


def _search(root: Path) -> tuple[dict[Place, Pictures], dict[Place, Path], list[str]]:
    """Pictures and physiology below ``root``, and what was found twice."""
    pictures: dict[Place, Pictures] = {}
    physiology: dict[Place, Path] = {}
    notes: list[str] = []

    def add(place: Place, found: Pictures) -> None:
        if pictures.setdefault(place, found) != found:
            notes.append(
                f"{'/'.join(place)} has pictures in {str(pictures[place].path)!r} and again in {str(found.path)!r}."
            )

    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders.sort()
        for file in sorted(files):
            if re.fullmatch(r"[FM]\d{3}\.zip", file):
                try:
                    for place, inside in _zipped(folder / file).items():
                        add(place, Pictures(folder / file, inside))
                except BadRecording as error:
                    # Its recordings are absent: physiology without pictures.
                    notes.append(str(error))
        subject, task = folder.parent.name, folder.name
        if not (_SUBJECT.fullmatch(subject) and _TASK.fullmatch(task)):
            continue
        folders.clear()
        place = subject, task
        if any(Path(file).suffix.lower() in IMAGE_SUFFIXES and file[0] != "." for file in files):
            add(place, Pictures(folder))
        if PRESSURE in files or RATE in files:
            if physiology.setdefault(place, folder) != folder:
                notes.append(f"{'/'.join(place)} has physiology twice; that in {str(physiology[place])!r} was taken.")
    return pictures, physiology, notes


def _zipped(path: Path) -> dict[Place, str]:
    """Return the recordings inside a zip, and the folder of each."""
    found: dict[Place, str] = {}
    for name in _open_zip(path).namelist():
        folder, _, picture = name.rpartition("/")
        parts = folder.split("/")
        if _is_picture(picture) and len(parts) >= 2 and _SUBJECT.fullmatch(parts[-2]) and _TASK.fullmatch(parts[-1]):
            found.setdefault((parts[-2], parts[-1]), folder)
        elif _is_picture(picture) and _TASK.fullmatch(parts[-1]):
            # One loader takes whatever stands above the task; then the zip's own name is the person.
            found.setdefault((path.stem, parts[-1]), folder)
    return found


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise BadRecording(f"{str(path)!r} cannot be opened ({error}); copy it again.") from None


def _is_picture(name: str) -> bool:
    return bool(name) and name[0] != "." and Path(name).suffix.lower() in IMAGE_SUFFIXES


# ---------------------------------------------------------------------------------------------------------------------
# One recording


def _picture_names(pictures: Pictures) -> list[str]:
    """Names of the pictures in natural order, as video/decode reads a folder of them."""
    if pictures.inside is None:
        names = [one.name for one in pictures.path.iterdir()]
    else:
        with _open_zip(pictures.path) as file:
            names = [
                picture
                for folder, _, picture in (name.rpartition("/") for name in file.namelist())
                if folder == pictures.inside
            ]
    names = [name for name in names if _is_picture(name)]
    for name in names:
        if not re.search(r"\d", Path(name).stem):
            raise BadRecording(f"{name!r} in {str(pictures.path)!r} has no number, so its time is not known.")
    return sorted(names, key=lambda name: (_number(name), name))


def _number(name: str) -> int:
    return int(re.findall(r"\d+", Path(name).stem)[-1])


def read_frame_times(pictures: Pictures) -> Float:
    """Return the seconds (N,) since the first picture, by the pictures' numbers.

    Raises
    ------
    BadRecording
        A picture without a number, or two with one.
    """
    names = _picture_names(pictures)
    numbers = np.array([_number(name) for name in names])
    if len(numbers) < 2 or (np.diff(numbers) == 0).any():
        twice = names[int(np.flatnonzero(np.diff(numbers) == 0)[0]) + 1] if len(numbers) > 1 else "none"
        raise BadRecording(
            f"{str(pictures.path)!r} holds {len(numbers)} picture(s), or two with one number ({twice!r}); "
            "copy it again."
        )
    return np.asarray((numbers - numbers[0]) / FPS, dtype=np.float64)


def read_zipped_frames(pictures: Pictures) -> Iterator[VideoFrame]:
    """Yield the pictures of a recording inside a zip, one at a time.

    Raises
    ------
    VideoError
        One of them cannot be read.
    """
    times_s = read_frame_times(pictures)
    with _open_zip(pictures.path) as file:
        for index, (name, t_s) in enumerate(zip(_picture_names(pictures), times_s, strict=True)):
            try:
                data = np.frombuffer(file.read(f"{pictures.inside}/{name}"), np.uint8)
            except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
                raise VideoError(f"{name!r} in {str(pictures.path)!r} cannot be read ({error}).") from None
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
            if picture is None:
                raise VideoError(f"{name!r} in {str(pictures.path)!r} is no picture; copy the zip again.")
            rgb: Frame = np.ascontiguousarray(picture[..., ::-1])
            yield VideoFrame(rgb, float(t_s), index, repaired=False, whole=True)


def read_reference(folder: Path) -> Reference:
    """Wave and rate of the physiology in ``folder``, at ``REFERENCE_HZ`` from the first picture on.

    Raises
    ------
    BadRecording
        Both files are missing, or one is damaged, or neither holds a value that a heart can have.
    """
    notes: list[str] = []
    wave = _read_kilohertz(folder / PRESSURE, notes)
    rate_bpm = _read_kilohertz(folder / RATE, notes)
    lengths = [len(one) for one in (wave, rate_bpm) if one is not None]
    if not lengths:
        raise BadRecording(f"{str(folder)!r} holds neither {PRESSURE!r} nor {RATE!r}; copy them.")
    if len(set(lengths)) > 1 and abs(lengths[0] - lengths[1]) > PHYSIOLOGY_HZ:
        notes.append(f"{PRESSURE} has {lengths[0]} lines, {RATE} {lengths[1]}; both should begin and end together.")
    step = round(PHYSIOLOGY_HZ / REFERENCE_HZ)
    n_steps = max(lengths) // step
    if n_steps < 2:
        raise BadRecording(
            f"{str(folder)!r} holds {max(lengths)} lines, {1000 * max(lengths) / PHYSIOLOGY_HZ:g} ms; copy it."
        )
    t_s = np.arange(n_steps) / REFERENCE_HZ
    if rate_bpm is not None:
        wrong = ~((rate_bpm >= HR_BPM[0]) & (rate_bpm <= HR_BPM[1]))
        if wrong.any():
            notes.append(
                f"{RATE} knows nothing in {wrong.sum() / PHYSIOLOGY_HZ:.1f} of {len(wrong) / PHYSIOLOGY_HZ:.1f} s."
            )
        rate_bpm = None if wrong.all() else _second_means(np.where(wrong, np.nan, rate_bpm), step, n_steps)
    if wave is not None:
        known_s = np.arange(len(wave)) / PHYSIOLOGY_HZ
        slow = below_half_rate(known_s, np.where(np.isfinite(wave), wave, np.nanmean(wave)), FPS)
        slow[~np.isfinite(wave)] = np.nan
        wave = np.full(n_steps, np.nan)
        taken = slow[: n_steps * step : step]
        wave[: len(taken)] = taken
    if wave is None and rate_bpm is None:
        raise BadRecording(f"{str(folder / RATE)!r} holds no rate of a heart, and there is no {PRESSURE!r}.")
    return Reference(t_s, wave, rate_bpm, tuple(notes))


def _read_kilohertz(path: Path, notes: list[str]) -> Float | None:
    """Read the numbers (N,) of a file, one a line, "nan" allowed; None, and a note, where there is no such file."""
    if not path.exists():
        notes.append(f"There is no {path.name}.")
        return None
    lines, first = read_lines(path), 1
    if re.search(r"[A-Za-z]{2}", lines[0]) and lines[0].strip().lower() != "nan":
        notes.append(f"{path.name}, line 1: {lines[0].strip()[:40]!r} was taken for a header.")
        lines, first = lines[1:], 2
    try:
        values = np.array(lines, dtype=np.float64)
    except ValueError:
        values = np.empty(0)
        for number, line in enumerate(lines, start=first):
            try:
                float(line)
            except ValueError:
                raise BadRecording(
                    f"{str(path)!r}, line {number}: {line.strip()[:40]!r} is not a number; copy it again."
                ) from None
    if not len(values) or not np.isfinite(values).any():
        raise BadRecording(f"{str(path)!r} holds no number; copy it again.")
    return np.where(np.isfinite(values), values, np.nan)


def _second_means(values: Float, step: int, n_steps: int) -> Float:
    """Average what is known of values (N,) within half a second of every ``step``-th: (n_steps,), NaN if nothing."""
    reach = round(PHYSIOLOGY_HZ / 2)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(n_steps) * step
    low, high = np.clip(at - reach, 0, len(values)), np.clip(at + reach, 0, len(values))
    n_known = counts[high] - counts[low]
    return np.where(n_known > 0, (sums[high] - sums[low]) / np.maximum(n_known, 1), np.nan)


MMSE_HR, BP4D_PLUS = "mmse_hr", "bp4d_plus"
N_RECORDINGS = {MMSE_HR: 102, BP4D_PLUS: 1400}

_ACCESS = (
    "from Binghamton University (State University of New York), after an institution's signed licence; for research"
)
_BASIS = "names and rates from three loaders"

SPEC = DatasetSpec(
    name=MMSE_HR,
    title="MMSE-HR",
    list_recordings=list_mmse_hr,
    access=_ACCESS,
    n_recordings=N_RECORDINGS[MMSE_HR],
    basis=_BASIS,
)
BP4D_SPEC = DatasetSpec(
    name=BP4D_PLUS,
    title="BP4D+",
    list_recordings=list_bp4d_plus,
    access=_ACCESS,
    n_recordings=N_RECORDINGS[BP4D_PLUS],
    basis=f"{_BASIS}; its number of recordings from memory",
)
