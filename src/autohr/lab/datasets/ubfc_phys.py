"""UBFC-Phys (Sabour et al. 2021): 56 people at rest, speaking and calculating under stress, with a wrist sensor.

    ROOT/s1/vid_s1_T1.avi      T1 rest, T2 speech, T3 arithmetic; 1024x1024, 35 frames per second
            bvp_s1_T1.csv      one column, no header, 64 values a second (Empatica E4)
            eda_s1_T1.csv      not read
    ROOT/Data/s1/...           the same, one folder further in

Access: free for research, from the University of Burgundy (dat@UBFC) and IEEE DataPort.

Clocks. The video's is its container's; the wave starts with it, by all loaders. No rate is recorded.

Known defects. The sensor sits on a wrist that moves in T2 and T3: the wave itself is often unusable there, and papers
leave out recordings by lists of their own, which are not applied here.

Sources: others' loaders (rPPG-Toolbox and others); nothing from real files.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import below_half_rate, read_columns
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing

FPS = 35.0
"""For the wave's filter; the clock is the container's."""
FS = 64.0
TASKS = {"T1": "rest", "T2": "speech", "T3": "arithmetic"}


def list_recordings(root: Path) -> Listing:
    """All 168 names, each found or absent.

    Raises
    ------
    BadRecording
        It is not UBFC-Phys.
    """
    home = find_home(
        root,
        "UBFC-Phys",
        "folder such as 's1' with a vid_s1_T1.avi",
        lambda folder: any(matching(path, r"(vid|bvp)_s\d+_T\d\..*") for _, path in matching(folder, r"s\d{1,2}")),
        inside=("Data", "UBFC-Phys"),
    )
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for subject in (f"s{number}" for number in range(1, 57)):
        for task, scenario in TASKS.items():
            video = home / subject / f"vid_{subject}_{task}.avi"
            if not video.exists():
                absent.append(missing(f"ubfc_phys/{subject}/{task}", video))
                continue
            reference = functools.partial(_read_wave, home / subject / f"bvp_{subject}_{task}.csv")
            recordings.append(Recording("ubfc_phys", subject, task, video, reference, groups={"scenario": scenario}))
    return Listing(tuple(recordings), tuple(absent))


def _read_wave(path: Path) -> Reference:
    bvp = read_columns(path, ("BVP",))[:, 0]
    if len(bvp) < 2:
        raise BadRecording(f"{str(path)!r} holds {len(bvp)} value; copy it again.")
    t_s = np.arange(len(bvp)) / FS
    return Reference(t_s, below_half_rate(t_s, bvp, FPS), None)


SPEC = DatasetSpec(
    name="ubfc_phys",
    title="UBFC-Phys",
    list_recordings=list_recordings,
    access="free for research from dat@UBFC (University of Burgundy) or IEEE DataPort",
    n_recordings=168,
    basis="layout from other people's loaders",
)
