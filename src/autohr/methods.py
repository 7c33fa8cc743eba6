"""What is a method: one visible table, and one way from a face clip to an ``Estimate`` for all of them.

A method turns a ``FaceClip`` into a pulse wave. Rate, signal-to-noise ratio and confidence are then made of that wave
by the same code for every method, so that GREEN and a network are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autohr.classic import CLASSIC
from autohr.classic.colour import pos
from autohr.errors import SignalTooShort, UnknownName
from autohr.signals.filters import bandpass, standardise
from autohr.signals.quality import (
    RELIABLE_CONFIDENCE,
    TRUSTED_S,
    agreement_of_regions,
    confidence,
    halves_differ_bpm,
    impostor,
    key_frame_comb,
    key_frame_steps,
    shared_line,
    shared_with,
    why_unreliable,
)
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS, estimate_heart_rate
from autohr.types import Estimate, Evidence, FaceClip, Float, Pulse
from autohr.video.rois import GRID

LEAST_S = 4.0
"""Shortest window that gets a number at all; under ``TRUSTED_S`` it is never called reliable. The estimator needs
3.75 s."""
assert LEAST_S >= LEAST_PERIODS * 60 / BAND_BPM[0]

LEAST_FPS = 2.2 * BAND_BPM[1] / 60
"""Frames per second below which 180 bpm cannot be told from its mirror image: 6.6."""

LEAST_FOUND = 0.75
"""Share of a window's frames in which the face must really have been seen for its rate to be called reliable."""

VETOED_CONFIDENCE = 0.5
"""Highest confidence of a rate that is not reliable whatever its evidence: the number and the word must agree. Of the
vetoed readings of the fit about one in five was right."""

MOTION_SCALE = 0.002
"""Movement within the heart band, as a share of the face's size (standard deviation), from which it can make a rate:
half a pixel on a face of 250."""


@dataclass(frozen=True)
class Method:
    """One way to a pulse wave. ``wave`` is the whole difference between methods."""

    name: str
    title: str
    """As papers and table captions spell it."""
    reads: str
    """What it is fed: "mean skin colour", "face crops"."""
    source: str
    sure: str
    """How sure it is that this is the published method."""
    wave: Callable[[FaceClip], Pulse]
    crop_px: int | None = None
    """Side of the face crops it needs; None when colours suffice."""

    def __call__(self, clip: FaceClip) -> Estimate:
        return estimate(clip, self.wave(clip))


def _classic(name: str, title: str, source: str, sure: str) -> Method:
    function = CLASSIC[name]

    def wave(clip: FaceClip) -> Pulse:
        return Pulse(bvp=function(clip.rgb, clip.fps), fps=clip.fps, start_s=clip.start_s)

    return Method(name=name, title=title, reads="mean skin colour", source=source, sure=sure, wave=wave)


METHODS: dict[str, Method] = {
    "green": _classic("green", "GREEN", "Verkruysse et al. 2008", "formula exact; pass band ours"),
    "ica": _classic(
        "ica", "Poh2011 (ICA)", "Poh et al. 2011", "JADE exact; cut-off, last filters and spectral rate ours"
    ),
    "chrom": _classic("chrom", "CHROM", "de Haan & Jeanne 2013", "formula exact; filter over the whole window"),
    "pos": _classic("pos", "POS", "Wang et al. 2017", "formula exact; pass band added at the end"),
}

DEFAULT_METHOD = "pos"


def load_method(name: str = DEFAULT_METHOD) -> Method:
    """The method of that name, ready to be called with a ``FaceClip``. Raises ``UnknownName`` with the known ones."""
    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    return METHODS[name]


def estimate(clip: FaceClip, pulse: Pulse) -> Estimate:
    """Rate, quality and confidence of a pulse wave that was read from ``clip``.

    Raises:
        SignalTooShort: a clip under ``LEAST_S``, or of fewer than ``LEAST_FPS`` frames per second.
    """
    if clip.duration_s < LEAST_S - 0.5 / clip.fps:
        raise SignalTooShort(f"{clip.duration_s:.1f} s of face; at least {LEAST_S:g} s are needed.")
    rate = estimate_heart_rate(pulse.bvp, pulse.fps)
    if rate.hr_bpm is None or rate.snr_db is None:
        return Estimate(None, 0.0, False, None, "the skin's colour does not change at all", pulse=pulse)
    evidence = gather_evidence(clip, pulse, rate.hr_bpm, rate.snr_db, rate.runner_up)
    sure = confidence(evidence)
    why = None
    if clip.duration_s < TRUSTED_S - 0.5 / clip.fps:
        why = f"only {clip.duration_s:.1f} s of face: a rate needs {TRUSTED_S:g} s to be trusted"
    elif float(clip.found.mean()) < LEAST_FOUND:
        why = f"the face was seen in only {100 * float(clip.found.mean()):.0f} % of the frames"
    else:
        why = impostor(evidence)
    if why is not None:
        sure = min(sure, VETOED_CONFIDENCE)
    elif sure < RELIABLE_CONFIDENCE:
        why = why_unreliable(evidence)
    return Estimate(rate.hr_bpm, sure, why is None, rate.snr_db, why, evidence, pulse)


def gather_evidence(clip: FaceClip, pulse: Pulse, hr_bpm: float, snr_db: float, runner_up: float) -> Evidence:
    """What speaks for and against ``hr_bpm``, from the wave and from all else that the clip shows."""
    fps = clip.fps
    n_grid = GRID * GRID
    grid = clip.traces[:, :n_grid].transpose(1, 0, 2)  # (R, T, 3)
    whole = np.isfinite(grid).all(axis=(1, 2))
    regions = pos(grid[whole], fps) if whole.any() else np.zeros((0, clip.n_frames))
    witness_bpm = estimate_heart_rate(pos(clip.rgb, fps), fps).hr_bpm

    background = clip.background_rgb
    level = background.mean(axis=0)
    lit = level > 4.0 if np.isfinite(level).all() else np.zeros(3, dtype=bool)  # black has no relative change
    background_waves = (background[:, lit] / level[lit] - 1).T
    skin_waves = (clip.rgb / clip.rgb.mean(axis=0) - 1).T
    in_background = 0.0
    if lit.any():
        in_background = max(
            shared_with(pulse.bvp, background_waves, fps, _band_sd(skin_waves[lit], fps)),
            shared_line(skin_waves[lit], background_waves, fps, hr_bpm),
        )
    centre = clip.box_xywh[:, :2] + clip.box_xywh[:, 2:] / 2
    size = np.sqrt(clip.box_xywh[:, 2] * clip.box_xywh[:, 3])
    movement = _with_doubles(bandpass(np.column_stack([centre / size.mean(), size / size.mean()]).T, fps))
    redrawn = 0.0
    if clip.whole is not None:
        steps = key_frame_steps(clip.rgb, clip.whole, fps)
        redrawn = max(steps, key_frame_comb(clip.rgb, clip.whole, pulse.bvp, fps, hr_bpm))
    return Evidence(
        snr_db=snr_db,
        agreement=agreement_of_regions(regions, fps, hr_bpm),
        background=in_background,
        motion=shared_with(pulse.bvp, movement, fps, np.full(len(movement), MOTION_SCALE)),
        halves_bpm=halves_differ_bpm(pulse.bvp, fps),
        witness_bpm=60.0 if witness_bpm is None else min(60.0, abs(witness_bpm - hr_bpm)),
        redrawn=redrawn,
        runner_up=runner_up,
    )


def _with_doubles(movement: Float) -> Float:
    """movement (K, T) and, below it, its squares at the size of the movement: (2K, T).

    A head that nods through the middle of the light is darkest twice in every nod, so the colour beats at twice the
    rate of the movement."""
    squares = standardise(movement**2) * movement.std(axis=-1, keepdims=True)
    return np.concatenate([movement, squares])


def _band_sd(x: Float, fps: float) -> Float:
    sd: Float = bandpass(x, fps).std(axis=-1)
    return sd
