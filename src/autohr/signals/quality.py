"""How far a rate can be trusted: evidence that does not need the truth, and the confidence made of it.

A peak in a spectrum is no proof of a pulse: noise has a highest peak too, lamps flicker, heads nod. So a rate is
believed when several things that a pulse does, and impostors do not do together, are seen at once:

    snr_db        the wave repeats: its power lies at one rate and its double
    agreement     every part of the face shows it, in phase: POS in a grid, or a net's own reading of the quarters
    background    what is no face does not show it
    on_skin       within the crop the skin shows it, and hair, eyes, clothes and wall do not
    motion        the head does not move in step with it, nor at half of it
    redrawn       the colour flows, and does not jump in the key frames of the video file
    steadiness    the two halves of the window tell the same rate
    witness       another method tells it too: MVDR beside every net, POS on the mean skin beside every formula

``background``, ``on_skin``, ``motion`` and ``redrawn`` can also veto (``impostor``). ``confidence`` is a logistic
regression on all but ``redrawn``, fitted on synthetic clips with and without pulse by ``benchmarks/confidence.py
--fit`` and checked on others; the figures are in docs/LOG.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autohr.errors import SignalTooShort
from autohr.signals.filters import analytic, bandpass, detrend
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Evidence, Float

TRUSTED_S = 8.0
"""A shorter window is never called reliable: two rates 8 bpm apart cannot be told apart in it."""

RELIABLE_CONFIDENCE = 0.85
"""Confidence from which a rate is called reliable. Of the fit's readings above it 97 % of 430 were right (formulas) and
all of 180 (AutoHR, before ``at_key_frames``); of the right ones that nothing vetoes 68 and 96 % were above."""


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
    line = np.exp(-2j * np.pi * hr_bpm / 60 / fs * np.arange(n_samples))
    # Not a product of matrices: from 4096 complex elements on that wakes the threads of BLAS.
    phasors = np.einsum("rn,n->r", waves / sd * window, line)
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
    wave, rest = analytic(bvp), analytic(filtered)
    norm = np.linalg.norm(wave) * np.linalg.norm(rest, axis=-1)
    alike = np.divide(np.abs(np.einsum("kn,n->k", rest, wave.conj())), norm, out=np.zeros(len(rest)), where=norm > 0)
    return float((alike * size).max())


def shared_line(skin: Float, others: Float, fs: float, hr_bpm: float) -> float:
    """0..1: how large the line of others (K, N) at ``hr_bpm`` is next to that of skin (K, N), row by row; the largest.

    Both in relative units, so that a lamp that flickers shows the same on a wall as on a face: 1. A line counts only if
    it stands six times above the mean of the noise beside it (by chance in one row of 400). Unlike ``shared_with`` it
    sees a flicker under a wave that is mostly noise. Rows with NaN count as absent.
    """
    use = np.isfinite(others).all(axis=-1) & np.isfinite(skin).all(axis=-1)
    if not use.any():
        return 0.0
    theirs, beside = _line(others[use], fs, hr_bpm)
    ours, _ = _line(skin[use], fs, hr_bpm)
    clear = np.abs(theirs) ** 2 > 6 * np.median(beside, axis=1) / np.log(2)
    ratio = np.divide(np.abs(theirs), np.abs(ours), out=np.zeros(len(ours)), where=clear & (ours != 0))
    return float(min(1.0, ratio.max()))


def skin_over_light(cells: Float, skin: Float, fs: float, hr_bpm: float) -> float:
    """How much better a beat of the skin alone explains the line at ``hr_bpm`` than a beat of everything: the logarithm
    of the likelihoods' ratio. Above 0 it is the skin's.

    A lamp multiplies all that it lights by the same number, hair and skin; blood darkens the skin alone. So the line of
    cells (R, T, 3), mean colours of a raster over and around the face, in relative units, is once taken as the same in
    all of them, once as in the shares ``skin`` (R,) 0..1, each time with any strength in each colour; the noise of each
    cell is what stands beside the line. Cells darker than ``DARK`` tell nothing of either. The noise of neighbours is
    not independent, so the number is larger than a likelihood may be; its sign is what counts. Ours.

    0 where the raster is all skin, or shows nothing at the rate.
    """
    level = cells.mean(axis=1)
    bright = level.mean(axis=-1) > DARK
    if not bright.any():
        return 0.0
    level, skin = np.maximum(level[bright], 1.0), skin[bright]
    change = (cells[bright] / level[:, None] - 1).transpose(0, 2, 1).reshape(-1, cells.shape[1])
    lines, beside = _line(change, fs, hr_bpm)
    noise = beside.mean(axis=1)
    # Ten lines say the noise of one cell only roughly; none is much quieter than the others.
    noise += LEAST_NOISE * np.median(noise)
    lines, noise = lines.reshape(-1, 3), noise.reshape(-1, 3)
    if not noise.all():
        return 0.0

    def explained(shares: Float) -> float:
        most = (shares[:, None] ** 2 / noise).sum(axis=0)
        found = np.abs((shares[:, None] * lines / noise).sum(axis=0)) ** 2
        return float(np.divide(found, most, out=np.zeros(3), where=most > 0).sum())

    return explained(skin) - explained(np.ones(len(skin)))


DARK = 6.0
"""Grey level, of 255, under which a cell has no relative change."""

LEAST_NOISE = 0.2
"""Of a cell in ``skin_over_light``, in shares of the median cell's."""


def _line(x: Float, fs: float, hr_bpm: float) -> tuple[NDArray[np.complex128], Float]:
    """(K,) Fourier sums of x (K, N) at ``hr_bpm``, and (K, 10) powers beside them, three to seven lines away."""
    n_samples = x.shape[-1]
    aside = np.array([-7.0, -6.0, -5.0, -4.0, -3.0, 3.0, 4.0, 5.0, 6.0, 7.0]) * fs / n_samples
    freqs_hz = np.concatenate([[hr_bpm / 60], np.abs(hr_bpm / 60 + aside)])
    sums = np.exp(-2j * np.pi * np.outer(freqs_hz, np.arange(n_samples) / fs))
    windowed = detrend(x, fs) * np.hanning(n_samples + 2)[1:-1]
    # Not a product of matrices: from 4096 complex elements on that wakes the threads of BLAS.
    found = np.einsum("kn,fn->kf", windowed, sums)
    return found[:, 0], np.abs(found[:, 1:]) ** 2


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


def key_frame_comb(rgb: Float, whole: NDArray[np.bool_], bvp: Float, fs: float, hr_bpm: float) -> float:
    """0..1: how far the rate of bvp (N,) is that of the key frames marked in ``whole`` (N,), seen in rgb (N, 3).

    Key frames that come at a steady pace leave lines in the colour at every multiple of it, above the heart band too,
    where a pulse has none. Those lines tell how strong the key frames are, whatever the pulse does; taken as a
    sawtooth's they fall off as one over their number, which foretells the line inside the band. The answer is that line
    over what is found at the rate, times how exactly the rate is a multiple of the key frames' (up to the fourth).
    0 where key frames are rare, uneven, or leave no line above the noise.
    """
    at = np.flatnonzero(whole)
    gaps = np.diff(at)
    if len(gaps) < 2 or whole.mean() >= 0.5 or np.ptp(gaps) > 0.1 * gaps.mean() + 1 or not rgb.mean(axis=0).all():
        return 0.0
    key_hz, hr_hz = fs / gaps.mean(), hr_bpm / 60
    number = round(hr_hz / key_hz)
    if not 1 <= number <= 4:
        return 0.0
    n_samples = len(bvp)
    t_s = np.arange(n_samples) / fs
    window = np.hanning(n_samples + 2)[1:-1]

    def power(x: Float, freqs_hz: Float) -> Float:
        """|Fourier sum|^2 of the windowed x (..., N) at freqs_hz (F,): (..., F)."""
        lines = np.exp(-2j * np.pi * np.outer(t_s, freqs_hz))
        return np.asarray(np.abs((x * window) @ lines) ** 2, dtype=np.float64)

    own, comb = power(bvp - bvp.mean(), np.array([hr_hz, number * key_hz]))
    exactness = min(1.0, comb / own) if own > 0 else 0.0
    # Above 3.3 Hz a pulse's harmonics are smaller than a comb that matters, and under 0.45 fs nothing is aliased.
    numbers = np.arange(np.ceil(3.3 / key_hz), np.floor(0.45 * fs / key_hz) + 1)[:8]
    if exactness < 0.1 or not len(numbers):
        return 0.0
    red, green, blue = (rgb / rgb.mean(axis=0)).T
    waves = detrend(np.stack([green, green - blue, green + blue - 2 * red]), fs)
    teeth = power(waves, numbers * key_hz)
    resolution_hz = fs / n_samples
    aside = np.array([-4.0, -3.0, 3.0, 4.0]) * resolution_hz
    floor = np.median(power(waves, (numbers[:, None] * key_hz + aside).ravel()), axis=-1) / np.log(2)
    # Power of noise is exponential: its mean over the teeth scatters by 1 / sqrt(count); three of those are no chance.
    clear = teeth.mean(axis=-1) > floor * (1 + 3 / np.sqrt(len(numbers)))
    foretold = np.sqrt(np.maximum(teeth.mean(axis=-1) - floor, 0.0)) * numbers.mean() / number
    found = np.sqrt(power(waves, np.array([hr_hz]))[:, 0])
    size = np.divide(foretold, found, out=np.zeros(3), where=clear & (found > 0))
    return float(exactness * min(1.0, float(size.max())))


def at_key_frames(whole: NDArray[np.bool_], fs: float, hr_bpm: float) -> bool:
    """Whether ``hr_bpm`` is, as far as N frames can tell, one of the first four multiples of the pace of the key frames
    marked in ``whole`` (N,). What a codec does to a face that moves can then look like a pulse of the skin alone."""
    at = np.flatnonzero(whole)
    if len(at) < 2 or whole.mean() >= 0.5:
        return False
    key_bpm = 60 * fs / float(np.median(np.diff(at)))
    number = min(max(1, round(hr_bpm / key_bpm)), 4)
    return abs(hr_bpm - number * key_bpm) < 60 * fs / len(whole)


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
            -np.log(1.03 - evidence.agreement),  # 0.75 and 0.85 differ little, 0.9 and 0.99 much
            -3 * evidence.background,
            -3 * evidence.motion,
            -np.log1p(evidence.halves_bpm / 3),
            -np.log1p(evidence.witness_bpm / 3),
            -2 * evidence.runner_up,
            np.clip(np.arcsinh(evidence.on_skin / 5), -2, 4),  # 5 is about what chance makes; 200 is no surer than 100
        ]
    )


# Weights of the logistic regression in the order of `features`, then its constant, made by
# benchmarks/confidence.py --fit --clips 120 --portraits DIR with the shipped weights of AutoHR: 288 clips, of whose
# readings nothing vetoes 1395 of five formulas and 301 of the net (before `at_key_frames` was asked). Agreement of a
# net's quarters and of POS in the parts of a grid are two things, and so are their witnesses: nets and formulas have
# their own. Motion weighs nothing below its veto. Of the formulas MVDR alone reads crops, and so alone has evidence of
# the skin.
WEIGHTS = np.array([0.501, 1.579, 2.594, 0.000, 0.464, 0.215, 1.360, 0.898, 0.472])
NET_WEIGHTS = np.array([2.134, 1.670, 0.095, 0.000, 0.738, 2.211, 0.000, 0.899, 1.587])


MOST_CONFIDENCE = 0.97
"""No more than the fit can know: of its readings above 0.95 one of 293 was wrong (formulas) and none of 174 (AutoHR),
all of clips made like those that it was fitted on; neighbours share most of their seconds."""


def confidence(evidence: Evidence) -> float:
    """0..1: chance that the rate lies within 5 bpm of the truth, calibrated on synthetic clips (see the module)."""
    weights = NET_WEIGHTS if evidence.own_parts else WEIGHTS
    score = float(features(evidence) @ weights[:-1] + weights[-1])
    return min(MOST_CONFIDENCE, float(1 / (1 + np.exp(-np.clip(score, -30, 30)))))


IMPOSTOR = 0.5
LIGHT_IMPOSTOR = 0.3
"""Evidence of movement or key frames above the first, of light above the second, makes a rate unreliable whatever else
speaks for it: each of the three can be as regular as a pulse and be seen on the whole face. A coloured flicker shows by
a third only on a background of another colour; on the fit's clips 0.3 took one false alarm of the net away and no right
rate, 0.25 took right ones too."""

LIT, SKIN_ALONE = 10.0, 10.0
"""Likelihoods (logarithms) from which the skin's evidence settles a matter: below -LIT the beat is a lamp's. Above
SKIN_ALONE a beat at another rate than the key frames' is not theirs, for they jump on hair as on skin: of the fit's
readings that jump in step with key frames 44 of AutoHR's 50 above it were right, 27 of 112 below. Chance makes 5. At
the key frames' own rate it settles nothing: the codec made a photograph that sways beat on the skin alone."""


def is_light(evidence: Evidence) -> bool:
    """Whether the rate may be that of a lamp or a screen."""
    return evidence.background > LIGHT_IMPOSTOR or evidence.on_skin < -LIT


def is_codec(evidence: Evidence) -> bool:
    """Whether it may be that of the file's key frames."""
    return evidence.redrawn > IMPOSTOR and (evidence.at_key_frames or evidence.on_skin < SKIN_ALONE)


def is_movement(evidence: Evidence) -> bool:
    """Whether it may be that of the head."""
    return evidence.motion > IMPOSTOR


def impostor(evidence: Evidence) -> str | None:
    """Which impostor the rate may be, in words for a person; None if there is no sign of one."""
    if is_light(evidence):
        where = "the background beats" if evidence.background > LIGHT_IMPOSTOR else "hair, clothes or wall beat"
        return f"{where} at the same rate: this is the light, not the pulse"
    if is_codec(evidence):
        return "the colour jumps in the key frames of the file: the video is compressed too much"
    if is_movement(evidence):
        return "the head moves at the same rate: this may be the movement, not the pulse"
    return None


def why_unreliable(evidence: Evidence) -> str:
    """The chief reason against a rate of low confidence, in words for a person."""
    if evidence.agreement < 0.5:
        return "the parts of the face do not beat together"
    if evidence.halves_bpm > 8:
        return "the rate differs between the two halves of the window"
    if evidence.witness_bpm > 8:
        return "another way to read the same seconds tells another rate"
    return "the pulse is too weak against the noise"
