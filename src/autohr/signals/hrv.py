"""Beats of a pulse wave, how well they are timed, and the variability of the intervals between them.

Video shows the broad top of the pulse wave, not the sharp R peak of an ECG. On clean simulated waves of 25 to 60 frames
per second beats are found within 12 ms (tests/test_signals.py). In video, also where the rate is certain, the error is
4 to 60 ms (standard deviation; benchmarks/hrv.py), and an error of 10 ms alone makes an RMSSD of about 20 ms. So the
beats of a video are timed twice, in two waves that were read by different methods from the same seconds. Their
disagreement bounds the error, the error's share is taken off each figure of variability, and a figure that is then not
known well enough is withheld.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.signals.filters import remove_line
from autohr.types import HRV, Float

FINE_HZ = 250.0
"""Rate, in samples per second, of the cubic curve through the wave on which beats are found (Poh 2011: 256 Hz)."""

LEAST_S = 60.0
"""Shortest sum of accepted intervals for any HRV figure: the Task Force (1996) asks for about one minute for HF."""
LEAST_LF_S = 120.0
"""Shortest sum of accepted intervals for LF: the Task Force asks for two minutes, five periods of LF's lower edge."""
MAX_BRIDGE_S = 3.0
"""Longest interval across which the series of intervals is interpolated for its spectrum: one or two missed beats.
Ours: less than half of the shortest period of LF (6.7 s). Longer ones are pauses; each stretch between them has a
spectrum of its own."""

INTERVAL_TOLERANCE = 0.3
"""Largest difference of an interval to the median of its neighbours, as a share; beyond it a beat was missed or false
(Poh 2011 uses 30 % as well)."""
LEAST_ACCEPTED = 0.8
"""Share of intervals that must pass; with fewer the wave was not followed beat by beat."""

LF_HZ, HF_HZ = (0.04, 0.15), (0.15, 0.4)

SAME_BEAT = 0.3
"""Share of the median interval within which beats of two waves are one beat."""
LEAST_BEATS = 8
"""Smallest number of paired beats from which a disagreement is computed. Ours: its standard error is then a quarter."""
LEAST_CONFIRMED = 0.8
"""Smallest share of the beats of either wave that must be in the other too."""
MAX_BEAT_ERROR_MS = 30.0
"""Largest error of a beat's time (standard deviation) at which beats are given. Ours: an interval is then off by about
40 ms, nearly what pNN50 counts."""
NOISE_SHARE_NET, NOISE_SHARE_FORMULA = 1.1, 1.35
"""Largest noise of beats, of intervals and of their successive differences, relative to the disagreement of the two
waves in them: 95 % of 60 synthetic recordings lie below, for AutoHR beside MVDR, and for GREEN, ICA, CHROM and POS
beside MVDR or MVDR beside POS (docs/log/2026-11.md, 2026-11-27). The lowest seen is 0.2."""
SLACK, POWER_SLACK = 0.06, 0.5
"""Share by which SDNN and RMSSD, and LF and HF power, may exceed what was measured although noise adds: noise and
variation correlate by chance, and the overlapped windows of a network's wave smooth fast changes. The largest on the
same recordings."""
MAX_ERROR_MS, MAX_ERROR_PCT, MAX_ERROR_SHARE = 10.0, 10.0, 0.25
"""A figure is given where its error is at most so many milliseconds (percentage points for pNN50), or at most this
share of the figure. Ours: an RMSSD of 10 can then be told from one of 30, and one of 30 from one of 50. For powers the
limits are the square of the first and twice the share, since a power is a square."""


def detect_beats(bvp: Float, fs: float, hr_bpm: float) -> Float:
    """Return the times (K,) of the systolic peaks of a wave bvp (N,), in seconds from its first sample.

    NaN marks gaps, in which no beat is found. ``hr_bpm``, the estimated rate, sets the smallest distance of two beats:
    0.6 of the mean interval, more than the distance of the dicrotic wave and less than the shortest interval of a
    normal rhythm.

    Examples
    --------
    >>> t_s = np.arange(300) / 30
    >>> detect_beats(-np.cos(2 * np.pi * t_s), fs=30, hr_bpm=60)[:3].round(2)
    array([0.5, 1.5, 2.5])
    """
    bvp = np.asarray(bvp, dtype=np.float64)
    beats: list[Float] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.isfinite(bvp).astype(np.int8), [0]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        run = bvp[first:last]
        if len(run) < fs * 60 / hr_bpm or run.std() == 0:
            continue
        fine_s = np.arange(0, (len(run) - 1) / fs, 1 / FINE_HZ)
        fine = _curve(run, fine_s * fs)
        # A beat must stand out by a third of the wave's own size: ripples on its flanks do not.
        peaks = find_tops(fine, max(1, int(0.6 * 60 / hr_bpm * FINE_HZ)), 0.33 * float(run.std()))
        beats.append(first / fs + fine_s[peaks])
    return np.concatenate(beats) if beats else np.empty(0)


def _curve(x: Float, at: Float) -> Float:
    """Evaluate the natural cubic spline through x (N,), N >= 3, at the places ``at`` (M,) in samples, 0 to N - 1."""
    n_inner = len(x) - 2
    # As a sum of cubic B-splines, whose weights of neighbouring samples are 1/6, 4/6, 1/6; no curvature at the ends.
    goal = 6 * x[1:-1]
    goal[0] -= x[0]
    goal[-1] -= x[-1]
    # On a signal continued with odd symmetry those weights are a circular convolution: the Fourier transform solves it.
    odd = np.concatenate([[0.0], goal, [0.0], -goal[::-1]])
    eigenvalues = 4 + 2 * np.cos(np.pi * np.arange(n_inner + 2) / (n_inner + 1))
    inner = np.fft.irfft(np.fft.rfft(odd) / eigenvalues, len(odd))[1 : n_inner + 1]
    c = np.concatenate([[2 * x[0] - inner[0], x[0]], inner, [x[-1], 2 * x[-1] - inner[-1], 0.0]])
    first = np.minimum(at.astype(np.intp), len(x) - 1)
    u = at - first
    v = 1 - u
    weights = (v**3, 4 - 6 * u**2 + 3 * u**3, 4 - 6 * v**2 + 3 * v**3, u**3)
    total: Float = sum((w * c[first + k] for k, w in enumerate(weights)), np.zeros(len(at))) / 6
    return total


def find_tops(curve: Float, distance: int, prominence: float) -> NDArray[np.intp]:
    """Return the indices of the peaks of curve (N,), as scipy.signal.find_peaks does, without its slow import.

    Of local maxima nearer than ``distance`` samples only the highest counts, and it must stand out by ``prominence``:
    on both sides the curve falls by as much before it rises above the peak.
    """
    tops: NDArray[np.intp] = np.flatnonzero((curve[1:-1] > curve[:-2]) & (curve[1:-1] >= curve[2:])) + 1
    height = curve[tops]
    free = np.ones(len(tops), dtype=bool)
    for k in np.argsort(height, kind="stable")[::-1]:
        if free[k]:
            first, last = np.searchsorted(tops, [tops[k] - distance + 1, tops[k] + distance])
            free[first:k] = free[k + 1 : last] = False
    # The lowest point before the first top, between each two, and after the last.
    lows = np.minimum.reduceat(curve, np.concatenate([[0], tops]))

    def falls(k: int, step: int) -> bool:
        at = k
        while lows[at + (step > 0)] > height[k] - prominence:
            at += step
            if not 0 <= at < len(tops) or height[at] > height[k]:
                return False
        return True

    stands = [k for k in np.flatnonzero(free) if falls(int(k), -1) and falls(int(k), 1)]
    return tops[stands]


def accepted_intervals(beats_s: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Return the intervals ibi_ms (K-1,) between beats_s (K,), and a mask (K-1,) of those that fit their neighbours."""
    ibi_ms = 1000.0 * np.diff(beats_s)
    if len(ibi_ms) < 3:
        return ibi_ms, np.zeros(len(ibi_ms), dtype=bool)
    reach = 5
    padded = np.pad(ibi_ms, reach, mode="reflect" if len(ibi_ms) > reach else "edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    return ibi_ms, np.abs(ibi_ms - local) <= INTERVAL_TOLERANCE * local


def confirm_beats(beats_s: Float, second_s: Float) -> tuple[Float, Float]:
    """Return the beats that two waves have in common: (K,) as in the first, and (K,) as in the second without its lag.

    Beats are paired where each is the other's nearest, within ``SAME_BEAT`` of the median interval, after the median
    lag between the waves has been taken off the second.
    """
    beats_s, second_s = np.asarray(beats_s, dtype=np.float64), np.asarray(second_s, dtype=np.float64)
    nothing = np.empty(0), np.empty(0)
    if len(beats_s) < 2 or len(second_s) < 2:
        return nothing
    period_s = float(np.median(np.diff(beats_s)))
    first, other = _mutual_nearest(beats_s, second_s, 0.5 * period_s)
    if not len(first):
        return nothing
    second_s = second_s + np.median(beats_s[first] - second_s[other])
    first, other = _mutual_nearest(beats_s, second_s, SAME_BEAT * period_s)
    return beats_s[first], second_s[other]


def _mutual_nearest(a: Float, b: Float, within: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return indices into the increasing a and b, two or more each, of pairs in which each is the other's nearest."""

    def nearest(x: Float, among: Float) -> NDArray[np.intp]:
        right = np.clip(np.searchsorted(among, x), 1, len(among) - 1)
        return np.asarray(right - (x - among[right - 1] < among[right] - x), dtype=np.intp)

    of_a, of_b = nearest(a, b), nearest(b, a)
    pairs = np.flatnonzero((of_b[of_a] == np.arange(len(a))) & (np.abs(a - b[of_a]) <= within))
    return pairs, of_a[pairs]


def timed_beats(
    beats_s: Float, second_s: Float, noise_share: float = NOISE_SHARE_FORMULA
) -> tuple[Float, Float, float]:
    """Return the beats of a wave whose timing a second wave of the same seconds confirms, and how well.

    Parameters
    ----------
    beats_s
        (N,) beats of the wave.
    second_s
        (M,) beats of another wave, read from the same seconds by another method.
    noise_share
        Largest error of the beats over the disagreement of the two waves.

    Returns
    -------
    The confirmed beats (K,) as in ``beats_s``, the same (K,) as in ``second_s`` less its median lag, and the
    largest error of the first (standard deviation, ms): ``noise_share`` of the standard deviation between the two.
    An error that both waves share does not show in it.

    Raises
    ------
    SignalTooShort
        Too few beats, beats that are not in both, or an error above ``MAX_BEAT_ERROR_MS``; the message
        says which.
    """
    first_s, other_s = confirm_beats(beats_s, second_s)
    if len(first_s) < LEAST_BEATS:
        raise SignalTooShort(
            f"only {len(first_s)} beats could be checked against a second reading; {LEAST_BEATS} are needed to know "
            "how well they are timed"
        )
    share = len(first_s) / max(len(beats_s), len(second_s))
    if share < LEAST_CONFIRMED:
        raise SignalTooShort(
            f"a second reading of the same seconds confirms only {100 * share:.0f} % of the beats; "
            f"{100 * LEAST_CONFIRMED:.0f} % are needed"
        )
    error_ms = noise_share * float(1000 * np.std(first_s - other_s))
    if error_ms > MAX_BEAT_ERROR_MS:
        raise SignalTooShort(
            f"the time of a beat is known to {error_ms:.0f} ms only (two readings of the same seconds disagree); "
            f"{MAX_BEAT_ERROR_MS:.0f} ms or less is needed"
        )
    return first_s, other_s, error_ms


def heart_rate_variability(
    beats_s: Float, second_s: Float | None = None, noise_share: float = NOISE_SHARE_FORMULA
) -> HRV:
    """Return SDNN, RMSSD, pNN50, LF and HF of beats_s (K,) after the Task Force (1996), each with its error.

    Intervals that disagree with their neighbours are left out; RMSSD and pNN50 use only pairs of neighbouring accepted
    intervals. LF and HF: the accepted intervals of each stretch without a pause on a 4 Hz clock (cubic), Welch with
    segments of 60 s and half overlap, averaged over the stretches of 60 s or more.

    Without ``second_s`` the beats are taken as exact (an ECG's), and all errors are 0. With it, the same beats (K,) as
    timed in a second wave (``timed_beats``), the noise in each figure lies between nothing and ``noise_share`` of the
    disagreement. Noise adds to a variance, so the figure lies between what is left of the measured one without that
    noise and the measured one (``SLACK``): the middle of the two is given, and half of their distance as its error. A
    figure whose error is too large (``MAX_ERROR_MS``, ``MAX_ERROR_PCT``, ``MAX_ERROR_SHARE``) is None, and ``withheld``
    says so.

    Raises
    ------
    SignalTooShort
        Less than 60 s of accepted intervals (pauses do not count), or fewer than 80 % of the intervals
        accepted.
    ValueError
        A second_s of another length.
    """
    beats_s = np.asarray(beats_s, dtype=np.float64)
    second_s = beats_s if second_s is None else np.asarray(second_s, dtype=np.float64)
    if beats_s.shape != second_s.shape:
        raise ValueError(f"beats_s {beats_s.shape} and second_s {second_s.shape} must be the same beats.")
    ibi_ms, ok = accepted_intervals(beats_s)
    inside = ibi_ms <= 1000 * MAX_BRIDGE_S
    covered_s = float(ibi_ms[ok & inside].sum() / 1000)
    if inside.any() and ok[inside].mean() < LEAST_ACCEPTED:
        raise SignalTooShort(
            f"Only {100 * ok[inside].mean():.0f} % of the beat intervals agree with their neighbours; "
            f"heart-rate variability needs {100 * LEAST_ACCEPTED:.0f} %."
        )
    if covered_s < LEAST_S:
        raise SignalTooShort(f"{covered_s:.0f} s of beats; heart-rate variability needs at least {LEAST_S:.0f} s.")
    ok &= inside
    noise_ms = ibi_ms - 1000 * np.diff(second_s)
    pairs = ok[:-1] & ok[1:]
    steps_ms, step_noise_ms = np.diff(ibi_ms)[pairs], np.diff(noise_ms)[pairs]

    def ends(variance: float, disagreement: float, slack: float) -> tuple[float, float]:
        """Return the least and greatest variance without the noise."""
        return max(0.0, variance - noise_share**2 * disagreement), variance * (1 + (slack if noise_ms.any() else 0))

    sdnn = np.sqrt(ends(float(ibi_ms[ok].var(ddof=1)), float(noise_ms[ok].var()), (1 + SLACK) ** 2 - 1))
    step_ms2 = float(np.mean(steps_ms**2))
    rmssd = np.sqrt(ends(step_ms2, float(np.mean(step_noise_ms**2)), (1 + SLACK) ** 2 - 1))
    # Steps of the size that they have without the noise tell how many exceed 50 ms without it. Each step nearer to 50
    # ms than the noise is on the wrong side with a chance of up to a half: two standard deviations of that are added.
    scale = rmssd / np.sqrt(step_ms2) if step_ms2 > 0 else np.ones(2)
    noise_limit_ms = noise_share * float(np.sqrt(np.mean(step_noise_ms**2)))
    n_near = int((np.abs(np.abs(steps_ms) - 50) < noise_limit_ms).sum())
    pnn50 = 100 * np.mean(np.abs(steps_ms) * scale[:, None] > 50, axis=1)
    pnn50 = np.clip(pnn50 + 100 * np.sqrt(n_near) / len(steps_ms) * np.array([-1, 1]), 0, 100)
    (lf_ms2, hf_ms2), (lf_noise_ms2, hf_noise_ms2) = _band_powers(beats_s, ibi_ms, noise_ms, ok)
    lf, hf = ends(lf_ms2, lf_noise_ms2, POWER_SLACK), ends(hf_ms2, hf_noise_ms2, POWER_SLACK)
    withheld: list[str] = []
    nothing = None, None

    def given(
        name: str, unit: str, low_high: Float | tuple[float, float], least: float, share: float
    ) -> tuple[float, float] | tuple[None, None]:
        middle, error = float(low_high[0] + low_high[1]) / 2, float(low_high[1] - low_high[0]) / 2
        if np.isfinite(error) and error <= max(least, share * middle):
            return middle, error
        withheld.append(f"{name} {middle:.0f} ± {error:.0f} {unit}" if np.isfinite(error) else name)
        return nothing

    sdnn_ms, sdnn_error_ms = given("SDNN", "ms", sdnn, MAX_ERROR_MS, MAX_ERROR_SHARE)
    rmssd_ms, rmssd_error_ms = given("RMSSD", "ms", rmssd, MAX_ERROR_MS, MAX_ERROR_SHARE)
    pnn50_pct, pnn50_error_pct = given("pNN50", "%", pnn50, MAX_ERROR_PCT, MAX_ERROR_SHARE)
    powers = MAX_ERROR_MS**2, 2 * MAX_ERROR_SHARE
    lf_middle_ms2, lf_error_ms2 = given("LF", "ms²", lf, *powers) if covered_s >= LEAST_LF_S else nothing
    hf_middle_ms2, hf_error_ms2 = given("HF", "ms²", hf, *powers) if np.isfinite(hf_ms2) else nothing
    lf_hf, lf_hf_error = nothing
    if lf_middle_ms2 is not None and hf_middle_ms2 is not None and hf[1] > 0:
        ratio = lf[0] / hf[1], lf[1] / hf[0] if hf[0] > 0 else np.inf
        lf_hf, lf_hf_error = given("LF/HF", "", ratio, 0.0, 2 * MAX_ERROR_SHARE)
    return HRV(
        duration_s=covered_s,
        n_beats=len(beats_s),
        mean_hr_bpm=float(60_000 / ibi_ms[ok].mean()),
        sdnn_ms=sdnn_ms,
        sdnn_error_ms=sdnn_error_ms,
        rmssd_ms=rmssd_ms,
        rmssd_error_ms=rmssd_error_ms,
        pnn50_pct=pnn50_pct,
        pnn50_error_pct=pnn50_error_pct,
        lf_ms2=lf_middle_ms2,
        lf_error_ms2=lf_error_ms2,
        hf_ms2=hf_middle_ms2,
        hf_error_ms2=hf_error_ms2,
        lf_hf=lf_hf,
        lf_hf_error=lf_hf_error,
        withheld=", ".join(withheld) or None,
    )


def _band_powers(
    beats_s: Float, ibi_ms: Float, noise_ms: Float, ok: NDArray[np.bool_]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return LF and HF power (ms²) of the intervals (K-1,) and of their noise (K-1,).

    ``ok`` (K-1,) marks the accepted intervals. NaN where no stretch without a pause is long enough.
    """
    fs = 4.0
    powers, lengths = [], []
    middle_s = beats_s[1:][ok]
    for run in np.split(np.arange(len(middle_s)), np.flatnonzero(np.diff(middle_s) > MAX_BRIDGE_S) + 1):
        if len(run) < 4 or middle_s[run[-1]] - middle_s[run[0]] < LEAST_S - 2 * MAX_BRIDGE_S:
            continue
        t_s = np.arange(middle_s[run[0]], middle_s[run[-1]], 1 / fs)
        tachograms = remove_line(
            cubic_spline(middle_s[run], np.stack([ibi_ms[ok][run], noise_ms[ok][run]], axis=1), t_s).T
        )
        freqs_hz, density = welch_density(tachograms, fs, min(len(t_s), int(60 * fs)), n_fft=1024)
        bands = [(freqs_hz >= low_hz) & (freqs_hz < high_hz) for low_hz, high_hz in (LF_HZ, HF_HZ)]
        powers.append(np.stack([density[:, band].sum(axis=1) for band in bands]) * (freqs_hz[1] - freqs_hz[0]))
        lengths.append(len(t_s))
    if not powers:
        unknown = float("nan"), float("nan")
        return unknown, unknown
    (lf, lf_noise), (hf, hf_noise) = np.average(powers, axis=0, weights=lengths)
    return (float(lf), float(hf)), (float(lf_noise), float(hf_noise))


def cubic_spline(t_s: Float, x: Float, at_s: Float) -> Float:
    """Interpolate x (K, C), given at the uneven times ``t_s`` (K,), K >= 4, at ``at_s`` (M,): (M, C).

    A cubic spline with "not-a-knot" ends, as scipy.interpolate.CubicSpline has it.
    """
    step = np.diff(t_s)
    slope = np.diff(x, axis=0) / step[:, None]
    # Rows (before, own, after) of the equations for the derivative at each knot.
    before, own, after = np.zeros(len(t_s)), np.zeros(len(t_s)), np.zeros(len(t_s))
    goal = np.empty_like(x)
    before[1:-1], own[1:-1], after[1:-1] = step[1:], 2 * (step[:-1] + step[1:]), step[:-1]
    goal[1:-1] = 3 * (step[1:, None] * slope[:-1] + step[:-1, None] * slope[1:])
    for end, (near, far) in ((0, (0, 1)), (-1, (-1, -2))):
        both = step[near] + step[far]
        own[end] = step[far]
        (after if end == 0 else before)[end] = both
        goal[end] = ((step[near] + 2 * both) * step[far] * slope[near] + step[near] ** 2 * slope[far]) / both
    for k in range(1, len(t_s)):
        share = before[k] / own[k - 1]
        own[k] -= share * after[k - 1]
        goal[k] -= share * goal[k - 1]
    derivative = np.empty_like(x)
    derivative[-1] = goal[-1] / own[-1]
    for k in range(len(t_s) - 2, -1, -1):
        derivative[k] = (goal[k] - after[k] * derivative[k + 1]) / own[k]
    left = np.clip(np.searchsorted(t_s, at_s, side="right") - 1, 0, len(step) - 1)
    width = step[left, None]
    u = (at_s - t_s[left])[:, None] / width
    rise, first, last = slope[left] * width, derivative[left] * width, derivative[left + 1] * width
    return np.asarray(x[left] + u * (first + u * (3 * rise - 2 * first - last + u * (first + last - 2 * rise))))


def welch_density(x: Float, fs: float, length: int, n_fft: int) -> tuple[Float, Float]:
    """Return freqs_hz (F,) and the power density (..., F) of x (..., N) by Welch's method, as scipy.signal.welch does.

    Segments of ``length`` samples with half overlap, their mean subtracted, under a Hann window.
    """
    segments = np.lib.stride_tricks.sliding_window_view(x, length, axis=-1)[..., :: length - length // 2, :]
    window = np.hanning(length + 1)[:-1]
    spectra = np.fft.rfft((segments - segments.mean(axis=-1, keepdims=True)) * window, n_fft, axis=-1)
    density = (np.abs(spectra) ** 2).mean(axis=-2) / (fs * (window**2).sum())
    density[..., 1 : (n_fft + 1) // 2] *= 2
    return np.asarray(np.fft.rfftfreq(n_fft, 1 / fs), dtype=np.float64), density
