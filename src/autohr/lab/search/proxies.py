"""Proxies: numbers that cost next to nothing and might tell good cells from bad ones before any training.

Each is computed of the network of a row (``cells.py``) with its initial weights. Larger should be better, which a
table may or may not confirm.

    grad_norm   norm of the loss's gradient on one batch
    snip        sum of |weight * gradient| on one batch (Lee et al., ICLR 2019)
    synflow     sum of |weight| * gradient of the output, all weights positive, an input of ones (Tanaka et al., 2020)
    jacov       how little the input's gradients of different clips correlate (Mellor et al., 2021, first version)
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from autohr.lab.nets._genotype import Edge, Genotype
from autohr.lab.nets.autohr import AutoHR
from autohr.lab.search.cells import CellConfig, Clips, batch_of
from autohr.lab.train.losses import LossConfig, overall_loss

N_CLIPS = 8
"""Clips of the batch."""
JACOV_EPS = 1e-5
"""Mellor's k, which keeps the logarithm finite."""


def proxies(genotype: Genotype, clips: Clips, config: CellConfig, seed: int = 0) -> dict[str, float]:
    """Return name -> value of every proxy that needs no training."""
    torch.manual_seed(seed)
    net = AutoHR(config.net_config(genotype))
    x, bvp, hr_bpm, fps = batch_of(clips, np.arange(min(N_CLIPS, len(clips))))
    weights = list(net.parameters())

    loss = overall_loss(net(x), bvp, hr_bpm, fps, LossConfig(variant="nll")).total
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    known = [(weight.detach(), slope) for weight, slope in zip(weights, gradients, strict=True) if slope is not None]
    return {
        "grad_norm": float(torch.stack([slope.square().sum() for _, slope in known]).sum().sqrt()),
        "snip": float(torch.stack([(weight * slope).abs().sum() for weight, slope in known]).sum()),
        "synflow": synflow(genotype, config, x.shape, seed),
        "jacov": jacov(net, x),
    }


def synflow(genotype: Genotype, config: CellConfig, shape: torch.Size, seed: int = 0) -> float:
    """Return the logarithm of synflow for one clip of this shape (B, 3, T, H, W).

    With raw frames as input, for the differences of frames of ones are zero; with the batch norms left out; and with
    plain convolutions for temporal differences, whose kernels cannot be all positive.
    """
    torch.manual_seed(seed)
    cells = tuple(
        tuple(tuple(Edge(e.op, e.source, None if e.theta is None else 0.0) for e in node) for node in cell)
        for cell in genotype.cells
    )
    genotype = dataclasses.replace(genotype, cells=cells)
    net = AutoHR(dataclasses.replace(config.net_config(genotype), input="rgb")).double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_()
    total = net(torch.ones(1, *shape[1:], dtype=torch.float64)).sum()
    weights = list(net.parameters())
    gradients = torch.autograd.grad(total, weights, allow_unused=True)
    parts = [
        (weight.detach() * slope).sum() for weight, slope in zip(weights, gradients, strict=True) if slope is not None
    ]
    return float(torch.stack(parts).sum().clamp_min(1e-300).log())


def jacov(net: nn.Module, x: Tensor) -> float:
    """Return minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the input gradients' correlations."""
    x = x.clone().requires_grad_()
    slopes = torch.autograd.grad(net(x).square().sum(), x)[0].flatten(1).double().numpy()
    slopes = slopes[np.std(slopes, axis=1) > 0]
    if len(slopes) < 2:
        return float("-inf")
    values = np.linalg.eigvalsh(np.corrcoef(slopes)).clip(0) + JACOV_EPS
    return float(-np.sum(np.log(values) + 1 / values))
