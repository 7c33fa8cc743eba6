"""Evidence for and against a heart rate, gathered from one clip without knowing the true rate.

A peak in a spectrum does not prove a pulse: noise has a highest peak too, lamps flicker and heads nod. A rate is
trusted when several things are seen together that a pulse does and other causes do not:

    snr_db        the wave is periodic: its power lies at one rate and its double
    agreement     every part of the face shows it, in phase, as POS in a grid reads it
    background    what is not face does not show it
    on_skin       inside the face crop the skin shows it; hair, eyes, clothes and wall do not
    motion        the head does not move at this rate, nor at half of it
    redrawn       the colour changes smoothly and does not jump in the key frames of the file (``keyframes.py``)
    halves        the two halves of the window give the same rate
    blood         red, green and blue beat as blood makes them, not all alike as under a lamp
    witness       another method gives it too: MVDR, and POS of the mean skin beside MVDR itself
    in_step       and beats at the same moments

``model.py`` turns these into a probability, ``verdict.py`` into reliable or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autohr.classic.colour import pos
from autohr.classic.mvdr import mvdr
from autohr.classic.projection import BLOOD_SIGNATURE
from autohr.confidence.keyframes import at_key_frames, key_frame_comb, key_frame_steps
from autohr.errors import SignalTooShort
from autohr.signals.filters import analytic, bandpass, detrend, standardise
from autohr.signals.rate import HeartRate, estimate_heart_rate, snr_db
from autohr.types import Evidence, EvidenceKind, FaceClip, Float, Pulse
from autohr.video.regions import GRID, cells_of, skin_of_cells

CELLS = 8
"""Side of the raster of cells over the crop that MVDR and ``skin_over_light`` read. 4 is too coarse to tell places
apart (MVDR: 54 of 100 hard recordings right, against 71 with 8); 16 and 32 were no better than 8."""

MOTION_SCALE = 0.002
"""Standard deviation of movement within the heart band, as a share of the face's size, that can imitate a pulse: half a
pixel on a face of 250."""

LARGEST_DIFFERENCE_BPM = 60.0
"""Largest difference between two rates that counts; also the difference to a rate that could not be read."""

MIN_GREY_CELL, MIN_GREY_BACKGROUND = 6.0, 4.0
"""Grey levels (of 255) below which a cell, or a colour of the background, has no usable relative change."""

MIN_NOISE_SHARE = 0.2
"""Smallest noise assumed of a cell in ``skin_over_light``, as a share of the median cell's."""

LEAST_LINE = 5.0
"""Log likelihood ratio of a line that ``blood_over_light`` adds to the whole, so that noise is no evidence: chance
makes about 3."""

STEP_PARTS = 4
"""Parts of a window in which ``in_step`` looks. On the windows of the fit 2, 3 and 5 told less than 4."""

SIDE_LINES = np.array([-7.0, -6.0, -5.0, -4.0, -3.0, 3.0, 4.0, 5.0, 6.0, 7.0])
"""Spectral lines, counted from the one at the rate, whose power is taken as noise."""


@dataclass(frozen=True)
class WindowColours:
    """Colours and movement of one clip that MVDR and the evidence both need."""

    cells: Float | None
    """(CELLS * CELLS, T, 3) mean colours of a raster over the face crop; None where the clip has no crops."""
    skin_share: Float | None
    """(CELLS * CELLS,) 0..1, how much each cell is skin."""
    grid: Float
    """(R, T, 3) colours of the parts of the face box that show skin."""
    lit: NDArray[np.bool_]
    """(3,) colours in which the background is bright enough to be judged; none where it is not seen."""
    background: Float
    """(K, T) relative change of the background in the K lit colours."""
    movement: Float
    """(3, T) place of the face, left to right and top to bottom, and its size, in shares of its mean size."""


_COLOURS: WeakKeyDictionary[FaceClip, WindowColours] = WeakKeyDictionary()


def window_colours(clip: FaceClip) -> WindowColours:
    """Return the colours and movement of a clip; they are computed once for each clip, however often asked."""
    found = _COLOURS.get(clip)
    if found is None:
        cells = cells_of(clip.clip, CELLS) if clip.cells is None and clip.clip is not None else clip.cells
        grid = clip.traces[:, : GRID * GRID].transpose(1, 0, 2)
        level = clip.background_rgb.mean(axis=0)
        lit = level > MIN_GREY_BACKGROUND if np.isfinite(level).all() else np.zeros(3, dtype=bool)
        seen = clip.background_rgb[:, lit]
        centre = clip.box_xywh[:, :2] + clip.box_xywh[:, 2:] / 2
        size = np.sqrt(clip.box_xywh[:, 2] * clip.box_xywh[:, 3])
        found = _COLOURS[clip] = WindowColours(
            cells=cells,
            skin_share=None if cells is None else skin_of_cells(cells.mean(axis=1)),
            grid=grid[np.isfinite(grid).all(axis=(1, 2))],
            lit=lit,
            background=np.asarray((seen / seen.mean(axis=0) - 1).T),
            movement=np.asarray(np.column_stack([centre / size.mean(), size / size.mean()]).T),
        )
    return found


def mvdr_wave(clip: FaceClip) -> Pulse:
    """Return MVDR's pulse wave, read from the cells of the crop or, without crops, from the parts of the face box."""
    colours = window_colours(clip)
    references = np.concatenate([colours.background, colours.movement])
    rgb = colours.cells
    if rgb is None:
        rgb = colours.grid if len(colours.grid) else clip.rgb
    return Pulse(mvdr(rgb, clip.fps, colours.skin_share, references), clip.fps, clip.start_s)


def gather_evidence(
    clip: FaceClip, pulse: Pulse, witness: Pulse, rate: HeartRate, kind: EvidenceKind, lead_s: float | None = 0.0
) -> Evidence:
    """Gather the evidence for and against a rate from its wave and from everything else that the clip shows.

    ``lead_s`` is that of ``in_step``. Raises ValueError for a ``rate`` that is none.
    """
    hr_bpm = rate.hr_bpm
    if hr_bpm is None or rate.snr_db is None:
        raise ValueError("There is no evidence for a rate that is not there.")
    fps, colours = clip.fps, window_colours(clip)
    regions = pos(colours.grid, fps) if len(colours.grid) else np.zeros((0, clip.n_frames))
    background = 0.0
    if colours.lit.any():
        skin = (clip.rgb / clip.rgb.mean(axis=0) - 1).T[colours.lit]
        background = max(
            shared_with(pulse.bvp, colours.background, fps, np.asarray(bandpass(skin, fps).std(axis=-1))),
            shared_line(skin, colours.background, fps, hr_bpm),
        )
    on_skin = 0.0
    if colours.cells is not None and colours.skin_share is not None:
        on_skin = skin_over_light(colours.cells, colours.skin_share, fps, hr_bpm)
    movement = with_doubled_rates(bandpass(colours.movement, fps))
    redrawn, is_key_frame_rate = 0.0, False
    if clip.whole is not None:
        redrawn = max(
            key_frame_steps(clip.rgb, clip.whole, fps),
            key_frame_comb(clip.rgb, clip.whole, pulse.bvp, fps, hr_bpm),
        )
        is_key_frame_rate = at_key_frames(clip.whole, fps, hr_bpm)
    return Evidence(
        snr_db=rate.snr_db,
        agreement=agreement_of_regions(regions, fps, hr_bpm),
        background=background,
        motion=shared_with(pulse.bvp, movement, fps, np.full(len(movement), MOTION_SCALE)),
        halves_bpm=halves_differ_bpm(pulse.bvp, fps),
        witness_bpm=_difference_bpm(estimate_heart_rate(witness.bvp, fps).hr_bpm, hr_bpm),
        witness_snr_db=snr_db(witness.bvp, fps, hr_bpm),
        in_step=in_step(pulse.bvp, witness.bvp, fps, hr_bpm, lead_s),
        redrawn=redrawn,
        at_key_frames=is_key_frame_rate,
        runner_up=rate.runner_up,
        on_skin=on_skin,
        blood=blood_over_light(clip.rgb, fps, hr_bpm),
        kind=kind,
    )


def agreement_of_regions(waves: Float, fs: float, hr_bpm: float) -> float:
    """Return 0..1, how far the regions' waves (R, N) beat in phase at ``hr_bpm``.

    It is the length of the mean of the regions' phasors over the mean of their lengths. Each wave is first brought to
    unit standard deviation, so a region counts by the share of its wave that beats at the rate. R independent noises
    give about 1 / sqrt(R); fewer than three waves that are finite and not constant give 0.

    Examples
    --------
    >>> wave = np.sin(2 * np.pi * 1.2 * np.arange(300) / 30)
    >>> round(agreement_of_regions(np.stack([wave, 2 * wave, 0.5 * wave]), fs=30, hr_bpm=72), 3)
    1.0
    >>> agreement_of_regions(np.stack([wave, wave]), fs=30, hr_bpm=72)
    0.0
    """
    waves = waves[np.isfinite(waves).all(axis=-1)]
    sd = waves.std(axis=-1)
    waves, sd = waves[sd > 0], sd[sd > 0]
    if len(waves) < 3:
        return 0.0
    n_samples = waves.shape[-1]
    window = np.hanning(n_samples + 2)[1:-1]
    line = np.exp(-2j * np.pi * hr_bpm / 60 / fs * np.arange(n_samples))
    # einsum and not a matrix product: from 4096 complex elements on that wakes the threads of BLAS.
    phasors = np.einsum("rn,n->r", waves / sd[:, None] * window, line)
    return float(np.abs(phasors.sum()) / max(float(np.abs(phasors).sum()), 1e-12))


def shared_with(bvp: Float, others: Float, fs: float, scale: Float) -> float:
    """Return 0..1, how much of the wave bvp (N,) is also in the waves others (K, N), whatever the delay.

    It is the largest, over K, of the correlation of the analytic signals in the heart band (a delay turns their phase
    and leaves their length) times the other wave's size relative to ``scale`` (K,), at most 1: an oscillation too small
    to be the cause does not count. Rows with NaN are left out.
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
    """Return 0..1, how large the spectral line of others (K, N) at ``hr_bpm`` is next to that of skin (K, N).

    Rows are compared one by one and the largest ratio counts. Both are relative changes, so a lamp that flickers shows
    the same on a wall as on a face: 1. A line counts only if it stands six times above the mean of the noise beside it
    (by chance in one row of 400). Unlike ``shared_with`` it sees a flicker under a wave that is mostly noise. Rows with
    NaN are left out.
    """
    use = np.isfinite(others).all(axis=-1) & np.isfinite(skin).all(axis=-1)
    if not use.any():
        return 0.0
    theirs, beside = _line(others[use], fs, hr_bpm)
    ours, _ = _line(skin[use], fs, hr_bpm)
    clear = np.abs(theirs) ** 2 > 6 * np.median(beside, axis=1) / np.log(2)
    ratio = np.divide(np.abs(theirs), np.abs(ours), out=np.zeros(len(ours)), where=clear & (ours != 0))
    return float(min(1.0, ratio.max()))


def skin_over_light(cells: Float, skin_share: Float, fs: float, hr_bpm: float) -> float:
    """Return the log likelihood ratio of "only the skin beats at hr_bpm" against "everything does".

    A lamp multiplies all that it lights by the same number, hair and skin; blood darkens the skin alone. The line at
    the rate in cells (R, T, 3), mean colours of a raster over and around the face, is once taken as equal in all cells
    and once as proportional to ``skin_share`` (R,), each time with a free strength in each colour; the noise of a cell
    is the power beside the line. The noise of neighbouring cells is not independent, so the number is larger than a
    true likelihood ratio; its sign is what counts. The test is ours.

    0 where the raster is all skin, or shows nothing at the rate.
    """
    level = cells.mean(axis=1)
    bright = level.mean(axis=-1) > MIN_GREY_CELL
    if not bright.any():
        return 0.0
    level, skin_share = np.maximum(level[bright], 1.0), skin_share[bright]
    change = (cells[bright] / level[:, None] - 1).transpose(0, 2, 1).reshape(-1, cells.shape[1])
    lines, beside = _line(change, fs, hr_bpm)
    noise = beside.mean(axis=1)
    # Ten lines give the noise of one cell only roughly; none is much quieter than the others.
    noise += MIN_NOISE_SHARE * np.median(noise)
    lines, noise = lines.reshape(-1, 3), noise.reshape(-1, 3)
    if not noise.all():
        return 0.0

    def explained(shares: Float) -> float:
        largest = (shares[:, None] ** 2 / noise).sum(axis=0)
        found = np.abs((shares[:, None] * lines / noise).sum(axis=0)) ** 2
        return float(np.divide(found, largest, out=np.zeros(3), where=largest > 0).sum())

    return explained(skin_share) - explained(np.ones(len(skin_share)))


def blood_over_light(rgb: Float, fs: float, hr_bpm: float) -> float:
    """Return -1..1, how much better blood explains the beat of the colour rgb (N, 3) at ``hr_bpm`` than light does.

    The lines of the three colours at the rate are once taken as proportional to ``BLOOD_SIGNATURE`` and once as equal;
    the noise, with what the colours have of it in common, is that beside the line. It is the difference of the two
    log likelihood ratios over that of any line at all (and ``LEAST_LINE``). The test is ours. 0 where a colour is dark
    or not known.
    """
    mean = rgb.mean(axis=0)
    if not (mean > MIN_GREY_CELL).all():  # NaN too
        return 0.0
    lines, beside = _lines((rgb / mean - 1).T, fs, hr_bpm)
    noise = (beside @ beside.conj().T).real / beside.shape[1]
    noise += np.eye(3) * (1e-3 * np.trace(noise) / 3 + 1e-18)
    inverse = np.linalg.inv(noise)

    def explained(colours: Float) -> float:
        return float(np.abs(colours @ inverse @ lines) ** 2 / (colours @ inverse @ colours))

    whole = float((lines.conj() @ inverse @ lines).real)
    return (explained(np.array(BLOOD_SIGNATURE)) - explained(np.ones(3))) / (whole + LEAST_LINE)


def in_step(bvp: Float, witness: Float, fs: float, hr_bpm: float, lead_s: float | None = 0.0) -> float:
    """Return -1..1, how far two waves (N,) beat at the same moments all through the window; 1 is always.

    It is the mean over ``STEP_PARTS`` parts of the window of the cosine of the phase between them at ``hr_bpm``, where
    bvp is ``lead_s`` seconds before the witness. If that is not known (None), any constant phase counts as in step. Two
    methods often read the same rate in noise, but seldom in step: chance makes about 0.

    Examples
    --------
    >>> beat = np.sin(2 * np.pi * 1.2 * np.arange(300) / 30)
    >>> [round(in_step(beat, other, 30, 72), 2) for other in (3 * beat, -beat)]
    [1.0, -1.0]
    """
    n_samples = len(bvp) // STEP_PARTS
    line = np.exp(-2j * np.pi * hr_bpm / 60 / fs * np.arange(n_samples))
    waves = np.stack([bvp, witness])[:, : STEP_PARTS * n_samples].reshape(2, STEP_PARTS, n_samples)
    ours, theirs = np.einsum("wpn,n->wp", waves, line)
    length = np.abs(ours * theirs)
    turns = np.divide(ours.conj() * theirs, length, out=np.zeros(STEP_PARTS, dtype=complex), where=length > 0)
    if lead_s is None:
        # The square of the mean's length is 1 / STEP_PARTS by chance.
        return float((STEP_PARTS * np.abs(turns.mean()) ** 2 - 1) / (STEP_PARTS - 1))
    return float((turns.mean() * np.exp(2j * np.pi * hr_bpm / 60 * lead_s)).real)


def halves_differ_bpm(bvp: Float, fs: float) -> float:
    """Return the difference in bpm between the rates of the first and the last 60 % of bvp (N,)."""
    length = int(0.6 * len(bvp))
    try:
        first, last = (estimate_heart_rate(part, fs).hr_bpm for part in (bvp[:length], bvp[-length:]))
    except SignalTooShort:
        return LARGEST_DIFFERENCE_BPM
    return _difference_bpm(first, last)


def with_doubled_rates(movement: Float) -> Float:
    """Return movement (K, T) and below it its squares, scaled to the size of the movement: (2K, T).

    A head that nods through the middle of the light is darkest twice in every nod, so the colour beats at twice the
    rate of the movement.
    """
    squares = standardise(movement**2) * movement.std(axis=-1, keepdims=True)
    return np.concatenate([movement, squares])


def _difference_bpm(first: float | None, second: float | None) -> float:
    if first is None or second is None:
        return LARGEST_DIFFERENCE_BPM
    return min(LARGEST_DIFFERENCE_BPM, abs(first - second))


def _line(x: Float, fs: float, hr_bpm: float) -> tuple[NDArray[np.complex128], Float]:
    """Return the Fourier sums (K,) of x (K, N) at ``hr_bpm``, and the powers (K, 10) at ``SIDE_LINES`` beside it."""
    line, beside = _lines(x, fs, hr_bpm)
    return line, np.abs(beside) ** 2


def _lines(x: Float, fs: float, hr_bpm: float) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the Fourier sums of x (K, N) at ``hr_bpm`` (K,) and at ``SIDE_LINES`` beside it (K, 10)."""
    n_samples = x.shape[-1]
    freqs_hz = np.concatenate([[hr_bpm / 60], np.abs(hr_bpm / 60 + SIDE_LINES * fs / n_samples)])
    sums = np.exp(-2j * np.pi * np.outer(freqs_hz, np.arange(n_samples) / fs))
    windowed = detrend(x, fs) * np.hanning(n_samples + 2)[1:-1]
    # einsum and not a matrix product: from 4096 complex elements on that wakes the threads of BLAS.
    found = np.einsum("kn,fn->kf", windowed, sums)
    return found[:, 0], found[:, 1:]
