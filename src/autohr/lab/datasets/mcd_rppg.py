"""MCD-rPPG (Egorov et al. 2025): 600 people before three cameras, at rest and after squats, with a finger sensor.

    ROOT/db.csv                                   a row for each of 3600 videos: patient_id, step, camera, view, ...
         video/1020_FullHDwebcam_before.avi       640x480, MPEG-4 Part 2, three minutes, nominally 24 or 30 a second
         meta/1020_FullHDwebcam_before.txt        "1  2023-11-13 14:18:09.856232": a line for each frame, and some more
         ppg_sync/1020_FullHDwebcam_before.txt    "113 0.0042": a line for each frame: the sensor's sample nearest to it
                                                  (0 to 255), and how far from it in time, in seconds
         ppg/1020_before.PW                       the sensor's 100 samples a second, with times; not read
         ecg/1020_before.json                     {"frequency": Hz, "data": [{"title": "I", "values": [...]}, ...]}
         mcd_rppg.csv                             optional, of the authors' code: patient_id and fold (0 to 4)

Cameras: FullHDwebcam in front, USBVideo (a camcorder) from the left, IriunWebcam (a phone) from the right. Steps:
before and after 15 squats in 30 s.

Access: none needed, from huggingface.co/datasets/kyegorov/mcd_rppg; CC BY 4.0, so weights that were trained on it may
be shared.

Clocks. The frames' are those of meta/, for the container's 29.90 is 29.99 by them. Where meta/ has more lines than
ppg_sync/ the rest is taken to be at the end and cut. The wave is ppg_sync/, on the frames' times; what a sample's own
time differs (at most 5 ms) is not corrected. No rate is recorded with the video.

The ECG is no reference: it was taken at another place before the video, as was the pulse in db.csv. Its rate goes into
the manifest as a remark.

Known defects. The wave of 7412 after exercise is flat in all three views (and so excluded). The webcam's automatic
exposure swings, and the compression is strong: others find the pulse of a part of the videos only.

Sources, and how sure. No real file was at hand.
    Names, folders, columns of db.csv and views: printed by the authors' own notebook. Sure.
    meta/ and ppg_sync/: the first column of ppg_sync/ by the authors' loader; lines as above by three of others,
    who count as many lines as frames, and up to 11 more in meta/. Nearly sure; that the surplus is at the end is ours.
    Second column of ppg_sync/: two readers, of whom neither uses it. Likely.
    ECG file: one loader. That it is not simultaneous: a summary of the paper. Likely.
    Folds: the authors' mcd_rppg.csv lists the front camera's first 600 frames, fold 0 to 4 by patient; they publish no
    other split. Sure that it exists, likely that their table is of it.
    That the wave is upright (more blood is up): not known.
"""

from __future__ import annotations

import csv
import datetime
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autohr.errors import AutoHRError, BadRecording, SignalTooShort
from autohr.files import read_json_object
from autohr.lab.datasets.columns import frame_clock, read_columns, read_lines
from autohr.lab.datasets.ecg import detect_r_peaks
from autohr.lab.datasets.recording import DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing
from autohr.types import Float

DATASET = "mcd_rppg"
CAMERAS = {"FullHDwebcam": "webcam", "USBVideo": "camcorder", "IriunWebcam": "phone"}
VIEWS = {"FullHDwebcam": "front", "USBVideo": "left", "IriunWebcam": "right"}
STEPS = {"before": "rest", "after": "after exercise"}
N_FOLDS = 5
MAX_ECG_BYTES = 2**26
"""Largest ECG file that is read, in bytes. Ours: the files have about 3 MB (3.6 GB for 1200)."""

_NAME = r"(\d+)_(FullHDwebcam|USBVideo|IriunWebcam)_(before|after)"


def list_recordings(root: Path) -> Listing:
    """List all videos of db.csv, each found or absent; without db.csv those that lie in video/.

    Raises
    ------
    BadRecording
        It is not MCD-rPPG; db.csv or mcd_rppg.csv is damaged, or has no column that is needed.
    """
    home = find_home(
        root,
        "MCD-rPPG",
        "db.csv beside video/ with files such as 1020_FullHDwebcam_before.avi",
        lambda folder: (folder / "video").is_dir() and ((folder / "db.csv").exists() or bool(_found(folder))),
        inside=("mcd_rppg",),
    )
    notes: list[str] = []
    table = home / "db.csv"
    if table.exists():
        people = {
            (row["patient_id"], row["camera"], row["step"]): row
            for row in _read_table(table, ("patient_id", "camera", "step"))
        }
        strangers = [name for name in _found(home) if name not in people]
        if strangers:
            notes.append(f"{len(strangers)} video(s) that db.csv does not name were left out, such as {strangers[0]}.")
    else:
        people = {name: {} for name in _found(home)}
        notes.append("There is no db.csv in this copy: only the videos that lie in it are known, and no sex or age.")
    folds = _read_folds(home, notes)
    recordings, absent = [], []
    for (subject, camera, step), row in sorted(people.items()):
        if camera not in CAMERAS or step not in STEPS:
            raise BadRecording(
                f"{str(table)!r} names camera {camera!r} and step {step!r}; known are {', '.join(CAMERAS)} and "
                f"{', '.join(STEPS)}. It is another table, or damaged."
            )
        session = f"{step}-{camera}"
        video = home / "video" / f"{subject}_{camera}_{step}.avi"
        if not video.exists():
            absent.append(missing(f"{DATASET}/{subject}/{session}", video))
            continue
        recordings.append(
            Recording(
                DATASET,
                subject,
                session,
                video,
                functools.partial(read_reference, home, video.stem),
                frame_times_s=functools.partial(read_frame_times, home, video.stem),
                groups={"state": STEPS[step], "camera": CAMERAS[camera], "view": VIEWS[camera], **_person(row)},
                fold=folds.get(subject),
            )
        )
    return Listing(tuple(recordings), tuple(absent), tuple(notes))


def _found(home: Path) -> list[tuple[str, str, str]]:
    return [(match[1], match[2], match[3]) for match, _ in matching(home / "video", _NAME + r"\.avi")]


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV file with a header that names at least these columns."""
    lines = read_lines(path)
    reader = csv.DictReader(lines, strict=True)
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise BadRecording(f"{str(path)!r}, line 1: there is no column {', '.join(lacking)}; this is another file.")
    try:
        rows = [{key: value for key, value in row.items() if key is not None and value is not None} for row in reader]
    except csv.Error as error:
        raise BadRecording(f"{str(path)!r}, line {reader.line_num}: {error}; copy it again.") from None
    for number, row in enumerate(rows, start=2):
        if any(not row.get(name) for name in columns):
            raise BadRecording(f"{str(path)!r}, line {number}: no {' or '.join(columns)}; it was cut off.")
    return rows


def _read_folds(home: Path, notes: list[str]) -> dict[str, int]:
    """Patient to fold, counted from 1; empty where the authors' list does not lie in the folder."""
    path = home / "mcd_rppg.csv"
    if not path.exists():
        notes.append(
            "There is no mcd_rppg.csv in this copy, so its recordings have no official fold. It lies in the authors' "
            "code, github.com/ksyegorov/mcd_rppg."
        )
        return {}
    folds: dict[str, int] = {}
    for number, row in enumerate(_read_table(path, ("patient_id", "fold")), start=2):
        subject, fold = row["patient_id"], row["fold"]
        if fold not in map(str, range(N_FOLDS)):
            raise BadRecording(f"{str(path)!r}, line {number}: fold {fold!r} is not 0 to {N_FOLDS - 1}.")
        if folds.setdefault(subject, int(fold) + 1) != int(fold) + 1:
            raise BadRecording(f"{str(path)!r}, line {number}: patient {subject} stands in two folds.")
    return folds


def _person(row: Mapping[str, str]) -> dict[str, str]:
    """Return the groups of a person: sex, and age in steps of twenty years, as far as the table knows them."""
    groups = {"sex": row["sex"]} if row.get("sex") else {}
    try:
        decade = int(float(row.get("age", "")) // 20) * 20
    except ValueError:
        return groups
    return {**groups, "age": f"{decade} to {decade + 19}"}


# ---------------------------------------------------------------------------------------------------------------------
# One recording


def read_frame_times(home: Path, stem: str) -> Float:
    """Return the seconds (N,) since the first frame.

    Raises
    ------
    BadRecording
        meta/ or ppg_sync/ has no such file, or it is damaged, or meta/ has fewer lines.
    """
    return _read_frames(home, stem)[0]


def read_reference(home: Path, stem: str) -> Reference:
    """Return the sensor's wave on the frames' times; raises BadRecording as ``read_frame_times``."""
    times_s, wave, n_surplus = _read_frames(home, stem)
    notes = []
    if n_surplus:
        notes.append(f"meta/ has {n_surplus} line(s) more than ppg_sync/; they were cut off at the end.")
    subject, _, step = stem.split("_")
    notes += _ecg_note(home / "ecg" / f"{subject}_{step}.json")
    return Reference(times_s, wave, None, tuple(notes))


def _read_frames(home: Path, stem: str) -> tuple[Float, Float, int]:
    """Return time (N,) and wave (N,) of each frame, and how many lines meta/ has more."""
    clock, sync = home / "meta" / f"{stem}.txt", home / "ppg_sync" / f"{stem}.txt"
    n_columns = len(read_lines(sync)[0].split())
    wave = read_columns(sync, ("PPG", "distance s")[: max(1, n_columns)], separator=None)[:, 0]
    times_s = _read_clock(clock)
    if len(wave) < 2 or len(times_s) < len(wave):
        raise BadRecording(
            f"{str(clock)!r} has {len(times_s)} line(s) and {str(sync)!r} {len(wave)}; there must be a time for each "
            "frame, and at least two. Copy both again."
        )
    return frame_clock(times_s[: len(wave)], clock), wave, len(times_s) - len(wave)


def _read_clock(path: Path) -> Float:
    """Return the times (N,) of meta/, in seconds since the first; a whole second is written without a fraction."""
    stamps = []
    for number, line in enumerate(read_lines(path), start=1):
        _, _, text = line.strip().partition("\t" if "\t" in line else " ")
        try:
            stamps.append(datetime.datetime.fromisoformat(text.strip()).replace(tzinfo=datetime.UTC))
        except ValueError:
            raise BadRecording(
                f"{str(path)!r}, line {number}: {line.strip()[:60]!r} is not a frame's number and a time such as "
                "2023-11-13 14:18:09.856232; copy it again."
            ) from None
    return np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])


def _ecg_note(path: Path) -> list[str]:
    """Return the remark on the rate of the ECG that was taken before the video; none where there is no file."""
    if not path.exists():
        return []
    try:
        content = read_json_object(path, "frequency", "data", what="ECG", max_bytes=MAX_ECG_BYTES, error=BadRecording)
        leads = {str(lead.get("title")): lead["values"] for lead in content["data"]}
        ecg = np.asarray(leads.get("I") or next(iter(leads.values())), dtype=np.float64)
        beats_s = detect_r_peaks(ecg, float(content["frequency"]))
        rate_bpm = 60.0 / float(np.median(np.diff(beats_s)))
    except SignalTooShort as short:
        return [f"The ECG taken before the video was not read: {short}"]
    except (AutoHRError, ValueError, TypeError, KeyError, AttributeError, StopIteration) as error:
        return [f"The ECG taken before the video was not read: {type(error).__name__} in {path.name}."]
    if not np.isfinite(rate_bpm):
        return ["The ECG taken before the video shows no beats."]
    return [f"The ECG taken before the video, at another place, beats at {rate_bpm:.0f} bpm."]


SPEC = DatasetSpec(
    name=DATASET,
    title="MCD-rPPG",
    list_recordings=list_recordings,
    access="none needed: huggingface.co/datasets/kyegorov/mcd_rppg, CC BY 4.0",
    n_recordings=3600,
    basis="names and columns printed by the authors' notebook; lines of the files by other people's loaders",
)
