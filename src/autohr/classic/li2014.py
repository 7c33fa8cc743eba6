"""Li2014: "Remote Heart Rate Measurement from Face Videos under Realistic Situations" (Li, Chen, Zhao, Pietikainen).

rgb (T, 3) of the lower face and background_rgb (T, 3) -> bvp (T,). Only green is used. The light is taken off the face
by an adaptive filter that sees the background; the seconds in which the face itself moves are cut out; then a detrend,
a moving average and a band-pass.

Differs from the paper, and why:

- Region: the paper's polygon runs from under the eyes to the chin and is tracked by points inside it. Here the caller
  gives a mean colour; ``methods.py`` gives that of the lower half of the followed face box.
- Background: the paper finds it by a level set; here it is all that is not near a person (video/regions.py).
  Without one, or with a black one, the first step is left out.
- Cut: the paper drops the restless 5 % of the segments of ALL videos of a set, which a single video cannot know, and
  which lets one test video change the result of another. Here at most 5 % of the video's own, at least one and no more
  than a fifth, and only those twice as restless as its usual one, so that a calm video loses nothing, as in the paper.
- The rest of a video that was cut is filtered in one piece, as published, but then goes back to its own times, zero in
  the gaps: the wave keeps the clock of the video, and the beats behind a gap their phase.
- Band: the common one of this package (0.6..4 Hz). The paper's FIR of 129 taps, 0.7..4 Hz, needs 6.3 s, and passed both
  ways it takes half of the amplitude at 53 bpm and three quarters at 42.
- Clock: what the paper counts in frames at 61 per second is in seconds or Hz here.
- The rate is signals/rate.py's, not the paper's Welch spectrum: 16 segments of 10 s would be 1.2 s each.

Fidelity: the order of the steps and the parameters are those of the public re-implementation bob.rppg.base for
MAHNOB-HCI (lambda 300, 21 frames, 3 taps, step 0.05, 1 s, 5 %); the paper itself was not at hand, and its step is
remembered as 0.003. The numbers that are ours are ``RESTLESS`` and ``DARK``.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from autohr.classic.colour import checked_rgb
from autohr.signals.filters import bandpass, detrend
from autohr.types import Float

PAPER_FPS = 61.0
"""Frames per second of MAHNOB-HCI, which the paper's frame counts are for."""

NLMS_TAPS = 3
NLMS_STEP = 0.05
"""Taps and step of the adaptive filter at 61 frames per second. Both are scaled, so that the filter spans and forgets
the same times at every rate. That leaves one tap at 30 frames per second. It must: the light's mean level, and not its
changes, teaches the weights, so all taps end up alike, and the mean of three frames at 30 lags behind a flicker that it
should take away."""

SEGMENT_S = 1.0
DROPPED_SHARE = 0.05

RESTLESS = 2.0
"""Deviation of a segment, relative to the median one, above which it may be dropped. Ours: in simulated pulses of 40
bpm and more, the most restless second had 1.36 times the deviation of the median one."""

DETREND_HZ = 0.70
"""Cut-off of the published lambda = 300 at 61 samples per second (tests/test_li2014.py)."""

SMOOTH_S = 21 / PAPER_FPS
"""Length of the moving average. It has a zero at 2.9 Hz: the method as published weakens 165 bpm by 25 dB, 110 by 7. Of
few frames it is an odd number all the same: at 12.5 per second the zero is at 150 bpm."""

DARK = 4.0
"""Mean grey level below which a background tells nothing of the light. Ours."""


def li2014(rgb: Float, fs: float, background_rgb: Float | None = None) -> Float:
    """Return the pulse wave bvp (T,) of colour rgb (T, 3) and, if there is one, background_rgb (T, 3); 0..255.

    Positive where the skin holds more blood; zero in the stretches that were cut out.

    Raises
    ------
    SignalTooShort
        Less than one period of the heart band's lower edge.
    ValueError
        Colours of another shape, or a face that is not finite.
    """
    rgb = checked_rgb(rgb, fs)
    if rgb.ndim != 2:
        raise ValueError(f"rgb must be (T, 3), not {rgb.shape}.")
    green = rgb[:, 1]
    if background_rgb is not None:
        if background_rgb.shape != rgb.shape:
            raise ValueError(f"background_rgb must be {rgb.shape} as rgb is, not {background_rgb.shape}.")
        light = np.asarray(background_rgb, dtype=np.float64)[:, 1]
        n_taps, step = max(1, round(NLMS_TAPS * fs / PAPER_FPS)), min(1.0, NLMS_STEP * PAPER_FPS / fs)
        if len(light) > n_taps and np.isfinite(light).all() and light.mean() > DARK:
            rectified = rectify(green, light, n_taps=n_taps, step=step)
            # The first frames have no full history; the clock must keep them.
            green = np.concatenate([np.full(n_taps - 1, rectified[0]), rectified])
    keep = calm(green, round(SEGMENT_S * fs))
    joined = without_jumps(green, keep)
    length = min(round(SMOOTH_S * fs) | 1, 2 * (len(joined) // 2) - 1)
    smooth = bandpass(_moving_average(detrend(joined, fs, DETREND_HZ), length), fs)
    bvp = np.zeros(len(green))
    bvp[keep] = -(smooth - smooth.mean())
    return bvp


def rectify(face: Float, light: Float, *, n_taps: int = NLMS_TAPS, step: float = NLMS_STEP) -> Float:
    """Subtract from face (T,) what an adaptive filter of ``n_taps`` predicts from light (T,): (T - n_taps + 1,).

    Normalised least mean squares, twice over the whole: once to learn the weights, once with the last ones frozen.
    """
    history = np.lib.stride_tricks.sliding_window_view(light, n_taps)[:, ::-1]  # newest first
    target = face[n_taps - 1 :]
    energy = (history * history).sum(axis=1) + 0.001
    weights = np.zeros(n_taps)
    for x, wanted, norm in zip(history, target, energy, strict=True):
        weights = weights + step * (wanted - weights @ x) / norm * x
    left: Float = target - history @ weights
    return left


def calm(x: Float, length: int) -> NDArray[np.bool_]:
    """Return a mask (T,) that is False in the segments of ``length`` samples of x (T,) that are dropped.

    Samples left over at the end belong to the last segment.
    """
    n_segments = max(1, len(x) // max(length, 2))
    edges = [k * length for k in range(n_segments)] + [len(x)]
    keep = np.ones(len(x), dtype=bool)
    sd = np.array([x[a:b].std(ddof=1) for a, b in pairwise(edges)])
    n_dropped = min(max(1, int(DROPPED_SHARE * n_segments)), n_segments // 5)
    for k in np.argsort(sd)[::-1][:n_dropped]:
        if sd[k] > RESTLESS * np.median(sd):
            keep[edges[k] : edges[k + 1]] = False
    return keep


def without_jumps(x: Float, keep: NDArray[np.bool_]) -> Float:
    """Join the kept samples of x (T,); what follows a gap is moved to the level at which the last piece ended."""
    at = np.flatnonzero(keep)
    steps = np.diff(x[at])
    steps[np.diff(at) > 1] = 0.0
    joined: Float = np.concatenate([[0.0], np.cumsum(steps)]) + x[at[0]]
    return joined


def _moving_average(x: Float, length: int) -> Float:
    """Average ``length`` (odd) neighbours, mirrored at both ends. Centred: the published causal one only delays."""
    padded = np.pad(x, length // 2, mode="reflect")
    return np.asarray(np.convolve(padded, np.full(length, 1 / length), mode="valid"))
