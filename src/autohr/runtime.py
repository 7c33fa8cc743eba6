"""A net at run time: face clips in, waves or rates out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autohr.confidence.verdict import LEAST_FPS
from autohr.signals.filters import bandpass
from autohr.types import FaceClip, Float, Pulse
from autohr.video.pace import clock_change, denser

Infer = Callable[[NDArray[np.float32]], Float]
"""Clips (B, 3, T, H, W) in [0, 1] to waves (B, T)."""

InferRate = Callable[[NDArray[np.float32], float], Float]
"""Clips (B, 3, T, H, W) in [0, 1] and their frames per second to rates (B,)."""

PIECE_FRAMES = 600
"""Most frames that a net is fed at once: 20 s at 30 frames per second, and 0.5 GB of memory with AutoHR ``small``. All
120 s that a window may have took 1.4 GB."""

LEAST_PART_PX = 16
"""Smallest part of a face that a net is fed: its least picture."""

USUAL_FPS = 30.0
"""Taken for weights that do not say how fast the videos were that they learned from."""


def wave_function(infer: Infer, header: Mapping[str, Any]) -> Callable[[FaceClip], Pulse]:
    """Return the function that reads the pulse wave of a face clip with a net.

    Videos faster or slower than those of the net's training are thinned, or frames are put between theirs.
    """
    least_fps, most_fps = trained_fps(header)

    def wave(clip: FaceClip) -> Pulse:
        times, every = clock_change(clip.fps, least_fps, most_fps)
        if times > 1 and clip.clip is not None:
            frames = denser(clip.clip, times)
            waves = in_pieces(replace(clip, clip=frames), range(len(frames)), infer)[:, ::times]
        else:
            shown = range(0, clip.n_frames, every)
            waves = in_pieces(clip, shown, infer)
            if every > 1:
                waves = np.stack([np.interp(np.arange(clip.n_frames), shown, wave) for wave in waves])
        waves = bandpass(waves, clip.fps)
        parts = waves[1:] if len(waves) > 1 else None
        return Pulse(bvp=waves[0], fps=clip.fps, start_s=clip.start_s, parts=parts)

    return wave


def rate_function(infer: InferRate, header: Mapping[str, Any]) -> Callable[[FaceClip], float]:
    """Return the function that reads the heart rate of a face clip with a net that gives no wave.

    The clip is cut into pieces as long as those of the training, which overlap if they must; the rate is their mean, as
    these nets' papers have it.
    """
    least_fps, most_fps = trained_fps(header)
    said = header["input"].get("n_frames")
    trained_frames = said if isinstance(said, int) and said > 1 else PIECE_FRAMES

    def rate(clip: FaceClip) -> float:
        times, every = clock_change(clip.fps, least_fps, most_fps)
        frames = clip.clip
        if frames is not None:
            frames = denser(frames, times) if times > 1 else frames[::every]
        fed = replace(clip, clip=frames).as_net_input()
        n_frames, length = fed.shape[2], min(fed.shape[2], trained_frames)
        firsts = np.linspace(0, n_frames - length, math.ceil(n_frames / length)).astype(int)
        fps = clip.fps * times / every
        return float(np.mean([infer(fed[:, :, first : first + length], fps)[0] for first in firsts]))

    return rate


def in_pieces(clip: FaceClip, shown: range, infer: Infer) -> Float:
    """The net's waves (5, N) of the N frames ``shown`` of a clip: of the whole face, and of its four quarters (1, N) if
    these would be smaller than ``LEAST_PART_PX``. A long clip is fed in pieces that overlap and fade over, so that
    memory does not grow with it.

    The quarters are evidence: what a net reads in noise or in a moving mouth differs from one to the other. They cost
    as much again as the whole."""
    n_frames, length = len(shown), min(len(shown), PIECE_FRAMES)
    n_pieces = 1 + math.ceil((n_frames - length) / (length - length // 4))
    fade = np.hanning(length + 2)[1:-1] + 1e-3
    total, weight = np.zeros((0, n_frames)), np.zeros(n_frames)
    for first in np.linspace(0, n_frames - length, n_pieces).astype(int):
        span = slice(first, first + length)
        frames = None if clip.clip is None else clip.clip[shown.start : shown.stop : shown.step][span]
        whole = replace(clip, clip=frames).as_net_input()
        waves = infer(whole)
        half = whole.shape[-1] // 2
        if half >= LEAST_PART_PX:
            sides = (slice(None, half), slice(-half, None))
            quarters = np.concatenate([whole[..., rows, columns] for rows in sides for columns in sides])
            waves = np.concatenate([waves, infer(quarters)])
        if not len(total):
            total = np.zeros((len(waves), n_frames))
        total[:, span] += fade * waves
        weight[span] += fade
    joined: Float = total / weight
    return joined


def trained_fps(header: Mapping[str, Any]) -> tuple[float, float]:
    """The fewest and the most frames per second that the net has learned from. Faster videos are thinned to about that
    many, frames are put between those of slower ones; the others stay as they are."""
    data = header["training_data"]
    said = (data.get("fps_from"), data.get("fps_to")) if isinstance(data, dict) else (None, None)
    least, most = (
        next((float(fps) for fps in (end, header["fps"]) if isinstance(fps, (int, float)) and fps >= LEAST_FPS), None)
        for end in said
    )
    return (0.0 if least is None else least), (USUAL_FPS if most is None else most)
