"""Beats of a pulse wave, and the variability of the intervals between them.

Video shows the pulse wave's broad top, not the sharp R peak of an ECG. On clean simulated waves of 25 to 60 frames per
second beats are found within 12 ms (tests/test_signals.py); on real video the error is larger and not yet measured. It
adds to RMSSD and pNN50 directly; SDNN and LF suffer least.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from autohr.errors import SignalTooShort
from autohr.signals.filters import remove_line
from autohr.types import HRV, Float

FINE_HZ = 250.0
"""Beats are looked for on a cubic curve through the wave at this rate (4 ms), as Poh 2011 did at 256 Hz."""

LEAST_S = 60.0
"""Least span for any HRV figure: the Task Force (1996) asks about one minute for HF."""
LEAST_LF_S = 120.0
"""Least span for LF: the Task Force asks two minutes, about five periods of its lower edge."""

INTERVAL_TOLERANCE = 0.3
"""An interval that differs from the median of its neighbours by more than this share is a missed or a false beat
(Poh 2011 uses 30 % as well)."""
LEAST_ACCEPTED = 0.8
"""Share of intervals that must pass; with fewer the wave was not followed beat by beat."""

LF_HZ, HF_HZ = (0.04, 0.15), (0.15, 0.4)


def detect_beats(bvp: Float, fs: float, hr_bpm: float) -> Float:
    """Times (K,) of the systolic peaks of a wave bvp (N,), in seconds from its first sample.

    NaN marks gaps: no beat is found in them, and none closer to one than the wave's own neighbours allow. ``hr_bpm``,
    the estimated rate, sets the least distance of two beats: 0.6 of the mean interval, above the dicrotic wave's
    distance and below the shortest interval of a normal rhythm."""
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
    """The natural cubic spline through x (N,), N >= 3, at the places ``at`` (M,) in samples, 0 <= at <= N - 1."""
    n_inner = len(x) - 2
    # As a sum of cubic B-splines, whose weights of neighbouring samples are 1/6, 4/6, 1/6; no curvature at the ends.
    band = np.ones((2, n_inner))
    band[1] = 4.0
    goal = 6 * x[1:-1]
    goal[0] -= x[0]
    goal[-1] -= x[-1]
    inner = solveh_banded(band, goal, check_finite=False)
    c = np.concatenate([[2 * x[0] - inner[0], x[0]], inner, [x[-1], 2 * x[-1] - inner[-1], 0.0]])
    first = np.minimum(at.astype(np.intp), len(x) - 1)
    u = at - first
    v = 1 - u
    weights = (v**3, 4 - 6 * u**2 + 3 * u**3, 4 - 6 * v**2 + 3 * v**3, u**3)
    total: Float = sum((w * c[first + k] for k, w in enumerate(weights)), np.zeros(len(at))) / 6
    return total


def find_tops(curve: Float, distance: int, prominence: float) -> NDArray[np.intp]:
    """Indices of the tops of curve (N,): local maxima, of those nearer than ``distance`` samples only the highest,
    that stand out by ``prominence``: on both sides the curve falls by as much before it rises above the top.

    As scipy.signal.find_peaks, without its import.
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
    """ibi_ms (K-1,) between beats_s (K,), and which of them (K-1,) bool agree with their neighbours."""
    ibi_ms = 1000.0 * np.diff(beats_s)
    if len(ibi_ms) < 3:
        return ibi_ms, np.zeros(len(ibi_ms), dtype=bool)
    reach = 5
    padded = np.pad(ibi_ms, reach, mode="reflect" if len(ibi_ms) > reach else "edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    return ibi_ms, np.abs(ibi_ms - local) <= INTERVAL_TOLERANCE * local


def heart_rate_variability(beats_s: Float) -> HRV:
    """SDNN, RMSSD, pNN50, LF and HF of beats_s (K,) after the Task Force (1996).

    Intervals that disagree with their neighbours are left out; RMSSD and pNN50 use only pairs of neighbouring accepted
    intervals. LF and HF: the accepted intervals on a 4 Hz clock (cubic), Welch with 60 s segments and half overlap.

    Raises:
        SignalTooShort: less than 60 s of beats, or fewer than 80 % of the intervals accepted.
    """
    beats_s = np.asarray(beats_s, dtype=np.float64)
    span_s = float(beats_s[-1] - beats_s[0]) if len(beats_s) > 1 else 0.0
    if span_s < LEAST_S:
        raise SignalTooShort(f"{span_s:.0f} s of beats; heart-rate variability needs at least {LEAST_S:.0f} s.")
    ibi_ms, ok = accepted_intervals(beats_s)
    if ok.mean() < LEAST_ACCEPTED:
        raise SignalTooShort(
            f"Only {100 * ok.mean():.0f} % of the beat intervals agree with their neighbours; "
            f"heart-rate variability needs {100 * LEAST_ACCEPTED:.0f} %."
        )
    from scipy.interpolate import CubicSpline
    from scipy.signal import welch  # 0.3 s, not wanted before there is a minute of beats

    nn_ms = ibi_ms[ok]
    steps_ms = np.diff(ibi_ms)[ok[:-1] & ok[1:]]
    fs = 4.0
    middle_s = beats_s[1:][ok]
    t_s = np.arange(middle_s[0], middle_s[-1], 1 / fs)
    tachogram: Float = CubicSpline(middle_s, nn_ms)(t_s)
    tachogram = remove_line(tachogram)
    freqs_hz, density = welch(tachogram, fs, nperseg=min(len(t_s), int(60 * fs)), nfft=1024)

    def band_ms2(band_hz: tuple[float, float]) -> float:
        inside = (freqs_hz >= band_hz[0]) & (freqs_hz < band_hz[1])
        return float(density[inside].sum() * (freqs_hz[1] - freqs_hz[0]))

    lf_ms2 = band_ms2(LF_HZ) if span_s >= LEAST_LF_S else None
    hf_ms2 = band_ms2(HF_HZ)
    return HRV(
        duration_s=span_s,
        n_beats=len(beats_s),
        mean_hr_bpm=float(60_000 / nn_ms.mean()),
        sdnn_ms=float(nn_ms.std(ddof=1)),
        rmssd_ms=float(np.sqrt(np.mean(steps_ms**2))),
        pnn50_pct=float(100 * np.mean(np.abs(steps_ms) > 50)),
        lf_ms2=lf_ms2,
        hf_ms2=hf_ms2,
        lf_hf=lf_ms2 / hf_ms2 if lf_ms2 is not None and hf_ms2 > 0 else None,
    )
