"""Evidence of the codec: rates that come from the key frames of a video file and not from the skin.

In all functions ``whole`` (N,) marks the frames that the file codes by themselves (key frames).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autohr.signals.filters import bandpass, detrend
from autohr.types import Float


def key_frame_steps(rgb: Float, whole: NDArray[np.bool_], fs: float) -> float:
    """Return 0..1, how large the steps of the colour rgb (N, 3) in the key frames are, next to its wave.

    A codec with few bits freezes the skin between two key frames and catches up in the next one. The colour then beats
    at the rate of the key frames, or shows the pulse sampled at that rate (aliased), with a spectrum that can be
    cleaner than a real pulse's. Two kinds of steps are looked for, in green and in the two colour differences of POS,
    each relative to its mean: steps that all go one way (a sawtooth), and steps that are merely larger than elsewhere.
    What noise alone would give (two standard errors) is subtracted first.

    1 means a step of twice the wave's standard deviation or more (a pure sawtooth has about four times), 0 none. It is
    also 0 where no frame, or at least half of them, is a key frame. Rows with NaN are left out.
    """
    known = np.isfinite(rgb).all(axis=1)
    rgb, whole = rgb[known], whole[known]
    n_whole = int(whole[2:-1].sum())
    if len(rgb) < fs or n_whole < 3 or whole.mean() >= 0.5 or not rgb.mean(axis=0).all():
        return 0.0
    red, green, blue = (rgb / rgb.mean(axis=0)).T
    waves = np.stack([green, green - blue, green + blue - 2 * red])
    sd = bandpass(waves, fs).std(axis=-1)
    change = np.diff(waves, axis=-1)
    # A step is what a change has more than those before and after it: the pulse's own slope is in all three.
    step = change[:, 1:-1] - 0.5 * (change[:, :-2] + change[:, 2:])
    at = whole[2:-1]
    # Next to a step lie two half steps of the other sign; they are neither a step nor quiet.
    beside = np.convolve(at, [1, 1, 1], mode="same") > 0
    if beside.all():
        return 0.0
    quiet = (step[:, ~beside] ** 2).mean(axis=-1)
    one_way = np.abs(step[:, at].mean(axis=-1)) - 2 * np.sqrt(quiet / n_whole)
    larger = (step[:, at] ** 2).mean(axis=-1) - (1 + 2 * np.sqrt(2 / n_whole)) * quiet
    steps = np.maximum(one_way, np.sqrt(np.maximum(larger, 0.0)))
    relative = np.divide(steps, 2 * sd, out=np.zeros(3), where=sd > 0)
    return float(np.clip(relative.max(), 0.0, 1.0))


def key_frame_comb(rgb: Float, whole: NDArray[np.bool_], bvp: Float, fs: float, hr_bpm: float) -> float:
    """Return 0..1, how far the rate of bvp (N,) is explained by the pace of the key frames, seen in rgb (N, 3).

    Key frames at a steady pace leave spectral lines in the colour at every multiple of that pace, also above the heart
    band, where a pulse has none. Those lines give the strength of the key frames whatever the pulse does. Taken as the
    lines of a sawtooth they fall off as one over their number, which predicts the line inside the band. The result is
    the predicted line over what is found at the rate, times how exactly the rate is a multiple of the pace (up to the
    fourth). It is 0 where key frames are rare, uneven, or leave no line above the noise.
    """
    at = np.flatnonzero(whole)
    gaps = np.diff(at)
    if len(gaps) < 2 or whole.mean() >= 0.5 or np.ptp(gaps) > 0.1 * gaps.mean() + 1 or not rgb.mean(axis=0).all():
        return 0.0
    key_hz, hr_hz = fs / gaps.mean(), hr_bpm / 60
    number = round(hr_hz / key_hz)
    if not 1 <= number <= 4:
        return 0.0
    n_samples = len(bvp)
    t_s = np.arange(n_samples) / fs
    window = np.hanning(n_samples + 2)[1:-1]

    def power(x: Float, freqs_hz: Float) -> Float:
        """Return |Fourier sum|^2 of the windowed x (..., N) at freqs_hz (F,): (..., F)."""
        lines = np.exp(-2j * np.pi * np.outer(t_s, freqs_hz))
        return np.asarray(np.abs((x * window) @ lines) ** 2, dtype=np.float64)

    own, comb = power(bvp - bvp.mean(), np.array([hr_hz, number * key_hz]))
    exactness = min(1.0, comb / own) if own > 0 else 0.0
    # Above 3.3 Hz a pulse's harmonics are smaller than a comb that matters, and under 0.45 fs nothing is aliased.
    numbers = np.arange(np.ceil(3.3 / key_hz), np.floor(0.45 * fs / key_hz) + 1)[:8]
    if exactness < 0.1 or not len(numbers):
        return 0.0
    red, green, blue = (rgb / rgb.mean(axis=0)).T
    waves = detrend(np.stack([green, green - blue, green + blue - 2 * red]), fs)
    teeth = power(waves, numbers * key_hz)
    resolution_hz = fs / n_samples
    aside = np.array([-4.0, -3.0, 3.0, 4.0]) * resolution_hz
    floor = np.median(power(waves, (numbers[:, None] * key_hz + aside).ravel()), axis=-1) / np.log(2)
    # Power of noise is exponential: its mean over the teeth scatters by 1 / sqrt(count); three of those are no chance.
    clear = teeth.mean(axis=-1) > floor * (1 + 3 / np.sqrt(len(numbers)))
    predicted = np.sqrt(np.maximum(teeth.mean(axis=-1) - floor, 0.0)) * numbers.mean() / number
    found = np.sqrt(power(waves, np.array([hr_hz]))[:, 0])
    size = np.divide(predicted, found, out=np.zeros(3), where=clear & (found > 0))
    return float(exactness * min(1.0, float(size.max())))


def at_key_frames(whole: NDArray[np.bool_], fs: float, hr_bpm: float) -> bool:
    """Return True if ``hr_bpm`` is, within the resolution of N frames, 1 to 4 times the pace of the key frames.

    What a codec does to a face that moves can then look like a pulse of the skin alone.

    Examples
    --------
    >>> whole = np.arange(300) % 25 == 0  # a key frame every second at 25 frames per second
    >>> at_key_frames(whole, fs=25, hr_bpm=120), at_key_frames(whole, fs=25, hr_bpm=72)
    (True, False)
    """
    at = np.flatnonzero(whole)
    if len(at) < 2 or whole.mean() >= 0.5:
        return False
    key_bpm = 60 * fs / float(np.median(np.diff(at)))
    number = min(max(1, round(hr_bpm / key_bpm)), 4)
    return abs(hr_bpm - number * key_bpm) < 60 * fs / len(whole)
