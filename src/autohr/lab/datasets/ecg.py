"""Heart beats of an electrocardiogram, the reference where no pulse wave was recorded.

ecg (N,) -> detect_r_peaks -> beats_s (K,) -> rate_between(beats_s, t_s)       the rate, beats per minute
                                           -> pulse_of_beats(beats_s, t_s)     a pulse wave, reconstructed
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass
from autohr.signals.hrv import accepted_intervals, find_tops
from autohr.signals.simulate import SYSTOLIC_PHASE, pulse_shape
from autohr.types import Float

QRS_BAND_HZ = (5.0, 15.0)
"""Band in which the QRS complex is strongest against P and T waves and muscle (Pan & Tompkins 1985)."""
QRS_S = 0.15
"""Time over which energy is averaged, about the widest QRS complex (Pan & Tompkins 1985)."""
REFRACTORY_S = 0.25
"""Smallest distance of two beats: 240 bpm, the fastest rate that is taken for one (bob.db.hci_tagging drops above it
too)."""
LEAST_SHARE = 0.4
"""Smallest slope of a beat, as a share of that of the beats around it. Ours: in simulated ECG (our own and neurokit2's,
45 to 110 bpm) T waves and noise stay below 0.25, beats above 0.6."""
RATE_BPM = (30.0, 240.0)
"""Rates outside which an interval counts as a missed or a false beat (bob.db.hci_tagging)."""

PULSE_DELAY_S = 0.25
"""Delay from the R peak to the systolic peak in the face, in ``pulse_of_beats``. Ours and rough: the pulse needs about
0.15 s to the head and 0.1 s to rise there, and both differ between people."""


def detect_r_peaks(ecg: Float, fs: float) -> Float:
    """Find the R peaks of ecg (N,): times (K,) in seconds from its first sample; unit and sign do not matter.

    After Pan & Tompkins (1985): band-pass, slope, energy over a QRS complex, a threshold that follows the height of the
    beats around it, a second look with half of it where a beat seems to be missed. Unlike theirs it looks both ways in
    time. The peak itself is the extremum of the band-passed wave, on a parabola through three samples.

    Raises
    ------
    ValueError
        Fewer than 60 samples per second, which do not show a QRS complex.
    SignalTooShort
        Less than 3 s.
    """
    if not fs >= 60:
        raise ValueError(f"fs={fs} is too slow for an ECG; give at least 60 samples per second.")
    ecg = np.asarray(ecg, dtype=np.float64)
    if len(ecg) < 3 * fs:
        raise SignalTooShort(
            f"{len(ecg) / fs:.1f} s of ECG; at least 3 s are needed to know its beats by their height."
        )
    wave = bandpass(ecg, fs, QRS_BAND_HZ)
    width = max(1, round(QRS_S * fs)) | 1
    energy = np.convolve(np.pad(np.gradient(wave) ** 2, width // 2, mode="edge"), np.full(width, 1 / width), "valid")
    height = np.sqrt(np.maximum(energy, 0.0))
    tops = find_tops(height, round(REFRACTORY_S * fs), 0.0)
    if not len(tops) or height.max() == 0:
        return np.empty(0)
    level = _level(height, fs)[tops]
    beats = tops[height[tops] >= LEAST_SHARE * level]
    beats = _look_again(beats, tops[(height[tops] >= 0.5 * LEAST_SHARE * level)], height)

    reach = round(QRS_S / 2 * fs)
    near = np.clip(beats[:, None] + np.arange(-reach, reach + 1), 0, len(wave) - 1)
    around = wave[near]
    # The sign that is larger at most beats; taking each beat's own would jump between R and S.
    sign = 1.0 if np.median(around.max(axis=1) + around.min(axis=1)) >= 0 else -1.0
    peaks = np.unique(near[np.arange(len(beats)), (sign * around).argmax(axis=1)])
    inner = peaks[(peaks > 0) & (peaks < len(wave) - 1)]
    before, at, after = (sign * wave[inner + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.divide(0.5 * (before - after), bend, out=np.zeros(len(inner)), where=bend < 0)
    return np.asarray((inner + np.clip(shift, -0.5, 0.5)) / fs, dtype=np.float64)


def _level(height: Float, fs: float) -> Float:
    """Return the usual height (N,) of a beat near each sample: the median of the maxima of 2 s blocks, five of them.

    Each block holds a beat at 30 bpm or more, and one artefact moves one block, not the median.
    """
    size = round(2 * fs)
    n_blocks = max(1, len(height) // size)
    edges = np.linspace(0, len(height), n_blocks + 1).astype(int)
    maxima = np.maximum.reduceat(height, edges[:-1])
    padded = np.pad(maxima, 2, mode="edge" if n_blocks < 3 else "reflect")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    centres = (edges[:-1] + edges[1:]) / 2
    return np.asarray(np.interp(np.arange(len(height)), centres, usual), dtype=np.float64)


def _look_again(beats: NDArray[np.intp], weaker: NDArray[np.intp], height: Float) -> NDArray[np.intp]:
    """Add to ``beats`` the highest of ``weaker`` in each interval over 1.66 of the median (Pan & Tompkins 1985)."""
    if len(beats) < 3:
        return beats
    longest = 1.66 * float(np.median(np.diff(beats)))
    added = []
    for first, last in itertools.pairwise(beats):
        between = weaker[(weaker > first) & (weaker < last)]
        if last - first > longest and len(between):
            added.append(between[height[between].argmax()])
    return np.sort(np.concatenate([beats, np.array(added, dtype=np.intp)]))


def _sound_intervals(beats_s: Float) -> NDArray[np.bool_]:
    """Return a mask (K - 1,) of the intervals within ``RATE_BPM`` that agree with their neighbours (``hrv``)."""
    ibi_s = np.diff(beats_s)
    _, agree = accepted_intervals(beats_s)
    return agree & (ibi_s > 60 / RATE_BPM[1]) & (ibi_s < 60 / RATE_BPM[0])


def rate_between(beats_s: Float, t_s: Float) -> Float:
    """Return the rate (N,) at the times ``t_s`` (N,), from the interval of beats_s (K,) around each.

    The rate is a step for each beat, so that its mean over a time is the number of beats in it, which is also a video's
    rate over that time. NaN before the first beat, after the last, and in intervals that are a missed or a false
    beat. For simulated ECG tests hold the mean to 0.2 bpm.
    """
    inside = (t_s >= beats_s[0]) & (t_s < beats_s[-1]) if len(beats_s) > 1 else np.zeros(len(t_s), dtype=bool)
    out = np.full(len(t_s), np.nan)
    if inside.any():
        rate_bpm = np.where(_sound_intervals(beats_s), 60 / np.diff(beats_s), np.nan)
        out[inside] = rate_bpm[np.searchsorted(beats_s, t_s[inside], side="right") - 1]
    return out


def pulse_of_beats(beats_s: Float, t_s: Float, delay_s: float = PULSE_DELAY_S) -> Float:
    """Reconstruct a pulse wave (N,) at the times ``t_s`` (N,), peaking ``delay_s`` after each of beats_s (K,).

    Only the beats' times are real. Their shape is that of ``simulate.pulse_shape``, their height is
    always the same. It stands in where a wave is needed to learn from and an ECG is all there is. NaN as in
    ``rate_between``.
    """
    at_s = np.asarray(t_s, dtype=np.float64) - delay_s
    phase = np.interp(at_s, beats_s, np.arange(len(beats_s))) if len(beats_s) else np.zeros(len(at_s))
    wave = pulse_shape((phase + SYSTOLIC_PHASE) % 1.0)
    return np.where(np.isfinite(rate_between(beats_s, at_s)), wave - wave.mean(), np.nan)
