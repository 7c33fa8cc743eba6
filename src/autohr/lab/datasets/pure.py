"""PURE (Stricker et al. 2014): 10 people, 6 tasks of a minute, as PNG pictures without loss, with a finger oximeter.

    ROOT/01-01/01-01/Image1392643993642815000.png    the number is the time in nanoseconds since 1970
               01-01.json                            both as the archive unpacks

    ROOT/01-01/Image1392643993642815000.png          as pyVHR wants it
         01-01.json

Each half of either layout is found also with the other half of the other. The name is subject-task; tasks are 01
steady, 02 talking, 03 slow translation, 04 fast translation, 05 small rotation, 06 medium rotation.

    {"/FullPackage": [{"Timestamp": 1392643993642815000, "Value": {"pulseRate": 68, "waveform": 74, ...}}, ...],
     "/Image": [{"Timestamp": ...}, ...]}

Access: Neuroinformatics and Cognitive Robotics Lab, Technische Universitaet Ilmenau; on request, for research.

Clocks. Both run in nanoseconds of one machine: frames (640x480, nominally 30 a second) by the names of the pictures,
which is what is there, and not by "/Image"; the oximeter nominally 60 a second, steps 16 ms with lost samples (32 ms).
It may begin before the first picture or after it.

Known defects. 06-02 does not exist: 59 recordings. The rate is the oximeter's and follows the pulse by some seconds.
Samples with ``probeError`` or without a rate (0) are unknown here, which is our reading of these fields. A shift
between wave and video has been reported for some; the manifest's lag shows it, and nothing is moved here.

Sources: the head of a real 01-01.json and names of pictures; others' loaders for the two places of the
json; the size is from memory.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording
from autohr.lab.datasets.columns import below_half_rate, increasing, known_rate, read_lines, stumbles
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing
from autohr.types import Float

FPS = 30.0
TASKS = {
    "01": "steady",
    "02": "talking",
    "03": "slow translation",
    "04": "fast translation",
    "05": "small rotation",
    "06": "medium rotation",
}
KNOWN_GAPS = ("06-02",)
IMAGE = r"Image(\d{10,20})\.png"


def list_recordings(root: Path) -> Listing:
    """All 60 names, each found or absent.

    Raises
    ------
    BadRecording
        It is not PURE.
    """
    home = find_home(
        root, "PURE", "folder such as '01-01'", lambda folder: bool(matching(folder, r"\d\d-0[1-6]")), inside=("PURE",)
    )
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for subject in (f"{number:02d}" for number in range(1, 11)):
        for task, scenario in TASKS.items():
            name = f"{subject}-{task}"
            pictures = next((p for p in (home / name / name, home / name) if _holds_pictures(p)), None)
            if pictures is None:
                id = f"pure/{subject}/{task}"
                if name in KNOWN_GAPS:
                    absent.append(Absent(id, "The dataset was published without it.", known_gap=True))
                else:
                    absent.append(missing(id, home / name / name / "Image*.png"))
                continue
            places = (home / name / f"{name}.json", home / f"{name}.json")
            truth = next((path for path in places if path.exists()), places[0])
            recordings.append(
                Recording(
                    "pure",
                    subject,
                    task,
                    pictures,
                    functools.partial(_read_oximeter, truth, pictures),
                    frame_times_s=functools.partial(_read_frame_times, pictures),
                    groups={"scenario": scenario},
                )
            )
    return Listing(tuple(recordings), tuple(absent))


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("Image*.png"), None) is not None


def _image_ns(pictures: Path) -> list[int]:
    """Return each picture's time in nanoseconds, in the order in which pictures are read."""
    odd = [path.name for path in pictures.glob("[!.]*.png") if path.name[:5] != "Image"]
    if odd:
        raise BadRecording(f"{str(pictures)!r} holds {odd[0]!r}, whose name is no time; move it elsewhere.")
    stamps = [int(match[1]) for match, _ in matching(pictures, IMAGE)]
    if len(stamps) < 2:
        raise BadRecording(
            f"{str(pictures)!r} holds {len(stamps)} picture(s) named Image<nanoseconds>.png; copy it again."
        )
    return stamps


def _read_frame_times(pictures: Path) -> Float:
    stamps = _image_ns(pictures)
    return np.array([stamp - stamps[0] for stamp in stamps], dtype=np.float64) / 1e9


def _read_oximeter(path: Path, pictures: Path) -> Reference:
    text = "\n".join(read_lines(path))
    try:
        whole = json.loads(text)
        samples, n_images = whole["/FullPackage"], len(whole["/Image"])
        stamps = [int(sample["Timestamp"]) for sample in samples]
        values = [sample["Value"] for sample in samples]
        wave = np.array([float(value["waveform"]) for value in values])
        hr_bpm = np.array([float(value["pulseRate"]) for value in values])
        is_off = np.array([bool(value.get("probeError", False)) for value in values], dtype=bool)
    except json.JSONDecodeError as error:
        raise BadRecording(
            f"{str(path)!r}, line {error.lineno}: {error.msg}, so it was cut off or is no JSON; copy it again."
        ) from None
    except RecursionError:
        raise BadRecording(f"{str(path)!r} is JSON nested too deeply and not PURE's; copy it again.") from None
    except KeyError as error:
        raise BadRecording(f"{str(path)!r} has no {error} where PURE keeps it; this is another file.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise BadRecording(f"{str(path)!r} is not built as PURE's ({error}); copy it again.") from None
    if len(stamps) < 2:
        raise BadRecording(f"{str(path)!r} holds {len(stamps)} sample(s) of the oximeter; copy it again.")
    images = _image_ns(pictures)
    # In whole nanoseconds first: a float of 1.4e18 has steps of 256 ns.
    t_s = np.array([stamp - images[0] for stamp in stamps], dtype=np.float64) / 1e9
    keep = increasing(t_s, path)
    t_s, wave, hr_bpm, is_off = t_s[keep], wave[keep], hr_bpm[keep], is_off[keep]
    wave, hr_bpm = np.where(is_off, np.nan, wave), np.where(is_off, np.nan, hr_bpm)
    notes = stumbles(keep)
    if n_images != len(images):
        notes += (f"{path.name} lists {n_images} pictures, {len(images)} are there.",)
    return Reference(t_s, below_half_rate(t_s, wave, FPS), known_rate(hr_bpm), notes)


SPEC = DatasetSpec(
    name="pure",
    title="PURE",
    list_recordings=list_recordings,
    access="on request from the Neuroinformatics and Cognitive Robotics Lab, TU Ilmenau",
    n_recordings=59,
)
