"""A trained net in the form that answers fastest: equal in output, no longer trainable."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from autohr.errors import AutoHRError
from autohr.lab.nets import NETS
from autohr.lab.nets._checkpoint import load_net
from autohr.lab.nets._tdc import TemporalDifferenceConv3d
from autohr.runtime import DEVICES, Net
from autohr.types import Float


def load_torch(path: Path, device: str = "cpu") -> Net:
    """Load the network of a .safetensors file in torch, on "cpu", "cuda" or "mps".

    Raises
    ------
    BadWeights
        As ``load_net``.
    AutoHRError
        The machine has no such device.
    ValueError
        No device of that name is known.
    """
    check_device(device)
    net, header = load_net(path)
    gives = NETS[header["net"]].kind
    folded = fold(net)
    if device == "mps":
        # Its convolutions over time do not know the layout that the others like best.
        folded = folded.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    folded.to(device)

    def run(clips: NDArray[np.float32], fps: float) -> Float:
        with torch.inference_mode():
            given = [torch.from_numpy(np.ascontiguousarray(clips)).to(device)]
            if gives == "rate":
                given.append(torch.full((len(clips),), fps, device=device))
            out = folded(*given).cpu()
        return np.asarray(out.numpy(), dtype=np.float64)

    return Net(header, gives, run)


def check_device(device: str) -> None:
    """Raise AutoHRError where the machine has no ``device``, ValueError for one that is not in ``DEVICES``."""
    if device not in DEVICES:
        raise ValueError(f"device={device!r} is not one of {', '.join(DEVICES)}.")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[device]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise AutoHRError(f"Device {device!r} is not there: torch finds {found} on this machine. Choose one of these.")


def fold(net: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a copy of ``net`` for inference: clip in, wave out, as before; the net itself is left as it is.

    Every TDC becomes the plain convolution it equals; every batch norm goes into the convolution before it (both must
    stand side by side in an ``nn.Sequential``, whose order is the order of work; others are kept and still right);
    weights are ``channels_last_3d``, the layout that oneDNN and cuDNN want. In float32 the output is equal to 1e-4 of
    its size; ``dtype`` bfloat16 is for machines that multiply it natively, and must be checked on the trained net.
    """
    folded = copy.deepcopy(net).eval()
    _fold_children(folded)
    for parameter in folded.parameters():
        parameter.requires_grad_(False)
    # Two steps, as ``Module.to`` with a layout and a type at once is not typed.
    return as_channels_last(folded.to(dtype))


def as_channels_last(net: nn.Module) -> nn.Module:
    """Lay the kernels of ``net`` out as convolutions want them, and return it.

    ``channels_last_3d`` for 3D convolutions, ``channels_last`` for 2D ones; ``Module.to`` knows one at a time.
    """
    formats = {5: torch.channels_last_3d, 4: torch.channels_last}
    for values in (*net.parameters(), *net.buffers()):
        if values.ndim in formats:
            values.data = values.data.contiguous(memory_format=formats[values.ndim])
    return net


def _fold_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, TemporalDifferenceConv3d):
            setattr(module, name, child.as_conv3d().eval())
        else:
            _fold_children(child)
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if not isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
                continue
            if isinstance(conv, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)):
                module[index] = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose3d))
                module[index + 1] = nn.Identity()


def count_work(path: Path, n_frames: int, size_px: int) -> tuple[int, int]:
    """Return the trainable parameters of a weights file's network, and the operations of one pass.

    The pass is over ``n_frames`` of ``size_px`` squares. Two operations to a multiplication with addition, of
    convolutions and matrix products alone, as the network was trained.

    Raises
    ------
    BadWeights
        As ``load_net``.
    """
    net, header = load_net(path)
    net.eval()
    clip = torch.zeros(1, 3, n_frames, size_px, size_px)
    more = (torch.full((1,), 30.0),) if NETS[header["net"]].kind == "rate" else ()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(clip, *more)
    return sum(one.numel() for one in net.parameters() if one.requires_grad), counter.get_total_flops()
