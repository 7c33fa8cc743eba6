"""A trained net as one ONNX file, for programs without torch. It gets its name only once it gives what torch gives.

    input      clip (B, 3, T, H, W) float32 in [0, 1], RGB; of a net of rates also fps (B,) float32
    output     bvp (B, T), or of a net of rates hr_bpm (B,)
    metadata["autohr"]   JSON text (``weights.header``): the header of the weights, what goes in and what comes out

Every size but the 3 is free: T from 4 up, H and W from 16 up. The net is the folded one of ``_inference.py``, its 3D
layers written as 2D ones (``_frames.py``).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript  # noqa: F401  (torch's exporter is built on it; without it, it should be missing here and now)
import torch
from torch import Tensor, nn

from autohr import __version__
from autohr.errors import AutoHRError, BadWeights, in_short
from autohr.files import replacing
from autohr.frontend import Crop
from autohr.lab.nets import NETS
from autohr.lab.nets._checkpoint import load_net
from autohr.lab.nets._frames import in_frames
from autohr.lab.nets._inference import fold
from autohr.lab.nets._inputs import LEAST_FRAMES, LEAST_PX
from autohr.lab.nets._rates import SPREAD_BPM
from autohr.runtime import load_onnx, trained_crop
from autohr.weights.header import MAX_ONNX_BYTES, ONNX_SCHEMA, sign_onnx

TOLERANCE = 1e-3
"""Largest difference to torch, in ``UNITS``: a thousandth of the wave, or 0.02 bpm. Found: 1e-6 to 1e-5; of DeepPhys
that has learned nothing, which adds up steps that are all alike, up to 8e-4; trained, 3e-5. (onnxruntime's tanh is off
by 2e-7, torch's by 3e-8.)"""
HALF_TOLERANCE = 1e-2
"""The same for parameters that are stored as float16, which rounds each by up to a two-thousandth. Chosen by us: a
hundredth of the wave, or 0.2 bpm."""
HALF_FROM = 256
"""Numbers that a parameter has at least to be stored as float16: the smaller ones are biases, and save nothing."""
UNITS = {"wave": "the wave's standard deviation", "rate": f"{SPREAD_BPM:g} bpm"}
STEADY_SHARE = 1e-3
"""Least standard deviation that a wave counts as having, as a share of its largest value: a flat line agrees too."""

CHECKED_PIXELS = 5_000_000
"""Most pixels of a clip on which the file is checked, 300 frames of 128x128: seconds, and some GB at most."""
USUAL_FRAMES = 160
"""Frames of the longer of these clips for weights that do not say how many they were trained on."""

TRACED_SHAPE = (2, 3, 182, 66, 70)
"""The net is traced on it without being computed. Every size is another, and none is one of the check."""


@dataclass(frozen=True)
class Exported:
    """One file that was written, and how well it agrees with torch."""

    path: Path
    n_bytes: int
    inputs: Mapping[str, str]
    """Name -> shape and meaning, in words."""
    outputs: Mapping[str, str]
    difference: float
    """Largest one to torch that was found, in ``unit``, as ``TOLERANCE`` is."""
    unit: str
    clips: tuple[tuple[int, int], ...]
    """(B, T) of the clips on which they were compared."""
    header: Mapping[str, Any]
    """Header of the weights."""


def export_onnx(weights: Path, out: Path, half: bool = False) -> Exported:
    """Write the net of a weights file as ONNX, all in one file, checked, whole or not at all.

    A file of that name is replaced. The check runs both on noise, at two lengths and two numbers of clips. With
    ``half`` large parameters are stored as float16, and computed with as float32.

    Raises
    ------
    BadWeights
        As ``load_net`` and ``trained_crop``.
    AutoHRError
        ``out`` does not end in .onnx, or cannot be written; the network is too big for one file; torch cannot translate
        it; or onnxruntime computes something else from the file than torch from the network.
    """
    _check_target(out)
    net, header = load_net(weights)
    crop = trained_crop(weights, header)
    spec = NETS[header["net"]]
    n_bytes = sum(values.numel() * values.element_size() for values in net.state_dict().values())
    if n_bytes > 0.95 * MAX_ONNX_BYTES:
        raise AutoHRError(
            f"{str(weights)!r} has {n_bytes / 1e6:.0f} MB of parameters; an ONNX file that autohr runs has at most "
            f"{MAX_ONNX_BYTES / 1e6:.0f} MB. Choose a smaller net."
        )
    try:
        with _quiet():
            model = _translate(net, spec.kind)
    except RuntimeError as error:
        raise AutoHRError(
            f"torch {torch.__version__} cannot translate {spec.title} into ONNX "
            f"({in_short(error)}). Choose another net, or the versions that autohr pins."
        ) from error

    tolerance = TOLERANCE
    if half:
        _halve(model)
        tolerance = HALF_TOLERANCE
    clips, unit = _clips(header, crop.size_px), UNITS[spec.kind]
    about = _describe(header, spec.kind, crop)
    with replacing(out) as part:
        # The file that is checked is the one that is kept: what is added after the check is a few words of metadata.
        _save(model, about, part)
        difference = _difference(part, net, spec.kind, clips, crop.size_px)
        if not difference <= tolerance:
            raise AutoHRError(
                f"{str(weights)!r} was not exported: onnxruntime {onnxruntime.__version__} differs from torch by "
                f"{difference:.1e} of {unit}, and {tolerance:g} is allowed. Use the versions that autohr pins."
            )
        about["checked"] = {
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__,
            "largest_difference": difference,
            "tolerance": tolerance,
            "unit": unit,
            "clips": [f"{n_clips} of {n_frames} frames" for n_clips, n_frames in clips],
        }
        _save(model, about, part)
        written = part.stat().st_size
    named = {put: {name: field["is"] for name, field in about[put].items()} for put in ("inputs", "outputs")}
    return Exported(out, written, named["inputs"], named["outputs"], difference, unit, clips, header)


def export_beside(weights: Path, half: bool = False) -> Exported:
    """Write NAME.onnx beside NAME.safetensors, as the end of a training does; otherwise as ``export_onnx``."""
    return export_onnx(weights, weights.with_suffix(".onnx"), half)


def _check_target(out: Path) -> None:
    """Raise AutoHRError for a file that cannot be written, before the work."""
    if out.suffix.lower() != ".onnx":
        raise AutoHRError(f"{str(out)!r} does not end in .onnx. Name the file so, as in autohr.onnx.")
    if not out.parent.is_dir():
        raise AutoHRError(f"Cannot write {str(out)!r}: there is no folder {str(out.parent)!r}. Make it first.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise AutoHRError(f"Cannot write {str(out)!r}. Name a file in a folder that you may write to.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter, whose warnings are of its own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _translate(net: nn.Module, kind: str) -> onnx.ModelProto:
    folded = fold(net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    _replace_grus(folded)
    batch = torch.export.Dim("B", min=1)
    sizes = {2: ("T", LEAST_FRAMES), 3: ("H", LEAST_PX), 4: ("W", LEAST_PX)}
    free = {0: batch, **{axis: torch.export.Dim(name, min=least) for axis, (name, least) in sizes.items()}}
    arguments: tuple[Tensor, ...] = (torch.empty(TRACED_SHAPE),)
    shapes: tuple[dict[int, Any], ...] = (free,)
    if kind == "rate":
        arguments, shapes = (*arguments, torch.empty(TRACED_SHAPE[0])), (*shapes, {0: batch})
    # Sizes of 1 somewhere inside are as good as others; and what must hold of sizes is held by the net's own limits.
    with torch.fx.experimental._config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(
            folded, arguments, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        ).run_decompositions(_OTHERWISE)
        written = torch.onnx.export(
            program,
            arguments,
            input_names=["clip", "fps"][: len(arguments)],
            output_names=["bvp" if kind == "wave" else "hr_bpm"],
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert written is not None
    model = in_frames(written.model_proto)
    # Where in which file of this machine a node comes from is nobody's business.
    graph = model.graph
    for holder in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del holder.metadata_props[:]
        holder.ClearField("doc_string")
    # Of the wave it knows only that its length is some expression of T; it is T.
    for dim, name in zip(graph.output[0].type.tensor_type.shape.dim, ("B", "T"), strict=False):
        dim.dim_param = name
    model.producer_name, model.producer_version, model.doc_string = "autohr", __version__, ""
    return model


def _mean_of_areas(x: Tensor, size: list[int]) -> Tensor:
    """Return ``F.adaptive_avg_pool3d``, which ONNX does not have: (B, C, T, H, W) -> (B, C, T, size[1], size[2])."""
    return _areas(x.shape[3], size[1]) @ x @ _areas(x.shape[4], size[2]).T


def _areas(n_pixels: int, n_areas: int) -> Tensor:
    """Return (n_areas, n_pixels): each pixel's share in each area. Areas overlap where they are uneven."""
    area, pixel = torch.arange(n_areas)[:, None], torch.arange(n_pixels)
    first, last = area * n_pixels // n_areas, ((area + 1) * n_pixels + n_areas - 1) // n_areas
    return ((pixel >= first) & (pixel < last)).float() / (last - first)


def _mean(x: Tensor, axes: list[int], keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return ``Tensor.mean``, taken one axis after the other.

    onnxruntime adds up all numbers of a clip in a row, in float32, and was off by 6e-4 of the shipped network's wave
    where torch is off by 3e-6.
    """
    # The last axis first, whose numbers stand side by side in memory: 5.1 ms against 1.4 for 300 frames of 64x64.
    for axis in sorted(axes, reverse=True):
        x = x.sum(axis, keepdim=True, dtype=dtype) / x.shape[axis]
    return x if keepdim else x.squeeze(axes)


def _var(x: Tensor, axes: list[int], unbiased: bool = True, keepdim: bool = False) -> Tensor:
    """Return ``Tensor.var``, computed by ``_mean`` for the same reason."""
    n_values = math.prod(x.shape[axis] for axis in axes)
    away = x - _mean(x, axes, True)
    return _mean(away * away, axes, keepdim) * (n_values / (n_values - unbiased))


_OTHERWISE: dict[torch._ops.OperatorBase, Callable[..., Tensor]] = {
    torch.ops.aten.adaptive_avg_pool3d.default: _mean_of_areas,
    torch.ops.aten._adaptive_avg_pool3d.default: _mean_of_areas,
    torch.ops.aten.mean.dim: _mean,
    torch.ops.aten.var.dim: _var,
}
"""Operations that have no ONNX, or one that is not exact, and what is written in their place."""


class _GRU(nn.Module):
    """ONNX's own GRU in place of torch's, whose translation unrolls it over a fixed number of steps.

    x (B, N, F) -> states (B, N, hidden), and None for the last one, which is asked for nowhere.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        if gru.num_layers > 1 or gru.bidirectional or not gru.batch_first or not gru.bias:
            raise RuntimeError(f"{gru} is not of one layer with bias, one direction, and the batch first")
        self.hidden = gru.hidden_size
        of = {name: self._in_order(values) for name, values in gru.named_parameters()}
        self.register_buffer("inward", of["weight_ih_l0"][None])
        self.register_buffer("onward", of["weight_hh_l0"][None])
        self.register_buffer("bias", torch.cat([of["bias_ih_l0"], of["bias_hh_l0"]])[None])

    @staticmethod
    def _in_order(values: Tensor) -> Tensor:
        """Return torch's gates reset, update, new as ONNX has them: update, reset, new."""
        reset, update, new = values.detach().chunk(3)
        return torch.cat([update, reset, new])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        B, N = x.shape[:2]
        states = torch.onnx.ops.symbolic(
            "GRU",
            (x.transpose(0, 1), self.inward, self.onward, self.bias),  # type: ignore[arg-type]
            # Torch applies the reset gate after the product with the state.
            attrs={"hidden_size": self.hidden, "linear_before_reset": 1},
            dtype=x.dtype,
            shape=(N, 1, B, self.hidden),
        )
        return states[:, 0].transpose(0, 1), None


def _replace_grus(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.GRU):
            setattr(module, name, _GRU(child))
        else:
            _replace_grus(child)


def _halve(model: onnx.ModelProto) -> None:
    """Store large parameters as float16; the runtime makes them float32 once, when it loads the file."""
    casts = []
    for stored in model.graph.initializer:
        values = onnx.numpy_helper.to_array(stored)
        if values.dtype == np.float32 and values.size >= HALF_FROM:
            name, half_name = stored.name, f"{stored.name}.half"
            stored.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half_name))
            casts.append(onnx.helper.make_node("Cast", [half_name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _save(model: onnx.ModelProto, about: Mapping[str, Any], path: Path) -> None:
    del model.metadata_props[:]
    path.write_bytes(sign_onnx(model.SerializeToString(deterministic=True), about))


def _clips(header: Mapping[str, Any], size_px: int) -> tuple[tuple[int, int], ...]:
    """Return (B, T) of the clips of the check: at most as long as those of the training, and a third of it."""
    trained = header["input"].get("n_frames")
    n_frames = trained if isinstance(trained, int) and trained >= LEAST_FRAMES else USUAL_FRAMES
    n_frames = max(LEAST_FRAMES, min(n_frames, CHECKED_PIXELS // size_px**2))
    # An odd number, which no net halves evenly.
    return ((1, n_frames), (2, max(LEAST_FRAMES, n_frames // 3) | 1))


def _difference(path: Path, net: nn.Module, kind: str, clips: tuple[tuple[int, int], ...], size_px: int) -> float:
    """Return the largest difference between ``path`` in onnxruntime and the network in torch as it was trained.

    Both on the processor, in the unit of ``TOLERANCE``; infinite where a number is not finite.
    """
    try:
        written = load_onnx(path)
    except BadWeights as error:
        raise AutoHRError(
            f"onnxruntime {onnxruntime.__version__} cannot read what torch {torch.__version__} wrote "
            f"({in_short(error)}). Use the versions that autohr pins."
        ) from error
    largest = 0.0
    for n_clips, n_frames in clips:
        noise = np.random.default_rng(n_frames)
        clip = noise.normal(0.5, 0.1, (n_clips, 3, n_frames, size_px, size_px)).clip(0, 1).astype(np.float32)
        fps = 27.0
        given = (torch.from_numpy(clip), torch.full((n_clips,), fps))
        with torch.inference_mode():
            exact = net(*given[: 1 if kind == "wave" else 2]).numpy().astype(np.float64)
        found = written.run(clip, fps)
        if not np.isfinite(found).all():
            return float("inf")
        spread = np.full(n_clips, SPREAD_BPM)
        if kind == "wave":
            spread = np.maximum(exact.std(1), STEADY_SHARE * np.abs(exact).max(1))
        largest = max(largest, float((np.abs(found - exact).reshape(n_clips, -1).max(1) / spread.clip(1e-12)).max()))
    return largest


def _describe(header: Mapping[str, Any], kind: str, crop: Crop) -> dict[str, Any]:
    """Return all that another program needs to use the network, as plain JSON."""
    stored_px, size_px, box, margin = crop.stored_px, crop.size_px, crop.box, crop.margin
    crop_input, data = header["input"], header["training_data"]
    ends = [data.get(end) if isinstance(data, dict) else None for end in ("fps_from", "fps_to")]
    fps_from, fps_to = (end if isinstance(end, (int, float)) else None for end in ends)
    pace = " to ".join(f"{end:g}" for end in (fps_from, fps_to) if end is not None) or "an unsaid number of"
    find = {
        "tracked": "Find the face in every frame (MTCNN's box) and make its place and size smooth in time. "
        f"Add {margin:g} of the box's width and height on each side; beyond the frame its edge is repeated.",
        "first": "Find the face in the first frame that shows one (MTCNN's box) and keep that box. "
        f"Add {margin:g} of its width and height on each side, and cut the box off at the frame's border.",
    }[box]
    inputs: dict[str, Any] = {
        "clip": {
            "is": "(B, 3, T, H, W) float32, RGB in [0, 1]: B clips of T face crops",
            "axes": ["B", 3, "T", "H", "W"],
            "type": "float32",
            "range": [0, 1],
            "colour": "RGB",
            "size_px": size_px,
            "crop_size_px": stored_px,
            "box": box,
            "margin": margin,
            "least": {"T": LEAST_FRAMES, "H": LEAST_PX, "W": LEAST_PX},
            "trained": {"T": crop_input.get("n_frames"), "H": size_px, "W": size_px},
            "fps": {"from": fps_from, "to": fps_to, "only": header["fps"]},
            "steps": [
                find,
                f"Bring the box to {stored_px}x{stored_px} pixels, 8-bit RGB: by the mean over areas where it shrinks, "
                "else linearly; round to whole numbers 0 to 255.",
                f"Bring that to {size_px}x{size_px} in the same way, and round again.",
                "Divide by 255, and by nothing else: means, differences and other changes are the net's own layers.",
                "The order of the axes is colour, time, height, width. Frames are evenly spaced in time; those that "
                "are missing, or show no face, are filled in linearly.",
                f"It was trained on videos of {pace} frames per second: of faster ones leave frames out, "
                "between those of slower ones put others, faded over.",
            ],
        }
    }
    if kind == "rate":
        inputs["fps"] = {
            "is": "(B,) float32: frames per second of each clip, as it is fed",
            "axes": ["B"],
            "type": "float32",
        }
        outputs = {
            "hr_bpm": {
                "is": "(B,) float32: heart rate of each clip, beats per minute",
                "axes": ["B"],
                "type": "float32",
                "unit": "beats per minute",
                "notes": "Cut what is longer than the training's clips into pieces of that length, and take the mean. "
                "Such a net says a rate of a wall as readily as of a face: support it by another method.",
            }
        }
    else:
        outputs = {
            "bvp": {
                "is": "(B, T) float32: pulse wave of each clip, a number for each frame",
                "axes": ["B", "T"],
                "type": "float32",
                "unit": "none: its size and mean say nothing; it is highest where the skin holds most blood",
                "notes": "Keep of it what lies within 40 to 180 beats per minute, and take the rate of its spectrum's "
                "highest peak over 8 s or more. Anything gives a wave, a wall too: whether to believe it is for the "
                "caller to find out.",
            }
        }
    return {
        "schema": ONNX_SCHEMA,
        "made_by": f"autohr {__version__}",
        "notice": "Not a medical device: do not base a diagnosis or a treatment on it.",
        "licence": header["licence"],
        "weights": dict(header),
        "inputs": inputs,
        "outputs": outputs,
    }
