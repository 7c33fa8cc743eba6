"""The methods: one visible table, and one way from a face clip to an ``Estimate`` for all of them.

A method turns a ``FaceClip`` into a pulse wave. Rate, signal-to-noise ratio and confidence are then made of that wave
by the same code for every method, so that GREEN and a network are judged alike. A network that gives a rate and no wave
is judged by the wave of another method (``estimate_from_rate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from autohr.classic import CLASSIC
from autohr.classic.li2014 import li2014
from autohr.classic.ssr import ssr
from autohr.classic.tulyakov2016 import samc
from autohr.confidence.evidence import mvdr_wave, window_colours
from autohr.confidence.verdict import estimate, estimate_from_rate
from autohr.errors import AutoHRError, BadWeights, UnknownName
from autohr.frontend import FORMULA_CROP, Crop
from autohr.plugins import Table
from autohr.runtime import DEVICES, Net, NetStream, load_onnx, rate_function, trained_crop, wave_function
from autohr.signals.threads import one_blas_thread
from autohr.types import Estimate, FaceClip, Float, Frame, Pulse
from autohr.video.regions import GRID
from autohr.weights.header import read_header


class Stream(Protocol):
    """Reader of one face's crops as they come, so that no window reads them again (``runtime.NetStream``)."""

    n_known: int
    """Number of frames, from the first one, of which the waves are known."""
    delay_s: float
    """Longest time for which a crop waits to be read."""

    def push(self, crop: Frame) -> None:
        """Take the next crop (S, S, 3)."""

    def end(self) -> None:
        """Read what is left over: no more crops will come."""

    def wave(self, first: int, n_frames: int) -> Float:
        """Return the wave (n_frames,) from frame ``first``."""

    def forget(self, first: int) -> None:
        """Let go of the wave before frame ``first``."""


@dataclass(frozen=True)
class Method:
    """One way from a face clip to a pulse wave, or to a heart rate.

    Can be pickled, so that worker processes measure with it: an .onnx network travels with it, a .safetensors file is
    read again by its path.
    """

    name: str
    title: str
    """Spelling of papers and table captions."""
    reads: str
    """Its input: "mean skin colour", "face crops"."""
    source: str
    basis: str
    """Fidelity to its paper: the parts that are exact, ours, or from memory."""
    wave: Callable[[FaceClip], Pulse]
    """On the clock of the clip."""
    rate: Callable[[FaceClip], float] | None = None
    """Set for networks that give the rate (bpm) and no wave; None for all others."""
    stream: Callable[[float], Stream] | None = None
    """Reads crops of so many frames per second as they come; None for methods that read whole windows."""
    is_net: bool = False
    """A network needs weights: ``load_method`` gives it some, the record in the table has none."""
    crop: Crop | None = None
    """The face crops it needs; None when colours suffice."""
    weights: str | None = None
    """Name of shipped weights, or the path they came from."""
    trusted: bool = True
    """False for weights that the confidence was not fitted on, all but the shipped AutoHR's: their own wave alone is
    then no evidence (``estimate``)."""
    package: str = "autohr"
    """The package it comes from; of another one also the version (``autohr.plugins``)."""

    def __call__(self, clip: FaceClip) -> Estimate:
        """Return the heart rate of a face clip with its confidence."""
        with one_blas_thread:
            if self.rate is not None:
                return estimate_from_rate(clip, self.rate(clip))
            return estimate(clip, self.wave(clip), self.is_net, self.trusted)


def _formula(name: str, title: str, source: str, basis: str) -> Method:
    """Return the record of a formula that reads the mean skin colour."""
    wave = partial(_colour_wave, CLASSIC[name])
    return Method(name=name, title=title, reads="mean skin colour", source=source, basis=basis, wave=wave)


def _colour_wave(function: Callable[[Float, float], Float], clip: FaceClip) -> Pulse:
    return Pulse(bvp=function(clip.rgb, clip.fps), fps=clip.fps, start_s=clip.start_s)


def _li2014_wave(clip: FaceClip) -> Pulse:
    """Read the lower half of the face box, which has no eyes and no hair, as the paper's region has none."""
    lower = clip.traces[:, GRID * GRID // 2 : GRID * GRID]
    known = np.isfinite(lower).all(axis=(0, 2))
    face = lower[:, known].mean(axis=1) if known.any() else clip.rgb
    return Pulse(bvp=li2014(face, clip.fps, clip.background_rgb), fps=clip.fps, start_s=clip.start_s)


def _grid_wave(function: Callable[[Float, float], Float], clip: FaceClip) -> Pulse:
    """Return a formula's wave from the colours of the grid's skin cells, or from the mean colour where none is skin."""
    cells = window_colours(clip).grid
    return Pulse(function(cells if len(cells) else clip.rgb, clip.fps), clip.fps, clip.start_s)


def _net(name: str, title: str, source: str, basis: str) -> Method:
    """Return the record of a network, which gets its weights from ``load_method``."""
    wave = partial(_no_wave, f"{name} has no weights here; load_method({name!r}) gives it some.")
    return Method(name=name, title=title, reads="face crops", source=source, basis=basis, wave=wave, is_net=True)


def _no_wave(why: str, clip: FaceClip) -> Pulse:
    raise ValueError(why)


_RECORDS = (
    _formula("green", "GREEN", "Verkruysse et al. 2008", "formula exact; pass band ours"),
    _formula("ica", "Poh2011 (ICA)", "Poh et al. 2011", "JADE exact; cut-off, last filters and spectral rate ours"),
    _formula("chrom", "CHROM", "de Haan & Jeanne 2013", "formula exact; filter over the whole window"),
    _formula("pos", "POS", "Wang et al. 2017", "formula exact; pass band added at the end"),
    Method(
        "li2014",
        "Li2014",
        "green of the lower face and of the background",
        "Li et al. 2014",
        "steps and parameters of a public re-implementation, whose moving average takes away 174 bpm (2.9 Hz) and "
        "weakens 110 bpm by 7 dB; region, restless seconds and band ours",
        _li2014_wave,
    ),
    Method(
        "samc",
        "Tulyakov2016 (SAMC)",
        "colours of 16 parts of the face",
        "Tulyakov et al. 2016",
        "objective from memory, solver derived again, its parameters ours: a reconstruction",
        partial(_grid_wave, samc),
    ),
    _formula("lgi", "LGI", "Pilz et al. 2018", "projection as in public toolboxes; pass band ours"),
    _formula(
        "omit", "OMIT", "Alvarez Casado & Bordallo Lopez 2023", "projection as in public toolboxes; pass band ours"
    ),
    _formula(
        "pbv", "PBV", "de Haan & van Leest 2014", "signature exact; one window, pass band at the end; from memory"
    ),
    Method(
        "ssr",
        "SSR",
        "colours of 16 parts of the face",
        "Wang et al. 2015",
        "formulas of public toolboxes, from memory; parts of the face in place of pixels: an approximation",
        partial(_grid_wave, ssr),
    ),
    Method(
        "mvdr",
        "MVDR",
        "face crops",
        "Capon 1969",
        "beamformer exact; its use on the cells of a face, and all settings, ours",
        mvdr_wave,
        crop=FORMULA_CROP,
    ),
    _formula("prism", "PRISM", "Morales et al. 2025", "reconstructed from the abstract; grids and quality ours"),
    _net("physnet", "PhysNet", "Yu et al. 2019", "layers as published; the authors' weights are not used"),
    _net("deepphys", "DeepPhys", "Chen & McDuff 2018", "layers as in two public versions; normalised over the clip"),
    _net("rppgnet", "rPPGNet", "Yu et al. 2019", "layers as published, without its enhancer STVEN; skin masks ours"),
    _net("i3d", "I3D", "Carreira & Zisserman 2017", "layers as published; as a regressor of rates, ours"),
    _net("i3d_wave", "I3D (wave)", "Carreira & Zisserman 2017", "layers as published; strides in time and head ours"),
    _net(
        "hrcnn", "HR-CNN", "Spetlik et al. 2018", "extractor as published; estimator of a re-implementation, part ours"
    ),
    _net("rhythmnet", "RhythmNet", "Niu et al. 2020", "maps without landmarks or mask; no ImageNet; others fell short"),
    _net("synrhythm", "SynRhythm", "Niu et al. 2018", "reconstructed from a poster and descriptions; no ImageNet"),
    _net("autohr", "AutoHR", "Yu et al. 2020", "layers as published, searched cell reconstructed"),
)
METHODS: Mapping[str, Method] = Table("autohr.methods", {method.name: method for method in _RECORDS})
"""Every method by name: those above, and those that other packages add (``autohr.plugins``).

The confidence of formulas (``confidence.model``) was fitted on GREEN, ICA, CHROM, POS and MVDR. The other formulas
use it too and may call a rate reliable: most of the evidence is of the clip and not of the wave."""

DEFAULT_METHOD = "autohr"
FALLBACK_METHOD = "pos"
"""Taken where this installation has no weights of ``DEFAULT_METHOD`` and none are given."""

WEIGHTS_DIR = Path(__file__).parent / "weights"
"""Shipped weights: NAME.onnx to measure with, NAME.safetensors to train on. Those called like a net are its default."""


def shipped_weights(suffix: str | None = None) -> dict[str, Path]:
    """Return name -> file of the weights in this installation: those with ``suffix``, or the best to measure with."""
    kinds = (".safetensors", ".onnx") if suffix is None else (suffix,)
    return {path.stem: path for kind in kinds for path in sorted(WEIGHTS_DIR.glob(f"*{kind}"))}


def default_method() -> str:
    """Return ``DEFAULT_METHOD`` if its weights are shipped, ``FALLBACK_METHOD`` otherwise."""
    return DEFAULT_METHOD if DEFAULT_METHOD in shipped_weights() else FALLBACK_METHOD


def ready_methods() -> list[str]:
    """Return the names of the methods that ``load_method`` gives without weights of the caller's."""
    shipped = shipped_weights()
    return [name for name, method in METHODS.items() if not method.is_net or name in shipped]


def load_method(name: str | None = None, weights: str | Path | None = None, device: str = "cpu") -> Method:
    """Return the method of that name, ready to be called with a ``FaceClip``.

    On the processor a net runs from an .onnx file, without torch. A .safetensors file and other devices need torch
    (``pip install 'autohr[lab]'``).

    Parameters
    ----------
    name
        One of ``METHODS``. None: the net that ``weights`` are of or, without any, ``default_method()``.
    weights
        For a net, the name of shipped weights or a file of them; its shipped ones if None.
    device
        "cpu", "cuda" or "mps", where a net runs.

    Raises
    ------
    UnknownName
        No such method, or no shipped weights of that name.
    BadWeights
        Weights that are missing, damaged, or do not fit the method.
    AutoHRError
        The machine has no such device, or torch is needed and not installed.

    Examples
    --------
    >>> load_method("pos").title
    'POS'
    """
    if name is not None and name not in METHODS:
        raise UnknownName("method", name, METHODS)
    if device not in DEVICES:
        raise ValueError(f"device={device!r} is not one of {', '.join(DEVICES)}.")
    if name is None and weights is None:
        name = default_method()
    if name is None or METHODS[name].is_net:
        path, label = find_weights(name, weights, None if device == "cpu" else ".safetensors")
        return _with_weights(name, path, label, device)
    if weights is not None:
        raise BadWeights(f"{name} is a formula and takes no weights ({str(weights)!r}). Leave them or the method out.")
    return METHODS[name]


def find_weights(name: str | None, weights: str | Path | None, suffix: str | None = None) -> tuple[Path, str]:
    """Return the file of weights and what results call it.

    Parameters
    ----------
    name
        The net whose shipped weights are wanted where ``weights`` is None.
    weights
        Name of shipped weights, or a file. Whether that is there, and sound, is not looked at.
    suffix
        As in ``shipped_weights``: .safetensors to train on or to export.

    Raises
    ------
    UnknownName
        No shipped weights of that name.
    BadWeights
        None are shipped, or none of that net.
    """
    shipped = shipped_weights(suffix)
    kinds = f"a {suffix}" if suffix else "an .onnx or .safetensors"
    if weights is None:
        assert name is not None
        if name not in shipped:
            known = ", ".join(shipped) or "none"
            raise BadWeights(
                f"This installation has no weights of {name} (it has: {known}). Give {kinds} file of them."
            )
        return shipped[name], name
    path = Path(weights)
    if isinstance(weights, str) and weights in shipped:
        return shipped[weights], weights
    if isinstance(weights, Path) or path.suffix or path.name != weights or path.exists():
        return path, str(weights)
    if not shipped:
        raise BadWeights(f"Unknown weights {weights!r}: this installation has none. Give {kinds} file.")
    raise UnknownName("weights", weights, shipped)


def _with_weights(name: str | None, path: Path, label: str, device: str) -> Method:
    """Return the method of the net whose weights are in ``path``."""
    header = read_header(path)
    net = str(header["net"])
    if name is not None and net != name:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, not of {name}. Choose method {net}, or other weights.")
    if net not in METHODS:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, which is no method. Methods: {', '.join(METHODS)}.")
    crop = trained_crop(path, header)
    loaded = _load_net(path, device)
    stream = partial(NetStream, loaded)
    if loaded.gives == "rate":
        no_wave = partial(_no_wave, f"{net} gives a rate and no wave; call the method itself, or its rate.")
        return replace(METHODS[net], wave=no_wave, rate=rate_function(loaded), stream=stream, crop=crop, weights=label)
    fitted_on = {(WEIGHTS_DIR / f"{DEFAULT_METHOD}{kind}").resolve() for kind in (".onnx", ".safetensors")}
    wave, trusted = wave_function(loaded), path.resolve() in fitted_on
    return replace(METHODS[net], wave=wave, stream=stream, crop=crop, weights=label, trusted=trusted)


def _load_net(path: Path, device: str) -> Net:
    if path.suffix.lower() == ".onnx":
        if device != "cpu":
            raise BadWeights(
                f"{str(path)!r} runs on the cpu alone. For {device}, give the .safetensors file beside it."
            )
        return load_onnx(path)
    try:
        # The laboratory's one lazy door: most users have no torch and need none.
        from autohr.lab.nets._inference import load_torch
    except ModuleNotFoundError as missing:
        if missing.name not in ("torch", "safetensors"):
            raise
        instead = "or give the .onnx file of these weights" if device == "cpu" else "or choose --device cpu"
        raise AutoHRError(
            f"{str(path)!r} on {device} needs {missing.name}: pip install 'autohr[lab]', {instead}."
        ) from None
    return _TorchNet(**vars(load_torch(path, device)), path=path.absolute(), device=device)


@dataclass(frozen=True)
class _TorchNet(Net):
    """A network that runs in torch. Another process that it is sent to reads its file again."""

    path: Path
    device: str

    def __reduce__(self) -> tuple[Callable[[Path, str], Net], tuple[Path, str]]:
        """Return what a pickle holds."""
        return _load_net, (self.path, self.device)
