"""LGI-PPGI (Pilz et al. 2018): 6 of 25 people at rest, turning the head, on a bicycle trainer and talking in a street.

    ROOT/alex/alex_gym/cv_camera_sensor_stream_handler.avi         25 frames per second, uncompressed
                       cms50_stream_handler.xml                    the oximeter, 60 a second: rate and BVP
                       cv_camera_sensor_timer_stream_handler.xml   when each frame was taken

    also ROOT/id3/cpi/cpi_rotation/... and ROOT/LGI-PPGI_Gym/cpi/cpi_gym/..., as some copies have it

    <opencv_storage><value0><value0>..</value0><value1>72</value1><value2>31</value2></value0> <value1>...

Each child of the root is a sample: in the oximeter's file its value1 is the rate in bpm and its value2 the BVP, in the
timer's value1 the time of a frame in ms. The children's own names count up and mean nothing, though they read alike.

Access: CC BY 4.0, from the authors (partofthestars/LGI-PPGI-DB); downloads are currently offline.

Clocks. The frames' times are the timer's. The oximeter has none: it began before the video and ended with it, so its
excess over the video's length is dropped at the START (pyVHR, and those who follow it; one of them doubts it). Where it
is shorter than the video, it starts with it.

Sources: the dataset's readme; others' loaders (pyVHR and two more) for the files; names and gaps of the 24 recordings
from pyVHR's results. The name of the XML's root is not relied upon.
"""

from __future__ import annotations

import functools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from autohr.errors import BadRecording
from autohr.files import read_limited
from autohr.lab.datasets.columns import MAX_TEXT_BYTES, below_half_rate, frame_clock, known_rate
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, missing
from autohr.types import Float

FPS = 25.0
FS = 60.0
SCENARIOS = ("resting", "rotation", "gym", "talk")
PUBLISHED = ("alex", "angelo", "cpi", "david", "felix", "harun")
"""The six of the public part. Five of them are in pyVHR's results; ``harun`` is from memory."""
VIDEO = "cv_camera_sensor_stream_handler.avi"
OXIMETER = "cms50_stream_handler.xml"
TIMER = "cv_camera_sensor_timer_stream_handler.xml"


def list_recordings(root: Path) -> Listing:
    """Every person and scenario of the public part, and whoever else is there.

    Raises
    ------
    BadRecording
        It is not LGI-PPGI.
    """
    looks = "folder such as 'alex/alex_gym'"
    home = find_home(root, "LGI-PPGI", looks, lambda folder: bool(_sessions(folder)))
    sessions = _sessions(home)
    subjects = sorted({*PUBLISHED, *(subject for subject, _ in sessions)})
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for subject in subjects:
        for scenario in SCENARIOS:
            folder = sessions.get((subject, scenario), home / subject / f"{subject}_{scenario}")
            if not (folder / VIDEO).exists():
                absent.append(missing(f"lgi_ppgi/{subject}/{scenario}", folder / VIDEO))
                continue
            recordings.append(
                Recording(
                    "lgi_ppgi",
                    subject,
                    scenario,
                    folder / VIDEO,
                    functools.partial(_read_oximeter, folder),
                    frame_times_s=functools.partial(_read_frame_times, folder),
                    groups={"scenario": scenario},
                )
            )
    return Listing(tuple(recordings), tuple(absent))


def _sessions(home: Path) -> dict[tuple[str, str], Path]:
    """(person, scenario) and its folder, one to three folders down."""
    found: dict[tuple[str, str], Path] = {}
    for depth in ("*", "*/*", "*/*/*"):
        for folder in sorted(home.glob(depth)):
            subject, _, scenario = folder.name.rpartition("_")
            if subject and scenario in SCENARIOS and folder.is_dir():
                found.setdefault((subject, scenario), folder)
    return found


def _read_frame_times(folder: Path) -> Float:
    return frame_clock(_read_samples(folder / TIMER, ("value1",))[:, 0] / 1000, folder / TIMER)


def _read_oximeter(folder: Path) -> Reference:
    samples = _read_samples(folder / OXIMETER, ("value1", "value2"))
    length_s = float(_read_frame_times(folder)[-1])
    excess = max(0, round(len(samples) - 1 - length_s * FS))
    samples = samples[excess:]
    if len(samples) < 2:
        raise BadRecording(
            f"{str(folder / OXIMETER)!r} holds {len(samples)} sample(s) while the video runs; copy it again."
        )
    t_s = np.arange(len(samples)) / FS
    hr_bpm, bvp = samples.T
    notes = (f"{excess / FS:.2f} s of the oximeter dropped at the start, where it began before the video.",)
    return Reference(t_s, below_half_rate(t_s, bvp, FPS), known_rate(hr_bpm), notes if excess else ())


def _read_samples(path: Path, names: tuple[str, ...]) -> Float:
    """(N, C): the C values ``names`` of every sample of an XML file."""
    try:
        if not path.exists():
            raise BadRecording(f"{str(path)!r} is missing; copy it again.")
        root = ElementTree.fromstring(read_limited(path, "XML file", MAX_TEXT_BYTES, BadRecording))
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise BadRecording(
            f"{str(path)!r}, line {line}: {error.msg}; it was cut off or is no XML. Copy it again."
        ) from None
    rows = []
    for number, sample in enumerate(child for child in root if len(child)):
        row = []
        for name in names:
            text = (sample.findtext(name) or "").strip()
            try:
                row.append(float(text))
            except ValueError:
                raise BadRecording(
                    f"{str(path)!r}, sample {number + 1} of {len(root)}: {name} is {text[:40]!r}, not a number; "
                    "copy it again."
                ) from None
        rows.append(row)
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise BadRecording(f"{str(path)!r} holds {len(rows)} sample(s) with {' and '.join(names)}; copy it again.")
    return np.array(rows)


SPEC = DatasetSpec(
    name="lgi_ppgi",
    title="LGI-PPGI",
    list_recordings=list_recordings,
    access="CC BY 4.0, from the authors (partofthestars/LGI-PPGI-DB); downloads are currently offline",
    n_recordings=24,
    basis="layout from other people's loaders",
)
