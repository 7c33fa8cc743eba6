"""Heart rate of a pulse wave.

Every wave of this package, from a formula or a net, becomes ``hr_bpm`` by ``estimate_heart_rate``: one function, one
band and one grid, so that methods differ only by their waves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.signals.filters import remove_line
from autohr.types import Float

BAND_BPM = (40.0, 180.0)
"""Lowest and highest rate that is looked for."""

GRID_BPM = 0.1
"""Coarsest spacing of the spectrum on which the peak is looked for; it is refined between the points afterwards."""

LEAST_PERIODS = 2.5
"""Number of periods of the band's lower edge that a wave must hold (3.75 s at 40 bpm). With fewer, the main lobe of the
window reaches down to zero frequency, and the slowest rates are confused with the trend."""

HALF_RATE_POWER = 0.35
"""Power of a line at half the strongest peak's rate, relative to that peak, from which it is taken as the true rate.

A pulse whose second harmonic is stronger than its fundamental keeps, in real and simulated waves, a fundamental of at
least this power; in noise a LOCAL PEAK within the resolution of exactly half the rate reaches it seldom
(tests/test_signals.py measures both)."""

POOLED_NOISE = 0.3
"""Share of a wave's power that is assumed to be noise spread evenly over the band, which limits how much one window can
weigh against all others. With 0.1 to 0.5 the same 12 of 14 talking heads came out right."""

SNR_BAND_HZ = (0.5, 4.0)
SNR_HALF_WIDTH_HZ = (0.1, 0.2)
"""Signal-to-noise ratio of de Haan & Jeanne 2013 as iPhys computes it: the power within 0.1 Hz of the rate and 0.2 Hz
of its double, over the rest of 0.5 to 4 Hz."""


@dataclass(frozen=True)
class HeartRate:
    """Heart rate with figures of its quality; None or 0 where the wave is constant or has no peak in the band."""

    hr_bpm: float | None
    snr_db: float | None
    peak_share: float
    """0..1: power of the chosen peak over that of the strongest in the band; 1 unless the harmonic check moved it."""
    runner_up: float
    """0..1: power of the strongest peak that is neither the chosen one nor its harmonic or half, over the chosen
    one."""


def power_spectrum(
    x: Float, fs: float, *, low_hz: float = 0.0, high_hz: float | None = None, grid_hz: float = GRID_BPM / 60
) -> tuple[Float, Float]:
    """Return freqs_hz (F,) and power (..., F) of the Hann periodogram of x (..., N), on a grid of at most ``grid_hz``.

    The straight line through x is subtracted first, so that drift does not leak into the slow rates. A sine of
    amplitude A shows A^2 / 4 at its line, whatever the length.
    """
    x = np.asarray(x, dtype=np.float64)
    n_samples = x.shape[-1]
    window = np.hanning(n_samples + 2)[1:-1]
    n_fft = int(2 ** np.ceil(np.log2(max(fs / grid_hz, n_samples))))
    spectrum = np.fft.rfft(remove_line(x) * window, n_fft, axis=-1)
    freqs_hz: Float = np.asarray(np.fft.rfftfreq(n_fft, 1 / fs), dtype=np.float64)
    keep = (freqs_hz >= low_hz) & (freqs_hz <= (high_hz if high_hz is not None else fs / 2))
    power: Float = np.abs(spectrum[..., keep]) ** 2 / window.sum() ** 2
    return freqs_hz[keep], power


def estimate_heart_rate(bvp: Float, fs: float, band_bpm: tuple[float, float] = BAND_BPM) -> HeartRate:
    """Estimate the heart rate of a pulse wave bvp (N,).

    The rate is the strongest local maximum of the Hann spectrum inside the band, corrected where it is only the second
    harmonic of the pulse, then refined by least squares on a line and a sine. The refinement removes the error of the
    grid, and that of the mirror image at negative frequency (up to 0.18 bpm on 4 s of a slow sine).

    Raises
    ------
    ValueError
        A band that does not fit fs, or a wave that is not (N,) or holds NaN.
    SignalTooShort
        Fewer than ``LEAST_PERIODS`` periods of the band's lower edge.

    Examples
    --------
    >>> t_s = np.arange(300) / 30
    >>> rate = estimate_heart_rate(np.sin(2 * np.pi * 72 / 60 * t_s), fs=30)
    >>> round(rate.hr_bpm, 2)
    72.0
    """
    bvp = np.asarray(bvp, dtype=np.float64)
    low_bpm, high_bpm = band_bpm
    if bvp.ndim != 1 or not np.isfinite(bvp).all():
        raise ValueError(f"bvp must be (N,) and finite, not {bvp.shape} with {np.isnan(bvp).sum()} NaN.")
    if not 0 < low_bpm < high_bpm:
        raise ValueError(f"band_bpm={band_bpm} must be two positive rates, the lower one first.")
    if high_bpm / 60 >= fs / 2:
        raise ValueError(
            f"{fs:g} samples per second cannot show {high_bpm:g} bpm; at least {high_bpm / 30:.1f} are needed. "
            "Lower the band, or use a video with more frames per second."
        )
    least = int(np.ceil(LEAST_PERIODS * 60 / low_bpm * fs))
    if len(bvp) < least:
        raise SignalTooShort(
            f"{len(bvp) / fs:.1f} s of pulse is too short for rates from {low_bpm:g} bpm; "
            f"give at least {least / fs:.1f} s."
        )
    scale = float(np.abs(bvp - bvp.mean()).max())
    if scale <= 1e-9 * max(float(np.abs(bvp).max()), 1e-300):
        return HeartRate(None, None, 0.0, 0.0)
    wave = (bvp - bvp.mean()) / scale

    # One grid step more on both sides lets a rate exactly on the band's edge be a local maximum.
    slack_hz = 1.0 / 60
    freqs_hz, power = power_spectrum(wave, fs, low_hz=low_bpm / 60 - slack_hz, high_hz=high_bpm / 60 + slack_hz)
    peaks: NDArray[np.intp] = np.flatnonzero((power[1:-1] > power[:-2]) & (power[1:-1] >= power[2:])) + 1
    if not len(peaks):
        return HeartRate(None, None, 0.0, 0.0)
    strongest = peaks[np.argmax(power[peaks])]
    chosen = _fundamental(freqs_hz, power, peaks, int(strongest), resolution_hz=fs / len(bvp))
    hr_hz = _refine(wave, fs, float(freqs_hz[chosen]))
    hr_bpm = float(np.clip(60 * hr_hz, low_bpm, high_bpm))

    ratio = freqs_hz[peaks] / freqs_hz[chosen]
    width = fs / len(bvp) / freqs_hz[chosen]
    kin = np.zeros(len(peaks), dtype=bool)
    for multiple in (0.5, 1.0, 2.0, 3.0):
        kin |= np.abs(ratio - multiple) < 2 * width
    others = power[peaks[~kin]]
    return HeartRate(
        hr_bpm=hr_bpm,
        snr_db=snr_db(wave, fs, hr_bpm),
        peak_share=float(power[chosen] / power[strongest]),
        runner_up=float(min(1.0, others.max() / power[chosen])) if len(others) else 0.0,
    )


def pooled_heart_rate(
    waves: Sequence[Float], fs: Sequence[float], weights: Sequence[float], band_bpm: tuple[float, float] = BAND_BPM
) -> float | None:
    """Find the one rate on which several waves agree best, such as those of all windows of one face.

    Each spectrum is taken as a probability of each rate, and their logarithms are added: a line that is weak but
    present in all of them outweighs one that is strong in a few. None where no wave has power in the band.

    Parameters
    ----------
    waves
        Each (N,), of any length and its own ``fs`` in samples per second.
    weights
        How much each counts.

    Raises
    ------
    ValueError
        No wave, or not one ``fs`` and one weight for each.
    """
    if not waves or not len(waves) == len(fs) == len(weights):
        raise ValueError(f"{len(waves)} waves with {len(fs)} rates and {len(weights)} weights; give one for each.")
    low_bpm, high_bpm = band_bpm
    grid_bpm = np.linspace(low_bpm, high_bpm, round((high_bpm - low_bpm) / GRID_BPM) + 1)
    score = np.zeros(len(grid_bpm))
    for wave, rate_hz, weight in zip(waves, fs, weights, strict=True):
        freqs_hz, power = power_spectrum(wave, rate_hz, low_hz=(low_bpm - 1) / 60, high_hz=(high_bpm + 1) / 60)
        chance = np.interp(grid_bpm / 60, freqs_hz, power)
        if chance.sum() > 0:
            chance = (1 - POOLED_NOISE) * chance / chance.sum() + POOLED_NOISE / len(grid_bpm)
            score += weight * np.log(chance)
    return float(grid_bpm[np.argmax(score)]) if np.ptp(score) > 0 else None


def _fundamental(freqs_hz: Float, power: Float, peaks: NDArray[np.intp], strongest: int, resolution_hz: float) -> int:
    """Return the index of the pulse's fundamental: the strongest peak, or that at half its rate if strong enough.

    A third of the rate is not considered: no pulse has a third harmonic above its fundamental.
    """
    half_hz = freqs_hz[strongest] / 2
    near = peaks[np.abs(freqs_hz[peaks] - half_hz) < 0.5 * resolution_hz]
    if len(near):
        half = near[np.argmax(power[near])]
        if power[half] >= HALF_RATE_POWER * power[strongest]:
            return int(half)
    return strongest


def _refine(wave: Float, fs: float, near_hz: float) -> float:
    """Return the frequency near ``near_hz`` at which a line plus a sine explains most of the Hann-weighted wave.

    Least squares on 1, t, cos, sin at five frequencies one grid step apart, then the vertex of the parabola through the
    best three. Three rounds, each eight times finer.
    """
    n_samples = len(wave)
    t = (np.arange(n_samples) - (n_samples - 1) / 2) / fs
    root = np.sqrt(np.hanning(n_samples + 2)[1:-1])
    target = wave * root
    step_hz = 0.25 * fs / n_samples
    best_hz = near_hz
    for _ in range(3):
        freqs_hz = best_hz + step_hz * np.arange(-2, 3)
        explained = np.empty(5)
        for k, freq_hz in enumerate(freqs_hz):
            angle = 2 * np.pi * freq_hz * t
            basis = np.stack([np.ones_like(t), t, np.cos(angle), np.sin(angle)]) * root
            gram, moment = basis @ basis.T, basis @ target
            explained[k] = moment @ np.linalg.solve(gram, moment)
        best = int(np.clip(np.argmax(explained), 1, 3))
        left, middle, right = explained[best - 1 : best + 2]
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
        best_hz = float(freqs_hz[best] + step_hz * np.clip(shift, -1, 1))
        step_hz /= 8
    return best_hz


def snr_db(bvp: Float, fs: float, hr_bpm: float) -> float:
    """Return the signal-to-noise ratio in dB of bvp (N,) at ``hr_bpm``, after de Haan & Jeanne 2013.

    The bands are ``SNR_BAND_HZ``. On ten seconds a pure sine reads about 11 dB and not more, because the Hann window
    spreads it past 0.1 Hz.
    """
    freqs_hz, power = power_spectrum(bvp, fs, low_hz=SNR_BAND_HZ[0], high_hz=min(SNR_BAND_HZ[1], fs / 2))
    hr_hz = hr_bpm / 60
    signal = (np.abs(freqs_hz - hr_hz) <= SNR_HALF_WIDTH_HZ[0]) | (np.abs(freqs_hz - 2 * hr_hz) <= SNR_HALF_WIDTH_HZ[1])
    inside, outside = float(power[signal].sum()), float(power[~signal].sum())
    tiny = 1e-12 * (inside + outside) + 1e-300
    return float(10 * np.log10((inside + tiny) / (outside + tiny)))
