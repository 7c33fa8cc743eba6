"""ECG-Fitness (Spetlik et al. 2018): 17 people who speak, row, step and cycle before two webcams, with an ECG.

    ROOT/00/01/c920-1.avi         person 00..16, task 01..06; 1920x1080, uncompressed, one minute
               c920-2.avi         the second camera
               c920.csv           no header, a line for each frame: when (ms since 1970), row of viatom-raw.csv (from 0)
               viatom-raw.csv     header "milliseconds, ECG, ECG HR, PPG, PPG HR, SpO2, PI", 125 rows a second
               flir.*             not read
    ROOT/bbox/00/01/c920-1.face   not read

Tasks: 01 speaking, 02 rowing, 03 speaking and 04 rowing in corrupted light, 05 stepper, 06 bicycle.

Access: Center for Machine Perception, Czech Technical University in Prague; on request, for research.

Clocks. Frames by the first column of c920.csv (30.01 a second on the real file, steps 16 to 70 ms; the container says
30 throughout). Five rows of viatom-raw.csv share each stamp. Rows are put 1/125 s apart, moved by the running median
of the stamps over ``CLOCK_S`` (which follows a gap in the stamps), and all together so that the rows named by c920.csv
fall on their frames in the median.

Reference. The rate is that of the ECG's R peaks; where there is no ECG the device's "ECG HR", then "PPG HR", which lag.
The wave is the PPG where there is one; else it is drawn from the R peaks (``signals/ecg.pulse_of_beats``), and noted.
-1 is "no value"; other negative rates are a byte that ran over and get 256 added (one loader does so; rates above 127
are usual here).

Known defects. (02, 04) and (07, 02) are banned by the authors. The first two tasks of person 11 are swapped (one loader
says so): the group ``scenario`` follows that, the name stays the folder's.

Sources: one real c920.csv and viatom-raw.csv; others' loaders (hr-cnn, pyVHR and
others) for the rest.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from autohr.errors import BadRecording, SignalTooShort
from autohr.lab.datasets.columns import below_half_rate, frame_clock, increasing, known_rate, read_columns, stumbles
from autohr.lab.datasets.ecg import detect_r_peaks, pulse_of_beats, rate_between
from autohr.lab.datasets.recording import Absent, DatasetSpec, Listing, Recording, Reference
from autohr.lab.datasets.tree import find_home, matching, missing
from autohr.types import Float

FPS = 30.0
FS = 125.0
CLOCK_S = 2.0
"""Ours: long enough that the 40 ms between stamps average out, short enough to follow a lost packet within a beat."""
BANNED = (("02", "04"), ("07", "02"))
SCENARIOS = {"01": "speaking", "02": "rowing", "03": "speaking", "04": "rowing", "05": "stepper", "06": "bicycle"}
CONTRADICTION_BPM = 10.0
"""R peaks and device that differ by more in the median are noted. Ours."""
COLUMNS = ("milliseconds", "ECG", "ECG HR", "PPG", "PPG HR", "SpO2", "PI")


def list_recordings(root: Path) -> Listing:
    """Both cameras of all 102 takes, each found or absent.

    Raises
    ------
    BadRecording
        It is not ECG-Fitness.
    """
    home = find_home(
        root,
        "ECG-Fitness",
        "folder such as '00/01' with a c920.csv",
        lambda folder: any(
            matching(p, "c920.*") for _, s in matching(folder, r"\d\d") for _, p in matching(s, r"\d\d")
        ),
    )
    recordings: list[Recording] = []
    absent: list[Absent] = []
    for subject in (f"{number:02d}" for number in range(17)):
        for task in SCENARIOS:
            folder = home / subject / task
            for camera in ("1", "2"):
                session = f"{task}-{camera}"
                video = folder / f"c920-{camera}.avi"
                if (subject, task) in BANNED:
                    absent.append(Absent(f"ecg_fitness/{subject}/{session}", "Banned by its authors.", known_gap=True))
                    continue
                if not video.exists():
                    absent.append(missing(f"ecg_fitness/{subject}/{session}", video))
                    continue
                shown = {"01": "02", "02": "01"}.get(task, task) if subject == "11" else task
                light = "corrupted" if shown in ("03", "04") else "normal"
                recordings.append(
                    Recording(
                        "ecg_fitness",
                        subject,
                        session,
                        video,
                        functools.partial(_read_viatom, folder),
                        frame_times_s=functools.partial(_read_frame_times, folder / "c920.csv"),
                        groups={"scenario": SCENARIOS[shown], "light": light, "camera": camera},
                        notes=("Named as its folder; shows the other of tasks 01 and 02.",) if shown != task else (),
                    )
                )
    return Listing(tuple(recordings), tuple(absent))


def _read_frames(path: Path) -> tuple[Float, Float]:
    """Return each frame's time, in seconds since 1970, and its row of viatom-raw.csv; (N,) each."""
    columns = read_columns(path, ("frame time ms", "row of viatom-raw.csv"))
    if len(columns) < 2:
        raise BadRecording(f"{str(path)!r} holds {len(columns)} frame; copy it again.")
    return columns[:, 0] / 1000, columns[:, 1]


def _read_frame_times(path: Path) -> Float:
    return frame_clock(_read_frames(path)[0], path)


def _read_viatom(folder: Path) -> Reference:
    path = folder / "viatom-raw.csv"
    columns = read_columns(path, COLUMNS, header=True)
    frame_s, row = _read_frames(folder / "c920.csv")
    if row.min() < 0 or row.max() >= len(columns) or (row % 1).any():
        raise BadRecording(
            f"{str(folder / 'c920.csv')!r} names row {row.max():g} of {str(path)!r}, which holds {len(columns)}; "
            "one of the two was cut off."
        )
    t_s = _even_clock(columns[:, 0] / 1000 - frame_s[0])
    t_s += np.median(frame_s - frame_s[0] - t_s[row.astype(np.intp)])
    keep = increasing(t_s, path)
    t_s, columns = t_s[keep], columns[keep]
    ecg, ppg = columns[:, 1], np.where(columns[:, 3] == -1, np.nan, columns[:, 3])
    device_bpm = next((r for c in (2, 4) if (r := _device_rate(columns[:, c])) is not None), None)
    beats_s = t_s[0] + _r_peaks(ecg)
    by_beats = rate_between(beats_s, t_s)
    notes = list(stumbles(keep))
    hr_bpm: Float | None = by_beats
    if not np.isfinite(by_beats).any():
        notes.append("The rate is the device's: no heart beats were found in an ECG.")
        hr_bpm = device_bpm
    elif device_bpm is not None:
        apart_bpm = np.nanmedian(by_beats) - np.nanmedian(device_bpm)
        if abs(apart_bpm) > CONTRADICTION_BPM:
            notes.append(f"The R peaks' rate is {apart_bpm:+.0f} bpm from the device's in the median.")
    # A sensor that was not worn gives one value throughout.
    if np.isfinite(ppg).sum() >= 2 and np.nanstd(ppg) > 0:
        bvp: Float | None = below_half_rate(t_s, ppg, FPS)
    elif len(beats_s) > 1:
        notes.append("The wave is drawn from the R peaks: no PPG was recorded.")
        bvp = pulse_of_beats(beats_s, t_s)
    else:
        bvp = None
    if hr_bpm is None and bvp is None:
        raise BadRecording(f"{str(path)!r} knows no ECG, no PPG and no rate; the device was off.")
    return Reference(t_s, bvp, hr_bpm, tuple(notes))


def _r_peaks(ecg: Float) -> Float:
    """Find the R peaks, in seconds from the first sample; none where nothing was recorded."""
    if np.ptp(ecg) == 0:
        return np.empty(0)
    try:
        return detect_r_peaks(ecg, FS)
    except SignalTooShort:
        return np.empty(0)


def _even_clock(stamp_s: Float) -> Float:
    """Return the times (N,) of samples 1/125 s apart, of which several share a stamp that came late or early."""
    late_s = stamp_s - np.arange(len(stamp_s)) / FS
    half = min(round(CLOCK_S * FS / 2), (len(late_s) - 1) // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(late_s, half, mode="edge"), 2 * half + 1)
    return np.asarray(np.arange(len(stamp_s)) / FS + np.median(windows, axis=1), dtype=np.float64)


def _device_rate(hr_bpm: Float) -> Float | None:
    return known_rate(np.where(hr_bpm < -1, hr_bpm + 256, hr_bpm))


SPEC = DatasetSpec(
    name="ecg_fitness",
    title="ECG-Fitness",
    list_recordings=list_recordings,
    access="on request from the Center for Machine Perception, Czech Technical University in Prague",
    n_recordings=200,
)
