"""Our own synthetic recordings (``autohr synth``): videos with known truth, made by synth/recordings.py.

    ROOT/
        dataset.json                        what was made
        subject_0000/session_0.mp4          h264, hevc (.mp4), vp9 (.webm) or mjpeg (.mkv), 15 to 60 frames per second
        subject_0000/session_0.truth.json   frame times, pulse wave and rate of each face (synth/video.py)
        portrait_033/session_7_0.mp4        a person made from a photograph

Any folder of videos with a ``<stem>.truth.json`` beside each is read: the folder is the subject, the stem the session;
a video directly in ROOT is a subject of its own. The first face's truth is the reference; the groups are those of
``synth.strata``. A video without truth is listed without a reference, so that the manifest can say so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.recording import DatasetSpec, Listing, Recording, Reference
from autohr.lab.synth.video import read_strata, read_truth, truth_path
from autohr.video.folders import list_videos

DATASET = "synthetic"


def list_recordings(root: Path) -> Listing:
    """Every video below ``root``, in natural order within each folder.

    Raises
    ------
    BadRecording
        No such folder, no video in it, or a truth that is damaged.
    """
    root = Path(root)
    if not root.is_dir():
        raise BadRecording(f"There is no folder {str(root)!r}. Make recordings with: autohr synth {root}")
    folders = [root, *sorted(p for p in root.rglob("*") if p.is_dir())]
    # Names with a leading dot are half-written recordings.
    folders = [p for p in folders if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    recordings = [_read(root, video) for folder in folders for video in list_videos(folder)]
    if not recordings:
        raise BadRecording(f"There is no video below {str(root)!r}. Make recordings with: autohr synth {root}")
    return Listing(tuple(recordings))


def _read(root: Path, video: Path) -> Recording:
    folder = video.parent.relative_to(root).as_posix()
    subject = video.stem if folder == "." else folder
    reference, groups = None, {}
    if truth_path(video).exists():
        groups = read_strata(video)
        truth = read_truth(video)[0]
        if len(truth.t_s) >= 2 and np.isfinite(truth.hr_bpm).any():
            reference = Reference(t_s=truth.t_s, bvp=truth.bvp, hr_bpm=truth.hr_bpm)
    return Recording(DATASET, subject, video.stem, video, reference, groups=groups)


SPEC = DatasetSpec(
    name=DATASET,
    title="synthetic recordings",
    list_recordings=list_recordings,
    access="none needed: autohr synth makes them",
    basis="made by ourselves",
)
