"""Rates from nets that regress them. A net sees frames and no seconds, so what it can read is beats per frame.

Its number becomes a rate only with the frames per second of its clip: hr_bpm = rate_at_30_fps * fps / 30. Videos of
one dataset differ in their frames per second by a quarter (VIPL-HR), and a net that is asked for bpm directly would
have to guess them (RhythmNet's target).
"""

from __future__ import annotations

import math

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


READ_SHARE = 0.85
"""Part of a signal that is read at another pace. Chosen by us: enough is left for six of RhythmNet's windows."""
LEAST_PACE, MOST_PACE = 0.5**0.5, 1 / READ_SHARE
"""Half an octave slower, and as fast as that part allows."""


def draw_paces(n_clips: int, n_paces: int, device: torch.device) -> Tensor:
    """Draw paces (B, N), evenly over octaves, by torch's random numbers."""
    least, most = math.log2(LEAST_PACE), math.log2(MOST_PACE)
    return torch.exp2(least + (most - least) * torch.rand(n_clips, n_paces, device=device))


def at_paces(signals: Tensor, fps: Tensor, paces: Tensor) -> tuple[Tensor, Tensor]:
    """Read each of signals (B, ..., T) at its paces (B, N), from a random place on: (B N, ..., W), and fps (B N,).

    A signal of which every second frame is read is one of half the frame rate; so one clip shows a net several numbers
    of beats per frame, with all that disturbs it. Between frames it is read linearly. W is ``READ_SHARE`` of T.
    """
    n_paces, length = paces.shape[1], signals.shape[-1]
    width = max(2, round(READ_SHARE * length))
    span = (paces * (width - 1)).clamp(max=length - 1)
    first = torch.rand_like(span) * (length - 1 - span)
    place = first[..., None] + span[..., None] * torch.linspace(0, 1, width, device=signals.device)  # (B, N, W)
    before = place.floor().long().clamp(max=length - 2)
    inner = [1] * (signals.ndim - 2)
    shape = (len(signals), n_paces, *signals.shape[1:-1], width)
    many = signals[:, None].expand(-1, n_paces, *signals.shape[1:])
    index = before.reshape(len(signals), n_paces, *inner, width).expand(shape)
    part = (place - before).reshape(len(signals), n_paces, *inner, width)
    read = many.gather(-1, index) * (1 - part) + many.gather(-1, index + 1) * part
    return read.flatten(0, 1), (fps[:, None] / (span / (width - 1))).flatten()
