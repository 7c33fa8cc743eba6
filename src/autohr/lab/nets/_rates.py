"""Rates from nets that regress them. A net sees frames and no seconds, so what it can read is beats per frame.

Its number becomes a rate only with the frames per second of its clip: hr_bpm = rate_at_30_fps * fps / 30. Videos of
one dataset differ in their frames per second by a quarter (VIPL-HR), and a net that is asked for bpm directly would
have to guess them (RhythmNet's target).
"""

from __future__ import annotations

import torch
from torch import Tensor

CLOCK_FPS = 30.0
"""Taken where nobody says how fast a clip is: "bpm, were it one of 30 frames per second"."""

TYPICAL_BPM, SPREAD_BPM = 75.0, 20.0
"""Mean and standard deviation of adults at rest, roughly. An untrained network gives the first, and the second makes
its target a number of about one."""


def as_hr_bpm(out: Tensor, fps: Tensor | None) -> Tensor:
    """Return the last number of a net (B, ...), about -1..1, as hr_bpm of that shape, float32; fps (B,), None is 30."""
    at_30 = TYPICAL_BPM + SPREAD_BPM * out.float()
    return at_30 if fps is None else at_30 * along(fps / CLOCK_FPS, at_30)


def along(per_clip: Tensor, values: Tensor) -> Tensor:
    """Return per_clip (B,) in a shape that multiplies values (B, ...)."""
    return per_clip.to(values).reshape(-1, *[1] * (values.ndim - 1))


def at_30_fps(hr_bpm: Tensor, fps: Tensor) -> Tensor:
    """Return hr_bpm (B, ...) of clips at fps (B,) as they would be at 30: the unit in which nets are compared."""
    return hr_bpm * along(torch.full_like(fps, CLOCK_FPS) / fps, hr_bpm)
