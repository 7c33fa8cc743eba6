"""Miniature copies of the other datasets, in their exact layout: names, headers, blanks, line ends and uneven clocks.

``TREES[dataset](root)`` writes a few recordings and returns ``{recording id: Take}``. Where a dataset has a clock of
its own, the camera of the miniature runs at another rate than the container says, so that a reader that takes the
container's word is off by more than a tenth of the heart rate.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.io import savemat

from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.types import Float, Frame
from autohr.video.encode import write_video

LEAD_S = 1.0
"""Time before the first frame for which the wave is known: a sensor that began earlier."""
DURATION_S = 7.0
EPOCH_S = 1_392_643_993
"""Second in 2014 at which recordings begin."""


@dataclass(frozen=True)
class Take:
    """A tiny recording of a known rate."""

    frames: Frame
    """(T, 72, 96, 3)"""
    t_s: Float
    """(T,) when each frame was taken; starts at 0."""
    hr_bpm: float
    wave: Callable[[Float], Float]
    """Pulse at any times from ``-LEAD_S`` to the end."""
    beats_s: Float
    """Times of the systolic peaks."""

    @property
    def end_s(self) -> float:
        return float(self.t_s[-1])


@functools.cache
def take(fps: float, hr_bpm: float, jitter_s: float = 0.0) -> Take:
    """A face of 54 pixels for seven seconds."""
    scene = SceneConfig(seed=3, duration_s=DURATION_S + LEAD_S, width=96, height=72, fps=fps, face_px=54, hr_bpm=hr_bpm)
    scene = dataclasses.replace(scene, hrv=0.0, pulse_depth=0.05, head=HeadMotion(0, 0, 0, 0, 0), light_drift=0.0)
    scene = dataclasses.replace(scene, jitter_s=jitter_s, background="plain")
    known = truth(scene)
    first = int(np.searchsorted(known.t_s, LEAD_S))
    start_s = known.t_s[first]
    frames = np.stack([frame for frame, _ in render(scene)][first:])
    spline = CubicSpline(known.t_s - start_s, known.bvp)
    return Take(
        frames, known.t_s[first:] - start_s, hr_bpm, lambda t_s: np.asarray(spline(t_s)), known.beats_s - start_s
    )


def write_avi(path: Path, one: Take, header_fps: float) -> None:
    """Write an AVI of the take's frames with another frame rate in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, iter(one.frames), fps=header_fps, codec="mjpeg", crf=6, pix_fmt="yuvj420p")


def write_pictures(folder: Path, one: Take, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in zip(one.frames, names, strict=True):
        cv2.imwrite(str(folder / name), frame[..., ::-1])


def ubfc_rppg_1(root: Path, name: str, one: Take) -> None:
    folder = root / "DATASET_1" / name.split("/")[1]
    write_avi(folder / ("vid-007.avi" if "7-gt" in name else "vid.avi"), one, 28.67)
    # About 62 a second in whole milliseconds.
    t_ms = np.rint(np.arange(0, one.end_s * 1000, 16.1)).astype(int)
    ppg = np.rint(60 + 20 * one.wave(t_ms / 1000)).astype(int)
    rows = [f"{t},{one.hr_bpm:.0f},97,{value}" for t, value in zip(t_ms, ppg, strict=True)]
    (folder / "gtdump.xmp").write_text("\n".join(rows) + "\n")


def ubfc_rppg_2(root: Path, name: str, one: Take) -> None:
    folder = root / "DATASET_2" / name
    write_avi(folder / "vid.avi", one, 30.0)
    ppg = one.wave(one.t_s)
    rows = ((ppg - ppg.mean()) / ppg.std(), np.full(len(ppg), one.hr_bpm), one.t_s)
    text = "\n".join("  " + "  ".join(f"{value: .7e}".strip().rjust(14) for value in row) for row in rows)
    (folder / "ground_truth.txt").write_text(text + "\n")


def pure(root: Path, name: str, one: Take) -> None:
    folder = root / name.replace("/", "-")
    stamps = [EPOCH_S * 10**9 + int(t * 1e9) for t in one.t_s]
    # One in each of the two layouts.
    inner = folder / folder.name if name == "01/01" else folder
    write_pictures(inner, one, [f"Image{stamp}.png" for stamp in stamps])
    # Steps of 16 ms of which every tenth is lost; begins before the first picture.
    t_s = np.array([t for i, t in enumerate(np.arange(-0.5, one.end_s, 0.016)) if i % 10])
    samples = [
        {
            "Timestamp": EPOCH_S * 10**9 + int(t * 1e9),
            "Value": {
                **dict.fromkeys(("beep", "droppingo2Sat", "probeError", "searching", "searchingToLong"), False),
                "barGraph": 5,
                "o2saturation": 98,
                "signalStrength": 4,
                "pulseRate": round(one.hr_bpm),
                "waveform": round(60 + 20 * float(value)),
            },
            "FrameID": "",
        }
        for t, value in zip(t_s, one.wave(t_s), strict=True)
    ]
    content = {"/FullPackage": samples, "/Image": [{"Timestamp": stamp} for stamp in stamps]}
    place = folder if name == "01/01" else root
    (place / f"{folder.name}.json").write_text(json.dumps(content, indent=4))


def cohface(root: Path, name: str, one: Take) -> None:
    write_avi(root / name / "data.avi", one, 20.0)
    t_s = np.arange(0, one.end_s, 1 / 256)
    with h5py.File(root / name / "data.hdf5", "w") as file:
        file["pulse"] = 1e3 * one.wave(t_s)
        file["respiration"] = np.sin(2 * np.pi * 0.25 * t_s)
        file["time"] = t_s
        file.attrs.update({"birth-date": "01.01.1980", "client-id": name.split("/")[0], "scale": "uV"})
        file.attrs.update({"illumination": "lamp" if name == "1/0" else "natural", "session": name.split("/")[1]})
        file.attrs["sample-rate-hz"] = 256


def ubfc_phys(root: Path, name: str, one: Take) -> None:
    subject, task = name.split("/")
    write_avi(root / "Data" / subject / f"vid_{subject}_{task}.avi", one, 35.0)
    bvp = 40 * one.wave(np.arange(0, one.end_s, 1 / 64))
    (root / "Data" / subject / f"bvp_{subject}_{task}.csv").write_text("".join(f"{v:.2f}\r\n" for v in bvp))


def lgi_ppgi(root: Path, name: str, one: Take) -> None:
    subject, scenario = name.split("/")
    # One copy puts each person into a folder of his number.
    folder = root / ("" if subject == "alex" else "id3") / subject / f"{subject}_{scenario}"
    write_avi(folder / "cv_camera_sensor_stream_handler.avi", one, 25.0)
    # The oximeter began 0.8 s before the video and ended with it.
    t_s = np.arange(one.end_s, -0.8, -1 / 60)[::-1]
    waves = np.rint(60 + 20 * one.wave(t_s)).astype(int)
    _write_storage(folder / "cms50_stream_handler.xml", [(i, round(one.hr_bpm), v) for i, v in enumerate(waves)])
    _write_storage(
        folder / "cv_camera_sensor_timer_stream_handler.xml",
        [(i, round(40 + 1000 * t)) for i, t in enumerate(one.t_s)],
    )


def _write_storage(path: Path, rows: list[tuple[int, ...]]) -> None:
    """Write as OpenCV's FileStorage does: a sample is named value<number>, and so are the numbers in it."""
    samples = (
        f"<value{i}>\n" + "".join(f"    <value{k}>{v}</value{k}>\n" for k, v in enumerate(row)) + f"</value{i}>"
        for i, row in enumerate(rows)
    )
    path.write_text('<?xml version="1.0"?>\n<opencv_storage>\n' + "\n".join(samples) + "\n</opencv_storage>\n")


def ecg_fitness(root: Path, name: str, one: Take) -> None:
    subject, session = name.split("/")
    task, camera = session.split("-")
    folder = root / subject / task
    write_avi(folder / f"c920-{camera}.avi", one, 30.0)
    # Packets of five rows share the time of their arrival; the device began 0.8 s before the camera.
    n_packets = int((one.end_s + 0.8) * 25)
    row_s = np.arange(5 * n_packets) / 125 - 0.8
    arrival_s = row_s[4::5] + np.random.default_rng(0).uniform(0, 0.03, n_packets)
    stamp_ms = [EPOCH_S * 1000 + round(1000 * t) for t in np.repeat(arrival_s, 5)]
    hr = round(one.hr_bpm) - 256 if one.hr_bpm > 127 else round(one.hr_bpm)
    ppg = np.rint(100 + 20 * one.wave(row_s)).astype(int)
    since_r_s = row_s[:, None] - (one.beats_s - 0.25)
    ecg = np.exp(-0.5 * (since_r_s / 0.012) ** 2).sum(axis=1) + 0.15 * np.sin(2 * np.pi * 0.3 * row_s)
    rows = [f"{t},{e:.5f},{hr},{v},-1,-1,-1" for t, e, v in zip(stamp_ms, ecg, ppg, strict=True)]
    (folder / "viatom-raw.csv").write_text(
        "milliseconds, ECG, ECG HR, PPG, PPG HR, SpO2, PI\n" + "\n".join(rows) + "\n"
    )
    nearest = [5 * round((t + 0.8) * 25) for t in one.t_s]
    frames = (
        f"{EPOCH_S * 1000 + round(1000 * t)},{min(row, 5 * n_packets - 5)}"
        for t, row in zip(one.t_s, nearest, strict=True)
    )
    (folder / "c920.csv").write_text("\n".join(frames) + "\n")


def mmpd(root: Path, name: str, one: Take) -> None:
    subject, session = name.split("/")
    (root / subject).mkdir(parents=True)
    content: dict[str, Any] = {
        "video": one.frames.astype(np.float32) / np.float32(255),
        "GT_ppg": one.wave(one.t_s)[None].astype(np.float32),
        "light": "LED-low",
        "motion": "Stationary" if session == "0" else "Watching Videos",
        "exercise": "False",
        "skin_color": 3,
        "gender": "male",
        "glasser": "True",
        "hair_cover": "False",
        "makeup": "False",
    }
    savemat(root / subject / f"p{subject[7:]}_{session}.mat", content)


def scamps(root: Path, name: str, one: Take) -> None:
    path = root / "scamps_videos" / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    # MATLAB puts a block of text before the HDF5 part, and turns the axes about.
    with h5py.File(path, "w", userblock_size=512) as file:
        file["RawFrames"] = one.frames.transpose(3, 2, 1, 0).astype(np.float32) / np.float32(255)
        file["d_ppg"] = one.wave(one.t_s)[:, None]
        file["d_br"] = np.zeros((len(one.t_s), 1))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + b"\x00\x02IM")


def ibvp(root: Path, name: str, one: Take) -> None:
    recording = name.replace("/", "_")
    folder = root / ("Confidential_No-media-use" if "p08" in name else "") / recording
    write_pictures(folder / f"{recording}_rgb", one, [f"{1000 + 33 * i}.bmp" for i in range(len(one.t_s))])
    (folder / f"{recording}_t").mkdir()
    # The annotators distrust the last half second.
    rows = [f"{v:.6f},1,1,{int(t < one.end_s - 0.5)},2.5" for t, v in zip(one.t_s, one.wave(one.t_s), strict=True)]
    (folder / f"{recording}_bvp.csv").write_text("\n".join(["BVP,SQPhysMD,SQ1,SQ2,Perfusion_Value", *rows]) + "\n")


def mcd_rppg(root: Path, name: str, one: Take) -> None:
    subject, session = name.split("/")
    step, camera = session.split("-")
    stem = f"{subject}_{camera}_{step}"
    write_avi(root / "video" / f"{stem}.avi", one, 29.9)
    for folder in ("meta", "ppg_sync", "ecg", "ppg"):
        (root / folder).mkdir(exist_ok=True)
    start = datetime.datetime(2023, 11, 13, 14, 18, 9)  # a whole second has no fraction
    # A few lines more than frames.
    stamps = [start + datetime.timedelta(seconds=t) for t in [*one.t_s, one.end_s + 0.04, one.end_s + 0.08]]
    lines = [f"{i}  {stamp}" for i, stamp in enumerate(stamps, start=1)]
    (root / "meta" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    values = np.rint(120 + 40 * one.wave(one.t_s)).astype(int)
    (root / "ppg_sync" / f"{stem}.txt").write_text("".join(f"{value} 0.0{i % 5}\n" for i, value in enumerate(values)))
    t_s = np.arange(0, 10, 1 / 250)  # an ECG of another moment, 90 bpm
    ecg = np.exp(-0.5 * (((t_s + 0.3) % (60 / 90) - 0.3) / 0.012) ** 2)
    content = {"frequency": 250, "data": [{"title": lead, "values": ecg.round(4).tolist()} for lead in ("I", "II")]}
    (root / "ecg" / f"{subject}_{step}.json").write_text(json.dumps(content))
    rows = [
        f"{patient},55.0,{23 if patient % 2 else 61},{'FM'[patient % 2]},{its_step},{its_camera},{view}"
        for patient in range(1020, 1620)
        for its_step in ("after", "before")
        for its_camera, view in (("FullHDwebcam", "front"), ("USBVideo", "left"), ("IriunWebcam", "right"))
    ]
    (root / "db.csv").write_text("patient_id,weight,age,sex,step,camera,view\n" + "\n".join(rows) + "\n")
    folds = [f"{row},{patient},{patient % 5}" for row, patient in enumerate(range(1020, 1620))]
    (root / "mcd_rppg.csv").write_text(",patient_id,fold\n" + "\n".join(folds) + "\n")


def _tree(
    write: Callable[[Path, str, Take], None], fps: float, rates_bpm: dict[str, float], jitter_s: float, root: Path
) -> dict[str, Take]:
    takes = {name: take(fps, hr_bpm, jitter_s) for name, hr_bpm in rates_bpm.items()}
    for name, one in takes.items():
        write(root, name, one)
    # Datasets of one recording for each person call it 1.
    dataset, end = write.__name__, "/1" if write in (ubfc_rppg_2, scamps) else ""
    return {f"{dataset}/{name}{end}": one for name, one in takes.items()}


TREES: dict[str, Callable[[Path], dict[str, Take]]] = {
    write.__name__: functools.partial(_tree, write, fps, rates_bpm, jitter_s)
    for write, fps, rates_bpm, jitter_s in (
        (ubfc_rppg_1, 28.67, {"subject42/after-exercise": 108.0, "7-gt/7-gt": 72.0}, 0.0),
        # The header says 30, the camera gave 26 unevenly.
        (ubfc_rppg_2, 26.0, {"subject1": 81.0, "subject49": 66.0}, 0.008),
        (pure, 27.0, {"01/01": 75.0, "10/06": 96.0}, 0.0),
        (cohface, 20.0, {"1/0": 69.0, "40/3": 90.0}, 0.0),
        (ubfc_phys, 35.0, {"s1/T1": 63.0, "s56/T3": 93.0}, 0.0),
        (lgi_ppgi, 23.0, {"alex/gym": 114.0, "cpi/rotation": 78.0}, 0.0),
        (ecg_fitness, 27.0, {"00/01-1": 132.0, "11/01-2": 84.0}, 0.006),
        (mmpd, 30.0, {"subject1/0": 87.0, "subject33/19": 60.0}, 0.0),
        (scamps, 30.0, {"P000001": 87.0, "P000500": 60.0}, 0.0),
        (ibvp, 30.0, {"p01/a": 87.0, "p08/d": 60.0}, 0.0),
        (mcd_rppg, 26.0, {"1020/before-FullHDwebcam": 72.0, "1021/after-IriunWebcam": 117.0}, 0.006),
    )
}
