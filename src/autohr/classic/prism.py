"""PRISM (Morales et al. 2025, arXiv:2511.21903): POS whose detrending and colour mixing are chosen for each window.

    rgb (T, 3) -> each cut-off: colour / its trend - 1 -> S1, S2 -> each alpha: S1 + alpha S2 -> the clearest wave

Fidelity: a reconstruction from the abstract. What is published: POS's two signals, photometric detrending and mixing
chosen together on a grid, online, by the quality of the signal, without training. Ours: both grids, the trend (a
smooth curve as in ``signals.filters.detrend``) and the quality (power at the strongest rate and its double over the
rest of the heart band, as in de Haan & Jeanne 2013). The paper's errors (0.77 bpm on PURE, 0.66 on UBFC-rPPG) are not
claimed.
"""

from __future__ import annotations

import numpy as np

from autohr.classic.colour import checked_rgb, ratio_of_sd
from autohr.errors import SignalTooShort
from autohr.signals.filters import HEART_BAND_HZ, bandpass, detrend
from autohr.types import Float

CUTOFFS_HZ = (0.2, 0.4, 0.6)
"""Cut-offs of the trend. Ours: below the slowest rate, 40 bpm or 0.67 Hz."""
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Weights of S2 against S1, both of deviation 1; POS has 1. Ours."""
NEAR_HZ = 0.15
"""Half width of what counts as the pulse, around its rate and its double. Ours: the resolution of some 7 s."""
LEAST_S = 4.0
"""Shortest window in which a spectrum tells one wave from another. Ours."""


def prism(rgb: Float, fs: float) -> Float:
    """Return PRISM's wave (T,) for rgb (T, 3), zero mean, positive where the skin holds more blood.

    Raises
    ------
    SignalTooShort
        Less than ``LEAST_S``.
    ValueError
        ``rgb`` is no colour over time.

    Examples
    --------
    >>> from autohr.signals.rate import estimate_heart_rate
    >>> from autohr.signals.simulate import simulate_pulse, simulate_rgb
    >>> rgb = simulate_rgb(simulate_pulse(duration_s=20, fs=30, hr_bpm=72, hrv=0).bvp, fs=30)
    >>> round(estimate_heart_rate(prism(rgb, 30), 30).hr_bpm)
    72
    """
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim != 2:
        raise ValueError(f"rgb must be (T, 3), not {rgb.shape}.")
    if len(rgb) < LEAST_S * fs:
        raise SignalTooShort(f"{len(rgb) / fs:.1f} s of colour; give at least {LEAST_S:g} s.")
    best, clearest = np.zeros(len(rgb)), -np.inf
    for cutoff_hz in CUTOFFS_HZ:
        change = _without_trend(rgb, fs, cutoff_hz)
        s1 = bandpass(change[:, 1] - change[:, 2], fs, HEART_BAND_HZ)
        s2 = bandpass(change[:, 1] + change[:, 2] - 2 * change[:, 0], fs, HEART_BAND_HZ)
        s2 *= ratio_of_sd(s1, s2)
        for mix in MIXES:
            wave = s1 + mix * s2
            quality = _quality(wave, fs)
            if quality > clearest:
                best, clearest = wave, quality
    return np.asarray(best.mean() - best)


def _without_trend(rgb: Float, fs: float, cutoff_hz: float) -> Float:
    """Return colour over its own slow course, minus 1 (T, 3): a change of light divides out, it does not subtract."""
    change = np.column_stack([detrend(channel, fs, cutoff_hz) for channel in rgb.T])
    return np.asarray(change / np.maximum(rgb - change, 1e-3))


def _quality(wave: Float, fs: float) -> float:
    """Return power at the strongest rate and its double over that in the rest of the band."""
    windowed = (wave - wave.mean()) * np.hanning(len(wave))
    n_fft = 1 << (4 * len(wave) - 1).bit_length()
    power = np.abs(np.fft.rfft(windowed, n_fft)) ** 2
    freqs_hz = np.fft.rfftfreq(n_fft, 1 / fs)
    band = (freqs_hz >= HEART_BAND_HZ[0]) & (freqs_hz <= HEART_BAND_HZ[1])
    if not power[band].any():
        return 0.0
    rate_hz = freqs_hz[band][power[band].argmax()]
    near = band & ((np.abs(freqs_hz - rate_hz) <= NEAR_HZ) | (np.abs(freqs_hz - 2 * rate_hz) <= NEAR_HZ))
    return float(power[near].sum() / max(power[band & ~near].sum(), 1e-30))
