"""Uniform clock: the colours of one face, read at uneven times, brought to evenly spaced ones."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from autohr.signals.filters import resample
from autohr.types import FaceClip, Float

REGION_KNOWN = 0.5
"""Share of a window's frames in which a region, or the background, must have a colour to be used in it."""


@dataclass(frozen=True)
class FaceRows:
    """One face in N frames, at whatever times; NaN where something was not seen. Colours are 0..255."""

    t_s: Float
    """(N,) increasing."""
    rgb: Float
    """(N, 3) skin."""
    traces: Float
    """(N, R, 3) regions of the face."""
    background_rgb: Float
    """(N, 3)"""
    box_xywh: Float
    """(N, 4) pixels of the frame."""
    found: NDArray[np.bool_]
    """(N,)"""
    whole: NDArray[np.bool_]
    """(N,) frames that the file codes by themselves."""

    def __getitem__(self, part: slice) -> FaceRows:
        return FaceRows(**{field.name: getattr(self, field.name)[part] for field in fields(self)})


def nearest(t_s: Float, at_s: Float) -> NDArray[np.intp]:
    """Return, for each of ``at_s`` (M,), the index (M,) of the nearest of the increasing ``t_s`` (N,).

    Examples
    --------
    >>> nearest(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.6, 9.0]))
    array([0, 2, 2])
    """
    if len(t_s) == 1:
        return np.zeros(len(at_s), dtype=np.intp)
    right = np.clip(np.searchsorted(t_s, at_s), 1, len(t_s) - 1)
    return np.asarray(right - (at_s - t_s[right - 1] <= t_s[right] - at_s), dtype=np.intp)


def on_clock(rows: FaceRows, fps: float, start_s: float, n_frames: int) -> FaceClip:
    """Put rows on a clock of ``fps`` from ``start_s``: colours only, without face crops.

    What was not seen is interpolated linearly and marked in ``found``. Of the rows outside that stretch, the last
    before it and the first after it are used.

    Raises
    ------
    SignalTooShort
        The face was seen in fewer than two of the rows used.
    """
    at_s = start_s + np.arange(n_frames) / fps
    first, last = (int(k) for k in np.searchsorted(rows.t_s, at_s[[0, -1]]))
    rows = rows[max(0, first - 1) : last + 2]
    t_s = rows.t_s

    shown = nearest(t_s, at_s)
    found = rows.found[shown] & (np.abs(t_s[shown] - at_s) <= 1.0 / fps)
    # Each key frame marks one moment of the clock, also where frames are missing or too many.
    whole = np.zeros(n_frames, dtype=bool)
    marks = np.rint((t_s[rows.whole] - start_s) * fps).astype(int)
    whole[marks[(marks >= 0) & (marks < n_frames)]] = True

    known = np.isfinite(rows.traces).all(axis=2)  # (N, R)
    use = known.mean(axis=0) >= REGION_KNOWN
    traces = np.full((n_frames, rows.traces.shape[1], 3), np.nan)
    if use.any():
        traces[:, use] = resample(t_s, rows.traces[:, use], at_s)
    lit = np.isfinite(rows.background_rgb).all(axis=1).mean() >= REGION_KNOWN
    return FaceClip(
        fps=fps,
        start_s=start_s,
        rgb=resample(t_s, rows.rgb, at_s),
        traces=traces,
        background_rgb=resample(t_s, rows.background_rgb, at_s) if lit else np.full((n_frames, 3), np.nan),
        box_xywh=resample(t_s, rows.box_xywh, at_s),
        found=found,
        whole=whole,
    )
