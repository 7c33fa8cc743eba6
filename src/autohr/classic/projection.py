"""LGI, OMIT and PBV: one projection of the mean skin colour for the whole window.

All take rgb (T, 3), 0..255, and fs in frames per second, and return bvp (T,), zero mean, positive where the skin holds
more blood. They are not in the AutoHR paper's tables; other toolboxes have them.

Fidelity: LGI and OMIT are what the public toolboxes compute (rPPG-Toolbox, read; the papers were not), with this
package's band-pass in place of theirs. PBV: see there.
"""

from __future__ import annotations

import numpy as np

from autohr.classic.colour import checked_rgb
from autohr.signals.filters import bandpass, detrend
from autohr.types import Float

BLOOD_SIGNATURE = (0.33, 0.77, 0.53)
"""Strength of the pulse in R, G, B of a white-balanced camera (de Haan & van Leest 2014). The simulator
(signals/simulate.py) draws pulses of exactly this colour, so PBV has an advantage in every synthetic test."""


def lgi(rgb: Float, fs: float) -> Float:
    """Return LGI's wave (Pilz et al. 2018): green of what is orthogonal to the chief direction of colour.

    The first left singular vector of rgb' (3, T) is close to the mean skin colour, so brighter and darker are projected
    out. The paper's further steps, its diffusion process among them, are not here, nor in the toolboxes.
    """
    rgb = _one_trace(rgb, fs)
    _, directions = np.linalg.eigh(rgb.T @ rgb)
    return _green_beside(rgb, directions[:, -1], fs)


def omit(rgb: Float, fs: float) -> Float:
    """Return OMIT's wave (Alvarez Casado & Bordallo Lopez 2023): LGI with the first direction of a QR factorisation.

    The first column of Q of rgb' (3, T) is the first frame's colour, so that one frame's noise turns the projection.
    """
    rgb = _one_trace(rgb, fs)
    return _green_beside(rgb, rgb[0] / np.linalg.norm(rgb[0]), fs)


def pbv(rgb: Float, fs: float) -> Float:
    """Return PBV's wave (de Haan & van Leest 2014): the projection that passes ``BLOOD_SIGNATURE`` and little else.

    c = colour / its mean - 1 (3, T), weights w solve (c c') w ~ signature, wave = w' c. One w serves the whole window,
    where the paper has short windows that overlap. On the one real face at hand (10 s) the whole window gave 6.9 dB,
    windows of 1.6 s 5.4, and a band-pass before the covariance 3.9: what moves slowly is what the weights must learn to
    avoid. The fixed signature is the paper's (toolboxes put the channels' own deviations in its place). Written from
    memory of the paper. 1e-6 of the covariance's trace is added to its diagonal: a grey video has rank one.
    """
    rgb = _one_trace(rgb, fs)
    c = (rgb / rgb.mean(axis=0) - 1).T
    covariance = c @ c.T
    covariance += (1e-6 * np.trace(covariance) + 1e-30) * np.eye(3)
    signature = np.array(BLOOD_SIGNATURE)
    weights = np.linalg.solve(covariance, signature)
    # Scaled so that the signature itself passes with gain one: the sign is settled, and the size is a colour change.
    wave = -bandpass(weights @ c, fs) / (weights @ signature)
    return np.asarray(wave - wave.mean())


def _green_beside(rgb: Float, direction: Float, fs: float) -> Float:
    """Return green of rgb (T, 3) without its part along ``direction`` (3,) of unit length, as a pulse wave."""
    beside = rgb[:, 1] - direction[1] * (rgb @ direction)
    wave = -bandpass(detrend(beside, fs), fs)
    return np.asarray(wave - wave.mean())


def _one_trace(rgb: Float, fs: float) -> Float:
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim != 2:
        raise ValueError(f"rgb must be (T, 3), not {rgb.shape}.")
    return rgb
