"""Change the frame rate of a video for nets that know only some rates, in training and in use the same."""

from __future__ import annotations

import math

import numpy as np

from autohr.types import Frame


def clock_change(fps: float, min_fps: float, max_fps: float) -> tuple[int, int]:
    """Return (times, every), which bring a video of ``fps`` into or near ``min_fps`` .. ``max_fps``.

    ``times`` frames are made of each, or every ``every``-th is read; one of the two is always 1.

    Examples
    --------
    >>> clock_change(12.0, 20.0, 30.0), clock_change(60.0, 20.0, 30.0)
    ((2, 1), (1, 2))
    """
    if fps < min_fps:
        return math.ceil(min_fps / fps), 1
    return 1, max(1, round(fps / max_fps))


def denser(frames: Frame, times: int) -> Frame:
    """Put ``times`` - 1 cross-faded frames between each two of frames (T, H, W, 3): (times * (T - 1) + 1, H, W, 3)."""
    out = np.empty((times * (len(frames) - 1) + 1, *frames.shape[1:]), np.uint8)
    out[::times] = frames
    for step in range(1, times):
        share = np.float32(step / times)
        out[step::times] = np.rint(frames[:-1] * (1 - share) + frames[1:] * share)
    return out
