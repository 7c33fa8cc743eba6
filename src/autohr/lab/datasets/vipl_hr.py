"""VIPL-HR (v1): 107 people in nine scenarios before a web camera, a phone and a RealSense, with a finger oximeter.

    ROOT/                           the unpacked dataset; the p folders may also lie directly in ROOT
        data/p1 ... p107/           a person; comes packed as data/p1-5.zip ... p101-107.zip
            v1 ... v9/              a scenario; v1-2 is its second take
                source1 ... 4/      a camera
                    video.avi       cut to the face by the authors; the container says 25 frames per second, always
                    time.txt        milliseconds, one line a frame; source2 has none
                    wave.csv        "Wave", then a finger pulse wave of about 60 rows a second
                    gt_HR.csv       "HR", then whole beats per minute, one row a second
                    gt_SpO2.csv     not read
        fold/fold1.mat ... fold5.mat    official folds: the variable foldN holds subjects' numbers
        Missing_data.txt            lines such as p1/v7/source1: what was never recorded
        Additional_data.txt         lines such as p16/v1-2/source1: the second takes
        NIR.txt, ReadMe.pdf         not read

Scenarios: v1 stable, v2 motion, v3 talking, v4 dark, v5 bright, v6 long distance, v7 after exercise, v8 phone stable,
v9 phone motion (v8 and v9 by phone only). Cameras: source1 a web camera (Logitech C310), source2 a phone (Huawei P9, a
take of its own with its own truth), source3 a RealSense F200; these three are read. source4 is its near infrared, in
which the colours that the methods here need are not seen: left out. Sources 1, 3 and 4 of a scenario share one take.

Read: 2358 first takes and 20 second ones, 2378 recordings, the number of visible-light videos of the authors' papers.

Access: from the authors, the Visual Information Processing and Learning (VIPL) group of the Institute of Computing
Technology, Chinese Academy of Sciences, after a signed release agreement; for research only.

The clocks.
    time.txt is the clock of sources 1 and 3: their real rates run from 21 to 30 frames per second, and the container's
    25 would shift a heart rate by up to 20 %. Two frames of one millisecond are put half a millisecond apart.
    source2 has no clock but a nominal rate of 30. Where its number of frames over the duration of wave.csv (at 60 rows
    a second) differs from 30 by more than 5 %, and gt_HR.csv agrees with that duration, the rate so measured is taken:
    phones slow down in the dark. On p1/v1/source2 it is 30.06. Which one was taken goes into the manifest.
    wave.csv runs from the first frame to the last: its own rate is rows over duration, and is 60.0 on p1/v1/source1. A
    wave whose rate so computed is off by more than 2 % was not recorded as long as the video: it is then taken at 60
    rows a second from the first frame, and the manifest says so.
    gt_HR.csv: row k belongs to second k. 255 (no finger in the sensor: p24, p75, p85, p90, p94 and others) and
    anything outside 30..240 is unknown.

Without fold/ a recording has no official fold, and the manifest says so. Without Missing_data.txt the gaps that others
found in the archives are taken.

Sources: names, headers, rates and clocks were read by others in the real files (the archives' full listing, and six
recordings unpacked); the folds' variable in two loaders. From one source alone: 30..240 and 255. Two notes of one
author contradict each other on which of v4 and v5 is dark; here as in the dataset's ReadMe. That the wave is upright
(more blood is up) is from memory of that oximeter.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import below_half_rate, read_columns, read_lines, to_numbers
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.types import Float
from autohr.video.decode import open_video

DATASET = "vipl_hr"
N_SUBJECTS = 107
SCENARIOS = {
    1: "stable",
    2: "motion",
    3: "talking",
    4: "dark",
    5: "bright",
    6: "long distance",
    7: "after exercise",
    8: "phone stable",
    9: "phone motion",
}
SOURCES = {1: "web camera", 2: "phone", 3: "RealSense"}
PHONE = 2
N_FOLDS = 5

WAVE_HZ, PHONE_FPS = 60.0, 30.0
WAVE_TOLERANCE = 0.02
"""Largest error of a wave's rate, as a share, at which it counts as long as its video: 0.6 s of 30. Ours."""
PHONE_TOLERANCE = 0.05
"""Largest difference of a phone's measured rate to the nominal 30, as a share, at which the nominal one is taken: a
take and its wave may begin and end a second apart. Ours."""
HR_BPM = (30.0, 240.0)
"""Rates that an oximeter can have measured; 255 means none."""

_GAPS = """
    1/7/1 2/2/1 4/6/1 5/2/1 11/7/1 11/7/3 13/7/1 33/5/1 38/5/1 42/3/1 42/3/2 42/3/3 44/7/1 45/9/2 56/6/1 56/6/2 56/6/3
    56/7/1 56/7/2 56/7/3 56/8/2 56/9/2 61/5/1 79/5/3 82/2/1 84/1/1
"""
"""Subject/scenario/source never recorded, beside source1 of p97 to p107; read in the listing of the archives."""
_WEB_CAMERA_UP_TO = 96

_PLACE = re.compile(r"p(\d+)[/\\]v(\d+)(-2)?[/\\]source(\d)\b")

Place = tuple[int, int, int, int]
"""Subject, scenario, take (1 or 2), source."""


def list_recordings(root: Path) -> Listing:
    """List every take of sources 1 to 3, in order of subject, scenario, take, source.

    Raises
    ------
    BadRecording
        No such folder, nothing of this dataset in it, or a list or fold file that is damaged.
    """
    root = Path(root)
    data = root / "data" if (root / "data").is_dir() else root
    if not any(data.glob("p[0-9]*/v[0-9]*/source[0-9]")):
        packed = any(data.glob("p*.zip"))
        raise BadRecording(
            f"{str(root)!r} is no VIPL-HR: there is no data/p1/v1/source1 or the like. "
            + ("Unpack the archives in data/." if packed else "Give the folder that holds data/ and fold/.")
        )
    notes: list[str] = []
    gaps = _listed_places(root / "Missing_data.txt", notes)
    if gaps is None:
        gaps = _known_gaps()
    second = _listed_places(root / "Additional_data.txt", notes) or set()
    folds = _read_folds(root, notes)

    found: dict[Place, Path] = {}
    for folder in data.glob("p[0-9]*/v[0-9]*/source[0-9]*"):
        match = _PLACE.fullmatch(folder.relative_to(data).as_posix())
        place = _place(match) if match else None
        if place is None or not folder.is_dir():
            notes.append(f"{folder.relative_to(root).as_posix()} is not named like a recording and was left out.")
        elif place[3] in SOURCES:
            found[place] = folder
    wanted = {(p, v, 1, s) for p in range(1, N_SUBJECTS + 1) for v in SCENARIOS for s in _sources(v)}
    wanted |= {place for place in second if place[3] in SOURCES}

    recordings, absent = [], []
    for place in sorted(wanted | found.keys()):
        if place in found and (found[place] / "video.avi").is_file():
            recordings.append(_recording(place, found[place], folds))
            continue
        what = "the folder holds no video.avi" if place in found else "no such folder"
        known = place in gaps
        reason = f"{what}; never recorded, says the dataset" if known else f"{what}; copy it, or unpack its archive"
        absent.append(Absent(f"{DATASET}/p{place[0]}/{_session(place)}", f"{_where(place)}: {reason}.", known))
    unlisted = sorted(place for place in found if place[2] == 2 and place not in second)
    if unlisted:
        notes.append(f"Second takes that Additional_data.txt does not name: {', '.join(map(_where, unlisted))}.")
    return Listing(tuple(recordings), tuple(absent), tuple(notes))


def _sources(scenario: int) -> tuple[int, ...]:
    return (PHONE,) if scenario >= 8 else tuple(SOURCES)


def _place(match: re.Match[str]) -> Place:
    subject, scenario, second, source = match.groups()
    return int(subject), int(scenario), 2 if second else 1, int(source)


def _session(place: Place) -> str:
    _, scenario, take, source = place
    return f"v{scenario}{'-2' if take == 2 else ''}-source{source}"


def _where(place: Place) -> str:
    return f"p{place[0]}/{_session(place).replace('-source', '/source')}"


def _known_gaps() -> set[Place]:
    gaps = {(subject, v, 1, 1) for subject in range(_WEB_CAMERA_UP_TO + 1, N_SUBJECTS + 1) for v in range(1, 8)}
    for one in _GAPS.split():
        subject, scenario, source = map(int, one.split("/"))
        gaps.add((subject, scenario, 1, source))
    return gaps


def _listed_places(path: Path, notes: list[str]) -> set[Place] | None:
    """Read the places that a list names; None, and a note, where there is no such list."""
    if not path.exists():
        notes.append(f"There is no {path.name} in this copy; what it lists is taken from elsewhere or not expected.")
        return None
    places = set()
    for number, line in enumerate(read_lines(path), start=1):
        match = _PLACE.search(line)
        if match:
            places.add(_place(match))
        elif line.strip():
            notes.append(f"{path.name}, line {number}: {line.strip()[:60]!r} names no recording.")
    return places


def _read_folds(root: Path, notes: list[str]) -> dict[int, int]:
    """Subject to official fold.

    Raises
    ------
    BadRecording
        A file is damaged, or a subject stands in two folds.
    """
    folder = root / "fold"
    files = {number: folder / f"fold{number}.mat" for number in range(1, N_FOLDS + 1)}
    if not any(file.exists() for file in files.values()):
        notes.append("There is no fold/fold1.mat ... fold5.mat in this copy, so its recordings have no official fold.")
        return {}
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    folds: dict[int, int] = {}
    for number, file in files.items():
        if not file.exists():
            raise BadRecording(f"{str(file)!r} is missing and other folds are there; copy it, or remove fold/.")
        try:
            content = loadmat(file)
            subjects = [int(one) for one in np.ravel(content[f"fold{number}"])]
        except KeyError:
            held = ", ".join(sorted(name for name in content if name[0] != "_"))
            raise BadRecording(f"{str(file)!r} holds no variable 'fold{number}', only {held or 'none'}.") from None
        except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
            raise BadRecording(f"{str(file)!r} cannot be read as a MAT file ({error}); copy it again.") from None
        for subject in subjects:
            if folds.setdefault(subject, number) != number:
                raise BadRecording(
                    f"Subject p{subject} stands in fold{folds[subject]}.mat and in {str(file)!r}; "
                    "folds must share nobody. Copy fold/ again."
                )
    without = [subject for subject in range(1, N_SUBJECTS + 1) if subject not in folds]
    if without:
        notes.append(f"{len(without)} of {N_SUBJECTS} subjects stand in no fold: {_subject_list(without)}.")
    return folds


def _subject_list(subjects: list[int]) -> str:
    return ", ".join(f"p{one}" for one in subjects[:8]) + (", ..." if len(subjects) > 8 else "")


def _recording(place: Place, folder: Path, folds: dict[int, int]) -> Recording:
    subject, scenario, take, source = place
    return Recording(
        dataset=DATASET,
        subject=f"p{subject}",
        session=_session(place),
        video=folder / "video.avi",
        reference=functools.partial(read_reference, folder),
        frame_times_s=functools.partial(read_frame_times, folder),
        groups={"scenario": SCENARIOS[scenario], "source": SOURCES[source], "take": str(take)},
        fold=folds.get(subject),
    )


# ---------------------------------------------------------------------------------------------------------------------
# One recording


def read_frame_times(folder: Path) -> Float:
    """Return the seconds (N,) since the first frame of the video in ``folder``.

    Raises
    ------
    BadRecording
        time.txt is missing (but for source2), is not a clock, or holds one line.
    VideoError
        The video of source2 cannot be opened.
    """
    return _phone_clock(folder)[0] if _is_phone(folder) else _read_clock(folder / "time.txt")


def _is_phone(folder: Path) -> bool:
    return folder.name == f"source{PHONE}" and not (folder / "time.txt").exists()


def _read_clock(path: Path) -> Float:
    stamps_ms = np.array([to_numbers(line, path, number)[0] for number, line in enumerate(read_lines(path), start=1)])
    if len(stamps_ms) < 2:
        raise BadRecording(f"{str(path)!r} holds one time; a video has at least two frames. Copy it again.")
    steps_ms = np.diff(stamps_ms)
    if (steps_ms < 0).any():
        at = int(np.flatnonzero(steps_ms < 0)[0])
        raise BadRecording(
            f"{str(path)!r}, line {at + 2}: {stamps_ms[at + 1]:g} ms lies before the line above, {stamps_ms[at]:g}; "
            "a clock goes forward. Copy it again."
        )
    # Half a millisecond: what whole milliseconds can hide.
    run = np.arange(len(stamps_ms)) - np.maximum.accumulate(
        np.where(np.append(True, steps_ms > 0), np.arange(len(stamps_ms)), 0)
    )
    if run.max() > 1:
        at = int(run.argmax())
        raise BadRecording(
            f"{str(path)!r}, line {at + 1}: three frames of one time, {stamps_ms[at]:g} ms; it stood still."
        )
    return np.asarray((stamps_ms - stamps_ms[0] + 0.5 * run) / 1000, dtype=np.float64)


def _phone_clock(folder: Path) -> tuple[Float, str]:
    """Return the times of a video without time.txt, and a note on how they were found."""
    with open_video(folder / "video.avi") as video:
        n_frames = round((video.duration_s or 0.0) * (video.fps_nominal or 0.0))
    if n_frames < 2:
        raise BadRecording(f"{str(folder / 'video.avi')!r} does not say how many frames it has; it may be cut short.")
    fps, why = PHONE_FPS, f"taken at the nominal {PHONE_FPS:g} frames per second (the dataset has no time.txt for it)"
    wave = folder / "wave.csv"
    if wave.exists():
        duration_s = len(read_columns(wave, ["Wave"], header=True)) / WAVE_HZ
        measured = n_frames / duration_s
        if abs(measured / PHONE_FPS - 1) > PHONE_TOLERANCE:
            rates = folder / "gt_HR.csv"
            n_seconds = len(read_columns(rates, ["HR"], header=True)) if rates.exists() else 0
            finding = f"{n_frames} frames over the {duration_s:.1f} s of wave.csv are {measured:.2f} a second"
            if abs(n_seconds - 0.5 - duration_s) <= 2.0:
                fps, why = measured, f"taken at {measured:.2f} frames per second: {finding}, and gt_HR.csv is as long"
            else:
                why += f", although {finding}: gt_HR.csv is {n_seconds} s long"
    return np.arange(n_frames) / fps, f"Video {why}."


def read_reference(folder: Path) -> Reference:
    """Wave and rate of the recording in ``folder``.

    Raises
    ------
    BadRecording
        Both wave.csv and gt_HR.csv are missing, one of them or time.txt is damaged, or neither holds a
        value that a heart can have.
    VideoError
        The video of source2 cannot be opened.
    """
    notes: list[str] = []
    if _is_phone(folder):
        times_s, how = _phone_clock(folder)
        notes.append(how)
    else:
        times_s = _read_clock(folder / "time.txt")
    duration_s = float(times_s[-1])
    wave_path, rate_path = folder / "wave.csv", folder / "gt_HR.csv"
    if not wave_path.exists() and not rate_path.exists():
        raise BadRecording(f"{str(folder)!r} holds neither wave.csv nor gt_HR.csv; copy it again.")

    rate_bpm = None
    if rate_path.exists():
        rate_bpm = read_columns(rate_path, ["HR"], header=True)[:, 0]
        wrong = (rate_bpm < HR_BPM[0]) | (rate_bpm > HR_BPM[1])
        if wrong.any():
            notes.append(f"gt_HR.csv knows nothing in {wrong.sum()} of {len(wrong)} s ({rate_bpm[wrong][0]:g}).")
            rate_bpm[wrong] = np.nan
        if abs(len(rate_bpm) - 0.5 - duration_s) > 3.0:
            notes.append(f"gt_HR.csv is {len(rate_bpm)} s long, the video {duration_s:.1f} s.")
        if wrong.all():
            rate_bpm = None
    else:
        notes.append("There is no gt_HR.csv; rates are those of wave.csv.")
    if not wave_path.exists():
        notes.append("There is no wave.csv; only rates are known.")
        if rate_bpm is None or len(rate_bpm) < 2:
            raise BadRecording(f"{str(rate_path)!r} holds no rate of a heart, and there is no wave.csv.")
        return Reference(np.arange(len(rate_bpm), dtype=np.float64), None, rate_bpm, tuple(notes))

    wave = read_columns(wave_path, ["Wave"], header=True)[:, 0]
    if len(wave) < 2:
        raise BadRecording(f"{str(wave_path)!r} holds one row; a wave has more. Copy it again.")
    rate_hz = len(wave) / duration_s
    t_s = np.linspace(0.0, duration_s, len(wave))
    if abs(rate_hz / WAVE_HZ - 1) > WAVE_TOLERANCE:
        t_s = np.arange(len(wave)) / WAVE_HZ
        notes.append(
            f"wave.csv has {len(wave)} rows for {duration_s:.1f} s of video, {rate_hz:.1f} a second where about "
            f"{WAVE_HZ:g} are right: it is not as long as the video, or a clock is wrong. "
            f"Taken at {WAVE_HZ:g} from the start."
        )
    fps = (len(times_s) - 1) / duration_s
    return Reference(t_s, below_half_rate(t_s, wave, fps), _rate_at(rate_bpm, t_s), tuple(notes))


def _rate_at(rate_bpm: Float | None, t_s: Float) -> Float | None:
    """Return the rates of seconds 0, 1, 2 ... at ``t_s`` (N,); NaN beside an unknown second and after the last."""
    if rate_bpm is None:
        return None
    if len(rate_bpm) == 1:
        rate_bpm = np.repeat(rate_bpm, 2)
    at = np.interp(t_s, np.arange(len(rate_bpm)), rate_bpm)
    return np.where(t_s <= len(rate_bpm), at, np.nan)


SPEC = DatasetSpec(
    name=DATASET,
    title="VIPL-HR",
    list_recordings=list_recordings,
    access=(
        "from the VIPL group, Institute of Computing Technology, Chinese Academy of Sciences, "
        "after a signed release agreement; for research only"
    ),
    n_recordings=2378,
    basis="layout, headers and clocks read in real files by others; folds from two loaders",
)
