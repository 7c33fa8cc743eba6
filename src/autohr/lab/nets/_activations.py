"""Activation maps: a network's activations after the first and the third block, as AutoHR's Fig. 6(a) shows them.

The paper says "after the first 'Block'" (low level) and "after the third 'Block'" (high level), for AutoHR and for
PhysNet, which has no blocks of that name. Ours: the layers between two pools of PhysNet are a block, so that both nets
are seen at the same size of picture, 1/2 and 1/8 of the clip's side. How the paper turns the channels into one picture
it does not say. Ours: the mean of their absolute values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autohr.errors import UnknownName
from autohr.lab.nets._checkpoint import load_net
from autohr.lab.nets._inference import check_device

LEVELS = ("low", "high")
"""After the first block, and after the third."""

Maps = dict[str, NDArray[np.float32]]
"""level -> (T, h, w), one map for each frame of the clip; h and w are those of the layer."""


def _of_autohr(net: nn.Module) -> dict[str, nn.Module]:
    blocks: nn.ModuleList = net.blocks  # type: ignore[assignment]
    return {"low": blocks[0][-1], "high": blocks[2][-1]}  # type: ignore[index]


def _of_physnet(net: nn.Module) -> dict[str, nn.Module]:
    encoder: nn.Sequential = net.encoder  # type: ignore[assignment]
    pools = [place for place, layer in enumerate(encoder) if isinstance(layer, nn.MaxPool3d)]
    # The first pool follows the stem; a block ends before the pool after it.
    return {"low": encoder[pools[1] - 1], "high": encoder[pools[3] - 1]}


WATCHED: dict[str, Callable[[nn.Module], dict[str, nn.Module]]] = {"autohr": _of_autohr, "physnet": _of_physnet}
"""Net -> its layers whose output is shown, by level."""


def load_activations(path: Path, device: str = "cpu") -> Callable[[NDArray[np.float32]], Maps]:
    """Return the network of a weights file as a function: clip (1, 3, T, H, W) in [0, 1] -> activation maps.

    Raises
    ------
    BadWeights
        As ``load_net``.
    UnknownName
        A network that is not in ``WATCHED``.
    AutoHRError
        The machine has no such device.
    """
    check_device(device)
    net, header = load_net(path)
    name = str(header["net"])
    if name not in WATCHED:
        raise UnknownName("net with activations", name, WATCHED)
    net = net.eval().to(device)

    def watch(clip: NDArray[np.float32]) -> Maps:
        return activation_maps(net, name, torch.from_numpy(clip).to(device))

    return watch


def activation_maps(net: nn.Module, name: str, clip: Tensor) -> Maps:
    """Return the maps of ``net``, which is ``NETS[name]``, over one clip (1, 3, T, H, W).

    Where pools have made time shorter, a moment of the layer is shown for each frame that it covers.
    """
    n_frames = clip.shape[2]
    strengths: dict[str, Tensor] = {}
    with torch.inference_mode(), _listening(WATCHED[name](net), strengths):
        net(clip)
    maps: Maps = {}
    for level, strength in strengths.items():  # (T', h, w)
        # T' is T, or T rounded up to a multiple of 4, over 1, 2 or 4.
        times = -(-n_frames // 4) * 4 // len(strength)
        shown = np.repeat(strength.cpu().numpy(), times, axis=0)[:n_frames]
        maps[level] = np.ascontiguousarray(shown, dtype=np.float32)
    return maps


@contextmanager
def _listening(layers: dict[str, nn.Module], strengths: dict[str, Tensor]) -> Iterator[None]:
    def keep(level: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_layer: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> None:
            strengths[level] = output[0].float().abs().mean(0)

        return hook

    handles = [layer.register_forward_hook(keep(level)) for level, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
