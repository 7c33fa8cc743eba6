"""SSR (2SR): spatial subspace rotation (Wang, Stuijk & de Haan 2015).

rgb (R, T, 3), the mean colours of R parts of a face, -> bvp (T,). In every frame the colours of the skin span a
subspace: the eigenvectors u1, u2, u3 of their correlation, l1 > l2 > l3. A pulse turns u1, the skin's tone, within the
plane of u2 and u3, and changes l1 next to l2 and l3:

    C_t = mean over the skin of v v',   s_t = sum over i = 2, 3 of sqrt(l1_t / li_r) (u1_t . ui_r) ui_r

with r the first frame of a window of one second. In each window, stride 1, the wave is s_R - (sd s_R / sd s_G) s_G, its
mean removed, overlap-added.

Differs from the paper, and why:

- Parts in place of pixels: v are the colours of the parts that the caller gives (``methods.py``: those of the 4 x 4
  raster of the face box that show skin), for a clip carries no pixels. What pixels of one part differ by is averaged
  away, so l2 and l3 are smaller than the paper's, and there is less noise in u1. One part alone, where they are noise,
  has l2 = l3: the turn of its tone, whatever the plane.
- A last band-pass, as for all methods here.

Fidelity: an approximation. The formulas are those of public toolboxes, from memory; the paper was not re-read.
"""

from __future__ import annotations

import numpy as np

from autohr.classic.colour import checked_rgb, ratio_of_sd
from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass
from autohr.types import Float

WINDOW_S = 1.0
"""Length of a window; the paper has 20 frames at 20 frames per second."""

LEAST_SHARE = 1e-6
"""Smallest l2 and l3, as a share of l1: one part alone, or parts all of one colour, have none. A scatter of 0.1 % of
the skin's brightness has as much."""


def ssr(rgb: Float, fs: float) -> Float:
    """Return the pulse wave bvp (T,) of the parts' colours rgb (R, T, 3), or of one part (T, 3); 0..255, fs in Hz.

    Positive where the skin holds more blood.

    Raises
    ------
    SignalTooShort
        Less than a window of ``WINDOW_S``, or than one period of the heart band's lower edge.
    ValueError
        Rgb of another shape, or not finite: leave out parts that were not seen.
    """
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim not in (2, 3) or rgb.shape[0] == 0:
        raise ValueError(f"rgb must be (R, T, 3) or (T, 3), not {rgb.shape}.")
    parts = rgb if rgb.ndim == 3 else rgb[None]
    n_parts, n_frames, _ = parts.shape
    length = max(3, round(WINDOW_S * fs))
    if n_frames < length:
        raise SignalTooShort(
            f"{n_frames / fs:.1f} s of colour is shorter than one window; give at least {length / fs:.1f} s."
        )
    sizes, directions = np.linalg.eigh(np.einsum("rti,rtj->tij", parts, parts) / n_parts)
    tone = directions[:, :, 2] * np.sign(directions[:, :, 2].sum(axis=1, keepdims=True))  # all colours are positive
    others = np.maximum(sizes[:, :2], LEAST_SHARE * sizes[:, 2:])

    total, count = np.zeros(n_frames), np.zeros(n_frames)
    for first in range(n_frames - length + 1):
        span = slice(first, first + length)
        plane = directions[first, :, :2]
        turn = tone[span] @ (plane / np.sqrt(others[first])) @ plane.T * np.sqrt(sizes[span, 2:])
        red, green = turn[:, 0], turn[:, 1]
        wave = red - ratio_of_sd(red, green) * green
        total[span] += wave - wave.mean()
        count[span] += 1
    # The plain sum is smaller at both ends, where fewer windows reach.
    pulse = bandpass(total / count, fs)
    return np.asarray(pulse - pulse.mean())
