"""UBFC-rPPG (Bobbia et al. 2019): people before a webcam, at rest (DATASET_1) or in a mathematical game (DATASET_2).

    ROOT/DATASET_1/5-gt/vid.avi              each its folder, and "after-exercise"; also vid-12.avi, vid-007.avi
                       gtdump.xmp            commas, no header: time ms, rate bpm, SpO2 %, PPG; about 62 a second
    ROOT/DATASET_2/subject1/vid.avi
                            ground_truth.txt three lines, by blanks: PPG, rate bpm, time s; one value for each frame

Either folder may be given itself. Videos are 640x480, uncompressed.

Access: free, from the University of Burgundy (Le2i, Y. Benezeth), after an agreement. Its readme asks that faces of
subjects 21 and 27 are never shown.

Clocks. DATASET_2: nominally 30 frames per second, truly uneven (11 to 45 ms, gaps up to 223 ms; 29.4 a second on
subject1, 23 on some). Its third line has one time for each frame, so it is the clock of frames and wave alike, and the
container's is not used. DATASET_1: the container's clock (28.67 frames per second) and the sensor's own, both from 0.

Known defects. The rate of DATASET_1's sensor lags by about 4 s (one loader's constant; not applied here), and the
authors themselves judge by the rate of the PPG wave. 8-gt, 10-gt and after-exercise show one man, who is subject42 of
DATASET_2 too (another reader compared the faces): the three are one subject here, called ``subject42``; do not train
on one dataset and judge on the other without leaving him out. In one copy the videos of 7-gt and 12-gt were the same
file, in another that of subject37 was cut short.

Sources: real files for ground_truth.txt and the readme; three independent loaders for gtdump.xmp, the names in
DATASET_1 and who is who.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import (
    below_half_rate,
    frame_clock,
    increasing,
    known_rate,
    read_columns,
    read_lines,
    stumbles,
    to_numbers,
)
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing
from autohr.types import Float

FPS_1 = 28.67
"""Frames per second of DATASET_1, for the wave's filter alone; the clock is the container's."""
FOLDERS_1 = ("5-gt", "6-gt", "7-gt", "8-gt", "10-gt", "11-gt", "12-gt", "after-exercise")
SAME_MAN = {"8-gt": "subject42", "10-gt": "subject42", "after-exercise": "subject42"}
SUBJECTS_2 = (1, 3, 4, 5, *range(8, 19), 20, *range(22, 28), *range(30, 50))
"""The 42 of DATASET_2, as pyVHR's results list them."""


def list_recordings_1(root: Path) -> Listing:
    """List the recordings of DATASET_1; ``root`` is it, or holds it.

    Raises
    ------
    BadRecording
        It is not UBFC-rPPG.
    """
    home = find_home(
        root,
        "UBFC-rPPG's DATASET_1",
        "folder such as '5-gt' with a gtdump.xmp",
        lambda folder: any((folder / name).is_dir() for name in FOLDERS_1),
        inside=("DATASET_1",),
    )
    recordings, absent = [], []
    for name in FOLDERS_1:
        subject = SAME_MAN.get(name, name)
        videos = matching(home / name, r"vid.*\.avi") if (home / name).is_dir() else []
        if not videos:
            absent.append(missing(f"ubfc_rppg_1/{subject}/{name}", home / name / "vid.avi"))
            continue
        reference = functools.partial(_read_dump, home / name / "gtdump.xmp")
        scenario = "exercise" if name == "after-exercise" else "rest"
        recordings.append(
            Recording("ubfc_rppg_1", subject, name, videos[0][1], reference, groups={"scenario": scenario})
        )
    return Listing(tuple(recordings), tuple(absent), _strays(home, FOLDERS_1))


def list_recordings_2(root: Path) -> Listing:
    """List the recordings of DATASET_2; ``root`` is it, or holds it.

    Raises
    ------
    BadRecording
        It is not UBFC-rPPG.
    """
    home = find_home(
        root,
        "UBFC-rPPG's DATASET_2",
        "folder such as 'subject1' with a ground_truth.txt",
        # UBFC-rPPG is the only one of ours whose folders of this name hold such a file; MMPD's have the same name.
        lambda folder: any((path / "ground_truth.txt").exists() for _, path in matching(folder, r"subject\d+")),
        inside=("DATASET_2",),
    )
    names = [f"subject{number}" for number in SUBJECTS_2]
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for name in names:
        video, truth = home / name / "vid.avi", home / name / "ground_truth.txt"
        if not video.exists():
            absent.append(missing(f"ubfc_rppg_2/{name}/1", video))
            continue
        recordings.append(
            Recording(
                "ubfc_rppg_2",
                name,
                "1",
                video,
                functools.partial(_read_truth, truth),
                frame_times_s=functools.partial(_read_frame_times, truth),
            )
        )
    return Listing(tuple(recordings), tuple(absent), _strays(home, names))


def _strays(home: Path, known: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return a note on folders that look like recordings and are none of the published ones."""
    odd = [path.name for _, path in matching(home, r"subject\d+|\d+-gt") if path.name not in known and path.is_dir()]
    return (f"Not read, for they are not in the published list: {', '.join(odd)}.",) if odd else ()


def _read_dump(path: Path) -> Reference:
    columns = read_columns(path, ("time ms", "rate bpm", "SpO2 %", "PPG"))
    keep = increasing(columns[:, 0], path)
    t_s, hr_bpm, ppg = columns[keep][:, (0, 1, 3)].T
    t_s = t_s / 1000
    return Reference(t_s, below_half_rate(t_s, ppg, FPS_1), known_rate(hr_bpm), stumbles(keep))


def _read_truth(path: Path) -> Reference:
    ppg, hr_bpm, t_s = _read_rows(path)
    keep = increasing(t_s, path)
    return Reference((t_s - t_s[0])[keep], ppg[keep], known_rate(hr_bpm[keep]), stumbles(keep))


def _read_frame_times(path: Path) -> Float:
    return frame_clock(_read_rows(path)[2], path)


def _read_rows(path: Path) -> tuple[Float, Float, Float]:
    """Read PPG, rate and time, (N,) each."""
    lines = [line for line in read_lines(path) if line.strip()]
    if len(lines) != 3:
        raise BadRecording(
            f"{str(path)!r} holds {len(lines)} line(s), not 3 (PPG, rate, time); it was cut off or is another file."
        )
    ppg, hr_bpm, t_s = (np.array(to_numbers(line.strip(), path, i, separator=None)) for i, line in enumerate(lines, 1))
    if not len(ppg) == len(hr_bpm) == len(t_s) >= 2:
        raise BadRecording(
            f"{str(path)!r} holds {len(ppg)} PPG values, {len(hr_bpm)} rates and {len(t_s)} times; "
            "there must be as many of each. Its last line was cut off, or it is another file."
        )
    return ppg, hr_bpm, t_s


SPEC_1 = DatasetSpec(
    name="ubfc_rppg_1",
    title="UBFC-rPPG (DATASET_1)",
    list_recordings=list_recordings_1,
    access="free after an agreement with the University of Burgundy",
    n_recordings=len(FOLDERS_1),
    basis="layout from other people's loaders",
)
SPEC_2 = DatasetSpec(
    name="ubfc_rppg_2",
    title="UBFC-rPPG (DATASET_2)",
    list_recordings=list_recordings_2,
    access="free after an agreement with the University of Burgundy",
    n_recordings=len(SUBJECTS_2),
)
