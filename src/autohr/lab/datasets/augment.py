"""Augmentation of training clips: the paper's DA1 and DA2, and what our training adds. Each can be switched off.

    name     what it does to a clip                                             label            rate, phase
    erase    DA1: random tubes, a box over a stretch of time, become grey       stays            stay
    tempo    DA2: time is resampled, frames and label alike                     resampled alike  rate halves or doubles
    flip     left and right change places, in the whole clip                    stays            stay
    reverse  the clip runs backwards                                            backwards alike  rate stays
    pulse    the recording's pulse is taken out, another laid in (repulse.py)   the other's      the other's
    crop     a random square of the crop, the same in the whole clip            stays            stay
    colour   each channel times a constant                                      stays            stay
    gamma    a power law, the same in the whole clip                            stays            stay; depth times gamma

Nothing but ``tempo``, ``reverse`` and ``pulse`` can change phase or rate: everything else is one fixed map of each
pixel's value or place for all frames, or hides pixels.

DA2 is real resampling. HR above 90: half as many source frames are read and one is put between each two of them, their
mean; the pulse of the clip runs at half the rate. HR below 70: twice as many source frames are read and every second
one is kept; the rate doubles. The label wave is resampled from the same stretch in the same way, never repeated, and
the clip's frames per second stay as they are, so that the frames show a slower or faster heart to the same camera.
Where a recording is too short for doubling, the clip is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.lab.datasets.repulse import DEPTH
from autohr.types import Frame
from autohr.video.regions import scaled

Fill = Literal["grey", "mean"]
GREY = 128
"""Grey level that is 0 after the author's normalisation (x - 127.5) / 128, to half a level."""
BURNT = 250.0
"""Gain and gamma may not lift the clip's bright parts (its 99.5th percentile) above this: what is cut off at 255
carries no pulse."""


@dataclass(frozen=True)
class AugmentConfig:
    """Kinds, probabilities and strengths. The defaults are ours for training; ``PAPER_AUGMENT`` has the paper's."""

    erase: bool = True
    """DA1. Sizes below 20 % are the paper's; probability, number, least sizes and fill are ours."""
    erase_p: float = 0.5
    erase_tubes: tuple[int, int] = (1, 2)
    """Fewest and most tubes in a clip."""
    erase_time: tuple[float, float] = (0.05, 0.20)
    """Length of a tube as a share of the clip's, drawn uniformly; below the second number."""
    erase_side: tuple[float, float] = (0.05, 0.20)
    """Height and width of a tube, each a share of the clip's side, drawn alike."""
    erase_fill: Fill = "grey"
    """grey: the middle of 0..255, as if the net's input were 0. mean: the mean colour of the clip."""
    tempo: bool = True
    """DA2. The two rates are the paper's, the probability that of the author's later code."""
    tempo_p: float = 0.5
    slow_above_bpm: float = 90.0
    fast_below_bpm: float = 70.0
    flip: bool = True
    flip_p: float = 0.5
    reverse: bool = True
    """A heart that beats backwards has steps of the same size and the same rate. Halves what a net can learn by heart
    of a recording, which few long recordings invite (docs/log)."""
    reverse_p: float = 0.5
    pulse: bool = False
    """For recordings whose wave fits the video to a few hundredths of a second, as synthetic ones do: what is not
    taken out of a clip stays in it as a second pulse, which the label denies."""
    pulse_p: float = 0.6
    pulse_depth: tuple[float, float] = DEPTH
    """Least and greatest depth of the new pulse, log-uniform. Untrained nets learn pulses of a few hundredths within
    a hundred steps, where those of recordings may teach them nothing in five hundred (docs/log)."""
    crop: bool = True
    crop_least: float = 0.85
    """Smallest side of the random square, as a share of the stored crop's; the author's resize by up to 15 of 112
    pixels before the cut gives 0.88."""
    colour: bool = True
    colour_gain: float = 0.10
    """Each channel is multiplied by exp(U(-gain, gain)): white balance of another camera."""
    gamma: bool = True
    gamma_range: float = 0.20
    """Values in 0..1 are raised to exp(U(-range, range)): the curve of another camera."""

    def __post_init__(self) -> None:
        for name in ("erase_p", "tempo_p", "flip_p", "reverse_p", "pulse_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie between 0 and 1.")
        for name, most in (("erase_time", 1.0), ("erase_side", 1.0), ("pulse_depth", 0.2)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise ValueError(f"{name}={getattr(self, name)} must be two shares in 0..{most:g}, the smaller first.")
        if not 1 <= self.erase_tubes[0] <= self.erase_tubes[1]:
            raise ValueError(f"erase_tubes={self.erase_tubes} must be two counts from 1, the smaller first.")
        if self.erase_fill not in get_args(Fill):
            raise ValueError(f"erase_fill={self.erase_fill!r} is not one of {', '.join(get_args(Fill))}.")
        if not 0 < self.fast_below_bpm <= self.slow_above_bpm:
            raise ValueError(
                f"fast_below_bpm={self.fast_below_bpm} must be positive and at most "
                f"slow_above_bpm={self.slow_above_bpm}: no clip can be made both faster and slower."
            )
        if not 0.3 <= self.crop_least <= 1:
            raise ValueError(f"crop_least={self.crop_least} must lie between 0.3 and 1.")
        if not (0 <= self.colour_gain <= 1 and 0 <= self.gamma_range <= 1):
            raise ValueError(f"colour_gain={self.colour_gain} and gamma_range={self.gamma_range} must lie in 0..1.")


PAPER_AUGMENT = AugmentConfig(flip=False, reverse=False, crop=False, colour=False, gamma=False)
"""DA1 and DA2 and nothing else, as in the paper."""


# ---------------------------------------------------------------------------------------------------------------------
# DA2: time


def tempo_factor(hr_bpm: float, config: AugmentConfig) -> float:
    """Return the factor by which DA2 multiplies a clip's rate: 0.5, 1 or 2."""
    if hr_bpm > config.slow_above_bpm:
        return 0.5
    return 2.0 if hr_bpm < config.fast_below_bpm else 1.0


def tempo_span(n_frames: int, factor: float) -> int:
    """Return how many source frames make a clip of ``n_frames`` whose rate is multiplied by ``factor`` (0.5, 1 or 2).

    Examples
    --------
    >>> tempo_span(160, 0.5), tempo_span(160, 2.0)
    (81, 319)
    """
    if factor == 1.0:
        return n_frames
    return n_frames // 2 + 1 if factor == 0.5 else 2 * n_frames - 1


def resample_tempo(x: NDArray[Any], n_frames: int, factor: float) -> NDArray[Any]:
    """Resample x (tempo_span(n_frames, factor), ...) to (n_frames, ...).

    Every second one, or means put between neighbours. Give floats: a mean of two integers would be rounded.

    Examples
    --------
    >>> resample_tempo(np.array([0.0, 2.0, 4.0]), 4, 0.5)
    array([0., 1., 2., 3.])
    """
    if len(x) != tempo_span(n_frames, factor):
        raise ValueError(
            f"{len(x)} source frames do not make {n_frames} at factor {factor:g}; {tempo_span(n_frames, factor)} do."
        )
    if factor == 1.0:
        return x
    if factor == 2.0:
        return x[::2]
    out = np.empty((n_frames, *x.shape[1:]), dtype=x.dtype)
    out[::2] = x[: (n_frames + 1) // 2]
    out[1::2] = (x[: n_frames // 2] + x[1 : n_frames // 2 + 1]) / 2
    return out


# ---------------------------------------------------------------------------------------------------------------------
# DA1: tubes


def erase_tubes(frames: Frame, rng: np.random.Generator, config: AugmentConfig) -> None:
    """Overwrite random tubes of frames (T, H, W, 3), in place."""
    n_frames, height, width = frames.shape[:3]
    fill = GREY if config.erase_fill == "grey" else np.rint(frames.mean(axis=(0, 1, 2))).astype(np.uint8)
    for _ in range(int(rng.integers(config.erase_tubes[0], config.erase_tubes[1] + 1))):
        # Rounded down, so that the share stays below the paper's 20 %; but at least one.
        shares = (rng.uniform(*config.erase_time), *rng.uniform(*config.erase_side, 2))
        sizes = [max(1, int(share * whole)) for share, whole in zip(shares, (n_frames, height, width), strict=True)]
        firsts = [int(rng.integers(whole - size + 1)) for size, whole in zip(sizes, frames.shape[:3], strict=True)]
        tube = tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))
        frames[tube] = fill


# ---------------------------------------------------------------------------------------------------------------------
# Place and colour: one fixed map for all frames of a clip


@dataclass(frozen=True)
class Look:
    """One fixed map of place and colour for all frames of a clip."""

    flip: bool = False
    side: float = 1.0
    """Side of the square that is shown, as a share of the stored crop's."""
    left: float = 0.0
    """Place of that square in the room that is left, 0..1."""
    top: float = 0.0
    table: NDArray[np.float32] | None = None
    """(256, 3) the new value of each old one in each channel, not rounded; None changes nothing."""


def draw_look(rng: np.random.Generator, config: AugmentConfig, example: Frame) -> Look:
    """Draw a random look; ``example`` (H, W, 3) is a frame of the clip, whose brightness limits gain and gamma."""
    flip = config.flip and bool(rng.uniform() < config.flip_p)
    side, left, top = 1.0, 0.0, 0.0
    if config.crop:
        side, left, top = float(rng.uniform(config.crop_least, 1)), float(rng.uniform()), float(rng.uniform())
    table = None
    if config.colour or config.gamma:
        power = np.exp(rng.uniform(-config.gamma_range, config.gamma_range)) if config.gamma else 1.0
        gain = np.exp(rng.uniform(-config.colour_gain, config.colour_gain, 3)) if config.colour else np.ones(3)
        values = 255 * (np.arange(256)[:, None] / 255) ** power
        bright = np.percentile(example.reshape(-1, 3), 99.5, axis=0)
        lifted = 255 * (bright / 255) ** power * gain
        # One factor for all channels, so that the limit does not change the hue that was drawn.
        dim = min(1.0, float((np.maximum(BURNT, bright) / np.maximum(lifted, 1)).min()))
        table = np.clip(values * gain * dim, 0, 255).astype(np.float32)
    return Look(flip, side, left, top, table)


def show(frame: Frame, look: Look, size_px: int) -> NDArray[np.float32]:
    """Return a stored crop (S, S, 3) as (size_px, size_px, 3) float32, 0..255, by area average; not yet rounded."""
    stored_px = frame.shape[0]
    side_px = max(2, round(look.side * stored_px))
    x, y = round(look.left * (stored_px - side_px)), round(look.top * (stored_px - side_px))
    part: NDArray[Any] = np.ascontiguousarray(frame[y : y + side_px, x : x + side_px])
    if look.flip:
        part = cv2.flip(part, 1)
    # Values first, while they are the 256 that the table knows; only the average makes fractions.
    return scaled(part if look.table is None else cv2.LUT(part, look.table[None]), size_px)
