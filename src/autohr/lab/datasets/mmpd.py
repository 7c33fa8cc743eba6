"""MMPD (Tang et al. 2023): 33 people, 20 takes of a minute by phone, over skin tone, light and movement.

    ROOT/subject1/p1_0.mat ... p1_19.mat        one take each
        video       (T, H, W, 3) floats 0..1; 320 high and 240 wide, or 80 and 60 in the "mini" edition
        GT_ppg      (1, T) one value for each frame
        light       LED-low, LED-high, Incandescent, Nature
        motion      Stationary, Rotation, Talking, Walking; "Stationary (after exercise)" and "Watching Videos" too
        exercise, skin_color (3..6, Fitzpatrick), gender, glasser, hair_cover, makeup

Access: Tsinghua University (Pervasive HCI Lab), after a signed agreement; academic use only.

Clocks. 30 frames per second, the wave one value for each; neither has a clock of its own. No rate is recorded.

Known defects. "Watching Videos" is an error of old editions for Walking and is read as that; "Stationary (after
exercise)" as Stationary, for the field ``exercise`` says it. At least one label is reported to be wrong. In the
mini edition a face is about 20 pixels high, the least that the detector finds.

Memory. In the file time runs fastest, so a frame lies scattered over all of it: a whole take is in memory while it is
read, 1.7 GB for 1800 frames of 320x240 in single precision.

Sources: the dataset's readme, which also gives the fields; others' loaders for shapes and types (its own loader,
rPPG-Toolbox, one more); 30 frames per second is from memory. That the channels are RGB is rPPG-Toolbox's word; one
script for the dataset swaps them and calls the result RGB. Look at a frame before you trust colour methods here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing
from autohr.video.decode import VideoFrame

FPS = 30.0
LABELS = ("light", "motion", "exercise", "skin_color", "gender", "glasser", "hair_cover", "makeup")
SPELLINGS = {"Stationary (after exercise)": "Stationary", "Watching Videos": "Walking"}
GROUPS = {"motion": "scenario", "glasser": "glasses"}
"""Names of labels that differ here."""


def list_recordings(root: Path) -> Listing:
    """All 660 names, each found or absent.

    Raises
    ------
    BadRecording
        It is not MMPD.
    """
    home = find_home(
        root,
        "MMPD",
        "folder such as 'subject1' with a p1_0.mat",
        lambda folder: any(matching(path, r"p\d+_\d+\.mat") for _, path in matching(folder, r"subject\d+")),
        inside=("MMPD_Dataset", "MMPD"),
    )
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for number in range(1, 34):
        for take in range(20):
            path = home / f"subject{number}" / f"p{number}_{take}.mat"
            subject, session = f"subject{number}", str(take)
            if not path.exists():
                absent.append(missing(f"mmpd/{subject}/{session}", path))
                continue
            groups, notes = _read_labels(path)
            recordings.append(
                Recording(
                    "mmpd",
                    subject,
                    session,
                    path,
                    functools.partial(_read_wave, path),
                    open_frames=functools.partial(_open_frames, path),
                    groups=groups,
                    notes=notes,
                )
            )
    return Listing(tuple(recordings), tuple(absent))


def _load(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Read the named variables of a MAT file; the others are skipped."""
    # 0.1 s to import, which every command that names a dataset would wait for.
    from scipy.io import loadmat

    try:
        found = loadmat(path, variable_names=names)
    except NotImplementedError:
        raise BadRecording(
            f"{str(path)!r} is a MAT file of version 7.3; MMPD's are older. Copy the original."
        ) from None
    except FileNotFoundError:
        raise BadRecording(f"{str(path)!r} is missing; copy it again.") from None
    # scipy has no error of its own for damage: zlib's, struct's and its own come through.
    except Exception as error:
        raise BadRecording(f"{str(path)!r} is damaged or no MAT file ({error}); copy it again.") from error
    return {name: found[name] for name in names if name in found}


def _read_labels(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the groups by the file's labels, and a note on those that it lacks."""
    try:
        found = _load(path, LABELS)
    except BadRecording as error:
        return {}, (str(error),)
    groups = {}
    for name, value in found.items():
        if np.size(value) == 1:
            label = str(np.ravel(value)[0]).strip()
            groups[GROUPS.get(name, name)] = SPELLINGS.get(label, label)
    lacks = [name for name in LABELS if GROUPS.get(name, name) not in groups]
    return groups, (f"{str(path)!r} lacks the label(s) {', '.join(lacks)}.",) if lacks else ()


def _read_wave(path: Path) -> Reference:
    found = _load(path, ("GT_ppg",))
    if "GT_ppg" not in found:
        raise BadRecording(f"{str(path)!r} holds no GT_ppg; this is another file, or it was cut off.")
    values = np.asarray(found["GT_ppg"])
    if values.dtype.kind not in "fiu" or max(values.shape, default=0) != values.size or values.size < 2:
        raise BadRecording(f"GT_ppg in {str(path)!r} is {values.dtype} of shape {values.shape}; (1, T) was expected.")
    bvp = values.ravel().astype(np.float64)
    if not np.isfinite(bvp).all():
        raise BadRecording(f"GT_ppg in {str(path)!r} is not a number at sample {np.flatnonzero(~np.isfinite(bvp))[0]}.")
    return Reference(np.arange(len(bvp)) / FPS, bvp, None)


def _open_frames(path: Path) -> Iterator[VideoFrame]:
    """Yield the frames of a take, 30 a second.

    Raises
    ------
    BadRecording
        The file is damaged, or holds no video (T, H, W, 3).
    """
    video = _load(path, ("video",)).get("video")
    if video is None:
        raise BadRecording(f"{str(path)!r} holds no video; this is another file, or it was cut off.")
    if (
        video.ndim != 4
        or video.shape[3] != 3
        or video.shape[0] < 2
        or not (video.dtype == np.uint8 or video.dtype.kind == "f")
    ):
        raise BadRecording(
            f"video in {str(path)!r} is {video.dtype} of shape {video.shape}; (T, H, W, 3) was expected."
        )
    for index in range(len(video)):
        picture = video[index]
        if picture.dtype != np.uint8:
            if not (np.isfinite(picture).all() and picture.min() >= -0.01 and picture.max() <= 1.01):
                raise BadRecording(
                    f"Frame {index} of {str(path)!r} runs from {picture.min():g} to {picture.max():g}; "
                    "MMPD's run from 0 to 1."
                )
            picture = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
        yield VideoFrame(np.ascontiguousarray(picture), index / FPS, index, repaired=False, whole=True)


SPEC = DatasetSpec(
    name="mmpd",
    title="MMPD",
    list_recordings=list_recordings,
    access="signed agreement with Tsinghua University; academic use only",
    n_recordings=660,
    basis="readme and other people's loaders",
)
