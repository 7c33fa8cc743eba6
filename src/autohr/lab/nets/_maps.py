"""Space-time maps: a face clip as a picture, a row for each part of the face, a column for each frame (RhythmNet).

    traces    means of 5 x 5 equal parts of the crop                          (B, 3, 25, T)
    windows   stretches of them, each a map of its own                        (B, N, 3, 25, W)
    map       every row of every channel from its own least to its own most   0..1, "scaled"
              or its steps from frame to frame, in their own mean size        -3..3, "steps"

The published ones begin with 81 landmarks, an alignment by the eyes and a skin mask; these take the crop as it is, as
both public re-implementations do. The paper's rows are whole numbers 0..255; 0..1 differs by what the first batch norm
takes off anyway. "steps" are ours: one movement of the head leaves of a scaled row's pulse little, of its steps most.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PARTS = 5
ROWS = PARTS * PARTS
STILL = 1e-5
"""A row that changes by less is a still one, and all zero; a single grey level in a part of 100 pixels is 4e-5."""

FORMS = ("scaled", "steps")
"""Forms of a map; the first is the papers'."""
LEAST_STEP = STILL / 10
"""A row whose steps have a smaller mean size is a still one, and all zero."""
MAX_STEP = 3.0
"""Largest step that a map shows. Chosen by us: of normal noise it cuts one step in sixty."""

YUV = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Rows Y, U, V of R, G, B, without the offsets, which a map does not see."""

HIDDEN_FRAMES = (10, 30)
"""Fewest and most frames of the stretch that is hidden in half of the maps in training."""


def traces_of(clip: Tensor) -> Tensor:
    """Return the traces (B, 3, 25, T) of a clip (B, 3, T, H, W)."""
    parts = F.adaptive_avg_pool3d(clip, (clip.shape[2], PARTS, PARTS))
    return parts.flatten(3).transpose(2, 3)


def as_yuv(traces: Tensor) -> Tensor:
    """Return traces (B, 3, R, T) of R, G, B as those of Y, U, V.

    As sums, because a matrix product is one of bfloat16 in training, whose steps of 0.004 no pulse survives.
    """
    red, green, blue = traces.unbind(1)
    return torch.stack([row[0] * red + row[1] * green + row[2] * blue for row in YUV], 1)


def windows_of(traces: Tensor, length: int, stride: int, least: int = 1) -> Tensor:
    """Cut traces (B, 3, R, T) into windows (B, N, 3, R, W), one every ``stride`` frames.

    W is ``length`` or, where there would be fewer than ``least`` windows, as much as leaves room for these; but at
    least half of T, in which fewer may find room.
    """
    n_frames = traces.shape[3]
    # sym_min: a plain min is exported for the length alone that is traced.
    few = torch.sym_max(n_frames - (least - 1) * stride, (n_frames + 1) // 2)  # type: ignore[no-untyped-call]
    width = torch.sym_min(length, few)  # type: ignore[no-untyped-call]
    first = torch.arange(0, n_frames - width + 1, stride, device=traces.device)
    windows = traces[..., first[:, None] + torch.arange(width, device=traces.device)]
    return windows.permute(0, 3, 1, 2, 4)


def scaled_rows(maps: Tensor) -> Tensor:
    """Return maps (..., R, W) of any range as 0..1 in every row."""
    least, most = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return torch.where(most - least < STILL, 0.0, (maps - least) / (most - least).clamp_min(STILL))


def steps_of_rows(maps: Tensor) -> Tensor:
    """Return the steps (..., R, W - 1) of maps (..., R, W) of any range, in the mean size of their row's."""
    steps = maps.diff(dim=-1)
    size = steps.abs().mean(-1, keepdim=True)
    scaled = (steps / size.clamp_min(LEAST_STEP)).clamp(-MAX_STEP, MAX_STEP)
    return torch.where(size < LEAST_STEP, 0.0, scaled)


def in_form(maps: Tensor, form: str) -> Tensor:
    """Return maps (..., R, W) of any range in one of ``FORMS``."""
    return steps_of_rows(maps) if form == "steps" else scaled_rows(maps)


def check_form(form: object) -> None:
    """Raise ValueError for a form that there is not."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} must be one of {', '.join(FORMS)}.")


def hide_some(maps: Tensor) -> Tensor:
    """Return maps (M, 3, R, W), a random half of them with a stretch of zeros, as if the face had been lost."""
    fewest, most = HIDDEN_FRAMES
    n_maps, width = maps.shape[0], maps.shape[-1]
    if width <= most:
        return maps
    length = torch.randint(fewest, most + 1, (n_maps, 1), device=maps.device)
    first = (torch.rand(n_maps, 1, device=maps.device) * (width - length)).long()
    column = torch.arange(width, device=maps.device)
    hidden = (column >= first) & (column < first + length) & (torch.rand(n_maps, 1, device=maps.device) < 0.5)
    return maps.masked_fill(hidden[:, None, None, :], 0.0)
