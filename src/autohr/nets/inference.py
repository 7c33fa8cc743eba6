"""A trained net in the form that answers fastest: equal in output, no longer trainable."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autohr.nets.tdc import TemporalDifferenceConv3d


def fold(net: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of ``net`` for inference: clip in, wave out, as before; the net itself is left as it is.

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
    folded = folded.to(dtype)
    return folded.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def _fold_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, TemporalDifferenceConv3d):
            setattr(module, name, child.as_conv3d().eval())
        else:
            _fold_children(child)
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if isinstance(norm, nn.BatchNorm3d) and isinstance(conv, (nn.Conv3d, nn.ConvTranspose3d)):
                module[index] = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose3d))
                module[index + 1] = nn.Identity()
