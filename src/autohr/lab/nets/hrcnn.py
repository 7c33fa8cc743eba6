"""HR-CNN (Spetlik, Franc, Cech, Matas, BMVC 2018).

Paper: Visual Heart Rate Estimation with Convolutional Neural Network.

clip (B, 3, T, H, W) in [0, 1], fps (B,) -> hr_bpm (B,); of stage "extractor" the signal (B, T).

Any T from 4 up, any H and W from 16 up; pictures are brought to 192x128 (height, width). An extractor makes one number
of every frame alone; an estimator reads the rate from the signal of these. The paper: 300 frames. The estimator loses
132 samples at its edges, so a shorter signal than 133 is filled up with zeros at its end; of such do not expect much.

    extractor  batch norm; four times [dropout, convolution, max-pool, batch norm, ELU]; dropout, 1x1 to one channel
    estimator  batch norm; eight times [dropout, convolution of 16, (max-pool of 5), batch norm, ELU]; the mean

Differs from the paper: which layers the estimator has was found there by chance search for each dataset, and is not
published: this is one that a thesis took (slots 1, 3, 4, 6, 7, 8, 10, 12), its 64 channels are ours. The estimator
learns beats per frame (``rates.py``), which at one frame rate is the paper's. Pictures are 0..1 and not 0..255, which
the first batch norm makes the same. Training in stages, and its two losses: ``train/steps.py``. Checked against: the
published parameter counts of the extractors V2 and V4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autohr.lab.nets._inputs import INPUTS, check_input, checked
from autohr.lab.nets._rates import as_hr_bpm, at_paces
from autohr.lab.nets._spec import Preset, as_channels, check_whole

Stage = Literal["whole", "extractor", "estimator", "tuned"]
"""The part of the network that works and learns: "estimator" gives rates from an extractor that does not learn;
"tuned" is the whole without dropout and with the batch norms' running statistics, as in use."""

FRAME_PX = (192, 128)
"""Height and width."""
EXTRACTOR = (((15, 10), 2, 0.0), ((15, 10), 1, 0.0), ((15, 10), 1, 0.0), ((12, 10), 1, 0.2))
"""Kernel of the convolution, stride of the pool after it (whose kernel is 15x10), dropout of whole channels before."""
POOL_PX = (15, 10)
SLOTS = (1, 3, 4, 6, 7, 8, 10, 12)
"""Layers that the estimator has of twelve, in groups of three; the third of each group has a max-pool."""
GROUP_DROPOUT = (0.1, 0.15, 0.2, 0.3)
KERNEL, POOL = 16, 5
LEAST_SIGNAL = 1 + len(SLOTS) * (KERNEL - 1) + sum(slot % 3 == 0 for slot in SLOTS) * (POOL - 1)
FRAMES_AT_ONCE = 16
"""In use, so that memory does not grow with the clip: a frame takes 20 MB at the full size. Training needs all."""


@dataclass(frozen=True)
class HRCNNConfig:
    """The defaults are the paper's network V2. Refuses with ValueError what cannot be built."""

    channels: tuple[int, int, int, int] = (64, 64, 128, 128)
    """Channels of the extractor: V2, for PURE, COHFACE and MAHNOB-HCI. V4, for ECG-Fitness: four times 64."""
    estimator_channels: int = 64
    shrink: int = 1
    """Pictures, kernels and pools of the extractor have this part of the published height and width: 1, 2 or 4."""
    input: str = "rgb"
    """One of ``inputs.INPUTS``: "rgb" is the paper's. With "difference" a frame is seen with the next one."""
    dropout: float = 1.0
    """Factor of all published shares of dropout. Batch norms see other numbers in training than in use where there is
    dropout before them, and a few thousand clips teach the estimator no way around it."""

    def __post_init__(self) -> None:
        check_input(self.input)
        object.__setattr__(self, "channels", as_channels(self.channels))
        check_whole("estimator_channels", self.estimator_channels, 1, 512)
        if isinstance(self.shrink, bool) or self.shrink not in (1, 2, 4):
            raise ValueError(f"shrink={self.shrink!r} must be 1, 2 or 4.")
        if not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout={self.dropout!r} must lie in 0..1.")


PRESETS = {
    "paper": Preset(HRCNNConfig(), size_px=128, n_frames=300, what="HR-CNN as published, V2"),
    "small": Preset(
        HRCNNConfig(channels=(16, 16, 32, 32), estimator_channels=32, shrink=4, input="difference", dropout=0.0),
        size_px=64,
        n_frames=256,
        what="pictures of 48x32, a quarter of the channels, no dropout, an input that learns sooner than raw frames",
    ),
}
"""The sizes of small are ours."""


def make_extractor(config: HRCNNConfig) -> nn.Sequential:
    """Return the extractor: frames (N, 3, 192, 128), shrunk, to (N, 1, 1, 1)."""
    shrink, in_channels = config.shrink, INPUTS[config.input].channels
    layers: list[nn.Module] = [nn.BatchNorm2d(in_channels)]
    before = in_channels
    height, width = (side // shrink for side in FRAME_PX)
    for place, (after, (kernel, stride, dropout)) in enumerate(zip(config.channels, EXTRACTOR, strict=True)):
        kernel = (math.ceil(kernel[0] / shrink), math.ceil(kernel[1] / shrink))
        height, width = height - kernel[0] + 1, width - kernel[1] + 1
        pool = (math.ceil(POOL_PX[0] / shrink), math.ceil(POOL_PX[1] / shrink))
        if place == len(EXTRACTOR) - 1:
            # 15x10 at the published size, too.
            pool = height, width
        height, width = (height - pool[0]) // stride + 1, (width - pool[1]) // stride + 1
        layers += [
            nn.Dropout2d(config.dropout * dropout),
            nn.Conv2d(before, after, kernel),
            # A pool of both at once, of equal output and several times quicker.
            nn.MaxPool2d((pool[0], 1), (stride, 1)),
            nn.MaxPool2d((1, pool[1]), (1, stride)),
            nn.BatchNorm2d(after),
            nn.ELU(),
        ]
        before = after
    return nn.Sequential(*layers, nn.Dropout(config.dropout * 0.5), nn.Conv2d(before, 1, 1))


def make_estimator(config: HRCNNConfig) -> nn.Sequential:
    """Return the estimator: signal (B, 1, N) to (B, 1, N - 132)."""
    layers: list[nn.Module] = [nn.BatchNorm1d(1)]
    before, channels = 1, config.estimator_channels
    for slot in SLOTS:
        layers += [nn.Dropout(config.dropout * GROUP_DROPOUT[(slot - 1) // 3]), nn.Conv1d(before, channels, KERNEL)]
        layers += [nn.MaxPool1d(POOL, 1)] if slot % 3 == 0 else []
        layers += [nn.BatchNorm1d(channels), nn.ELU()]
        before = channels
    return nn.Sequential(*layers, nn.Dropout(config.dropout * 0.5), nn.Conv1d(before, 1, 1))


class HRCNN(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: HRCNNConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HRCNNConfig()
        self.extractor = make_extractor(config)
        self.estimator = make_estimator(config)
        for module in self.extractor.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward(
        self, clip: Tensor, fps: Tensor | None = None, stage: Stage = "whole", paces: Tensor | None = None
    ) -> Tensor:
        """Return hr_bpm (B,) of clip (B, 3, T, H, W) at fps (B,); of stage "extractor" the signal (B, T).

        With ``paces`` (B, N) the signal is read at each of them (``_rates.at_paces``), which needs fps: hr_bpm (B, N).
        """
        if stage in ("estimator", "tuned"):
            self.extractor.eval()
        if stage == "tuned":
            self.estimator.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage != "estimator"):
            signal = self.extract(checked(clip)).to(clip.dtype)
        if stage == "extractor":
            return signal
        if paces is not None and fps is not None:
            signal, fps = at_paces(signal, fps, paces)
        centred = signal - signal.mean(1, keepdim=True)
        missing = torch.sym_max(0, LEAST_SIGNAL - centred.shape[1])  # type: ignore[no-untyped-call]
        filled = F.pad(centred, (0, missing))
        out = self.estimator(filled[:, None].to(self.estimator[-1].weight.dtype))  # type: ignore[arg-type]
        hr_bpm = as_hr_bpm(out.float().mean((1, 2)), fps).to(clip.dtype)
        return hr_bpm if paces is None else hr_bpm.reshape(paces.shape)

    def extract(self, clip: Tensor) -> Tensor:
        """Return the signal (B, T) of clip (B, 3, T, H, W), float32."""
        B, _, T = clip.shape[:3]
        height, width = (side // self.config.shrink for side in FRAME_PX)
        pictures = INPUTS[self.config.input].transform(F.adaptive_avg_pool3d(clip, (T, height, width)))
        frames = pictures.transpose(1, 2).flatten(0, 1)  # (B T, 3, 192, 128)
        frames = frames.to(self.extractor[-1].weight.dtype)  # type: ignore[arg-type]
        # Batch norms that learn must see all frames together; a traced net cannot count its pieces, and takes all too.
        at_once = self.extractor.training or torch.compiler.is_compiling()
        parts = [frames] if at_once else torch.split(frames, FRAMES_AT_ONCE)
        signal: Tensor = torch.cat([self.extractor(part).float() for part in parts])
        return signal.reshape(B, T)
