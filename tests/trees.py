"""Tiny copies of the paper's three datasets, made of drawn faces, in the datasets' exact layout.

Each function returns the truth: recording id -> mean hr_bpm. Names, headers, line ends and clocks are those that the
readers' docstrings give; pictures are smaller, and so are frame rates where the layout leaves them open.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.io import savemat

from autohr.lab.datasets.ecg import PULSE_DELAY_S
from autohr.lab.datasets.mahnob_hci import SESSIONS
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, render, truth
from autohr.types import Float
from autohr.video.encode import write_video

SCENE = SceneConfig(duration_s=7.0, width=128, height=136, fps=20.0, face_px=96, hrv=0.01, pulse_depth=0.04)
SCENE = dataclasses.replace(SCENE, head=HeadMotion(sway=0.1), light_drift=0.0, noise_sd=0.5, background="plain")


def made_scene(seed: int, hr_bpm: float, **changed: float) -> SceneConfig:
    return dataclasses.replace(SCENE, seed=seed, hr_bpm=hr_bpm, **changed)  # type: ignore[arg-type]


def made_rate(subject: int, take: int = 0) -> float:
    """Rates of different subjects differ by 7 bpm and more, so that no mix-up passes unseen."""
    return 56.0 + 7.3 * (subject % 9) + 2.1 * take


def pulse_of(scene: SceneConfig, fs: float) -> tuple[Float, Float]:
    """Wave (N,) and rate (N,) of the scene's pulse at ``fs`` samples per second."""
    known = truth(scene)
    t_s = np.arange(round(scene.duration_s * fs)) / fs
    at_s = np.minimum(t_s, known.t_s[-1])
    return np.asarray(CubicSpline(known.t_s, known.bvp)(at_s)), np.interp(at_s, known.t_s, known.hr_bpm)


def mean_rate(scene: SceneConfig) -> float:
    known = truth(scene)
    assert known.mean_hr_bpm is not None
    return known.mean_hr_bpm


# ---------------------------------------------------------------------------------------------------------------------
# VIPL-HR


def vipl_hr_tree(
    root: Path,
    n_subjects: int = 2,
    *,
    takes: Sequence[str] = ("v1/source1",),
    fps: float = 20.0,
    duration_s: float = 7.0,
    folds: bool = True,
) -> dict[str, float]:
    """``takes`` of each of the first ``n_subjects`` people; "v1-2/source1" is a second take, source2 is the phone.

    As in the dataset the container says 25 frames per second whatever the camera did, and only time.txt knows.
    """
    known = {}
    for subject in range(1, n_subjects + 1):
        for number, take in enumerate(takes):
            is_phone = take.endswith("source2")
            # Sources 1 and 3 film the same heart at the same time.
            of_take = sum(other.split("/")[0] != take.split("/")[0] for other in takes[:number]) + 10 * is_phone
            scene = made_scene(
                1000 * subject + of_take,
                made_rate(subject, of_take % 10),
                fps=30.0 if is_phone else fps,
                duration_s=duration_s,
                jitter_s=0.0 if is_phone else 0.004,
            )
            folder = root / "data" / f"p{subject}" / take
            folder.mkdir(parents=True)
            frames, times_s = zip(*render(scene), strict=True)
            write_video(folder / "video.avi", frames, fps=25.0, codec="mjpeg", crf=12)
            wave, rate_bpm = pulse_of(scene, 60.0)
            _write_lines(folder / "wave.csv", ["Wave", *(f"{round(value)}" for value in 60 + 20 * wave)])
            seconds = [f"{round(rate_bpm[min(len(rate_bpm) - 1, 60 * k)])}" for k in range(round(duration_s) + 1)]
            _write_lines(folder / "gt_HR.csv", ["HR", *seconds])
            _write_lines(folder / "gt_SpO2.csv", ["SpO2", *("97" for _ in seconds)])
            if not is_phone:
                _write_lines(folder / "time.txt", [f"{round(1000 * t_s)}" for t_s in times_s])
            known[f"vipl_hr/p{subject}/{take.replace('/', '-')}"] = mean_rate(scene)
    if folds:
        (root / "fold").mkdir()
        for fold in range(1, 6):
            subjects = np.array([[n for n in range(1, 108) if (n - 1) % 5 == fold - 1]], dtype=np.uint8)
            savemat(root / "fold" / f"fold{fold}.mat", {f"fold{fold}": subjects})
    _write_lines(root / "Missing_data.txt", ["p1/v7/source1", "p97/v1/source1"], end="\r\n")
    _write_lines(root / "Additional_data.txt", [f"p1/{take}" for take in takes if "-2" in take] or ["p16/v1-2/source4"])
    return known


def _write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> None:
    path.write_text("".join(line + end for line in lines), encoding="ascii", newline="")


# ---------------------------------------------------------------------------------------------------------------------
# MAHNOB-HCI

BDF_LABELS = (
    *"Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4".split(),
    *"F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2".split(),
    *"EXG1 EXG2 EXG3 EXG4 EXG5 EXG6 EXG7 EXG8 GSR1 GSR2 Erg1 Erg2 Resp Temp Status".split(),
)
AROUND_S = 6
"""Seconds of physiology before and after the video; the dataset has 30."""


def mahnob_hci_tree(
    root: Path, n_subjects: int = 2, *, sessions_each: int = 1, fps: float = 15.0, duration_s: float = 12.0
) -> dict[str, float]:
    """The first sessions of each of the first ``n_subjects`` people, and one neutral session that is not of the list.

    The 30 s that are evaluated begin 5 s into the video, so ``duration_s`` must be longer. The returned rate is of the
    video from there on.
    """
    known = {}
    people: dict[int, list[int]] = {}
    for number in SESSIONS:
        people.setdefault((number - 2) // 130 + 1, []).append(number)
    for person in list(people)[:n_subjects]:
        for trial, number in enumerate(people[person][:sessions_each], start=1):
            scene = made_scene(2000 * person + trial, made_rate(person, trial), fps=fps, duration_s=duration_s)
            hr_bpm = _write_session(root / "Sessions" / str(number), scene, person, trial)
            known[f"mahnob_hci/P{person}/{number}"] = hr_bpm
    neutral = root / "Sessions" / "3"
    neutral.mkdir()
    (neutral / "session.xml").write_text("<session/>", encoding="utf-8")
    return known


def _write_session(folder: Path, scene: SceneConfig, person: int, trial: int) -> float:
    folder.mkdir(parents=True)
    video = f"P{person}-Rec1-2009.07.09.17.53.46_C1 trigger _C_Section_{2 * trial}.avi"
    bdf = f"Part_{person}_S_Trial{trial}_emotion.bdf"
    write_video(folder / video, (frame for frame, _ in render(scene)), fps=scene.fps, crf=6)
    n_frames = round(scene.duration_s * scene.fps)
    (folder / "session.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<session sessionId="{folder.name}" isStim="1" cutNr="{2 * trial}" cutLenSec="{scene.duration_s}" '
        f'feltEmo="4" mediaFile="69.avi" vidRate="{scene.fps}" vidBeginSmp="1830.0" vidEndSmp="{1830.0 + n_frames}" '
        f'audRate="48000.0" audBeginSmp="1440000.0" audEndSmp="2000000.0">\n'
        f'  <subject id="{person}" gender="f"/>\n'
        f'  <track type="Video" color="0" filename="P{person}-Rec1_BW2_C_Section_{2 * trial}.avi"/>\n'
        f'  <track type="Video" color="1" filename="{video}">\n'
        f'    <annotation type="Gaze" filename="P{person}-Rec1-All-Data-New_Section_{2 * trial}.tsv"/>\n'
        f"  </track>\n"
        f'  <track type="Physiological" filename="{bdf}"/>\n'
        f"</session>\n",
        encoding="utf-8",
    )
    known = truth(scene)
    fs, whole_s = 256, scene.duration_s + 2 * AROUND_S
    ibi_s = float(np.mean(np.diff(known.beats_s)))
    before_s = known.beats_s[0] - ibi_s * np.arange(40, 0, -1)
    after_s = known.beats_s[-1] + ibi_s * np.arange(1, 40)
    beats_s = np.concatenate([before_s, known.beats_s, after_s]) - PULSE_DELAY_S + AROUND_S
    ecg = made_ecg(beats_s, fs, whole_s)
    status = np.zeros(len(ecg))
    status[round(AROUND_S * fs) : round((AROUND_S + scene.duration_s) * fs)] = 16
    write_bdf(folder / bdf, {"EXG1": 0.7 * ecg, "EXG2": ecg - 9000, "EXG3": -1.3 * ecg, "Status": status}, fs)
    late = known.t_s >= 305 / 61
    return float(known.hr_bpm[late].mean())


def made_ecg(beats_s: Float, fs: float, duration_s: float) -> Float:
    """(N,) microvolts: P, Q, R, S and T waves around the R peaks ``beats_s`` (K,)."""
    t_s = np.arange(round(duration_s * fs)) / fs
    ecg = np.zeros(len(t_s))
    for delay_s, width_s, height in (
        *((-0.16, 0.02, 120.0), (-0.026, 0.009, -140.0), (0.0, 0.011, 1000.0)),
        *((0.027, 0.01, -240.0), (0.26, 0.045, 260.0)),
    ):
        for beat_s in beats_s:
            ecg += height * np.exp(-0.5 * ((t_s - beat_s - delay_s) / width_s) ** 2)
    return ecg


def write_bdf(path: Path, waves: dict[str, Float], fs: int, labels: Sequence[str] = BDF_LABELS) -> None:
    """A BDF of BioSemi by hand: 24 bits, little endian, records of a second. Channels not in ``waves`` are zero."""
    n_seconds = len(next(iter(waves.values()))) // fs
    high, microvolts = 2**23 - 1, 262143.0
    limits = {True: (-high - 1, high), False: (-int(microvolts) - 1, int(microvolts))}
    fields: list[tuple[int, Callable[[bool], object]]] = [
        (80, lambda status: "Triggers and Status" if status else "Active Electrode"),
        (8, lambda status: "Boolean" if status else "uV"),
        (8, lambda status: limits[status][0]),
        (8, lambda status: limits[status][1]),
        (8, lambda _: -high - 1),
        (8, lambda _: high),
        (80, lambda status: "No filtering" if status else "HP: DC; LP: 417 Hz"),
        (8, lambda _: fs),
        (32, lambda _: "Reserved"),
    ]
    head = b"\xffBIOSEMI" + b" " * 80 + b" " * 80 + b"09.07.0917.53.46"
    for text, width in ((str(256 * (len(labels) + 1)), 8), ("24BIT", 44), (str(n_seconds), 8), ("1", 8)):
        head += text.ljust(width).encode()
    head += str(len(labels)).ljust(4).encode()
    head += b"".join(label.ljust(16).encode() for label in labels)
    head += b"".join(str(text(label == "Status")).ljust(width).encode() for width, text in fields for label in labels)
    digital: NDArray[np.int32] = np.zeros((n_seconds, len(labels), fs), dtype="<i4")
    for number, label in enumerate(labels):
        if label in waves:
            scale = 1.0 if label == "Status" else high / microvolts
            digital[:, number] = np.rint(scale * waves[label][: n_seconds * fs]).reshape(n_seconds, fs)
    path.write_bytes(head + digital.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


# ---------------------------------------------------------------------------------------------------------------------
# MMSE-HR and BP4D+


def mmse_hr_tree(root: Path, n_subjects: int = 2, *, duration_s: float = 7.0) -> dict[str, float]:
    """One task of each of ``n_subjects`` people, every second of them in the part that holds T10 and T11."""
    known = {}
    for number in range(1, n_subjects + 1):
        late = number % 2 == 0
        place = f"{'M' if late else 'F'}{number:03d}/{'T11' if late else 'T1'}"
        scene = made_scene(3000 + number, made_rate(number), fps=25.0, duration_s=duration_s)
        _write_pictures(root / ("T10_T11_30Subjects" if late else "first10subjects_2D") / place, scene)
        physiology = "T10_T11_30PhyBPHRData" if late else "first10subjects_Phydatareleased/Phydata"
        write_physiology(root / physiology / place, scene)
        known[f"mmse_hr/{place}"] = mean_rate(scene)
    return known


def bp4d_plus_tree(root: Path, *, duration_s: float = 7.0) -> dict[str, float]:
    """Two people: F001's pictures are zipped as they come, M001's were unpacked."""
    known = {}
    for subject, number in (("F001", 1), ("M001", 2)):
        scene = made_scene(4000 + number, made_rate(number), fps=25.0, duration_s=duration_s)
        _write_pictures(root / "2D+3D" / subject / "T4", scene)
        write_physiology(root / "Physiology" / subject / "T4", scene)
        known[f"bp4d_plus/{subject}/T4"] = mean_rate(scene)
    unpacked = root / "2D+3D" / "F001"
    with zipfile.ZipFile(root / "2D+3D" / "F001.zip", "w") as file:
        for picture in sorted((unpacked / "T4").iterdir()):
            file.write(picture, f"F001/T4/{picture.name}")
            picture.unlink()
    (unpacked / "T4").rmdir()
    unpacked.rmdir()
    return known


def _write_pictures(folder: Path, scene: SceneConfig) -> None:
    folder.mkdir(parents=True)
    for number, (frame, _) in enumerate(render(scene)):
        path = folder / f"{number:03d}.jpg"
        assert cv2.imwrite(str(path), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])


def write_physiology(folder: Path, scene: SceneConfig) -> None:
    folder.mkdir(parents=True)
    wave, rate_bpm = pulse_of(scene, 1000.0)
    pressure = 92 + 14 * wave
    for name, values in (
        ("BP_mmHg.txt", pressure),
        ("Pulse Rate_BPM.txt", rate_bpm),
        ("LA Mean BP_mmHg.txt", np.full(len(wave), 92.0)),
        ("LA Systolic BP_mmHg.txt", np.full(len(wave), 120.0)),
        ("BP Dia_mmHg.txt", np.full(len(wave), 78.0)),
        ("EDA_microsiemens.txt", np.full(len(wave), 4.2)),
        ("Resp_Volts.txt", np.zeros(len(wave))),
        ("Respiration Rate_BPM.txt", np.full(len(wave), 15.0)),
    ):
        _write_lines(folder / name, [f"{value:.5f}" for value in values])
