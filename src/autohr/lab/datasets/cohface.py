"""COHFACE (Heusch, Anjos, Marcel 2017): 40 people before a webcam, four minutes each, by lamp and by daylight.

    ROOT/1/0/data.avi       client 1..40, session 0..3; some copies have data.mkv
             data.hdf5      pulse, respiration, time; 256 samples a second; attributes illumination, sample-rate-hz, ...

Access: Idiap Research Institute, Martigny; an end-user licence signed for research.

Clocks. Video nominally 20 frames per second, by its container; the wave at ``sample-rate-hz`` from the video's first
frame. No rate is recorded.

Known defects. The videos are compressed hard (MPEG-4 of some 250 kbit/s (m)), which takes most of the pulse away:
PhysBench's archive gives POS an error of 22 bpm here and of 0.4 on PURE.

Sources: bob.db.cohface and two more loaders; nothing from real files. That sessions 0 and 1 are by
lamp and 2 and 3 by daylight is not assumed: the file says it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import below_half_rate
from autohr.lab.datasets.hdf5 import open_hdf5, wave_of
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing

FPS = 20.0
FS = 256.0
"""Samples per second where the file does not say."""


def list_recordings(root: Path) -> Listing:
    """All 160 names, each found or absent.

    Raises
    ------
    BadRecording
        It is not COHFACE.
    AutoHRError
        H5py is not installed.
    """
    home = find_home(
        root,
        "COHFACE",
        "folder such as '1/0' with a data.hdf5",
        lambda folder: any((path / "0").is_dir() for _, path in matching(folder, r"\d{1,2}")),
        inside=("cohface", "COHFACE"),
    )
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for client in map(str, range(1, 41)):
        for session in map(str, range(4)):
            folder = home / client / session
            video = next((v for v in (folder / "data.avi", folder / "data.mkv") if v.exists()), None)
            if video is None:
                absent.append(missing(f"cohface/{client}/{session}", folder / "data.avi"))
                continue
            waves = folder / "data.hdf5"
            groups, notes = _illumination(waves)
            reference = functools.partial(_read_pulse, waves)
            recordings.append(Recording("cohface", client, session, video, reference, groups=groups, notes=notes))
    return Listing(tuple(recordings), tuple(absent))


def _illumination(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the group that the file names, and a note where it names none."""
    try:
        with open_hdf5(path) as file:
            light = file.attrs.get("illumination")
    except BadRecording as error:
        return {}, (str(error),)
    if light is None:
        return {}, (f"{str(path)!r} does not say its illumination.",)
    return {"light": light.decode() if isinstance(light, bytes) else str(light)}, ()


def _read_pulse(path: Path) -> Reference:
    with open_hdf5(path) as file:
        pulse = wave_of(file, "pulse", path)
        rate_attribute = file.attrs.get("sample-rate-hz", FS)
    try:
        fs = float(rate_attribute)
    except (TypeError, ValueError):
        fs = 0.0
    if not 2 * FPS <= fs <= 10_000:
        raise BadRecording(f"{str(path)!r} has sample-rate-hz {rate_attribute!r}; a number near {FS:g} was expected.")
    t_s = np.arange(len(pulse)) / fs
    return Reference(t_s, below_half_rate(t_s, pulse, FPS), None)


SPEC = DatasetSpec(
    name="cohface",
    title="COHFACE",
    list_recordings=list_recordings,
    access="end-user licence of the Idiap Research Institute",
    n_recordings=160,
    basis="layout from other people's loaders",
    needs=("h5py",),
)
