"""A new pulse in place of a recording's own, so that no clip is ever the same question twice.

A net that sees a few hundred recordings many times learns by heart which wave belongs to which video, and gets worse on
new people (docs/log). Here the recording's own pulse, which is known, is taken out of a clip, and a simulated one of
another rate, shape and strength laid into the skin. Movement, light, noise and encoder stay as they were and belong to
no pulse: what cannot be learned by heart has to be seen through.

Reconstructed from nothing published; strengths are those of ``synth/recordings.py``. What it cannot show is what an
encoder does to a pulse, for the new one was never encoded; so only a part of the clips should be made this way.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.signals.filters import bandpass, standardise
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse
from autohr.types import Float

RATES_BPM = (42.0, 175.0)
"""Rates of new pulses, uniform; those of the synthetic recordings."""
DEPTH = (0.002, 0.016)
"""Peak to peak of green, as a share of the pixel's coded value; log-uniform. 0.006 to 0.04 of linear light, as the
recordings have, is this much at a gamma near 2.2; the least is lower, for encoders weaken what the recordings had."""
EDGE_S = 2.0
"""Seconds simulated before and after the clip, so that the label's filter has its edges outside."""
LEVELS = (40.0, 245.0)
"""Pixels darker or brighter fade out of the skin: hair and pupils, gloss and burnt spots carry no pulse."""

Stack = NDArray[np.float32]
"""Frames (T, H, W, 3), 0..255."""


def take_out(frames: Stack, bvp: Float) -> None:
    """Remove from every pixel of ``frames``, in place, what follows ``bvp`` (T,) or its slope, by least squares.

    The slope stands for small delays. What moves in step with the pulse by chance goes with it, about 2 / T of a
    pixel's variance.
    """
    known = np.stack([standardise(bvp), standardise(np.gradient(bvp))], axis=1)
    basis, _ = np.linalg.qr(known - known.mean(axis=0))
    flat = frames.reshape(len(frames), -1)
    flat -= basis.astype(np.float32) @ (basis.T.astype(np.float32) @ flat)


def skin_of(frames: Stack) -> NDArray[np.float32]:
    """Return how much each pixel of a face crop looks like its skin, (T, H, W) in 0..1.

    The skin's colour is the median of the crop's middle, which holds cheeks and nose; a pixel's weight falls with the
    distance of its R/G and B/G from that, measured by their scatter there, and towards the crop's corners.
    """
    n_frames, height, width = frames.shape[:3]
    few = frames[:: max(1, n_frames // 12)]
    rows, columns = slice(round(0.35 * height), round(0.75 * height)), slice(round(0.25 * width), round(0.75 * width))
    middle = few[:, rows, columns].reshape(-1, 3)
    level = middle.mean(axis=1)
    lit = middle[(level >= np.percentile(level, 25)) & (level < LEVELS[1])]
    if len(lit) == 0:
        return np.zeros((n_frames, height, width), np.float32)
    chroma = _chroma(lit)
    centre = np.median(chroma, axis=0)
    # 1.48 MAD is a standard deviation; bounds for a face of one colour and for a crop that is half hair.
    scatter = np.clip(3 * 1.48 * np.median(np.abs(chroma - centre), axis=0), 0.06, 0.25).astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot((x + 0.5) / width - 0.5, ((y + 0.5) / height - 0.5) * 0.9) / 0.5
    place = np.clip((1.12 - away) / 0.15, 0, 1).astype(np.float32)
    least = np.float32(max(LEVELS[0], 0.35 * float(np.median(level))))
    weight = np.empty((n_frames, height, width), np.float32)
    for i, frame in enumerate(frames):
        red, green, blue = cv2.split(frame)  # sums along an axis of three are many times slower
        far = ((red / (green + 4) - centre[0]) / scatter[0]) ** 2 + ((blue / (green + 4) - centre[1]) / scatter[1]) ** 2
        light = (red + green + blue) / 3
        seen = np.exp(-0.5 * far) * np.clip((light - 0.8 * least) / (0.2 * least), 0, 1)
        seen *= np.clip((LEVELS[1] - np.maximum(np.maximum(red, green), blue)) / 10 + 1, 0, 1)
        weight[i] = cv2.blur(seen * place, (3, 3))
    return weight


def _chroma(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return R/G and B/G on the last axis."""
    out: NDArray[np.float32] = rgb[..., (0, 2)] / (rgb[..., 1:2] + 4)
    return out


def new_pulse(
    n_frames: int, fps: float, band_hz: tuple[float, float], rng: np.random.Generator
) -> tuple[Float, Float, float]:
    """Simulate a wave (T,) from 0 to 1 or so, its label (T,) in ``band_hz``, z-scored, and its mean rate."""
    duration_s = n_frames / fps + 2 * EDGE_S
    n_all = round(duration_s * fps)
    start_bpm = rng.uniform(*RATES_BPM)
    end_bpm = start_bpm + (rng.uniform(-4, 4) if rng.uniform() < 0.5 else 0.0)
    resp_bpm = rng.uniform(10, 22)
    pulse = simulate_pulse(
        duration_s,
        fps,
        np.linspace(start_bpm, end_bpm, n_all),
        seed=int(rng.integers(2**31)),
        hrv=rng.uniform(0.01, 0.06),
        resp_bpm=resp_bpm,
        dicrotic=rng.uniform(0.05, 0.5),
    )
    breath = 1 + rng.uniform(0, 0.25) * np.sin(2 * np.pi * (resp_bpm / 60 * np.arange(n_all) / fps + rng.uniform()))
    wave = breath * pulse.bvp / np.ptp(pulse.bvp)
    first = round(EDGE_S * fps)
    part = slice(first, first + n_frames)
    return wave[part], standardise(bandpass(pulse.bvp, fps, band_hz)[part]), float(pulse.hr_bpm[part].mean())


def lay_in(frames: Stack, wave: Float, rng: np.random.Generator, depth_range: tuple[float, float] = DEPTH) -> None:
    """Darken the skin in ``frames`` by ``wave`` (T,), in place.

    The strength is random and uneven over the face, some places beat a few hundredths of a second later, and the
    channels are in the ratio of blood.
    """
    height, width = frames.shape[1:3]
    depth = np.exp(rng.uniform(*np.log(depth_range)))
    ratio = np.asarray(CHANNEL_RATIO) / CHANNEL_RATIO[1] * np.exp(rng.normal(0, 0.12, 3))
    strong = _uneven(rng, height, width, *sorted(rng.uniform(0.3, 1.2, 2)))
    late = _uneven(rng, height, width, 0.0, rng.uniform(0, 1.0))
    # Up to a frame late: a shift by one frame is, to first order, minus the step from frame to frame.
    step = np.gradient(wave).astype(np.float32)
    skin = skin_of(frames) * (depth * strong).astype(np.float32)
    skin *= wave.astype(np.float32)[:, None, None] - step[:, None, None] * late.astype(np.float32)
    for channel in range(3):
        frames[..., channel] *= 1 - np.float32(ratio[channel]) * skin


def _uneven(rng: np.random.Generator, height: int, width: int, low: float, high: float) -> Float:
    """Draw a smooth field (H, W) between two values."""
    coarse = rng.uniform(low, high, (4, 4))
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), low, high).astype(np.float64)
