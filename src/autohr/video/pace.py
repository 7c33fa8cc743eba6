"""Fewer or more frames per second, for nets that know only some: in training and in use the same."""

from __future__ import annotations

import math

import numpy as np

from autohr.types import Frame


def clock_change(fps: float, least_fps: float, most_fps: float) -> tuple[int, int]:
    """(times, every): how many frames to make of each, or else every which frame to read, so that a video of ``fps``
    comes into or near ``least_fps`` .. ``most_fps``. (1, 1) leaves it. One of the two is always 1."""
    if fps < least_fps:
        return math.ceil(least_fps / fps), 1
    return 1, max(1, round(fps / most_fps))


def denser(frames: Frame, times: int) -> Frame:
    """frames (T, H, W, 3) with ``times`` - 1 others between each two, faded over: (times * (T - 1) + 1, H, W, 3)."""
    out = np.empty((times * (len(frames) - 1) + 1, *frames.shape[1:]), np.uint8)
    out[::times] = frames
    for step in range(1, times):
        share = np.float32(step / times)
        out[step::times] = np.rint(frames[:-1] * (1 - share) + frames[1:] * share)
    return out
