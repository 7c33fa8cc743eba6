"""SynRhythm: Learning a Deep Heart Rate Estimator from General to Specific (Niu, Han, Shan, Chen, ICPR 2018).

clip (B, 3, T, H, W) in [0, 1], fps (B,) -> hr_bpm (B,). In place of a clip it takes maps (B, 3, 25, T), any range.

Any T from 4 up, any H and W from 16 up. The clip becomes one space-time map (``maps.py``), which ResNet-18 reads. It
first learns from simulated maps, whose rate is known (``synthetic_maps``), then from those of videos.

Reconstructed: there is no public code, and the paper was known to us by its poster and by others' words.
The simulated rows are the poster's recipe as a public generator has it; the parts of the face and the colour space of
the real maps (25, RGB) are ours, the first stage of the paper's three, ImageNet, is left out, and it learns beats per
frame (``rates.py``). Table II of AutoHR has 11.08 for it, and the poster 4.49: neither is a target. Checked against:
11,177,025 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autohr.lab.nets._inputs import checked
from autohr.lab.nets._maps import ROWS, check_form, hide_some, in_form, traces_of
from autohr.lab.nets._rates import as_hr_bpm, at_paces
from autohr.lab.nets._resnet import CHANNELS, ResNet18
from autohr.lab.nets._spec import Preset, as_channels

RATE_HZ = (0.67, 4.2)
BREATH_HZ = (0.084, 0.34)
NOISE_SD = 0.1
STEPS = ((1 / 3, 0.6), (2 / 3, 0.4))
"""When, as a share of the map, and how high: the light changes. The generator has fixed times; which, is ours."""


@dataclass(frozen=True)
class SynRhythmConfig:
    """Refuses with ValueError what cannot be built."""

    hide: bool = False
    """In training, a stretch of half of the maps is hidden, as RhythmNet does; the paper's own does not."""
    channels: tuple[int, int, int, int] = CHANNELS
    """Channels of the four stages of ResNet-18."""
    form: str = "scaled"
    """One of ``maps.FORMS``: "scaled" is the paper's; with "steps" recordings teach it without simulated maps."""

    def __post_init__(self) -> None:
        if not isinstance(self.hide, bool):
            raise ValueError(f"hide={self.hide!r} must be true or false.")
        object.__setattr__(self, "channels", as_channels(self.channels))
        check_form(self.form)


PRESETS = {
    "paper": Preset(SynRhythmConfig(), size_px=112, n_frames=300, what="SynRhythm, reconstructed: ResNet-18"),
    "small": Preset(
        SynRhythmConfig(channels=(32, 48, 64, 64), form="steps"),
        size_px=40,
        n_frames=256,
        what="ResNet-18 of 0.4 M parameters, most of them early",
    ),
}
"""The sizes of small are ours: weights of 1.6 MB, and a map's 25 parts of 8x8 pixels each."""


class SynRhythm(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: SynRhythmConfig | None = None) -> None:
        super().__init__()
        self.config = config or SynRhythmConfig()
        self.resnet = ResNet18(channels=self.config.channels)
        self.head = nn.Linear(self.resnet.n_features, 1)

    def forward(self, clip: Tensor, fps: Tensor | None = None, paces: Tensor | None = None) -> Tensor:
        """Return hr_bpm (B,) of clip (B, 3, T, H, W) at fps (B,).

        With ``paces`` (B, N) the traces are read at each of them (``_rates.at_paces``), which needs fps: hr_bpm (B, N).
        """
        traces = clip if clip.ndim == 4 else traces_of(checked(clip))
        if paces is not None and fps is not None:
            traces, fps = at_paces(traces, fps, paces)
        maps = in_form(traces, self.config.form)
        if self.training and self.config.hide:
            maps = hide_some(maps)
        out = self.head(self.resnet(maps.to(self.head.weight.dtype)))
        hr_bpm = as_hr_bpm(out[:, 0], fps).to(clip.dtype)
        return hr_bpm if paces is None else hr_bpm.reshape(paces.shape)


def synthetic_maps(n_frames: int, fps: Tensor) -> tuple[Tensor, Tensor]:
    """Draw maps (B, 3, 25, T) and their hr_bpm (B,), for clips at fps (B,), by torch's random numbers.

    Every row has the map's rate and its double, a breath, two steps of the light and noise; rows differ in strength and
    phase: M1 sin(2 pi f t + p) + M1 / 2 sin(4 pi f t + p) + M2 sin(2 pi g t + q) + steps + noise, M1, M2 from 0 to 1.
    """
    B, shape = len(fps), (len(fps), 3, ROWS, 1)

    def draw(*size: int) -> Tensor:
        return torch.rand(*size, device=fps.device)

    # Evenly over the rates: one of 40 bins, and a place in it, is the same as one place in all.
    rate_hz = RATE_HZ[0] + (RATE_HZ[1] - RATE_HZ[0]) * draw(B)
    breath_hz = BREATH_HZ[0] + (BREATH_HZ[1] - BREATH_HZ[0]) * draw(B)
    t_s = torch.arange(n_frames, device=fps.device) / fps[:, None]
    beat = (2 * torch.pi * rate_hz[:, None] * t_s)[:, None, None]
    breath = (2 * torch.pi * breath_hz[:, None] * t_s)[:, None, None]
    phase, breath_phase = 2 * torch.pi * draw(*shape), 2 * torch.pi * draw(*shape)
    strong, breath_strong = draw(*shape), draw(*shape)
    maps = strong * (torch.sin(beat + phase) + 0.5 * torch.sin(2 * beat + phase))
    maps = maps + breath_strong * torch.sin(breath + breath_phase)
    share = torch.arange(n_frames, device=fps.device) / n_frames
    for when, height in STEPS:
        maps = maps + height * (share >= when)
    maps = maps + NOISE_SD * torch.randn(B, 3, ROWS, n_frames, device=fps.device)
    return maps, 60 * rate_hz
