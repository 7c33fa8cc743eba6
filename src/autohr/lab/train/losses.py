"""The losses of AutoHR: L_overall = lambda * L_time + L_fre (paper, Eq. 3-5; lambda = 0.2).

pred, true (B, T) pulse waves; hr_bpm, fps (B,) one per clip, so a batch may mix frame rates.

Forms of L_fre:

``author``  as in the author's public code (PhysFormer ``TorchLossComputer``, from HR-CNN). The spectrum, already
            normalised to sum 1, is given to cross-entropy as if it were logits: a second softmax. So a uniform
            spectrum costs 4.942, a perfect one 3.954 and a wholly wrong one 4.954, and a sine of 160 frames only
            0.05 less than noise. The target is the truncated rate; the clip's mean is left in.
``nll``     the same idea with one normalisation: minus the log of the normalised spectrum, against a Gaussian label
            around the rate, on a clip without its mean. A flat spectrum costs log(140) = 4.94, too, an untrained
            net's noise 5 to 6, and a sine of 160 frames at the right rate about 2.9.
``snr``     minus the signal-to-noise ratio in dB: power within 0.1 Hz of the rate over that in the rest of the band, on
            a clip without its mean. HR-CNN's paper has it; its released script has what became ``author``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from pydantic import NonNegativeFloat
from pydantic.dataclasses import dataclass as checked
from torch import Tensor

from autohr.lab.recipes.parsing import STRICT

Variant = Literal["author", "nll", "snr"]

BAND_BPM = (40, 180)
"""Candidate rates 40, 41, ..., 179 bpm: 140 classes, as the author's code. The upper end is not a class."""

SNR_HALF_WIDTH_HZ = 0.1
"""Half width of the signal's band, for ``snr`` only. HR-CNN's paper does not state it exactly."""

EPS = 1e-8
"""Small number that keeps the losses of a constant prediction finite; the author's code gives NaN there."""


@checked(frozen=True, config=STRICT)
class LossConfig:
    """Weights and form of the loss."""

    variant: Variant = "author"
    """Form of the frequency loss."""
    time_weight: NonNegativeFloat = 0.2
    """lambda of the paper (Appendix B)."""
    frequency_weight: NonNegativeFloat = 1.0
    """Weight of the frequency loss, 1 in the paper; 0 with ``time_weight`` 1 is its ablation "time loss only"."""
    sd_bpm: NonNegativeFloat = 3.0
    """Width of the label in bpm, for ``nll`` only; 0 puts it all on the nearest class. 3 as in RhythmFormer: a label is
    a mean over the clip of readings that are themselves good to a few bpm."""
    doubt: NonNegativeFloat = 0.0
    """Strength, for ``nll`` only, with which a clip that the net cannot read counts less: both its losses are weighted
    by exp(-doubt * (L_fre - ``READ_NLL``)), at most 1. 0 is off. Chosen by us: some videos, and some that ``synth``
    makes, hold nothing of the pulse and teach noise. For a net that reads nothing yet it only makes steps smaller."""

    def __post_init__(self) -> None:
        if self.time_weight + self.frequency_weight == 0:
            raise ValueError("time_weight and frequency_weight must not both be 0.")
        if self.doubt and self.variant != "nll":
            raise ValueError(f"doubt={self.doubt:g} belongs to variant 'nll'.")


READ_NLL = 2.54
"""L_fre (nll, sd 3 bpm) of a sine of 300 frames at 30 per second; of 160 frames it is 2.9, of noise about 5.4."""


@dataclass(frozen=True)
class Losses:
    """Loss and its parts, each a scalar tensor."""

    total: Tensor
    time: Tensor
    frequency: Tensor


def time_loss(pred: Tensor, true: Tensor) -> Tensor:
    """Return 1 - Pearson correlation, mean over the batch: 0 the same shape, 1 unrelated, 2 upside down (Eq. 3).

    A constant prediction counts as unrelated, with a finite gradient.
    """
    return _time_losses(pred, true).mean()


def _time_losses(pred: Tensor, true: Tensor) -> Tensor:
    """Return ``time_loss`` of each clip, (B,)."""
    if pred.shape != true.shape or pred.ndim != 2:
        raise ValueError(f"pred {tuple(pred.shape)} and true {tuple(true.shape)} must both be (B, T).")
    pred = pred - pred.mean(dim=1, keepdim=True)
    true = true - true.mean(dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(pred, dim=1) * torch.linalg.vector_norm(true, dim=1)
    pearson_r: Tensor = (pred * true).sum(dim=1) / (lengths + EPS)
    return 1 - pearson_r


def rate_spectrum(pred: Tensor, fps: Tensor, band_bpm: tuple[int, int] = BAND_BPM) -> Tensor:
    """Return the share of power at each whole rate of the band: pred (B, T) -> (B, K), rows sum to 1.

    The clip is Hann-windowed. Sums of sines and cosines at exactly 40, 41, ... bpm on the clip's own clock, not an FFT:
    no rate is rounded to a grid. A clip without any power gives a row of zeros.
    """
    n_frames = pred.shape[1]
    bpm = torch.arange(*band_bpm, device=pred.device, dtype=pred.dtype)
    # Symmetric, as the author's np.hanning.
    window = torch.hann_window(n_frames, periodic=False, device=pred.device, dtype=pred.dtype)
    frame = torch.arange(n_frames, device=pred.device, dtype=pred.dtype)
    angle = 2 * torch.pi * (bpm / 60)[None, :, None] / fps[:, None, None] * frame
    wave = (pred * window)[:, :, None]
    power = (torch.sin(angle) @ wave).squeeze(2) ** 2 + (torch.cos(angle) @ wave).squeeze(2) ** 2
    return power / power.sum(dim=1, keepdim=True).clamp_min(torch.finfo(pred.dtype).tiny)


def frequency_loss(
    pred: Tensor,
    hr_bpm: Tensor,
    fps: Tensor,
    variant: Variant = "author",
    *,
    sd_bpm: float = LossConfig.sd_bpm,
    band_bpm: tuple[int, int] = BAND_BPM,
) -> Tensor:
    """Return L_fre (Eq. 4) of pred (B, T) against hr_bpm (B,), fps (B,), mean over the batch.

    The forms are described at the top of this file. A rate outside the band counts as the band's nearest class (the
    author's code stops there instead): rates under 40 as 40, from 180 upwards as 179.
    """
    return _frequency_losses(pred, hr_bpm, fps, variant, sd_bpm, band_bpm).mean()


def _frequency_losses(
    pred: Tensor, hr_bpm: Tensor, fps: Tensor, variant: Variant, sd_bpm: float, band_bpm: tuple[int, int] = BAND_BPM
) -> Tensor:
    """Return ``frequency_loss`` of each clip, (B,)."""
    if pred.ndim != 2 or hr_bpm.shape != pred.shape[:1] or fps.shape != pred.shape[:1]:
        raise ValueError(
            f"pred {tuple(pred.shape)} must be (B, T), hr_bpm {tuple(hr_bpm.shape)} and fps {tuple(fps.shape)} (B,)."
        )
    low, high = band_bpm
    hr_bpm, fps = hr_bpm.to(pred), fps.to(pred)
    if variant == "author":
        share = rate_spectrum(pred, fps, band_bpm)
        target = (hr_bpm - low).long().clamp(0, high - low - 1)
        return torch.nn.functional.cross_entropy(share, target, reduction="none")
    if variant == "nll":
        share = rate_spectrum(pred - pred.mean(dim=1, keepdim=True), fps, band_bpm)
        hr_bpm = hr_bpm.clamp(low, high - 1)
        bpm = torch.arange(low, high, device=pred.device, dtype=pred.dtype)
        if sd_bpm == 0:
            label = torch.nn.functional.one_hot((hr_bpm - low).round().long(), high - low).to(pred)
        else:
            label = torch.softmax(-0.5 * ((bpm[None, :] - hr_bpm[:, None]) / sd_bpm) ** 2, dim=1)
        return -(label * torch.log(share + EPS)).sum(dim=1)
    if variant == "snr":
        share = rate_spectrum(pred - pred.mean(dim=1, keepdim=True), fps, band_bpm)
        bpm = torch.arange(low, high, device=pred.device, dtype=pred.dtype)
        near = (bpm[None, :] - hr_bpm.clamp(low, high - 1)[:, None]).abs() <= 60 * SNR_HALF_WIDTH_HZ
        signal = (share * near).sum(dim=1)
        return -10 * torch.log10((signal + EPS) / ((share * ~near).sum(dim=1) + EPS))
    raise ValueError(f"variant={variant!r} must be one of {', '.join(map(repr, get_args(Variant)))}.")


def overall_loss(pred: Tensor, true: Tensor, hr_bpm: Tensor, fps: Tensor, config: LossConfig | None = None) -> Losses:
    """Return L_overall (Eq. 5) and its parts.

    In the ``author`` form the prediction is first brought to mean 0 and sd 1 over the whole batch, as the author's
    training script does: without it, a head's bias would leak into the slow rates. (Under several processes each does
    so over its own part of the batch.)
    """
    config = config or LossConfig()
    time = _time_losses(pred, true)
    if config.variant == "author":
        pred = (pred - pred.mean()) / (pred.std() + EPS)
    frequency = _frequency_losses(pred, hr_bpm, fps, config.variant, config.sd_bpm)
    if config.doubt:
        trust = torch.exp(-config.doubt * (frequency.detach() - READ_NLL)).clamp(max=1.0)
        time, frequency = trust * time, trust * frequency
    time, frequency = time.mean(), frequency.mean()
    # A part of weight 0 is left out, not multiplied: recordings without a wave have no time loss but NaN.
    weighted = [(config.time_weight, time), (config.frequency_weight, frequency)]
    return Losses(torch.stack([weight * part for weight, part in weighted if weight]).sum(), time, frequency)
