"""Poh2011 (ICA): noncontact, multiparameter physiological measurements using a webcam (Poh et al. 2011).

rgb (T, 3) -> bvp (T,). Detrend, z-score, JADE on the three channels, then the source whose spectrum has the highest
peak relative to the rest inside the heart band.

Differs from the paper, and why: the detrending cut-off is given in Hz (0.4; the paper's lambda = 10 at 15 frames per
second is 0.94 Hz and would weaken every rate below 56 bpm); the peak is looked for inside the band only, since a
wandering light wins below it; the last filters are this package's band-pass instead of a 5-point mean and an FIR of
128 taps; the rate comes from the spectrum (signals/rate.py) and not from the mean interval of detected peaks. JADE is
written from Cardoso & Souloumiac 1993; three channels make it small.
"""

from __future__ import annotations

import numpy as np

from autohr.classic.colour import green
from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass, detrend, standardise
from autohr.signals.rate import BAND_BPM, power_spectrum
from autohr.types import Float

JADE_TOLERANCE = 1e-6
"""Rotation (radians) below which the joint diagonalisation ends; far below what T samples can resolve."""


def ica(rgb: Float, fs: float) -> Float:
    """Return the pulse wave bvp (T,) of mean skin colour rgb (T, 3). Positive where the skin holds more blood.

    ICA leaves sign and order open: the order is settled by the spectrum, the sign by the green channel.

    Raises
    ------
    SignalTooShort
        Fewer samples than one period of the heart band's lower edge.
    ValueError
        Rgb of another shape, or not finite.
    """
    rgb = np.asarray(rgb, dtype=np.float64)
    if rgb.ndim != 2 or rgb.shape[1] != 3:
        raise ValueError(f"rgb must be (T, 3), not {rgb.shape}.")
    reference = green(rgb, fs)
    sources = jade(standardise(detrend(rgb.T, fs)))
    waves = bandpass(sources, fs)
    _, power = power_spectrum(waves, fs, low_hz=BAND_BPM[0] / 60, high_hz=BAND_BPM[1] / 60)
    total = power.sum(axis=-1)
    share = np.divide(power.max(axis=-1), total, out=np.zeros(len(waves)), where=total > 0)
    wave: Float = waves[int(np.argmax(share))]
    return wave if float(wave @ reference) >= 0 else -wave


def jade(x: Float) -> Float:
    """Separate mixtures x (C, N) into independent sources (M, N), M <= C, by joint diagonalisation of fourth cumulants.

    Each has unit variance; order and sign are arbitrary. M is smaller than C when channels repeat each other (a grey
    video has only one): directions with less than 1e-8 of the strongest one's variance are left out.
    """
    n_channels, n_samples = x.shape
    if n_samples < 10 * n_channels:
        raise SignalTooShort(
            f"{n_samples} samples are too few to separate {n_channels} channels; give {10 * n_channels}."
        )
    centred = x - x.mean(axis=1, keepdims=True)
    variance, directions = np.linalg.eigh(centred @ centred.T / n_samples)
    use = variance > 1e-8 * max(float(variance[-1]), 1e-300)
    if not use.any() or variance[-1] <= 0:
        return np.zeros((1, n_samples))
    white = (directions[:, use] / np.sqrt(variance[use])).T @ centred
    m = len(white)

    cumulants = []
    for i in range(m):
        for j in range(i + 1):
            matrix = (white * white[i] * white[j]) @ white.T / n_samples
            matrix -= np.outer(np.eye(m)[i], np.eye(m)[j]) + np.outer(np.eye(m)[j], np.eye(m)[i])
            if i == j:
                matrix -= np.eye(m)
                cumulants.append(matrix)
            else:
                # Off-diagonal pairs stand for (i, j) and (j, i), hence the root of two.
                cumulants.append(np.sqrt(2.0) * matrix)
    stack = np.stack(cumulants)  # (K, m, m)

    rotation = np.eye(m)
    for _ in range(100):
        largest = 0.0
        for p in range(m - 1):
            for q in range(p + 1, m):
                h = np.stack([stack[:, p, p] - stack[:, q, q], stack[:, p, q] + stack[:, q, p]])
                gram = h @ h.T
                on, off = gram[0, 0] - gram[1, 1], gram[0, 1] + gram[1, 0]
                angle = 0.5 * np.arctan2(off, on + np.hypot(on, off))
                largest = max(largest, abs(angle))
                if abs(angle) > JADE_TOLERANCE:
                    c, s = np.cos(angle), np.sin(angle)
                    turn = np.eye(m)
                    turn[[p, q], [p, q]] = c
                    turn[p, q], turn[q, p] = -s, s
                    stack = turn.T @ stack @ turn
                    rotation = rotation @ turn
        if largest <= JADE_TOLERANCE:
            break
    sources: Float = rotation.T @ white
    return sources
