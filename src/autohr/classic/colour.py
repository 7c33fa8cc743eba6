"""GREEN, CHROM and POS: from the mean skin colour to a pulse wave.

All take rgb (..., T, 3), 0..255 or any positive scale, and fs in frames per second, and return bvp (..., T), zero mean,
positive where the skin holds more blood (green is darker there). Leading axes are regions, computed together.

Fidelity: the formulas of CHROM and POS, their windows of 1.6 s, overlap and projection planes are the papers'; each
docstring says what differs.
"""

from __future__ import annotations

import numpy as np

from autohr.errors import SignalTooShort
from autohr.signals.filters import HEART_BAND_HZ, bandpass, detrend
from autohr.types import Float

WINDOW_S = 1.6
"""Window of CHROM and POS: both papers use 32 frames at 20 frames per second."""


def green(rgb: Float, fs: float) -> Float:
    """Return GREEN's wave (Verkruysse et al. 2008): the green channel over its mean, detrended and band-passed.

    The paper filters 0.8..6 Hz; here the band is ``HEART_BAND_HZ``, common to all methods of this package, so that 40
    bpm passes. Means, not sums, so that a region that changes size does not change the signal.

    Examples
    --------
    >>> from autohr.signals.rate import estimate_heart_rate
    >>> from autohr.signals.simulate import simulate_pulse, simulate_rgb
    >>> truth = simulate_pulse(duration_s=20, fs=30, hr_bpm=72, hrv=0)
    >>> rgb = simulate_rgb(truth.bvp, fs=30)
    >>> [round(estimate_heart_rate(method(rgb, 30), 30).hr_bpm) for method in (green, chrom, pos)]
    [72, 72, 72]
    """
    rgb = checked_rgb(rgb, fs)
    relative = rgb[..., 1] / rgb[..., 1].mean(axis=-1, keepdims=True) - 1
    return -bandpass(detrend(relative, fs), fs)


def chrom(rgb: Float, fs: float) -> Float:
    """Return CHROM's wave (de Haan & Jeanne 2013): two chrominance signals in which specular changes cancel.

    Windows of 1.6 s with half overlap: normalise colour by the window's mean, X = 3R - 2G, Y = 1.5R + G - 1.5B,
    S = X - (sd X / sd Y) Y, Hann, overlap-add. Differs from the paper: the band-pass of X and Y runs once over the
    whole signal, on colour divided by its sliding mean of the same length, instead of inside each window, where a
    filter's transients are as long as the window itself.
    """
    rgb = checked_rgb(rgb, fs)
    length = _window_length(rgb, fs)
    normalised = rgb / _sliding_mean(rgb, length)
    red, green_, blue = normalised[..., 0], normalised[..., 1], normalised[..., 2]
    x = bandpass(3 * red - 2 * green_, fs)
    y = bandpass(1.5 * red + green_ - 1.5 * blue, fs)

    n_frames = rgb.shape[-2]
    hann = np.hanning(length + 1)[:-1]
    pulse, weight = np.zeros_like(x), np.zeros(n_frames)
    starts = list(range(0, n_frames - length + 1, length // 2))
    if starts[-1] != n_frames - length:
        starts.append(n_frames - length)  # the tail that the hop leaves over
    for start in starts:
        span = slice(start, start + length)
        pulse[..., span] += hann * (x[..., span] - ratio_of_sd(x[..., span], y[..., span]) * y[..., span])
        weight[span] += hann
    # Divided by the windows' sum, which is 1 inside, so that the ends keep their size.
    wave: Float = pulse / np.maximum(weight, 0.05)
    wave -= wave.mean(axis=-1, keepdims=True)
    return wave


def pos(rgb: Float, fs: float) -> Float:
    """Return POS's wave (Wang et al. 2017): projection on the plane orthogonal to skin tone, tuned in each window.

    Every window of 1.6 s, stride 1: C = colour / its mean, S1 = G - B, S2 = -2R + G + B, h = S1 + (sd S1 / sd S2) S2,
    mean removed, overlap-added. The paper has no filter after that; here the sum is band-passed to ``HEART_BAND_HZ`` as
    for all methods. All windows are used, the first and the last too.
    """
    rgb = checked_rgb(rgb, fs)
    length = _window_length(rgb, fs)
    # A window's h is a weighted sum of its three channels, so its mean and deviations, and then the overlap-add of all
    # windows, are running sums: the loop over windows in O(T). Means are taken off first, to keep the digits.
    level = rgb.mean(axis=-2, keepdims=True)
    c = np.moveaxis(rgb / level - 1, -1, 0)  # (3, ..., T)
    n_frames, n_windows = rgb.shape[-2], rgb.shape[-2] - length + 1
    mean = 1 + _running_sum(c, length) / length  # (3, ..., windows), of rgb / level
    covariance = {
        (i, j): _running_sum(c[i] * c[j], length) / length - (mean[i] - 1) * (mean[j] - 1)
        for i in range(3)
        for j in range(i, 3)
    }

    def sd(weights: tuple[float, float, float]) -> Float:
        """Return the deviation of sum_i weights_i c_i / mean_i in each window (..., windows)."""
        scaled = [weight / mean[i] for i, weight in enumerate(weights)]
        variance = sum((1 if i == j else 2) * scaled[i] * scaled[j] * cov for (i, j), cov in covariance.items())
        return np.sqrt(np.maximum(np.asarray(variance, dtype=np.float64), 0.0))

    s1, s2 = (0.0, 1.0, -1.0), (-2.0, 1.0, 1.0)
    sd_1, sd_2 = sd(s1), sd(s2)
    alpha = np.divide(sd_1, sd_2, out=np.zeros_like(sd_1), where=sd_2 > 1e-9)
    pulse = np.zeros(rgb.shape[:-1])
    for i in range(3):
        share = (s1[i] + alpha * s2[i]) / mean[i]
        # Every window adds share * (c - its mean) to each of its frames.
        pulse += c[i] * _spread(share, length, n_frames) - _spread(share * (mean[i] - 1), length, n_frames)
    count = _spread(np.ones(n_windows), length, n_frames)
    # The plain sum is smaller at both ends, where fewer windows reach.
    return -bandpass(pulse / count, fs, HEART_BAND_HZ)


def _running_sum(x: Float, length: int) -> Float:
    """Sum each ``length`` neighbours along time: (..., T) -> (..., T - length + 1)."""
    total = np.cumsum(np.concatenate([np.zeros((*x.shape[:-1], 1)), x], axis=-1), axis=-1)
    return np.asarray(total[..., length:] - total[..., :-length])


def _spread(x: Float, length: int, n_frames: int) -> Float:
    """Sum, for each frame, the windows' x over the windows that hold it: (..., windows) -> (..., T)."""
    padded = np.concatenate([np.zeros((*x.shape[:-1], length - 1)), x, np.zeros((*x.shape[:-1], length - 1))], axis=-1)
    return _running_sum(padded, length)[..., :n_frames]


def _window_length(rgb: Float, fs: float) -> int:
    """Return the frames in 1.6 s, an even number so that half overlap is whole."""
    length = int(np.ceil(WINDOW_S * fs))
    length += length % 2
    if rgb.shape[-2] < length:
        raise SignalTooShort(
            f"{rgb.shape[-2] / fs:.1f} s of colour is shorter than one window; give at least {length / fs:.1f} s."
        )
    return length


def _sliding_mean(rgb: Float, length: int) -> Float:
    """Return the mean (..., T, 3) over ``length`` frames centred on each, shorter at the ends."""
    total = np.cumsum(np.pad(rgb, [(0, 0)] * (rgb.ndim - 2) + [(1, 0), (0, 0)]), axis=-2)
    n_frames = rgb.shape[-2]
    at = np.arange(n_frames)
    first, last = np.maximum(at - length // 2, 0), np.minimum(at + length // 2, n_frames)
    mean: Float = (total[..., last, :] - total[..., first, :]) / (last - first)[:, None]
    return mean


def ratio_of_sd(a: Float, b: Float) -> Float:
    """Return sd(a) / sd(b) along time, kept as an axis; 0 where b is constant."""
    sd_a, sd_b = a.std(axis=-1, keepdims=True), b.std(axis=-1, keepdims=True)
    ratio: Float = np.divide(sd_a, sd_b, out=np.zeros_like(sd_a), where=sd_b > 1e-12)
    return ratio


def checked_rgb(rgb: Float, fs: float) -> Float:
    """Return rgb (..., T, 3) as float64 without zeros, or raise ValueError for what is no colour over time."""
    rgb = np.asarray(rgb, dtype=np.float64)
    if rgb.ndim < 2 or rgb.shape[-1] != 3:
        raise ValueError(f"rgb must be (..., T, 3), not {rgb.shape}.")
    if not fs > 0:
        raise ValueError(f"fs={fs} must be positive.")
    if not np.isfinite(rgb).all() or (rgb < 0).any():
        raise ValueError("rgb must be finite and not negative: fill or leave out what was not measured.")
    # A channel that is black all the time has no relative change; 1e-3 of one grey level keeps the division finite.
    return np.maximum(rgb, 1e-3)
