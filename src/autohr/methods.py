"""What is a method: one visible table, and one way from a face clip to an ``Estimate`` for all of them.

A method turns a ``FaceClip`` into a pulse wave. Rate, signal-to-noise ratio and confidence are then made of that wave
by the same code for every method, so that GREEN and a network are judged alike. A net that gives a rate and no wave has
nothing to be judged by but another method's wave (``estimate_from_rate``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autohr.classic import CLASSIC
from autohr.classic.li2014 import li2014
from autohr.classic.ssr import ssr
from autohr.classic.tulyakov2016 import samc
from autohr.confidence.evidence import mvdr_wave, window_colours
from autohr.confidence.verdict import estimate, estimate_from_rate
from autohr.errors import BadWeights, UnknownName
from autohr.frontend import FORMULA_CROP, Crop
from autohr.runtime import rate_function, wave_function
from autohr.types import Estimate, FaceClip, Float, Pulse
from autohr.video.regions import GRID


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
        parts = window_colours(clip).grid
        return Pulse(function(parts if len(parts) else clip.rgb, clip.fps), clip.fps, clip.start_s)

    return wave


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
        mvdr_wave,
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
    from autohr.lab.nets import NETS
    from autohr.lab.nets._checkpoint import read_header, trained_crop
    from autohr.lab.nets._inference import load_inference, load_rate_inference

    header = read_header(path)
    net = str(header["net"])
    if name is not None and net != name:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, not of {name}. Choose method {net}, or other weights.")
    if net not in METHODS:
        raise BadWeights(f"{str(path)!r} holds weights of {net}, which is no method. Methods: {', '.join(METHODS)}.")
    crop = Crop(*trained_crop(path, header))
    if NETS[net].kind == "rate":
        rate = rate_function(load_rate_inference(path, device), header)
        return replace(METHODS[net], wave=_no_wave(net), rate=rate, crop=crop, weights=label)
    wave = wave_function(load_inference(path, device), header)
    shipped = path.resolve() in {one.resolve() for one in shipped_weights().values()}
    return replace(METHODS[net], wave=wave, crop=crop, weights=label, trusted=shipped)


def _no_wave(net: str) -> Callable[[FaceClip], Pulse]:
    def wave(clip: FaceClip) -> Pulse:
        raise ValueError(f"{net} gives a rate and no wave; call the method itself, or its rate.")

    return wave
