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

from autohr.classic.colour import pos
from autohr.classic.mvdr import mvdr
from autohr.confidence.keyframes import at_key_frames, key_frame_comb, key_frame_steps
from autohr.errors import SignalTooShort
from autohr.signals.filters import analytic, bandpass, detrend, standardise
from autohr.signals.rate import estimate_heart_rate
from autohr.types import Evidence, FaceClip, Float, Pulse
from autohr.video.rois import GRID, cells_of, skin_of_cells

CELLS = 8
"""Of the raster CELLS x CELLS over the crop that MVDR and ``skin_over_light`` read. 4 are too few to tell places apart
(MVDR: 54 of 100 hard recordings right where 8 have 71), 16 and 32 were no better than 8; for the light 16 was not."""

MOTION_SCALE = 0.002
"""Movement within the heart band, as a share of the face's size (standard deviation), from which it can make a rate:
half a pixel on a face of 250."""


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


def halves_differ_bpm(bvp: Float, fs: float) -> float:
    """Difference in bpm between the rates of the first and the last 60 % of bvp (N,). 60 where one of them has none."""
    length = int(0.6 * len(bvp))
    try:
        first, last = estimate_heart_rate(bvp[:length], fs).hr_bpm, estimate_heart_rate(bvp[-length:], fs).hr_bpm
    except SignalTooShort:
        return 60.0
    return 60.0 if first is None or last is None else min(60.0, abs(first - last))


def gather_evidence(
    clip: FaceClip, pulse: Pulse, witness: Pulse, hr_bpm: float, snr_db: float, runner_up: float
) -> Evidence:
    """What speaks for and against ``hr_bpm``, from the wave and from all else that the clip shows."""
    fps = clip.fps
    regions = _regions(clip) if pulse.parts is None else pulse.parts
    witness_bpm = estimate_heart_rate(witness.bvp, fps).hr_bpm

    lit = lit_channels(clip)
    background_waves = _background_waves(clip)
    skin_waves = (clip.rgb / clip.rgb.mean(axis=0) - 1).T
    in_background = 0.0
    if lit.any():
        in_background = max(
            shared_with(pulse.bvp, background_waves, fps, _band_sd(skin_waves[lit], fps)),
            shared_line(skin_waves[lit], background_waves, fps, hr_bpm),
        )
    on_skin = 0.0
    if clip.clip is not None:
        cells = cells_of(clip.clip, CELLS)
        on_skin = skin_over_light(cells, skin_of_cells(cells.mean(axis=1)), fps, hr_bpm)
    movement = _with_doubles(bandpass(_movement(clip), fps))
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
        at_key_frames=clip.whole is not None and at_key_frames(clip.whole, fps, hr_bpm),
        runner_up=runner_up,
        on_skin=on_skin,
        own_parts=pulse.parts is not None,
    )


def _regions(clip: FaceClip) -> Float:
    """(R, T) POS of each part of the grid that shows skin."""
    grid = grid_colours(clip)
    return pos(grid, clip.fps) if len(grid) else np.zeros((0, clip.n_frames))


def grid_colours(clip: FaceClip) -> Float:
    """(R, T, 3) colours of the parts of the grid that show skin."""
    grid = clip.traces[:, : GRID * GRID].transpose(1, 0, 2)
    return grid[np.isfinite(grid).all(axis=(1, 2))]


def lit_channels(clip: FaceClip) -> NDArray[np.bool_]:
    """(3,) in which colours the background is bright enough to be judged; none where none is seen."""
    level = clip.background_rgb.mean(axis=0)
    return level > 4.0 if np.isfinite(level).all() else np.zeros(3, dtype=bool)  # black has no relative change


def _background_waves(clip: FaceClip) -> Float:
    """(K, T) relative changes of the background in the colours of ``lit_channels``."""
    seen = clip.background_rgb[:, lit_channels(clip)]
    return np.asarray((seen / seen.mean(axis=0) - 1).T)


def _movement(clip: FaceClip) -> Float:
    """(3, T) place of the face, left to right and top to bottom, and its size, in shares of its mean size."""
    centre = clip.box_xywh[:, :2] + clip.box_xywh[:, 2:] / 2
    size = np.sqrt(clip.box_xywh[:, 2] * clip.box_xywh[:, 3])
    return np.asarray(np.column_stack([centre / size.mean(), size / size.mean()]).T)


def _with_doubles(movement: Float) -> Float:
    """movement (K, T) and, below it, its squares at the size of the movement: (2K, T).

    A head that nods through the middle of the light is darkest twice in every nod, so the colour beats at twice the
    rate of the movement."""
    squares = standardise(movement**2) * movement.std(axis=-1, keepdims=True)
    return np.concatenate([movement, squares])


def _band_sd(x: Float, fps: float) -> Float:
    sd: Float = bandpass(x, fps).std(axis=-1)
    return sd


def mvdr_wave(clip: FaceClip) -> Pulse:
    """Of the cells of the face crop or, where the clip holds colours only, of the parts of the grid that show skin."""
    references = np.concatenate([_background_waves(clip), _movement(clip)])
    if clip.clip is not None:
        cells = cells_of(clip.clip, CELLS)
        bvp = mvdr(cells, clip.fps, skin_of_cells(cells.mean(axis=1)), references)
    else:
        parts = grid_colours(clip)
        bvp = mvdr(parts if len(parts) else clip.rgb, clip.fps, references=references)
    return Pulse(bvp, clip.fps, clip.start_s)
