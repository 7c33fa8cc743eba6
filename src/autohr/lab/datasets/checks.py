"""Comparison of a recording's video with its label: lag, rates, jumps.

Measured here, judged in ``manifest``; nothing here changes a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autohr.classic.colour import pos
from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass, standardise
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Float

LAG_RANGE_S = 5.0
"""Largest shift that is looked for. Ours: a label that is off by more misses the video's ends."""
PULSE_BAND_HZ = 1.0
"""Bandwidth of a pulse, about: a wave of T seconds holds 2 T independent numbers."""
BEAT_NOISE = 0.5
"""Largest random difference of the correlations at two neighbouring beats, in standard errors of one of them. Ours:
they share all but about a twentieth of their noise, so the root of two twentieths is usual, and this seldom."""
RATE_JUMP_BPM = 25.0
"""Change of the label's rate within one second that no heart makes. Ours: breathing changes the rate from one beat to
the next by up to about 15 bpm, hard exercise by a few bpm a second, and sensors report means over several beats."""


@dataclass(frozen=True)
class Checks:
    """Facts about one recording; None where one was not, or could not be, found out."""

    fps_nominal: float | None = None
    """Frames per second that the container claims."""
    is_part: bool = False
    """True if only a span of the video is used; the label may then reach over both its ends."""
    frames_missing: int = 0
    """Frames that the reader's span or frame clock promises and the video does not have."""
    label_start_s: float | None = None
    """First time at which the label knows anything, on the video's clock."""
    label_end_s: float | None = None
    hr_mean_bpm: float | None = None
    """Mean rate of the label over all that is kept; so are the next two."""
    hr_min_bpm: float | None = None
    hr_max_bpm: float | None = None
    label_bpm: float | None = None
    """Mean rate of the label over the longest segment; the next five are of that segment too."""
    wave_bpm: float | None = None
    """Rate of the label's wave."""
    pulse_bpm: float | None = None
    """Rate of the face's pulse: of POS on its colours."""
    pulse_snr_db: float | None = None
    lag_s: float | None = None
    """Time by which the label's wave shows a beat later than the face does: above 0 the label is late."""
    lag_r: float | None = None
    """Correlation of both waves at that shift."""
    jumps_s: tuple[float, ...] = ()
    """Times at which the label's rate jumps by more than ``RATE_JUMP_BPM``."""
    digest: str | None = None
    """Hash of a grid of pixels of every frame that was used: equal only for the same pictures in the same order."""

    @property
    def label_s(self) -> float | None:
        """Length of the label."""
        if self.label_start_s is None or self.label_end_s is None:
            return None
        return self.label_end_s - self.label_start_s


def compare_pulse(rgb: Float, bvp: Float | None, hr_bpm: Float, fps: float) -> dict[str, float | None]:
    """Compare a face's colours rgb (T, 3) with its label, bvp (T,) and hr_bpm (T,).

    Returns the fields of ``Checks`` from ``label_bpm`` to ``lag_r``. The pulse is POS (Wang et al. 2017).
    """
    found: dict[str, float | None] = {"label_bpm": float(hr_bpm.mean())}
    try:
        pulse = pos(rgb, fps)
        rate = estimate_heart_rate(pulse, fps)
        found |= {"pulse_bpm": rate.hr_bpm, "pulse_snr_db": rate.snr_db}
        if bvp is not None:
            found["wave_bpm"] = estimate_heart_rate(bvp, fps).hr_bpm
            found["lag_s"], found["lag_r"] = lag_between(bandpass(bvp, fps), pulse, fps)
    except SignalTooShort:
        pass
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def lag_between(late: Float, early: Float, fps: float) -> tuple[float | None, float | None]:
    """Return the seconds by which ``late`` (T,) follows ``early`` (T,), and the correlation there.

    None for a wave that does not move.

    Pearson's correlation over what overlaps, for each shift of whole frames up to ``LAG_RANGE_S`` or a quarter of the
    length, for few beats fit easily by chance; the vertex of a parabola gives the part of a frame.

    A regular pulse fits itself again one beat later. So of all peaks that are within ``BEAT_NOISE`` standard errors of
    the best correlation (Fisher's, 1 - r^2 over the root of the free numbers) the one of the smallest shift is taken.
    """
    n_frames = len(late)
    reach = min(int(LAG_RANGE_S * fps), n_frames // 4)
    if reach < 1 or not late.std() > 0 or not early.std() > 0:
        return None, None
    shifts = np.arange(-reach, reach + 1)
    r = np.empty(len(shifts))
    for k, shift in enumerate(range(-reach, reach + 1)):
        there = standardise(late[max(0, shift) : n_frames + min(0, shift)])
        here = standardise(early[max(0, -shift) : n_frames - max(0, shift)])
        r[k] = (there * here).mean()
    inner: NDArray[np.intp] = np.flatnonzero((r[1:-1] >= r[:-2]) & (r[1:-1] >= r[2:])) + 1
    if not len(inner):
        return None, None
    most = float(r[inner].max())
    error = (1 - most**2) / np.sqrt(2 * PULSE_BAND_HZ * n_frames / fps)
    near = inner[r[inner] >= most - BEAT_NOISE * error]
    best = int(near[np.argmin(np.abs(shifts[near]))])
    left, middle, right = r[best - 1 : best + 2]
    bend = left - 2 * middle + right
    part = float(0.5 * (left - right) / bend) if bend < 0 else 0.0
    return float(shifts[best] + part) / fps, float(middle)


def rate_jumps_s(hr_bpm: Float, fps: float) -> list[float]:
    """Return the times from the start of hr_bpm (T,) at which it jumps by more than ``RATE_JUMP_BPM`` within a second.

    Examples
    --------
    >>> rate_jumps_s(np.repeat([70.0, 120.0], 50), 10.0)
    [4.5]
    """
    second = max(1, round(fps))
    change = np.abs(hr_bpm[second:] - hr_bpm[:-second])
    over = np.concatenate([[False], change > RATE_JUMP_BPM])
    return [float(first / fps + 0.5) for first in np.flatnonzero(np.diff(over.astype(int)) == 1)]
