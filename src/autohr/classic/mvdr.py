"""MVDR: the minimum variance distortionless response beamformer (Capon 1969), over the cells of a face.

Its use for the pulse is ours; we know of no paper that has it, after a brief search.

Every cell of the face and every colour is a channel. A pulse shows in all of them at once and in known shares: as much
as the cell is skin, and by ``BLOOD_SIGNATURE`` in its colours. Light, movement and the codec show in other shares. So
of all weighted sums w' x that pass the pulse's shares s with gain one, take the one with the least power:

    x (C, T)  relative changes of colour, band-passed, each channel divided by its noise n: the standard deviation of
              its change from frame to frame, which movement and pulse, both slow, hardly touch
    w         solves (x x' / T + l d 1) w = s / n,   d = the channels' mean power
    wave      w' x

The shares are only about right, so a strong pulse looks like something beside them that is to be avoided. Hence the
white noise gain of w, (w' s/n)^2 / (w' w), must be at least ``LEAST_GAIN`` of the most that any w has: l begins at
``LOADING`` and is doubled until it is (after Cox, Zeskind & Owen 1987; their constraint, not their algorithm).

PBV is the same with the three channels of one cell, so it can avoid two things at the most; this one can avoid as many
as there are channels, wherever they show. Waves of which it is known that they hold no pulse (the background's colours,
the head's movement) are channels too, with s = 0 and a high power: they are taken out of the sum at nearly any price.

Chosen on 218 hard synthetic recordings, 96 usual ones, 48 real videos with a pulse laid in and 28 talking heads, where
wide ranges of all settings gave much the same. Formulas from memory.
"""

from __future__ import annotations

import numpy as np

from autohr.classic.colour import checked_rgb
from autohr.classic.projection import BLOOD_SIGNATURE
from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass
from autohr.types import Float

LOADING = 0.5
"""Smallest diagonal loading, as a share of the channels' mean power. 0.3 to 4 gave much the same."""

LEAST_GAIN = 0.55
"""Smallest white noise gain; the plain average has 1. Without a limit the one real face at hand, a strong pulse of 53
bpm, is read as 55.2 at -3 dB; with 0.5 as 53.4 at 2 dB, with 0.8 as 53.1 at 7 dB, but then weak pulses are lost."""

MAX_DOUBLINGS = 40
"""Largest number of times the loading is doubled. It is then 1e12 times its first value, and the gain nearly 1."""

REFERENCE_GAIN = 10.0
"""Standard deviation of a reference, relative to a mean channel's. 5 to 30 gave the same; 1 had no effect."""

LEAST_NOISE = 1e-4
"""Smallest noise assumed of a channel's relative change from frame to frame, a fortieth of a grey level: a cell that a
codec has frozen is not free of noise."""

LEAST_SKIN = 0.2
"""Share of skin below which a cell counts as having none; it then only shows what to avoid."""


def mvdr(rgb: Float, fs: float, skin: Float | None = None, references: Float | None = None) -> Float:
    """Return the pulse wave bvp (T,) of the colours of R cells on and around a face, rgb (R, T, 3), or of one, (T, 3).

    Positive where the skin holds more blood; its size has no meaning.

    Parameters
    ----------
    rgb
        Mean colours, 0..255.
    fs
        In Hz.
    skin
        (R,) 0..1, how much each cell is skin; all alike if None, or if none reaches ``LEAST_SKIN``.
    references
        (K, T) waves that hold no pulse. Rows with NaN count as absent.

    Raises
    ------
    SignalTooShort
        Less than one period of the heart band's lower edge.
    ValueError
        Rgb of another shape, or not finite; skin or references that do not fit it.
    """
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim not in (2, 3) or rgb.shape[0] == 0:
        raise ValueError(f"rgb must be (R, T, 3) or (T, 3), not {rgb.shape}.")
    cells = rgb if rgb.ndim == 3 else rgb[None]
    n_cells, n_frames, _ = cells.shape
    if n_frames < 2:
        raise SignalTooShort(f"{n_frames} frames hold no change of colour.")
    share = np.ones(n_cells) if skin is None else np.asarray(skin, dtype=np.float64)
    others = np.zeros((0, n_frames)) if references is None else np.asarray(references, dtype=np.float64)
    if share.shape != (n_cells,) or others.ndim != 2 or others.shape[1] != n_frames:
        raise ValueError(
            f"skin must be ({n_cells},) and references (K, {n_frames}), not {share.shape} and {others.shape}."
        )
    share = np.where(share >= LEAST_SKIN, share, 0.0)
    if not share.any():
        share = np.ones(n_cells)

    change = (cells / cells.mean(axis=1, keepdims=True) - 1).transpose(0, 2, 1).reshape(3 * n_cells, n_frames)
    noise = np.diff(change, axis=-1).std(axis=-1) + LEAST_NOISE
    channels = bandpass(change, fs) / noise[:, None]
    power = float((channels**2).mean())
    if power == 0:
        return np.zeros(n_frames)
    others = bandpass(others[np.isfinite(others).all(axis=1)], fs)
    sd = others.std(axis=-1, keepdims=True)
    others = others[sd[:, 0] > 0] / sd[sd[:, 0] > 0]
    signature = (share[:, None] * BLOOD_SIGNATURE).ravel() / noise
    n_channels = len(channels)
    channels = np.concatenate([channels, REFERENCE_GAIN * np.sqrt(power) * others])

    sizes, directions = np.linalg.eigh(channels @ channels.T / n_frames)
    seen = directions[:n_channels].T @ signature
    for doublings in range(MAX_DOUBLINGS):
        loading = LOADING * power * 2.0**doublings
        weights = directions @ (seen / (np.maximum(sizes, 0.0) + loading))
        if _white_noise_gain(weights[:n_channels], signature) >= LEAST_GAIN:
            break
    # More blood darkens the skin.
    pulse = -weights @ channels
    return np.asarray(pulse - pulse.mean())


def _white_noise_gain(weights: Float, signature: Float) -> float:
    """Return the white noise gain, 0..1, of the sum by ``weights`` relative to that by ``signature`` itself."""
    return float((weights @ signature) ** 2 / ((weights @ weights) * (signature @ signature)))
