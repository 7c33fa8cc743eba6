"""RhythmNet (Niu, Shan, Han, Chen, IEEE Transactions on Image Processing 2020, arXiv:1910.11515).

Paper: RhythmNet: End-to-end Heart Rate Estimation from Face via Spatial-temporal Representation.

clip (B, 3, T, H, W) in [0, 1], fps (B,) -> hr_bpm (B,); with ``sequence`` that of every window, (B, N). In place of a
clip it takes maps (B, 3, 25, T), any range.

Any T from 4 up, any H and W from 16 up. The clip becomes space-time maps of ``window_frames``, one every
``stride_frames`` (``maps.py``); ResNet-18 reads each, a GRU goes over their features, and each of its states gives a
rate. The rate of the clip is their mean. The paper trains on six windows in a row: 375 frames at 30 per second. A clip
too short for six is cut into six shorter windows (ours), since a GRU that learned from six is not to be asked about
one. It learns beats per frame, not bpm (``rates.py``).

Differs from the paper: no landmarks, no alignment and no skin mask, which the crop stands for (``maps.py``); maps are
fed as they are, 25 rows high, as in the re-implementations (the paper's size is not known to us); ResNet-18 begins with
simulated maps (``train/steps.py``) and not with ImageNet's weights; a GRU over all windows of a longer clip, not over
each six. Layers after ResNet (512 to 1000, GRU of 1000) are those of a re-implementation. Two public re-implementations
did not reach the paper's figures: this one claims no more. Checked against: 17,697,514 parameters less the second
linear head of that re-implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from autohr.lab.nets._inputs import checked
from autohr.lab.nets._maps import as_yuv, check_form, hide_some, in_form, traces_of, windows_of
from autohr.lab.nets._rates import as_hr_bpm, at_paces
from autohr.lab.nets._resnet import CHANNELS, ResNet18
from autohr.lab.nets._spec import Preset, as_channels, check_whole


@dataclass(frozen=True)
class RhythmNetConfig:
    """The defaults are the paper's network. Refuses with ValueError what cannot be built."""

    window_frames: int = 300
    stride_frames: int = 15
    """Half a second at 30 frames per second (the paper: 0.5 s)."""
    hidden: int = 1000
    """Features of a map, and state of the GRU."""
    hide: bool = True
    """In training, a stretch of half of the maps is hidden."""
    channels: tuple[int, int, int, int] = CHANNELS
    """Channels of the four stages of ResNet-18."""
    form: str = "scaled"
    """One of ``maps.FORMS``: "scaled" is the paper's; with "steps" recordings teach it without simulated maps."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("window_frames", 4, 3000),
            ("stride_frames", 1, 3000),
            ("hidden", 1, 4096),
        ):
            check_whole(name, getattr(self, name), least, most)
        object.__setattr__(self, "channels", as_channels(self.channels))
        check_form(self.form)


N_MAPS = 6
"""Maps that the GRU is shown in training, and at least in use: a shorter clip is cut into as many shorter maps."""

PRESETS = {
    "paper": Preset(RhythmNetConfig(), size_px=112, n_frames=376, what="RhythmNet as re-implemented"),
    "small": Preset(
        RhythmNetConfig(window_frames=200, stride_frames=11, hidden=96, channels=(32, 48, 64, 64), form="steps"),
        size_px=40,
        n_frames=256,
        what="ResNet-18 of 0.4 M parameters, most of them early, and shorter maps",
    ),
}
"""The sizes of small are ours: weights of 1.8 MB, a map's 25 parts of 8x8 pixels each, six maps in 256 frames."""


class RhythmNet(nn.Module):
    """The network; see the top of this file."""

    def __init__(self, config: RhythmNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RhythmNetConfig()
        self.resnet = ResNet18(channels=config.channels)
        self.features = nn.Linear(self.resnet.n_features, config.hidden)
        self.gru = nn.GRU(config.hidden, config.hidden, batch_first=True)
        self.head = nn.Linear(config.hidden, 1)

    def forward(
        self, clip: Tensor, fps: Tensor | None = None, sequence: bool = False, paces: Tensor | None = None
    ) -> Tensor:
        """Return hr_bpm (B,) of clip (B, 3, T, H, W) at fps (B,); with ``sequence`` of every window, (B, N).

        With ``paces`` (B, P) the traces are read at each of them (``_rates.at_paces``), which needs fps: hr_bpm (B, P)
        or (B, P N).
        """
        window, stride = self.config.window_frames, self.config.stride_frames
        traces = clip if clip.ndim == 4 else as_yuv(traces_of(checked(clip)))
        if paces is not None and fps is not None:
            traces, fps = at_paces(traces, fps, paces)
        windows = windows_of(traces, window, stride, N_MAPS)
        B, N = windows.shape[:2]
        maps = in_form(windows, self.config.form).flatten(0, 1)  # (B N, 3, 25, W)
        if self.training and self.config.hide:
            maps = hide_some(maps)
        features = self.features(self.resnet(maps.to(self.head.weight.dtype)))
        states, _ = self.gru(features.reshape(B, N, -1))
        hr_bpm = as_hr_bpm(self.head(states)[..., 0], fps).to(clip.dtype)
        if not sequence:
            hr_bpm = hr_bpm.mean(1)
        return hr_bpm if paces is None else hr_bpm.reshape(len(paces), -1)
