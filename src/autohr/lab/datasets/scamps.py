"""SCAMPS (McDuff et al. 2022): 2800 rendered heads with a pulse under the skin, 600 frames each.

    ROOT/P000001.mat                   or ROOT/scamps_videos/P000001.mat; MAT 7.3, which is HDF5
        RawFrames   (3, W, H, T)       as HDF5 shows the axes; 320x240
        Xsub        (3, W, H, T)       its middle, 240x240; not read
        d_ppg       (T,)               the pulse wave; (1, T) or (T, 1) also
        skin_mask, d_br, d_pitch, au2, ...   not read

Access: none needed; Microsoft offers it for download (danmcduff/scampsdataset), 600 GB.

Clocks. 30 frames per second, the wave one value for each; neither has a clock of its own.

Every recording is a person of its own here: who resembles whom is not published. The official split into training,
validation and test is a list of its own that is not read.

Known defects. Rendered, so it says little of real cameras: its authors warn of that. Names are taken as found; that
they run from P000001 to P002800 without a gap is not known for certain, so what a copy lacks shows in the count.

Sources: the dataset's readme; others' loaders (rPPG-Toolbox) for the values in 0..1; 30 frames per second is from
memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.hdf5 import dataset_of, open_hdf5, wave_of
from autohr.lab.datasets.recording import DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching
from autohr.video.decode import VideoFrame

FPS = 30.0
N_RECORDINGS = 2800
BLOCK_BYTES = 128 * 2**20
"""Frames are read so many bytes at a time: time is the last axis of the file, so a single frame would touch all of it,
and all frames may be 1.1 GB."""


def list_recordings(root: Path) -> Listing:
    """Every P*.mat, in order.

    Raises
    ------
    BadRecording
        It is not SCAMPS.
    """
    pattern = r"(P\d{6,7})\.mat"
    home = find_home(
        root, "SCAMPS", "file such as 'P000001.mat'", lambda f: bool(matching(f, pattern)), ("scamps_videos", "videos")
    )
    recordings = tuple(
        Recording(
            "scamps",
            match[1],
            "1",
            path,
            functools.partial(_read_wave, path),
            open_frames=functools.partial(_open_frames, path),
        )
        for match, path in matching(home, pattern)
    )
    lacks = N_RECORDINGS - len(recordings)
    notes = (f"{lacks} of the {N_RECORDINGS} recordings are not here; their names are not known.",) if lacks > 0 else ()
    return Listing(recordings, notes=notes)


def _read_wave(path: Path) -> Reference:
    with open_hdf5(path) as file:
        bvp = wave_of(file, "d_ppg", path)
    return Reference(np.arange(len(bvp)) / FPS, bvp, None)


def _open_frames(path: Path) -> Iterator[VideoFrame]:
    """Yield the frames of a recording, 30 a second; at most ``BLOCK_BYTES`` of the file are in memory.

    Raises
    ------
    BadRecording
        The file is damaged, or holds no RawFrames (3, W, H, T) of numbers in 0..1 or of bytes.
    AutoHRError
        h5py is not installed.
    """
    with open_hdf5(path) as file:
        stored = dataset_of(file, "RawFrames", path)
        if stored.ndim != 4 or stored.shape[0] != 3 or not _is_colour(stored.dtype):
            raise BadRecording(
                f"RawFrames in {str(path)!r} is {stored.dtype} of shape {stored.shape}; (3, W, H, T) was expected."
            )
        n_frames = stored.shape[3]
        step = max(1, BLOCK_BYTES // max(1, stored.dtype.itemsize * math.prod(stored.shape[:3])))
        for first in range(0, n_frames, step):
            block = stored[:, :, :, first : first + step]
            if block.dtype != np.uint8:
                if not (np.isfinite(block).all() and block.min() >= -0.01 and block.max() <= 1.01):
                    raise BadRecording(
                        f"Frames from {first} of {str(path)!r} run from {block.min():g} to {block.max():g}; "
                        "SCAMPS's run from 0 to 1."
                    )
                block *= 255
                block = np.rint(block, out=block).clip(0, 255, out=block).astype(np.uint8)
            for offset, rgb in enumerate(block.transpose(3, 2, 1, 0)):
                index = first + offset
                yield VideoFrame(np.ascontiguousarray(rgb), index / FPS, index, repaired=False, whole=True)


def _is_colour(dtype: np.dtype[Any]) -> bool:
    return dtype == np.uint8 or dtype.kind == "f"


SPEC = DatasetSpec(
    name="scamps",
    title="SCAMPS",
    list_recordings=list_recordings,
    access="none needed: offered for download by Microsoft (danmcduff/scampsdataset)",
    n_recordings=N_RECORDINGS,
    basis="readme and other people's loaders",
    needs=("h5py",),
)
