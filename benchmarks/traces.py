"""Finger-camera traces with a chest strap beside them (welltory, CC0): rate from the red channel against the strap.

    python benchmarks/traces.py DATA

``webcam_rates`` (benchmarks/real.py --traces) does formulas on a webcam's colours, with a contact sensor beside them.

The trace is put on 30 samples per second, detrended, band-passed, and read in windows of 10 s with a stride of 1 s by
the one estimator; the median of the windows is compared with 60000 / mean RR interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autohr.methods import load_method
from autohr.signals.filters import bandpass, detrend, resample
from autohr.signals.rate import estimate_heart_rate
from autohr.types import FaceClip, Float
from autohr.video.regions import REGIONS

FS, WINDOW_S, STRIDE_S, WITHIN_BPM = 30.0, 10.0, 1.0, 3.0
WEBCAM_LAG_S = 0.8
"""Time of the webcam's colours less that of the contact sensor, as its data say."""


def read_folder(folder: Path) -> tuple[Float, Float, float]:
    """Return t_s (N,), red (N,) and the strap's mean rate in bpm of one recording."""
    time_ms, red = np.genfromtxt(folder / "PPG.csv", delimiter=",", skip_header=1, usecols=(0, 1)).T
    fresh = np.concatenate([[True], np.diff(time_ms) > 0])
    intervals_ms = np.array((folder / "RR.txt").read_text().split(), dtype=float)
    return time_ms[fresh] / 1000, red[fresh], float(60_000 / intervals_ms.mean())


def webcam_clips(path: Path) -> Iterator[FaceClip]:
    """Yield the windows of 10 s, one a second, of a webcam's mean colours. All regions have the mean of the face."""
    with np.load(path) as file:
        t_s, rgb = (np.asarray(file[name], dtype=np.float64) for name in ("t", "rgb"))
    fps = (len(t_s) - 1) / (t_s[-1] - t_s[0])
    length = round(WINDOW_S * fps)
    for first in range(0, len(rgb) - length, round(STRIDE_S * fps)):
        piece = rgb[first : first + length]
        yield FaceClip(
            fps=fps,
            start_s=first / fps,
            rgb=piece,
            traces=np.repeat(piece[:, None], len(REGIONS), axis=1),
            background_rgb=np.full((length, 3), np.nan),
            box_xywh=np.tile([10.0, 10, 100, 120], (length, 1)),
            found=np.ones(length, dtype=bool),
        )


def webcam_rates(folder: Path, methods: Sequence[str], within_bpm: float) -> dict[str, Any]:
    """Return the table (columns, formats, rows) of windows whose rate is right, by a contact sensor's marked beats.

    Whether a rate is reliable is not asked: with one colour for the whole face its parts agree by construction.
    """
    table = []
    for path in sorted(folder.glob("webcam_*.npz")):
        with np.load(path) as file:
            beats_s = np.asarray(file["ref_peaks"], dtype=np.float64) + WEBCAM_LAG_S
        clips = list(webcam_clips(path))
        ends_s = [(clip.start_s, clip.start_s + WINDOW_S) for clip in clips]
        true_bpm = 60 / WINDOW_S * np.diff(np.interp(ends_s, beats_s, np.arange(len(beats_s))), axis=1)[:, 0]
        cells = []
        for name in methods:
            method = load_method(name)
            rates = np.array([method(clip).hr_bpm or np.nan for clip in clips])
            cells.append(float(np.mean(np.abs(rates - true_bpm) <= within_bpm)))
        table.append([path.stem, len(clips), *cells])
    return {"columns": ["trace", "windows", *methods], "formats": dict.fromkeys(methods, ".1%"), "rows": table}


def main() -> None:
    """Print the rates of every trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    right = right_whole = 0
    folders = sorted(folder for folder in parser.parse_args().root.iterdir() if folder.is_dir())
    for folder in folders:
        t_s, red, true_bpm = read_folder(folder)
        wave = bandpass(detrend(resample(t_s, red, np.arange(t_s[0], t_s[-1], 1 / FS)), FS), FS)
        length, hop = int(WINDOW_S * FS), int(STRIDE_S * FS)
        rates = [estimate_heart_rate(wave[k : k + length], FS).hr_bpm for k in range(0, len(wave) - length + 1, hop)]
        found = float(np.median([rate for rate in rates if rate is not None]))
        whole = estimate_heart_rate(wave, FS).hr_bpm or 0.0
        right += abs(found - true_bpm) <= WITHIN_BPM
        right_whole += abs(whole - true_bpm) <= WITHIN_BPM
        line = f"strap {true_bpm:5.1f}  camera {found:5.1f} ({found - true_bpm:+.1f})"
        print(f"{folder.name}  {t_s[-1] - t_s[0]:5.0f} s  {line}")
    print(f"{right} of {len(folders)} within {WITHIN_BPM:g} bpm; {right_whole} by one spectrum over the whole trace")


if __name__ == "__main__":
    main()
