"""Transforms of a clip before a network's first convolution, in the net so that no caller can choose them wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_PX = 16
"""Least height and width: the nets halve them four times."""
LEAST_FRAMES = 4
TIME_MULTIPLE = 4
"""The nets halve time twice and double it twice."""

DIFFERENCE_FLOOR = 0.02
"""Added to the sum of two frames, so that black pixels do not dominate (1 would be white twice)."""
DIFFERENCE_CLIP = 4.0
"""Differences beyond this many standard deviations are movement, not pulse (DeepPhys: 3)."""
STEADY = 1e-5
"""Standard deviation under which a clip counts as a still picture; one grey level in a hundred is 1e-4."""


def rgb(clip: Tensor) -> Tensor:
    """Return a clip (B, 3, T, H, W) in [0, 1] as about -1..1: (v - 127.5) / 128 of 8-bit v, as in the author's code."""
    return (clip * 255.0 - 127.5) / 128.0


def difference(clip: Tensor) -> Tensor:
    """Return the relative change of a clip (B, 3, T, H, W) to the next frame, in the clip's standard deviation.

    (c[t+1] - c[t]) / (c[t+1] + c[t]) removes the brightness of skin and light and leaves what changes (DeepPhys). One
    standard deviation for the three channels together keeps their proportions, by which pulse and light differ. The
    last frame, which has no next one, repeats the change before it.
    """
    if torch.compiler.is_compiling():
        return _difference_of_all_frames(clip)
    now, following = clip[:, :, :-1], clip[:, :, 1:]
    change = (following - now) / (following + now + DIFFERENCE_FLOOR)
    sd = (change.var((1, 2, 3, 4), keepdim=True) + STEADY**2).sqrt()
    change = (change / sd).clamp(-DIFFERENCE_CLIP, DIFFERENCE_CLIP)
    return torch.cat([change, change[:, :, -1:]], dim=2)


def _difference_of_all_frames(clip: Tensor) -> Tensor:
    """Return ``difference`` as onnxruntime computes it fastest: it would copy what is sliced, and what is put together.

    So the last frame follows itself: it adds nothing to a sum, and is left out of the squares.
    """
    _, n_channels, n_frames, height, width = clip.shape
    frame = torch.arange(n_frames, device=clip.device)
    following = clip.index_select(2, (frame + 1).clamp(max=n_frames - 1))
    change = (following - clip) / (following + clip + DIFFERENCE_FLOOR)
    n_values = n_channels * (n_frames - 1) * height * width
    away = change - (change.sum(4).sum(3).sum((1, 2)) / n_values)[:, None, None, None, None]
    squares = (away * away).sum(4).sum(3)[:, :, :-1].sum((1, 2))
    sd = (squares / (n_values - 1) + STEADY**2).sqrt()[:, None, None, None, None]
    change = (change / sd).clamp(-DIFFERENCE_CLIP, DIFFERENCE_CLIP)
    return change.index_select(2, frame.clamp(max=n_frames - 2))


def rgb_difference(clip: Tensor) -> Tensor:
    """Return ``rgb`` and ``difference`` of a clip (B, 3, T, H, W) as (B, 6, T, H, W)."""
    return torch.cat([rgb(clip), difference(clip)], dim=1)


@dataclass(frozen=True)
class Input:
    """One transform, and the channels that it makes."""

    channels: int
    transform: Callable[[Tensor], Tensor]


INPUTS: dict[str, Input] = {
    "rgb": Input(3, rgb),
    "difference": Input(3, difference),
    "rgb_difference": Input(6, rgb_difference),
}


def check_input(name: str) -> None:
    """Raise ValueError for a name that is not in ``INPUTS``."""
    if name not in INPUTS:
        raise ValueError(f"input={name!r} is not a transform. Known: {', '.join(INPUTS)}.")


def checked(clip: Tensor) -> Tensor:
    """Return the clip, in float32 if it was in half precision; raise ValueError for what is no clip (B, 3, T, H, W)."""
    if clip.ndim != 5 or clip.shape[1] != 3 or not clip.is_floating_point():
        raise ValueError(
            f"clip has shape {tuple(clip.shape)} and type {clip.dtype}; a net takes (B, 3, T, H, W) floats in [0, 1], "
            "RGB. FaceClip.as_net_input() makes them."
        )
    T, H, W = clip.shape[2:]
    if T < LEAST_FRAMES or H < LEAST_PX or W < LEAST_PX:
        raise ValueError(
            f"clip of {T} frames of {H}x{W} is too small: at least {LEAST_FRAMES} frames of {LEAST_PX}x{LEAST_PX}."
        )
    return clip.float() if clip.dtype in (torch.float16, torch.bfloat16) else clip


def prepare_input(clip: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    """Return a clip (B, 3, T, H, W) in [0, 1] as (B, C, T', H, W) of ``dtype``; T' is T rounded up to a multiple of 4.

    The frames added at the end repeat the last one, after the transform. In half precision the transform is still
    computed in float32: a pulse of 0.2 % is less than one step of bfloat16.
    """
    x = INPUTS[name].transform(checked(clip)).to(dtype)
    missing = -x.shape[2] % TIME_MULTIPLE
    if torch.compiler.is_compiling():
        # Of a number of frames that is not known yet, one way for all: those beyond the last one read it again.
        n_frames = x.shape[2]
        return x.index_select(2, torch.arange(n_frames + missing, device=x.device).clamp(max=n_frames - 1))
    return F.pad(x, (0, 0, 0, 0, 0, missing), mode="replicate") if missing else x
