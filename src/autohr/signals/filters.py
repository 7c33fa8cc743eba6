"""Filters for pulse signals. Time is the last axis; ``fs`` is in samples per second.

They are written with numpy alone, so that the product does without scipy (170 MB installed, and an import that takes
longer than filtering a minute of video); the tests compare each with scipy's.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.types import Float

HEART_BAND_HZ = (0.6, 4.0)
"""Pass band of pulse waves, 36 to 240 beats per minute: a little wider than the estimator's 40 to 180 below, so that
its edge does not weaken the slowest rates, and wide enough above for the second harmonic up to 120 bpm."""


def detrend(x: Float, fs: float, cutoff_hz: float = 0.4) -> Float:
    """Remove the slow trend from x (..., N) by smoothness priors (Tarvainen et al. 2002).

    z - (I + lambda^2 D'D)^-1 z with D the second difference. With the published parameter lambda the cut-off depends on
    the sampling rate, so the cut-off itself is the argument here: the filter's gain is L / (1 + L) with L = lambda^2 (2
    sin(pi f / fs))^4, which is -3 dB at ``cutoff_hz`` when lambda = sqrt(1 + sqrt 2) / (2 sin(pi cutoff_hz / fs))^2.
    The lambda = 10 of Poh 2011, at 15 samples per second, is 0.94 Hz. The default of 0.4 Hz takes 0.5 dB off 40 bpm,
    the slowest rate that is looked for.

    Raises
    ------
    ValueError
        A cut-off outside 0..fs/2.
    SignalTooShort
        Fewer than three samples.

    Examples
    --------
    >>> drift = np.linspace(0, 50, 300)
    >>> bool(np.abs(detrend(drift, fs=30)).max() < 1)
    True
    """
    if not 0 < cutoff_hz < fs / 2:
        raise ValueError(f"cutoff_hz={cutoff_hz} must lie between 0 and {fs / 2:g} Hz, half of fs={fs:g}.")
    x = np.asarray(x, dtype=np.float64)
    n_samples = x.shape[-1]
    if n_samples < 3:
        raise SignalTooShort(f"{n_samples} samples cannot be detrended; give at least 3.")
    # A straight line is trend and nothing else: without it fewer digits are lost.
    flat = remove_line(x).reshape(-1, n_samples)
    lambda_squared = float((1 + np.sqrt(2.0)) / (2 * np.sin(np.pi * cutoff_hz / fs)) ** 4)
    correction, ends = _trend_correction(n_samples, lambda_squared)
    smooth = _mirrored_smooth(flat, lambda_squared)
    trend = smooth + (smooth @ ends) @ correction
    return np.asarray(flat - trend).reshape(x.shape)


def _mirrored_smooth(x: Float, lambda_squared: float) -> Float:
    """Solve (I + lambda^2 L^2) y = x for the rows of x (K, N), with L the second difference of the mirrored signal.

    On a signal that is mirrored at both ends L is a circular convolution, so the Fourier transform solves it.
    """
    n_samples = x.shape[-1]
    eigenvalues = 2 - 2 * np.cos(np.pi * np.arange(n_samples + 1) / n_samples)
    spectrum = np.fft.rfft(np.concatenate([x, x[:, ::-1]], axis=1), axis=1) / (1 + lambda_squared * eigenvalues**2)
    return np.asarray(np.fft.irfft(spectrum, 2 * n_samples, axis=1)[:, :n_samples])


@lru_cache(maxsize=16)
def _trend_correction(n_samples: int, lambda_squared: float) -> tuple[Float, Float]:
    """Return the correction (2, N) and ends U (N, 2) by which ``_mirrored_smooth`` becomes (I + lambda^2 D'D)^-1.

    L^2 = D'D + r r' for the first and the last row r of L, since L is symmetric. So I + lambda^2 D'D = B - U U', and by
    Woodbury's identity its inverse is B^-1 + B^-1 U (I - U' B^-1 U)^-1 U' B^-1.
    """
    ends = np.zeros((n_samples, 2))
    ends[:2, 0] = ends[:-3:-1, 1] = np.sqrt(lambda_squared) * np.array([1.0, -1.0])
    smooth_ends = _mirrored_smooth(ends.T, lambda_squared)
    return np.asarray(np.linalg.solve(np.eye(2) - smooth_ends @ ends, smooth_ends), dtype=np.float64), ends


def bandpass(x: Float, fs: float, band_hz: tuple[float, float] = HEART_BAND_HZ, order: int = 2) -> Float:
    """Filter x (..., N) by a Butterworth band-pass with zero phase.

    A causal filter would shift every beat, and with it the intervals that HRV is computed from. An upper edge at or
    above fs/2 is lowered to 0.95 of it, for videos of few frames per second.

    Raises
    ------
    ValueError
        A band that is empty or not below fs/2.
    SignalTooShort
        Less than one period of the lower edge.

    Examples
    --------
    >>> t_s = np.arange(300) / 30
    >>> pulse, breath = np.sin(2 * np.pi * 1.2 * t_s), np.sin(2 * np.pi * 0.2 * t_s)
    >>> bool(bandpass(pulse, fs=30).std() > 0.9 * pulse.std()), bool(bandpass(breath, fs=30).std() < 0.1)
    (True, True)
    """
    low_hz, high_hz = band_hz
    high_hz = min(high_hz, 0.475 * fs)
    if not 0 < low_hz < high_hz:
        raise ValueError(
            f"band_hz={band_hz} does not fit fs={fs:g}: it must lie between 0 and {fs / 2:g} Hz. "
            "Lower the band, or use a video with more frames per second."
        )
    x = np.asarray(x, dtype=np.float64)
    n_samples = x.shape[-1]
    least = int(np.ceil(fs / low_hz))
    if n_samples < least:
        raise SignalTooShort(
            f"{n_samples / fs:.1f} s of signal holds less than one period of {low_hz:g} Hz; "
            f"give at least {least / fs:.1f} s."
        )
    if x.size == 0:
        return x.copy()
    # One period of the lower edge as padding, mirrored evenly. scipy's default (a few samples, turned about the last
    # one) doubles whatever noise that last sample has: on noisy sines it left 2.4 times this error in the first second.
    n_pad = min(n_samples - 1, least)
    flat = x.reshape(-1, n_samples)
    padded = np.concatenate([flat[:, n_pad:0:-1], flat, flat[:, -2 : -n_pad - 2 : -1]], axis=1)
    design = (order, low_hz, high_hz, fs)
    back = _run(design, _run(design, padded)[:, ::-1])[:, ::-1]
    return np.ascontiguousarray(back[:, n_pad : n_pad + n_samples]).reshape(x.shape)


def _run(design: tuple[int, float, float, float], x: Float) -> Float:
    """Run the rows of x (K, N) through the band-pass of a design (order, low_hz, high_hz, fs).

    The signal is taken to have had the value of its first sample for ever before: a band-pass answers a constant with
    zero, so the constant is subtracted and the filter starts from rest.
    """
    n_samples = x.shape[1]
    # The transform is so much longer than the signal that what wraps around has decayed below the rounding.
    n_fft = 2 ** math.ceil(math.log2(n_samples + _decay_samples(*design)))
    spectrum = np.fft.rfft(x - x[:, :1], n_fft, axis=1) * _response(*design, n_fft)
    return np.asarray(np.fft.irfft(spectrum, n_fft, axis=1)[:, :n_samples])


@lru_cache(maxsize=64)
def _decay_samples(order: int, low_hz: float, high_hz: float, fs: float) -> int:
    """Return the number of samples after which the filter's impulse response has decayed to 1e-18 of its size."""
    _, sections = _bandpass_sections(order, low_hz, high_hz, fs)
    slowest = max(float(np.abs(np.roots([1.0, *section])).max()) for section in sections)
    return math.ceil(math.log(1e-18) / math.log(slowest))


@lru_cache(maxsize=64)
def _response(order: int, low_hz: float, high_hz: float, fs: float, n_fft: int) -> NDArray[np.complex128]:
    """Return the frequency response (n_fft // 2 + 1,) of the band-pass."""
    gain, sections = _bandpass_sections(order, low_hz, high_hz, fs)
    delay = np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)
    response = np.full(len(delay), gain, dtype=np.complex128)
    for a1, a2 in sections:
        response *= (1 - delay**2) / (1 + a1 * delay + a2 * delay**2)
    return response


@lru_cache(maxsize=64)
def _bandpass_sections(order: int, low_hz: float, high_hz: float, fs: float) -> tuple[float, Float]:
    """Design a digital Butterworth band-pass: its gain and a1, a2 (order, 2) of sections with numerator 1 - z^-2.

    The poles of the analogue low-pass on the unit circle are moved to the band, and then transformed bilinearly with
    pre-warped edges.
    """
    edges = 2 * fs * np.tan(np.pi * np.array([low_hz, high_hz]) / fs)
    width, centre_squared = edges[1] - edges[0], edges[0] * edges[1]
    # The poles above the real axis, and the one on it if the order is odd; the others are their mirror images.
    low_pass = np.exp(0.5j * np.pi * (1 + (2 * np.arange((order + 1) // 2) + 1) / order))
    half = low_pass * width / 2
    root = np.sqrt(half**2 - centre_squared + 0j)
    poles = np.concatenate([half + root, half - root])
    if order % 2:
        # The two poles that come from the real one are a pair: conjugates in a narrow band, both real in a wide one.
        real = poles[[(order + 1) // 2 - 1, -1]]
        pairs = [(p, p.conjugate()) for p in np.delete(poles, [(order + 1) // 2 - 1, -1])]
        pairs.append((real[0], real[1]))
    else:
        pairs = [(p, p.conjugate()) for p in poles]
    digital = (2 * fs + np.array(pairs)) / (2 * fs - np.array(pairs))  # (order, 2)
    sections = np.stack([-digital.sum(axis=1).real, digital.prod(axis=1).real], axis=1)
    gain = (2 * fs * width) ** order / np.prod(2 * fs - np.array(pairs)).real
    return float(gain), sections


def analytic(x: Float) -> NDArray[np.complex128]:
    """Return the analytic signal of x (..., N): x with its Hilbert transform as the imaginary part."""
    x = np.asarray(x, dtype=np.float64)
    n_samples = x.shape[-1]
    half = np.fft.rfft(x, axis=-1)
    spectrum = np.zeros(x.shape, dtype=np.complex128)
    spectrum[..., : half.shape[-1]] = half
    spectrum[..., 1 : (n_samples + 1) // 2] *= 2
    return np.asarray(np.fft.ifft(spectrum, axis=-1))


def remove_line(x: Float) -> Float:
    """Subtract from x (..., N) the straight line that fits it best."""
    x = np.asarray(x, dtype=np.float64)
    t = np.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    slope = (x * t).sum(axis=-1, keepdims=True) / max(float((t * t).sum()), 1e-300)
    out: Float = x - x.mean(axis=-1, keepdims=True) - slope * t
    return out


def resample(t_s: Float, x: Float, at_s: Float) -> Float:
    """Interpolate x (N, ...), given at the uneven times ``t_s`` (N,), linearly at the times ``at_s`` (M,): (M, ...).

    Time is the FIRST axis here, as in traces (T, R, 3). NaN counts as not measured and is bridged. Cubic curves would
    overshoot across the gaps that dropped frames leave. Linear interpolation costs 0.3 dB at 180 bpm with 30 frames per
    second, and 1.7 dB with 12.5.

    Raises
    ------
    ValueError
        Times that do not increase, or another number of them than of rows.
    SignalTooShort
        Fewer than two rows that are not NaN.

    Examples
    --------
    >>> resample(np.array([0.0, 1.0, 3.0]), np.array([0.0, np.nan, 6.0]), np.array([1.0, 2.0]))
    array([2., 4.])
    """
    t_s, x = np.asarray(t_s, dtype=np.float64), np.asarray(x, dtype=np.float64)
    if t_s.ndim != 1 or len(t_s) != len(x):
        raise ValueError(f"t_s has shape {t_s.shape}, x {x.shape}: there must be one time for each row of x.")
    if len(t_s) > 1 and not (np.diff(t_s) > 0).all():
        raise ValueError("t_s must increase from each sample to the next.")
    columns = x.reshape(len(x), -1)
    out = np.empty((len(at_s), columns.shape[1]))
    known = np.isfinite(columns)
    for k in range(columns.shape[1]):
        use = known[:, k]
        if use.sum() < 2:
            raise SignalTooShort(
                f"Only {use.sum()} of {len(t_s)} samples are known; at least 2 are needed to resample."
            )
        out[:, k] = np.interp(at_s, t_s[use], columns[use, k])
    return out.reshape((len(at_s), *x.shape[1:]))


def standardise(x: Float) -> Float:
    """Scale x (..., N) to zero mean and unit standard deviation along time; a constant becomes zeros, not NaN."""
    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = centred.std(axis=-1, keepdims=True)
    # 1e-9 of the level: below it a float64 "constant" is rounding, not signal.
    floor = 1e-9 * np.maximum(np.abs(x).max(axis=-1, keepdims=True, initial=0.0), 1e-300)
    scaled: Float = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > floor)
    return scaled
