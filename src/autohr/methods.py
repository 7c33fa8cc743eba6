"""What is a method: one visible table, and one way from a face clip to an ``Estimate`` for all of them.

A method turns a ``FaceClip`` into a pulse wave. Rate, signal-to-noise ratio and confidence are then made of that wave
by the same code for every method, so that GREEN and a network are judged alike. A net that gives a rate and no wave has
nothing to be judged by but another method's wave (``estimate_from_rate``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autohr.classic import CLASSIC
from autohr.classic.colour import pos
from autohr.classic.li2014 import li2014
from autohr.classic.mvdr import mvdr
from autohr.classic.ssr import ssr
from autohr.classic.tulyakov2016 import samc
from autohr.errors import BadWeights, SignalTooShort, UnknownName
from autohr.signals.filters import bandpass, standardise
from autohr.signals.quality import (
    RELIABLE_CONFIDENCE,
    TRUSTED_S,
    agreement_of_regions,
    at_key_frames,
    confidence,
    halves_differ_bpm,
    impostor,
    key_frame_comb,
    key_frame_steps,
    shared_line,
    shared_with,
    skin_over_light,
    why_unreliable,
)
from autohr.signals.rate import BAND_BPM, LEAST_PERIODS, estimate_heart_rate
from autohr.types import Estimate, Evidence, FaceClip, Float, Frame, Pulse
from autohr.video.pace import clock_change, denser
from autohr.video.rois import GRID, cells_of, face_patch, scaled, skin_of_cells

LEAST_S = 4.0
"""Shortest window that gets a number at all; under ``TRUSTED_S`` it is never called reliable. The estimator needs
3.75 s."""
assert LEAST_S >= LEAST_PERIODS * 60 / BAND_BPM[0]

LEAST_FPS = 2.2 * BAND_BPM[1] / 60
"""Frames per second below which 180 bpm cannot be told from its mirror image: 6.6."""

USUAL_FPS = 30.0
"""Taken for weights that do not say how fast the videos were that they learned from."""

PIECE_FRAMES = 600
"""Most frames that a net is fed at once: 20 s at 30 frames per second, and 0.5 GB of memory with AutoHR ``small``. All
120 s that a window may have took 1.4 GB."""

LEAST_PART_PX = 16
"""Smallest part of a face that a net is fed: its least picture."""

LEAST_FOUND = 0.75
"""Share of a window's frames in which the face must really have been seen for its rate to be called reliable."""

VETOED_CONFIDENCE = 0.5
"""Highest confidence of a rate that is not reliable whatever its evidence: the number and the word must agree. Of the
vetoed readings of the fit about one in five was right."""

SAME_BPM = 3.0
"""Two methods say the same rate up to this difference. Ours: over half of the 5 bpm within which a rate counts as
right, so that what the witness is sure of is nearly what the net says."""

CELLS = 8
"""Of the raster CELLS x CELLS over the crop that MVDR and ``skin_over_light`` read. 4 are too few to tell places apart
(MVDR: 54 of 100 hard recordings right where 8 have 71), 16 and 32 were no better than 8; for the light 16 was not."""

MOTION_SCALE = 0.002
"""Movement within the heart band, as a share of the face's size (standard deviation), from which it can make a rate:
half a pixel on a face of 250."""


@dataclass(frozen=True)
class Crop:
    """How the face crops of a net are cut: as its training cut them (``data.cache.CropConfig``, ``data.clips``)."""

    stored_px: int
    """Side of the crop that training stored, and cut its clips by chance from."""
    size_px: int
    """Side of what the net is given: the stored crop, made smaller."""
    box: Literal["tracked", "first"]
    margin: float
    """Added on each side of the box, in shares of its width and height."""

    def cut(self, frame: Frame, box_xywh: Float) -> Frame:
        """The crop (size_px, size_px, 3) of frame (H, W, 3). Rounded twice, for the cache stores whole numbers too.

        A ``first`` box must hold its margin already, since it is cut at the frame's border with it.
        """
        margin = self.margin if self.box == "tracked" else 0.0
        stored = np.rint(face_patch(frame, box_xywh, self.stored_px, margin)).astype(np.uint8)
        return np.rint(scaled(stored, self.size_px)).astype(np.uint8)


FORMULA_CROP = Crop(stored_px=80, size_px=64, box="tracked", margin=0.1)
"""For the formula that reads crops: those of the shipped net, so that one search for faces serves both."""


@dataclass(frozen=True)
class Method:
    """One way to a pulse wave, or to a rate. ``wave`` or ``rate`` is the whole difference between methods."""

    name: str
    title: str
    """As papers and table captions spell it."""
    reads: str
    """What it is fed: "mean skin colour", "face crops"."""
    source: str
    sure: str
    """How sure it is that this is the published method."""
    wave: Callable[[FaceClip], Pulse]
    """On the clock of the clip."""
    rate: Callable[[FaceClip], float] | None = None
    """Of nets that give the rate (bpm) itself and have no wave; None for all others."""
    is_net: bool = False
    """A net needs weights: ``load_method`` gives it some, the table's line has none."""
    crop: Crop | None = None
    """The face crops it needs; None when colours suffice."""
    weights: str | None = None
    """Name of shipped weights, or the path they came from."""
    trusted: bool = True
    """Whether its own wave may speak for it: False for weights that the confidence was not fitted on (``estimate``)."""

    def __call__(self, clip: FaceClip) -> Estimate:
        if self.rate is not None:
            return estimate_from_rate(clip, self.rate(clip))
        return estimate(clip, self.wave(clip), self.trusted)


def _classic(name: str, title: str, source: str, sure: str) -> Method:
    function = CLASSIC[name]

    def wave(clip: FaceClip) -> Pulse:
        return Pulse(bvp=function(clip.rgb, clip.fps), fps=clip.fps, start_s=clip.start_s)

    return Method(name=name, title=title, reads="mean skin colour", source=source, sure=sure, wave=wave)


def _li2014(clip: FaceClip) -> Pulse:
    """The lower half of the face box has no eyes and no hair, as the paper's region."""
    lower = clip.traces[:, GRID * GRID // 2 : GRID * GRID]
    known = np.isfinite(lower).all(axis=(0, 2))
    face = lower[:, known].mean(axis=1) if known.any() else clip.rgb
    return Pulse(bvp=li2014(face, clip.fps, clip.background_rgb), fps=clip.fps, start_s=clip.start_s)


def _of_parts(function: Callable[[Float, float], Float]) -> Callable[[FaceClip], Pulse]:
    """A formula of the colours of the parts of the grid that show skin; of the mean colour where none does."""

    def wave(clip: FaceClip) -> Pulse:
        parts = _grid(clip)
        return Pulse(function(parts if len(parts) else clip.rgb, clip.fps), clip.fps, clip.start_s)

    return wave


def _mvdr(clip: FaceClip) -> Pulse:
    """Of the cells of the face crop or, where the clip holds colours only, of the parts of the grid that show skin."""
    references = np.concatenate([_background_waves(clip), _movement(clip)])
    if clip.clip is not None:
        cells = cells_of(clip.clip, CELLS)
        bvp = mvdr(cells, clip.fps, skin_of_cells(cells.mean(axis=1)), references)
    else:
        parts = _grid(clip)
        bvp = mvdr(parts if len(parts) else clip.rgb, clip.fps, references=references)
    return Pulse(bvp, clip.fps, clip.start_s)


def _net(name: str, title: str, source: str, sure: str) -> Method:
    def wave(clip: FaceClip) -> Pulse:
        raise ValueError(f"{name} has no weights here; load_method({name!r}) gives it some.")

    # Nets of rates get their ``rate`` with their weights too.
    return Method(name=name, title=title, reads="face crops", source=source, sure=sure, wave=wave, is_net=True)


METHODS: dict[str, Method] = {
    "green": _classic("green", "GREEN", "Verkruysse et al. 2008", "formula exact; pass band ours"),
    "ica": _classic(
        "ica", "Poh2011 (ICA)", "Poh et al. 2011", "JADE exact; cut-off, last filters and spectral rate ours"
    ),
    "chrom": _classic("chrom", "CHROM", "de Haan & Jeanne 2013", "formula exact; filter over the whole window"),
    "pos": _classic("pos", "POS", "Wang et al. 2017", "formula exact; pass band added at the end"),
    "li2014": Method(
        "li2014",
        "Li2014",
        "green of the lower face and of the background",
        "Li et al. 2014",
        "steps and parameters of a public re-implementation; region, restless seconds and band ours",
        _li2014,
    ),
    "samc": Method(
        "samc",
        "Tulyakov2016 (SAMC)",
        "colours of 16 parts of the face",
        "Tulyakov et al. 2016",
        "objective from memory, solver derived again, its parameters ours: a reconstruction",
        _of_parts(samc),
    ),
    "lgi": _classic("lgi", "LGI", "Pilz et al. 2018", "projection as in public toolboxes; pass band ours"),
    "omit": _classic(
        "omit", "OMIT", "Alvarez Casado & Bordallo Lopez 2023", "projection as in public toolboxes; pass band ours"
    ),
    "pbv": _classic(
        "pbv", "PBV", "de Haan & van Leest 2014", "signature exact; one window, pass band at the end; from memory"
    ),
    "ssr": Method(
        "ssr",
        "SSR",
        "colours of 16 parts of the face",
        "Wang et al. 2015",
        "formulas of public toolboxes, from memory; parts of the face in place of pixels: an approximation",
        _of_parts(ssr),
    ),
    "mvdr": Method(
        "mvdr",
        "MVDR",
        "face crops",
        "Capon 1969",
        "beamformer exact; its use on the cells of a face, and all settings, ours",
        _mvdr,
        crop=FORMULA_CROP,
    ),
    "physnet": _net("physnet", "PhysNet", "Yu et al. 2019", "layers as published; the authors' weights are not used"),
    "deepphys": _net(
        "deepphys", "DeepPhys", "Chen & McDuff 2018", "layers as in two public versions; normalised over the clip"
    ),
    "rppgnet": _net(
        "rppgnet", "rPPGNet", "Yu et al. 2019", "layers as published, without its enhancer STVEN; skin masks ours"
    ),
    "i3d": _net("i3d", "I3D", "Carreira & Zisserman 2017", "layers as published; as a regressor of rates, ours"),
    "hrcnn": _net(
        "hrcnn", "HR-CNN", "Spetlik et al. 2018", "extractor as published; estimator of a re-implementation, part ours"
    ),
    "rhythmnet": _net(
        "rhythmnet", "RhythmNet", "Niu et al. 2020", "maps without landmarks or mask; no ImageNet; others fell short"
    ),
    "synrhythm": _net(
        "synrhythm", "SynRhythm", "Niu et al. 2018", "reconstructed from a poster and descriptions; no ImageNet"
    ),
    "autohr": _net("autohr", "AutoHR", "Yu et al. 2020", "layers as published, searched cell reconstructed"),
}
"""The confidence of formulas (``signals.quality.WEIGHTS``) was fitted on GREEN, ICA, CHROM, POS and MVDR. Li2014, SAMC,
LGI, OMIT, PBV and SSR use it too, and may call a rate reliable, without a fit of their own: most of the evidence is of
the clip and not of the wave. In 60 simulated clips without a pulse and 120 with a weak one none of the first five
called a wrong rate reliable; what all did on 210 recordings is in docs/LOG.md."""

DEFAULT_METHOD = "autohr"
FALLBACK_METHOD = "pos"
"""Taken where this installation has no weights of ``DEFAULT_METHOD`` and none are given."""

WEIGHTS_DIR = Path(__file__).parent / "weights"
"""Shipped weights, NAME.safetensors. Those called like a net are its default ones."""


def shipped_weights() -> dict[str, Path]:
    """Name -> file of the weights in this installation."""
    return {path.stem: path for path in sorted(WEIGHTS_DIR.glob("*.safetensors"))}


def default_method() -> str:
    """``DEFAULT_METHOD`` if its weights are shipped, ``FALLBACK_METHOD`` otherwise."""
    return DEFAULT_METHOD if DEFAULT_METHOD in shipped_weights() else FALLBACK_METHOD


def ready_methods() -> list[str]:
    """Names of the methods that ``load_method`` gives without weights of the caller's."""
    shipped = shipped_weights()
    return [name for name, method in METHODS.items() if not method.is_net or name in shipped]


def load_method(name: str | None = None, weights: str | Path | None = None, device: str = "cpu") -> Method:
    """The method of that name, ready to be called with a ``FaceClip``.

    Args:
        name: of ``METHODS``. None: the net that ``weights`` are of or, without any, ``default_method()``.
        weights: for a net, the name of shipped weights or a .safetensors file; its shipped ones if None.
        device: "cpu", "cuda" or "mps", where a net runs.

    Raises:
        UnknownName: no such method, or no shipped weights of that name.
        BadWeights: weights that are missing, damaged, or do not fit the method.
        AutoHRError: the machine has no such device.
    """
    if name is not None and name not in METHODS:
        raise UnknownName("method", name, METHODS)
    if name is None and weights is None:
        name = default_method()
    if name is None or METHODS[name].is_net:
        path, label = find_weights(name, weights)
        return _load_net(name, path, label, device)
    if weights is not None:
        raise BadWeights(f"{name} is a formula and takes no weights ({str(weights)!r}). Leave them or the method out.")
    return METHODS[name]


def find_weights(name: str | None, weights: str | Path | None) -> tuple[Path, str]:
    """(file, what results call it) of weights given by name or file, or, if None, of the shipped ones of net ``name``.

    Raises:
        UnknownName: no shipped weights of that name.
        BadWeights: none are shipped, or none of that net. Whether a file is there, and sound, is not looked at.
    """
    shipped = shipped_weights()
    known = ", ".join(shipped) or "none"
    if weights is None:
        assert name is not None
        if name not in shipped:
            raise BadWeights(
                f"This installation has no weights of {name} (it has: {known}). Give a .safetensors file of them."
            )
        return shipped[name], name
    path = Path(weights)
    if isinstance(weights, str) and weights in shipped:
        return shipped[weights], weights
    if isinstance(weights, Path) or path.suffix or path.name != weights or path.exists():
        return path, str(weights)
    if not shipped:
        raise BadWeights(f"Unknown weights {weights!r}: this installation has none. Give a .safetensors file.")
    raise UnknownName("weights", weights, shipped)


def _load_net(name: str | None, path: Path, label: str, device: str) -> Method:
    # Imported here, so that a formula does not wait for torch.
    from autohr.nets import NETS
    from autohr.nets.checkpoint import read_header, trained_crop
    from autohr.nets.inference import load_inference

    header = read_header(path)
    net = str(header["net"])
    if name is not None and net != name:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, not of {name}. Choose method {net}, or other weights.")
    if net not in METHODS:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, which is no method. Methods: {', '.join(METHODS)}.")
    if NETS[net].kind == "rate":
        return _load_rate_net(path, header, label, device)
    infer = load_inference(path, device)
    crop, (least_fps, most_fps) = Crop(*trained_crop(path, header)), _trained_fps(header)

    def wave(clip: FaceClip) -> Pulse:
        times, every = clock_change(clip.fps, least_fps, most_fps)
        if times > 1 and clip.clip is not None:
            frames = denser(clip.clip, times)
            waves = _in_pieces(replace(clip, clip=frames), range(len(frames)), infer)[:, ::times]
            return pulse_of(clip, waves)
        shown = range(0, clip.n_frames, every)
        waves = _in_pieces(clip, shown, infer)
        if every > 1:
            waves = np.stack([np.interp(np.arange(clip.n_frames), shown, wave) for wave in waves])
        return pulse_of(clip, waves)

    def pulse_of(clip: FaceClip, waves: Float) -> Pulse:
        waves = bandpass(waves, clip.fps)
        parts = waves[1:] if len(waves) > 1 else None
        return Pulse(bvp=waves[0], fps=clip.fps, start_s=clip.start_s, parts=parts)

    shipped = path.resolve() in {one.resolve() for one in shipped_weights().values()}
    return replace(METHODS[net], wave=wave, crop=crop, weights=label, trusted=shipped)


def _load_rate_net(path: Path, header: Mapping[str, Any], label: str, device: str) -> Method:
    """The clip is cut into pieces as long as those of the training, which overlap if they must; the rate is their mean,
    as these nets' papers have it."""
    from autohr.nets.checkpoint import trained_crop
    from autohr.nets.inference import load_rate_inference

    net = str(header["net"])
    infer = load_rate_inference(path, device)
    crop, (least_fps, most_fps) = Crop(*trained_crop(path, header)), _trained_fps(header)
    said = header["input"].get("n_frames")
    trained_frames = said if isinstance(said, int) and said > 1 else PIECE_FRAMES

    def wave(clip: FaceClip) -> Pulse:
        raise ValueError(f"{net} gives a rate and no wave; call the method itself, or its rate.")

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

    return replace(METHODS[net], wave=wave, rate=rate, crop=crop, weights=label)


def _in_pieces(clip: FaceClip, shown: range, infer: Callable[[NDArray[np.float32]], Float]) -> Float:
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


def _trained_fps(header: Mapping[str, Any]) -> tuple[float, float]:
    """The fewest and the most frames per second that the net has learned from. Faster videos are thinned to about that
    many, frames are put between those of slower ones; the others stay as they are."""
    data = header["training_data"]
    said = (data.get("fps_from"), data.get("fps_to")) if isinstance(data, dict) else (None, None)
    least, most = (
        next((float(fps) for fps in (end, header["fps"]) if isinstance(fps, (int, float)) and fps >= LEAST_FPS), None)
        for end in said
    )
    return (0.0 if least is None else least), (USUAL_FPS if most is None else most)


def estimate(clip: FaceClip, pulse: Pulse, trusted: bool = True) -> Estimate:
    """Rate, quality and confidence of a pulse wave that was read from ``clip``.

    ``trusted`` is False for a net on whose weights the confidence was not fitted. Its wave may be clean, steady and the
    same in all parts of the face and have nothing to do with it: a PhysNet of two training steps gave one wave whatever
    it saw. So its rate is reliable only where the witness, MVDR in the same clip, says the same within ``SAME_BPM``.

    Raises:
        SignalTooShort: a clip under ``LEAST_S``, or of fewer than ``LEAST_FPS`` frames per second.
    """
    if clip.duration_s < LEAST_S - 0.5 / clip.fps:
        raise SignalTooShort(f"{clip.duration_s:.1f} s of face; at least {LEAST_S:g} s are needed.")
    rate = estimate_heart_rate(pulse.bvp, pulse.fps)
    if rate.hr_bpm is None or rate.snr_db is None:
        return Estimate(None, 0.0, False, None, "the skin's colour does not change at all", pulse=pulse)
    # Only nets read parts of the face themselves; a formula is no better witness than itself.
    of_net = pulse.parts is not None or not trusted
    witness = _mvdr(clip) if of_net else Pulse(pos(clip.rgb, clip.fps), clip.fps, clip.start_s)
    evidence = gather_evidence(clip, pulse, witness, rate.hr_bpm, rate.snr_db, rate.runner_up)
    sure = confidence(evidence)
    why = None
    if clip.duration_s < TRUSTED_S - 0.5 / clip.fps:
        why = f"only {clip.duration_s:.1f} s of face: a rate needs {TRUSTED_S:g} s to be trusted"
    elif float(clip.found.mean()) < LEAST_FOUND:
        why = f"the face was seen in only {100 * float(clip.found.mean()):.0f} % of the frames"
    else:
        why = impostor(evidence)
    if why is None and not trusted and evidence.witness_bpm > SAME_BPM:
        why = "nothing is known of these weights, and MVDR reads another rate"
    if why is not None:
        sure = min(sure, VETOED_CONFIDENCE)
    elif sure < RELIABLE_CONFIDENCE:
        why = why_unreliable(evidence)
    second = None
    if why is None:
        # POS and MVDR of the mean colour alone share most of their noise, so a formula is checked by MVDR of the parts
        # of the face; the one formula that reads crops is MVDR itself.
        second = witness if of_net or clip.clip is not None else _mvdr(clip)
    return Estimate(
        rate.hr_bpm,
        sure,
        why is None,
        rate.snr_db,
        why,
        evidence,
        pulse,
        witness=witness if of_net else None,
        second=second,
    )


def estimate_from_rate(clip: FaceClip, hr_bpm: float) -> Estimate:
    """What to think of the rate that a net gives without a wave: as much as MVDR in the same clip supports it.

    There is no wave to look at, and such nets say a rate of a wall as readily as of a face. So the rate is reliable
    only where MVDR, judged like any formula, is reliable and says the same within ``SAME_BPM``; it is then as sure as
    MVDR. Anywhere else nothing is known for it, and the confidence is 0. A rate outside the band in which all methods
    look is taken as the band's edge. ``snr_db``, ``evidence`` and ``pulse`` are None: they would be of another method.

    Raises:
        SignalTooShort: see ``estimate``.
    """
    witness = estimate(clip, _mvdr(clip))
    if not math.isfinite(hr_bpm):
        return Estimate(None, 0.0, False, None, "the net's rate is no number")
    hr_bpm = min(max(hr_bpm, BAND_BPM[0]), BAND_BPM[1])
    if witness.hr_bpm is None or not witness.reliable:
        why = f"the net gives no wave to check, and MVDR cannot support it: {witness.why_unreliable}"
        return Estimate(hr_bpm, 0.0, False, None, why)
    if abs(witness.hr_bpm - hr_bpm) > SAME_BPM:
        why = f"the net gives no wave to check, and MVDR reads {witness.hr_bpm:.0f} bpm"
        return Estimate(hr_bpm, 0.0, False, None, why)
    return Estimate(hr_bpm, witness.confidence, True, None)


def gather_evidence(
    clip: FaceClip, pulse: Pulse, witness: Pulse, hr_bpm: float, snr_db: float, runner_up: float
) -> Evidence:
    """What speaks for and against ``hr_bpm``, from the wave and from all else that the clip shows."""
    fps = clip.fps
    regions = _regions(clip) if pulse.parts is None else pulse.parts
    witness_bpm = estimate_heart_rate(witness.bvp, fps).hr_bpm

    lit = _lit(clip)
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
    grid = _grid(clip)
    return pos(grid, clip.fps) if len(grid) else np.zeros((0, clip.n_frames))


def _grid(clip: FaceClip) -> Float:
    """(R, T, 3) colours of the parts of the grid that show skin."""
    grid = clip.traces[:, : GRID * GRID].transpose(1, 0, 2)
    return grid[np.isfinite(grid).all(axis=(1, 2))]


def _lit(clip: FaceClip) -> NDArray[np.bool_]:
    """(3,) in which colours the background is bright enough to be judged; none where none is seen."""
    level = clip.background_rgb.mean(axis=0)
    return level > 4.0 if np.isfinite(level).all() else np.zeros(3, dtype=bool)  # black has no relative change


def _background_waves(clip: FaceClip) -> Float:
    """(K, T) relative changes of the background in the colours of ``_lit``."""
    seen = clip.background_rgb[:, _lit(clip)]
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
