"""Learning from a batch: one step function for each way of learning, and the table of which net learns how.

The loop (``loop.py``) is the same for all. A step function calls the net for what its loss needs, and returns the loss
and its parts. The stage of a training is a function of the step alone, like everything that a step depends on, so that
a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from autohr.lab.datasets.repulse import skin_of
from autohr.lab.nets._rates import CLOCK_FPS, at_30_fps, at_paces, draw_paces
from autohr.lab.nets.synrhythm import synthetic_maps
from autohr.lab.train.losses import LossConfig, frequency_loss, overall_loss, time_loss


@dataclass(frozen=True)
class Batch:
    """Clips side by side, on the host."""

    frames: Tensor
    """(B, T, H, W, 3) uint8, RGB."""
    bvp: Tensor
    """(B, T) float32."""
    hr_bpm: Tensor
    """(B,) float32."""
    fps: Tensor
    """(B,) float32."""


@dataclass(frozen=True)
class Moment:
    """Position in a training: before step number ``step`` of 0 .. n_steps - 1; at ``n_steps`` it is over."""

    step: int
    n_steps: int

    @property
    def share(self) -> float:
        """Share of the steps that have been made."""
        return self.step / self.n_steps


@dataclass(frozen=True)
class Learned:
    """Result of a step function on a batch."""

    pred: Tensor
    """bvp (B, T) or, from a net of kind "rate", hr_bpm (B,)."""
    total: Tensor
    """Scalar that is minimised."""
    parts: Mapping[str, Tensor]
    """Parts of the total, for the log, under the names of ``Step.parts``."""


Forward = Callable[..., Any]
"""The net in the precision of the training; its results are float32."""


class Learn(Protocol):
    """A step function: the losses of a net on a batch at a moment of its training."""

    def __call__(self, net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
        """Return the losses."""


@dataclass(frozen=True)
class Step:
    """A way of learning."""

    learn: Learn
    kind: Literal["wave", "rate"]
    """Kind of the net, as in ``NETS``, which decides how its output is validated."""
    parts: tuple[str, ...]
    """Names of the parts of its loss, the two of the curves first."""
    needs_bvp: bool | None = None
    """True where recordings without a wave cannot be used; None: if the recipe's time loss has a weight."""
    own_loss: str | None = None
    """Description of a loss that replaces the recipe's [loss]; a recipe then has none."""
    rates: Callable[[Moment], Mapping[str, float]] | None = None
    """Function of the moment: beginning of parameters' names -> factor of their learning rate; 0 leaves them as they
    are. The keys are always the same, and every parameter has one. None: 1 for all."""
    stages: tuple[float, ...] = ()
    """Shares of training at which the second and later stages begin; () where there is one stage. The best weights come
    from the last stage."""
    norms_stand_from: float = 1.0
    """Share of training from which the running statistics of batch norms are used as they are and no longer moved."""
    n_simulated: Callable[[Moment], int] | None = None
    """Number of examples that ``learn`` simulates in a step; where it is not 0, no clips are drawn. None: never."""


def learn_wave(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return the losses of AutoHR, with the weights of the recipe's [loss]."""
    pred = net(clip)
    bvp, hr_bpm, fps = _to(pred, batch.bvp, batch.hr_bpm, batch.fps)
    losses = overall_loss(pred, bvp, hr_bpm, fps, loss)
    return Learned(pred, losses.total, {"frequency": losses.frequency, "time": losses.time})


def learn_differences(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return DeepPhys's loss: mean squared error of the differences between frames, the label's in their own SD."""
    pred = net(clip)
    (true,) = _to(pred, batch.bvp)
    steps = true.diff(dim=1)
    # SD over the clip; the paper's is over the video, which a clip does not show.
    steps = steps / steps.std(dim=1, keepdim=True).clamp_min(1e-6)
    squared = F.mse_loss(pred.diff(dim=1), steps)
    return Learned(pred, squared, {"squared": squared})


RPPGNET_SKIN_WEIGHT, RPPGNET_PART_WEIGHT = 0.1, 0.5
"""Weights of rPPGNet's skin loss and of the losses of its parts."""


def learn_rppgnet(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return rPPGNet's losses: correlations of its waves, and its skin branch against our own estimate of skin.

    The waves are the main one, the auxiliary one and those of four quarters.
    """
    pred, waves, skin_logit = net(clip, parts=True)
    (true,) = _to(pred, batch.bvp)
    main = time_loss(pred, true)
    parts = torch.stack([time_loss(waves[:, k], true) for k in range(waves.shape[1])]).sum()
    (mask,) = _to(pred, skin_masks(batch.frames, skin_logit.shape[2:]))
    skin = F.binary_cross_entropy_with_logits(skin_logit, mask)
    total = RPPGNET_SKIN_WEIGHT * skin + main + RPPGNET_PART_WEIGHT * parts
    return Learned(pred, total, {"time": main, "skin": skin, "parts": parts})


MIN_SKIN = 0.3
"""Value of ``skin_of`` from which a pixel counts as skin: the threshold of the paper for its own filter."""


def skin_masks(frames: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return the share of skin at each place of frames (B, T, H, W, 3) uint8, as (B, T, h, w) float32.

    Skin is our own estimate (``datasets.repulse.skin_of``), where the paper has the filter of bob.
    """
    clips = frames.numpy().astype(np.float32)
    masks = torch.from_numpy(np.stack([skin_of(one) >= MIN_SKIN for one in clips]).astype(np.float32))
    return F.adaptive_avg_pool2d(masks, (size[0], size[1]))


def rate_loss(hr_bpm: Tensor, true_bpm: Tensor, fps: Tensor) -> Tensor:
    """Return the mean absolute error of rates (B,) or, for several windows of each clip, (B, N).

    Rates are scaled to 30 frames per second, so that an error in beats per frame has one weight.
    """
    true = at_30_fps(true_bpm, fps)
    return (at_30_fps(hr_bpm, fps) - (true if hr_bpm.ndim == 1 else true[:, None])).abs().mean()


def learn_rate(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return the absolute error of the rate of clips that are each read at a pace of their own.

    The pace is ours: from pictures at their own pace I3D had learned nothing (docs/log, 28 November 2026).
    """
    hr_bpm, fps = batch.hr_bpm.to(clip.device), batch.fps.to(clip.device)
    paces = paces_of(clip, moment, 1)
    if paces is not None:
        slowed, fps = at_paces(clip.movedim(2, -1), fps, paces)
        clip = slowed.movedim(-1, 2)
    pred = net(clip, fps)
    error = rate_loss(pred, hr_bpm, fps)
    return Learned(pred, error, {"rate": error})


N_PACES = 4
"""Paces at which a net of small cost reads the signals of each clip in training. Chosen by us: HR-CNN's estimator came
to r 0.87 with it and to 0.77 without (docs/log, 28 November 2026)."""
HRCNN_PACES = 16
"""Likewise for HR-CNN, whose estimator costs little beside its extractor: its batch norms need some hundred signals."""


def paces_of(clip: Tensor, moment: Moment, n_paces: int = N_PACES) -> Tensor | None:
    """Return paces (B, N) at which to read clips in training; None for simulated ones and in validation."""
    if clip.numel() == 0 or moment.step == moment.n_steps:
        return None
    return draw_paces(len(clip), n_paces, clip.device)


RHYTHMNET_SMOOTH_WEIGHT = 100.0
"""Weight of RhythmNet's smoothness loss, its lambda."""


def learn_rhythmnet(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return RhythmNet's losses: error of each window's rate, and distance of a clip's windows from their mean.

    The first is in bpm, the second in beats per frame (our reading; the paper does not state units): in one unit a
    lambda of 100 would leave nothing but the second; so, a difference of 18 bpm between windows weighs like an error of
    1 bpm.

    It begins with SynRhythm's simulated maps, in place of the paper's ImageNet: from maps of recordings in the paper's
    form alone it had learned nothing after 240 steps of 16 clips.
    """
    hr_bpm, fps = batch.hr_bpm.to(clip.device), batch.fps.to(clip.device)
    if clip.numel() == 0:
        clip, hr_bpm = synthetic_maps(clip.shape[2], fps)
    windows = net(clip, fps, sequence=True, paces=paces_of(clip, moment))
    error = rate_loss(windows, hr_bpm, fps)
    beats_per_frame = at_30_fps(windows, fps) / (60 * CLOCK_FPS)
    smooth = (beats_per_frame - beats_per_frame.mean(1, keepdim=True)).abs().mean()
    total = error + RHYTHMNET_SMOOTH_WEIGHT * smooth
    return Learned(windows.mean(1), total, {"rate": error, "smooth": smooth})


SYNTHETIC_SHARE = 0.2
"""Share of its steps in which SynRhythm, or RhythmNet, learns from simulated maps. Chosen by us: we do not know the
paper's."""
SYNTHETIC_MAPS = 64
"""Maps of such a step. Chosen by us: they cost nothing beside clips."""


def learn_synrhythm(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return SynRhythm's loss: absolute error of the rate, first on simulated maps as long as the clips, then on clips.

    In the first stage the batch has no pixels (``simulated_batch``).
    """
    hr_bpm, fps = batch.hr_bpm.to(clip.device), batch.fps.to(clip.device)
    paces = paces_of(clip, moment)
    if clip.numel() == 0:
        clip, hr_bpm = synthetic_maps(clip.shape[2], fps)
    pred = net(clip, fps, paces=paces)
    error = rate_loss(pred, hr_bpm, fps)
    return Learned(pred, error, {"rate": error})


def n_synthetic_maps(moment: Moment) -> int:
    """Return how many maps SynRhythm simulates in a step."""
    return SYNTHETIC_MAPS if moment.share < SYNTHETIC_SHARE else 0


def n_rhythmnet_maps(moment: Moment) -> int:
    """Return how many maps RhythmNet simulates in a step: fewer, for each of them is read as six."""
    return n_synthetic_maps(moment) // 2


def simulated_batch(n_examples: int, n_frames: int) -> Batch:
    """Return a batch without pixels, for a step whose examples ``learn`` simulates; all at 30 frames per second.

    Of a net of beats per frame that is the clock on which its rates mean what they say.
    """
    nothing = torch.zeros(n_examples)
    frames = torch.empty(n_examples, n_frames, 0, 0, 3, dtype=torch.uint8)
    return Batch(frames, nothing[:, None].expand(-1, n_frames), nothing, torch.full((n_examples,), CLOCK_FPS))


HRCNN_STAGES = (0.375, 0.875)
"""Shares of training at which HR-CNN's estimator begins to learn in place of its extractor, and from which both do in
turn. The order is the paper's, the shares are chosen by us: the extractor has learned most within 300 steps."""
HRCNN_BAND_BPM = (40, 240)
"""Band of its frequency loss."""


def learn_hrcnn(net: Forward, clip: Tensor, batch: Batch, loss: LossConfig, moment: Moment) -> Learned:
    """Return HR-CNN's loss: the recipe's frequency loss for the extractor, then absolute error of the rate.

    The frequency loss "snr" is the paper's, "author" its script's. The error trains the estimator, then both in turn,
    which by then are without dropout, as in the released script.
    """
    hr_bpm, fps = batch.hr_bpm.to(clip.device), batch.fps.to(clip.device)
    if moment.share < HRCNN_STAGES[0]:
        signal = net(clip, stage="extractor")
        frequency = frequency_loss(signal, hr_bpm, fps, loss.variant, sd_bpm=loss.sd_bpm, band_bpm=HRCNN_BAND_BPM)
        return Learned(signal, frequency, {"frequency": frequency, "rate": torch.zeros(())})
    stage = "estimator" if moment.share < HRCNN_STAGES[1] else "tuned"
    pred = net(clip, fps, stage=stage, paces=paces_of(clip, moment, HRCNN_PACES))
    error = rate_loss(pred, hr_bpm, fps)
    return Learned(pred, error, {"frequency": torch.zeros(()), "rate": error})


def hrcnn_rates(moment: Moment) -> dict[str, float]:
    """Return HR-CNN's factors: with the recipe's lr of 1e-4 the extractor has 1e-4 and the estimator 1e-1.

    In the last stage they have 1e-5 and 1e-2.
    """
    if moment.share < HRCNN_STAGES[0]:
        return {"extractor.": 1.0, "estimator.": 0.0}
    if moment.share < HRCNN_STAGES[1]:
        return {"extractor.": 0.0, "estimator.": 1000.0}
    return {"extractor.": 0.1, "estimator.": 0.0} if moment.step % 2 else {"extractor.": 0.0, "estimator.": 100.0}


_WAVE = Step(learn_wave, "wave", ("frequency", "time"))
_RATE_LOSS = "the absolute error of the rate"

STEPS: dict[str, Step] = {
    "autohr": _WAVE,
    "physnet": _WAVE,
    "deepphys": Step(
        learn_differences, "wave", ("squared",), needs_bvp=True, own_loss="the squared error of the wave's steps"
    ),
    "rppgnet": Step(
        learn_rppgnet,
        "wave",
        ("time", "skin", "parts"),
        needs_bvp=True,
        own_loss="the correlation of its waves and by masks of skin",
    ),
    "i3d": Step(learn_rate, "rate", ("rate",), needs_bvp=False, own_loss=_RATE_LOSS),
    "i3d_wave": _WAVE,
    "hrcnn": Step(
        learn_hrcnn,
        "rate",
        ("frequency", "rate"),
        needs_bvp=False,
        rates=hrcnn_rates,
        stages=HRCNN_STAGES,
        norms_stand_from=HRCNN_STAGES[1],
    ),
    "rhythmnet": Step(
        learn_rhythmnet,
        "rate",
        ("rate", "smooth"),
        needs_bvp=False,
        own_loss=f"{_RATE_LOSS} and its smoothness",
        stages=(SYNTHETIC_SHARE,),
        n_simulated=n_rhythmnet_maps,
    ),
    "synrhythm": Step(
        learn_synrhythm,
        "rate",
        ("rate",),
        needs_bvp=False,
        own_loss=_RATE_LOSS,
        stages=(SYNTHETIC_SHARE,),
        n_simulated=n_synthetic_maps,
    ),
}
"""Net -> its way of learning; every net of ``NETS``."""


def _to(pred: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.to(pred.device) for value in values)
