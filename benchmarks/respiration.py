"""Breaths per minute from a pulse wave: amplitude, baseline and rate of its beats fused, and their error.

    python benchmarks/respiration.py DATA

After Karlen et al. 2013: each of the three is a series over the beats; the peak of its spectrum between 6 and 30 a
minute is its answer, the mean of the three is given where they agree to a standard deviation of 4 a minute, else
withheld. Judged on simulated pulses whose beats are timed as badly as in video, on two people of five minutes whose
finger was measured beside the webcam (no breath was recorded: the finger's answer stands for the truth), and on the one
clip with a respiration curve.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from autohr import measure
from autohr.classic import CLASSIC
from autohr.signals.filters import bandpass
from autohr.signals.hrv import accepted_intervals, detect_beats
from autohr.signals.rate import estimate_heart_rate
from autohr.signals.simulate import simulate_pulse
from autohr.types import Float

BAND = (6.0, 30.0)
"""Breaths per minute that are looked for: adults at rest, and slow breathing."""
WINDOW_S, STRIDE_S = 32.0, 16.0
"""Windows of Karlen et al.: three breaths at the lowest rate."""
MAX_SD = 4.0
"""Largest standard deviation of the three answers at which their mean is given (Karlen et al.)."""
CLOCK_HZ = 4.0


def series_of(beats_s: Float, wave: Float, base: Float, fs: float) -> dict[str, tuple[Float, Float]]:
    """Return (times, values) of the intervals, of the waves' heights and of the baseline at the beats."""
    ibi_ms, fits = accepted_intervals(beats_s)
    at = np.clip(np.round(beats_s * fs).astype(int), 0, len(wave) - 1)
    lows = np.array([wave[first : last + 1].min() for first, last in itertools.pairwise(at)])
    times_s = beats_s[1:]
    return {
        "rate": (times_s[fits], ibi_ms[fits]),
        "amplitude": (times_s, wave[at[1:]] - lows),
        "baseline": (np.arange(len(base)) / fs, base),
    }


def strongest(times_s: Float, values: Float) -> float:
    """Return the breaths per minute of the highest peak of the spectrum inside ``BAND``; NaN without one."""
    if len(values) < 8:
        return float("nan")
    clock_s = np.arange(times_s[0], times_s[-1], 1 / CLOCK_HZ)
    even = np.interp(clock_s, times_s, values)
    even = even - np.polyval(np.polyfit(clock_s, even, 1), clock_s)
    power = np.abs(np.fft.rfft(even * np.hanning(len(even)), 4096)) ** 2
    per_min = 60 * np.fft.rfftfreq(4096, 1 / CLOCK_HZ)
    peaks = np.flatnonzero((power[1:-1] > power[:-2]) & (power[1:-1] >= power[2:])) + 1
    peaks = peaks[(per_min[peaks] >= BAND[0]) & (per_min[peaks] <= BAND[1])]
    return float(per_min[peaks[np.argmax(power[peaks])]]) if len(peaks) else float("nan")


def breathing(wave: Float, base: Float, fs: float, beats_s: Float | None = None) -> dict[str, float]:
    """Return the answers of the three, their mean ("fused") and ("given") that mean where they agree, else NaN."""
    rate = estimate_heart_rate(wave, fs).hr_bpm
    if rate is None:
        return dict.fromkeys(("rate", "amplitude", "baseline", "fused", "given"), float("nan"))
    beats_s = detect_beats(wave, fs, rate) if beats_s is None else beats_s
    answers = {name: strongest(*series) for name, series in series_of(beats_s, wave, base, fs).items()}
    spread, mean = np.std(list(answers.values()), ddof=1), float(np.mean(list(answers.values())))
    return {**answers, "fused": mean, "given": mean if spread <= MAX_SD else float("nan")}


def report(title: str, found: list[dict[str, float]], true: Float) -> None:
    """Print the error of each answer, and how much of what was given is right."""
    print(f"{title}: {len(found)} windows, true {np.nanmin(true):.1f} to {np.nanmax(true):.1f} a minute")
    for name in found[0]:
        error = np.abs(np.array([one[name] for one in found]) - true)
        known = np.isfinite(error)
        if known.any():
            print(
                f"  {name:9} {known.sum():4} answers, mean error {error[known].mean():5.2f}, within 2 a minute "
                f"{100 * (error[known] <= 2).mean():3.0f} %, 95th percentile {np.percentile(error[known], 95):5.2f}"
            )
    print(f"  constant  mean error of the median rate {np.nanmean(np.abs(true - np.nanmedian(true))):5.2f}")


def made(noise_ms: float, n: int = 200, fs: float = 30.0) -> None:
    """Judge on simulated pulses whose rate, height and baseline breathe, each by chance more or less."""
    found, true = [], []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        resp, hrv = float(rng.uniform(8, 28)), float(rng.uniform(0.005, 0.06))
        pulse = simulate_pulse(WINDOW_S, fs, float(rng.uniform(55, 95)), seed=seed, hrv=hrv, resp_bpm=resp)
        breath = np.sin(2 * np.pi * (resp / 60 * np.arange(len(pulse.bvp)) / fs + rng.uniform()))
        # Noise of the wave and of the colour below the band: a tenth to all of the wave's own size.
        wave = pulse.bvp * (1 + rng.uniform(0, 0.25) * breath) + rng.uniform(0.1, 1) * noise_ms / 30 * rng.normal(
            size=len(pulse.bvp)
        )
        wander = np.cumsum(rng.normal(size=len(pulse.bvp))) / fs
        base = rng.uniform(0, 0.5) * breath + noise_ms / 30 * wander
        beats_s = np.sort(pulse.beats_s + rng.normal(0, noise_ms / 1000, len(pulse.beats_s)))
        found.append(breathing(bandpass(wave, fs, (0.7, 4.0)), base, fs, beats_s))
        true.append(resp)
    report(f"made waves, beats good to {noise_ms:g} ms", found, np.array(true))


def slow(trace: Float, fs: float) -> Float:
    """Return a trace below the heart's band, without its drift."""
    return bandpass(trace, fs, (0.1, 0.55))


def webcam(path: Path) -> None:
    """Judge the colours of a face against the finger beside it, window by window."""
    with np.load(path) as file:
        held = dict(file)
    fs = 30.0
    clock_s = np.arange(held["t"][0], min(held["t"][-1], held["ref_t"][-1]), 1 / fs)
    rgb = np.stack([np.interp(clock_s, held["t"], held["rgb"][:, k]) for k in range(3)], axis=1)
    finger = np.interp(clock_s - 0.8, held["ref_t"], held["ref_ppg"])
    video: dict[str, list[dict[str, float]]] = {"pos": [], "chrom": []}
    contact: list[dict[str, float]] = []
    for first in range(0, len(clock_s) - round(WINDOW_S * fs), round(STRIDE_S * fs)):
        part = slice(first, first + round(WINDOW_S * fs))
        contact.append(breathing(bandpass(finger[part], fs, (0.7, 4.0)), slow(finger[part], fs), fs))
        for name, answers in video.items():
            wave = CLASSIC[name](rgb[part], fs)
            answers.append(breathing(bandpass(wave, fs, (0.7, 4.0)), slow(rgb[part, 1], fs), fs))
    given = np.array([one["given"] for one in contact])
    print(f"{path.stem}: the finger's three agree in {np.isfinite(given).sum()} of {len(given)} windows")
    for name, answers in video.items():
        if np.isfinite(given).any():
            report(f"{path.stem}, {name} against the finger where its three agree", answers, given)


def clip(folder: Path) -> None:
    """Judge on the one clip with a respiration curve."""
    table = np.genfromtxt(folder / "ecg_76bpm.csv", delimiter=",", names=True)
    fs = 30.0
    times_s = np.arange(len(table)) / fs
    curve = table["resp"] - table["resp"].mean()
    tops = [k for k in range(15, len(curve) - 15) if curve[k] == curve[k - 15 : k + 16].max()]
    print(f"ecg_76bpm: {times_s[-1]:.1f} s, tops of the respiration curve at {times_s[tops].round(1)} s", end="")
    print(f"; its own estimate (column rr) {table['rr'].min():.1f} to {table['rr'].max():.1f} a minute")
    answers = {"finger": breathing(bandpass(table["ppg"], fs, (0.7, 4.0)), slow(table["ppg"], fs), fs)}
    for method in ("autohr", "pos"):
        face = measure(folder / "ecg_76bpm.mp4", method=method).faces[0]
        if face.bvp is not None:
            wave = np.asarray(face.bvp.bvp, dtype=float)
            answers[method] = breathing(wave, slow(wave, face.bvp.fps), face.bvp.fps)
    for reader, found in answers.items():
        print(f"  {reader:9} " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the real material")
    data = parser.parse_args().data
    for noise_ms in (0.0, 10.0, 20.0, 30.0):
        made(noise_ms)
    for name in ("webcam_02", "webcam_04"):
        webcam(data / "traces" / f"{name}.npz")
    clip(data / "real")


if __name__ == "__main__":
    main()
