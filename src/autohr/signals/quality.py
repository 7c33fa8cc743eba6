"""How far a rate can be trusted: evidence that does not need the truth, and the confidence made of it.

A peak in a spectrum is no proof of a pulse: noise has a highest peak too, lamps flicker, heads nod. So a rate is
believed when several things that a pulse does, and impostors do not do together, are seen at once:

    snr_db        the wave repeats: its power lies at one rate and its double
    agreement     every part of the face shows it, in phase
    background    what is no face does not show it
    motion        the head does not move in step with it, nor at half of it
    redrawn       the colour flows, and does not jump in the key frames of the video file
    steadiness    the two halves of the window tell the same rate
    witness       the plain colour signal (POS on the mean skin) tells it too: the referee of every net

``confidence`` is a logistic regression on these, fitted on synthetic clips with and without pulse by
``benchmarks/confidence.py --fit`` and checked on others; the figures are in docs/LOG.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import hilbert

from autohr.errors import SignalTooShort
from autohr.signals.filters import bandpass
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Evidence, Float

TRUSTED_S = 8.0
"""A shorter window is never called reliable: two rates 8 bpm apart cannot be told apart in it."""

RELIABLE_CONFIDENCE = 0.75


def agreement_of_regions(waves: Float, fs: float, hr_bpm: float) -> float:
    """0..1: length of the mean of the regions' phasors at ``hr_bpm`` over the mean of their lengths.

    waves (R, N), one pulse wave for each region, each brought to unit standard deviation, so that a region counts by
    the share of its wave that beats at the rate. R independent noises give about 1 / sqrt(R); fewer than three
    regions that are not NaN or constant give 0: nothing agrees."""
    usable = np.isfinite(waves).all(axis=-1)
    waves = waves[usable]
    sd = waves.std(axis=-1, keepdims=True) if len(waves) else np.zeros((0, 1))
    waves, sd = waves[sd[:, 0] > 0], sd[sd[:, 0] > 0]
    if len(waves) < 3:
        return 0.0
    n_samples = waves.shape[-1]
    window = np.hanning(n_samples + 2)[1:-1]
    phasors = (waves / sd * window) @ np.exp(-2j * np.pi * hr_bpm / 60 / fs * np.arange(n_samples))
    return float(np.abs(phasors.sum()) / max(float(np.abs(phasors).sum()), 1e-12))


def shared_with(bvp: Float, others: Float, fs: float, scale: Float) -> float:
    """0..1: how much of bvp (N,) is also in others (K, N), whatever the delay: the largest over K.

    Correlation of analytic signals in the heart band (a delay turns their phase and leaves the length), times how large
    the other one is next to ``scale`` (K,), where it would matter; an oscillation too small to be the cause is none.
    Rows with NaN count as absent.
    """
    others = np.asarray(others, dtype=np.float64)
    use = np.isfinite(others).all(axis=-1)
    if not use.any():
        return 0.0
    filtered = bandpass(others[use], fs)
    size = np.minimum(1.0, filtered.std(axis=-1) / np.maximum(np.asarray(scale)[use], 1e-12))
    wave, rest = hilbert(bvp), hilbert(filtered)
    norm = np.linalg.norm(wave) * np.linalg.norm(rest, axis=-1)
    alike = np.divide(np.abs(rest @ wave.conj()), norm, out=np.zeros(len(rest)), where=norm > 0)
    return float((alike * size).max())


def key_frame_steps(rgb: Float, whole: NDArray[np.bool_], fs: float) -> float:
    """0..1: how large the steps of colour rgb (N, 3) in the frames marked in ``whole`` (N,) are, next to its wave.

    A codec that has few bits freezes the skin between two key frames and catches up in the next one. The colour then
    beats at the rate of the key frames, or shows the pulse through their eyes, aliased, and its spectrum can be cleaner
    than a real pulse's. Looked for in green and in the two differences of POS, each relative to its mean: steps that
    all go one way (a sawtooth), and steps that are only larger than elsewhere. What noise alone would give (two
    standard errors) is taken off first. 1: a step is twice the wave's standard deviation or more (a pure sawtooth's
    is about four times); 0: none, or every frame is whole, or none is. NaN rows count as not measured.
    """
    known = np.isfinite(rgb).all(axis=1)
    rgb, whole = rgb[known], whole[known]
    n_whole = int(whole[2:-1].sum())
    if len(rgb) < fs or n_whole < 3 or whole.mean() >= 0.5 or not rgb.mean(axis=0).all():
        return 0.0
    red, green, blue = (rgb / rgb.mean(axis=0)).T
    waves = np.stack([green, green - blue, green + blue - 2 * red])
    sd = bandpass(waves, fs).std(axis=-1)
    change = np.diff(waves, axis=-1)
    # A step is what a change has more than those before and after it: the pulse's own slope is in all three.
    step = change[:, 1:-1] - 0.5 * (change[:, :-2] + change[:, 2:])
    at = whole[2:-1]
    # Next to a step lie two half steps of the other sign; they are neither a step nor quiet.
    beside = np.convolve(at, [1, 1, 1], mode="same") > 0
    if beside.all():
        return 0.0
    quiet = (step[:, ~beside] ** 2).mean(axis=-1)
    one_way = np.abs(step[:, at].mean(axis=-1)) - 2 * np.sqrt(quiet / n_whole)
    larger = (step[:, at] ** 2).mean(axis=-1) - (1 + 2 * np.sqrt(2 / n_whole)) * quiet
    steps = np.maximum(one_way, np.sqrt(np.maximum(larger, 0.0)))
    relative = np.divide(steps, 2 * sd, out=np.zeros(3), where=sd > 0)
    return float(np.clip(relative.max(), 0.0, 1.0))


def halves_differ_bpm(bvp: Float, fs: float) -> float:
    """Difference in bpm between the rates of the first and the last 60 % of bvp (N,). 60 where one of them has none."""
    length = int(0.6 * len(bvp))
    try:
        first, last = estimate_heart_rate(bvp[:length], fs).hr_bpm, estimate_heart_rate(bvp[-length:], fs).hr_bpm
    except SignalTooShort:
        return 60.0
    return 60.0 if first is None or last is None else min(60.0, abs(first - last))


def features(evidence: Evidence) -> Float:
    """The numbers (F,) that ``confidence`` weighs, each bent so that its ends saturate and grows with trust."""
    return np.array(
        [
            np.clip(evidence.snr_db, -10, 10) / 5,
            4 * evidence.agreement,
            -3 * evidence.background,
            -3 * evidence.motion,
            -3 * evidence.redrawn,
            -np.log1p(evidence.halves_bpm / 3),
            -np.log1p(evidence.witness_bpm / 3),
            -2 * evidence.runner_up,
        ]
    )


# Weights of the logistic regression in the order of `features`, then its constant. Made by benchmarks/confidence.py
# --fit.
WEIGHTS = np.array([0.9, 1.4, 2.4, 1.0, 1.0, 0.25, 0.45, 0.8, -1.8])


def confidence(evidence: Evidence) -> float:
    """0..1: chance that the rate lies within 5 bpm of the truth, calibrated on synthetic clips (see the module)."""
    score = float(features(evidence) @ WEIGHTS[:-1] + WEIGHTS[-1])
    return float(1 / (1 + np.exp(-np.clip(score, -30, 30))))


def why_unreliable(evidence: Evidence) -> str:
    """The chief reason against a rate of low confidence, in words for a person."""
    if evidence.background > 0.5:
        return "the background beats at the same rate: this is the light, not the pulse"
    if evidence.redrawn > 0.5:
        return "the colour jumps in the key frames of the file: the video is compressed too much"
    if evidence.motion > 0.5:
        return "the head moves at the same rate: this may be the movement, not the pulse"
    if evidence.agreement < 0.5:
        return "the parts of the face do not beat together"
    if evidence.halves_bpm > 8:
        return "the rate differs between the two halves of the window"
    if evidence.witness_bpm > 8:
        return "the method and the plain skin colour tell different rates"
    return "the pulse is too weak against the noise"
