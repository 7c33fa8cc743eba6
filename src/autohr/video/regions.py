"""Read colours from a frame and a face box: mean skin, regions of the face, background, and the crop that nets see.

Colour means are the signal of every classic method, so they must not change when
the box moves by a fraction of a pixel: the face is first brought to a canonical patch of ``PATCH_PX`` by an area
average and a sub-pixel shift, and all masks are fixed in that patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.types import Float, Frame

PATCH_PX = 64
"""Side of the canonical face patch, chosen by us: each of its pixels averages 4 to 60 camera pixels of a face 120 to
500 px high, and reading it costs about half a millisecond a frame."""

GRID = 4
"""Rows and columns of the raster of regions of the face box: enough to tell a pulse, which all share, from noise,
which they do not; large enough that each still shows one."""

SKIN_MEMORY_S = 2.0
"""Time constant with which the soft skin mask follows the face. Slower than any pulse, so that the mask itself cannot
beat; fast enough for a turn of the head."""

SKIN_SPREAD = 2.5
"""Width of the soft colour test, in robust standard deviations of the face's centre: wide enough for shadows on the
same skin, narrower than hair. Chosen by us, not fitted."""

CELL_SPREAD = 0.2
"""Width of the colour test for the cells of a crop, in logarithms of colour ratios. On the recordings that the
beamformer was chosen on 0.3 was a little worse (docs/log/2026-11.md, "MVDR")."""

MIN_SKIN_SHARE = 0.25
"""Share of skin in a region below which it has no trace (NaN)."""

REGIONS: tuple[str, ...] = (
    *(f"grid_{row}{column}" for row in range(GRID) for column in range(GRID)),
    "forehead",
    "left_cheek",
    "right_cheek",
    "nose",
    "chin",
)
"""Names of the R regions of ``FaceClip.traces``: the raster of the box, then five placed by the detector's landmarks
("left" as seen in the picture)."""


@dataclass(frozen=True)
class Colours:
    """Mean colours of one face in one frame, 0..255."""

    rgb: Float
    """(3,) skin."""
    traces: Float
    """(R, 3) regions, NaN where a region holds too little skin."""


UNSEEN = Colours(rgb=np.full(3, np.nan), traces=np.full((len(REGIONS), 3), np.nan))
"""Colours of a face in a frame that does not show it."""


class SkinReader:
    """Reader of one face's colours, frame after frame. State: the slowly following skin mask."""

    def __init__(self) -> None:
        self._mask: NDArray[np.float32] | None = None  # (PATCH_PX, PATCH_PX)
        self._t_s = 0.0
        self._measured_s = -np.inf

    def read(self, frame: Frame, box_xywh: Float, landmarks: Float | None, t_s: float) -> Colours:
        """Read the face in ``box_xywh`` (4,) of frame (H, W, 3); landmarks (5, 2) in pixels, or None."""
        patch = face_patch(frame, box_xywh)
        self._follow(patch, t_s)
        assert self._mask is not None
        weighted = np.empty((PATCH_PX, PATCH_PX, 4), dtype=np.float32)  # the mask itself is the fourth colour
        np.multiply(patch, self._mask[..., None], out=weighted[..., :3])
        weighted[..., 3] = self._mask
        # The mean of each cell of the raster: five times as fast as numpy's sum over two axes.
        cells = np.asarray(cv2.resize(weighted, (GRID, GRID), interpolation=cv2.INTER_AREA), dtype=np.float64)
        grid_sums = cells.reshape(-1, 4) * (PATCH_PX // GRID) ** 2
        # Small enough a product (80,000 steps) that BLAS leaves its threads asleep; they would wait for each other.
        spot_sums = _landmark_masks(box_xywh, landmarks) @ weighted.reshape(-1, 4)
        sums = np.concatenate([grid_sums, spot_sums])
        traces = np.full((len(REGIONS), 3), np.nan)
        enough = sums[:, 3] >= MIN_SKIN_SHARE * _REGION_SIZE
        traces[enough] = sums[enough, :3] / sums[enough, 3:]
        whole = grid_sums.sum(axis=0)
        rgb = whole[:3] / whole[3]
        return Colours(rgb=rgb, traces=traces)

    def _follow(self, patch: NDArray[np.float32], t_s: float) -> None:
        """Move the mask towards this frame's. Ten times a second is enough for a mask with a memory of two seconds."""
        if self._mask is not None and 0 <= t_s - self._measured_s < 0.1:
            return
        mask = _skin_likelihood(patch) * _OVAL
        if self._mask is None:
            self._mask = mask
        else:
            gain = 1 - np.exp(-max(t_s - self._measured_s, 0.0) / SKIN_MEMORY_S)
            self._mask = (self._mask + np.float32(gain) * (mask - self._mask)).astype(np.float32)
        self._measured_s = t_s


def face_patch(frame: Frame, box_xywh: Float, size_px: int = PATCH_PX, margin: float = 0.0) -> NDArray[np.float32]:
    """Cut out the face box, grown by ``margin`` of its sides on each of them, as (size_px, size_px, 3) float32, 0..255.

    Area average to about the target size, then a linear sub-pixel shift. Outside the frame its edge is repeated.
    """
    height, width = frame.shape[:2]
    x, y, w, h = (float(v) for v in box_xywh)
    x, y, w, h = x - margin * w, y - margin * h, w * (1 + 2 * margin), h * (1 + 2 * margin)
    pad = 2.0
    x0, y0 = int(np.floor(np.clip(x - pad, 0, width - 2))), int(np.floor(np.clip(y - pad, 0, height - 2)))
    x1 = int(np.ceil(np.clip(x + w + pad, x0 + 2, width)))
    y1 = int(np.ceil(np.clip(y + h + pad, y0 + 2, height)))
    crop: NDArray[Any] = frame[y0:y1, x0:x1].astype(np.float32)
    scale_x, scale_y = min(1.0, 1.25 * size_px / w), min(1.0, 1.25 * size_px / h)
    small_w, small_h = max(2, round((x1 - x0) * scale_x)), max(2, round((y1 - y0) * scale_y))
    if (small_w, small_h) != (x1 - x0, y1 - y0):
        crop = cv2.resize(crop, (small_w, small_h), interpolation=cv2.INTER_AREA)
    real_x, real_y = small_w / (x1 - x0), small_h / (y1 - y0)
    step_x, step_y = w * real_x / size_px, h * real_y / size_px
    # Pixel centres: column i of the patch looks at x + (i + 0.5) w / size_px of the frame.
    to_crop = np.array(
        [
            [step_x, 0.0, (x - x0) * real_x + 0.5 * step_x - 0.5],
            [0.0, step_y, (y - y0) * real_y + 0.5 * step_y - 0.5],
        ]
    )
    patch: NDArray[np.float32] = cv2.warpAffine(
        crop,
        to_crop,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float32)
    return patch


def grown(box_xywh: Float, margin: float, frame: Frame) -> Float:
    """Grow a box (4,) by ``margin`` of its sides on each of them, cut at the border of frame (H, W, 3).

    At least two pixels of the frame stay. The paper's box, which never moves, is made so.

    Examples
    --------
    >>> grown(np.array([0.0, 60.0, 40.0, 40.0]), 0.25, np.zeros((100, 160, 3), np.uint8))
    array([ 0., 50., 50., 50.])
    """
    height, width = frame.shape[:2]
    corner, sides = box_xywh[:2], box_xywh[2:]
    low = np.clip(corner - margin * sides, 0, [width - 2, height - 2])
    high = np.clip(corner + (1 + margin) * sides, low + 2, [width, height])
    return np.concatenate([low, high - low])


def scaled(picture: NDArray[Any], size_px: int) -> NDArray[np.float32]:
    """Scale a picture (S, S, 3) to (size_px, size_px, 3) float32: area average where it shrinks, linear where it grows.

    Nets are trained and used with this one function, so that both get the same crop.
    """
    side_px = picture.shape[0]
    out = picture.astype(np.float32, copy=False)
    if side_px != size_px:
        kind = cv2.INTER_AREA if size_px < side_px else cv2.INTER_LINEAR
        out = cv2.resize(out, (size_px, size_px), interpolation=kind).astype(np.float32, copy=False)
    return out


def background_colour(frame: Frame, boxes_xywh: list[Float]) -> Float:
    """Return the mean colour (3,) of every fourth pixel outside the heads and the bodies under them.

    NaN when less than 3 % of the frame is left, as beside a face that fills the picture.
    """
    step = 4
    outside = np.ones(frame[::step, ::step].shape[:2], dtype=bool)
    for box in boxes_xywh:
        x, y, w, h = (float(v) / step for v in box)
        left, right = int(max(0, x - 0.5 * w)), int(max(0, x + 1.5 * w))
        outside[int(max(0, y - 0.6 * h)) : int(max(0, y + 1.2 * h)), left:right] = False
        outside[int(max(0, y + h)) :, int(max(0, x - 1.2 * w)) : int(max(0, x + 2.2 * w))] = False
    count = int(outside.sum())
    if count < 0.03 * outside.size or count == 0:
        return np.full(3, np.nan)
    mask = outside.astype(np.uint8)
    # Channel by channel: two to three times as fast as the three together.
    colours = (np.ascontiguousarray(frame[::step, ::step, channel]) for channel in range(3))
    return np.array([cv2.mean(colour, mask)[0] for colour in colours])


def cells_of(frames: Frame, n_cells: int) -> Float:
    """Return the mean colours (n_cells * n_cells, T, 3) of a raster of frames (T, H, W, 3), row by row."""
    means = [cv2.resize(one.astype(np.float32), (n_cells, n_cells), interpolation=cv2.INTER_AREA) for one in frames]
    cells: Float = np.stack(means).reshape(len(frames), -1, 3).transpose(1, 0, 2).astype(np.float64)
    return cells


def skin_of_cells(rgb: Float) -> Float:
    """Return the share of skin (R,), 0..1, of each cell of a square raster around a face with mean colours rgb (R, 3).

    Like ``_skin_likelihood`` it goes by logarithmic colour ratios and the centre of this face, but for a raster that is
    coarse and holds hair, clothes and background too: a width of its own, and shadows count less.
    """
    side = round(float(np.sqrt(len(rgb))))
    safe = np.maximum(rgb, 1.0)
    logs = np.log(safe)
    ratios = np.stack([logs[:, 0] - logs[:, 1], logs[:, 1] - logs[:, 2]], axis=-1)
    aside = np.abs(np.arange(side) - (side - 1) / 2) < 0.3 * side
    middle = np.flatnonzero(np.outer(aside, aside))
    far = ((ratios - np.median(ratios[middle], axis=0)) ** 2).sum(axis=-1)
    bright = safe.sum(axis=-1) / np.median(safe[middle].sum(axis=-1))
    return np.asarray(np.exp(-far / CELL_SPREAD**2) * np.minimum(bright, 1.0))


def _skin_likelihood(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the likeness (S, S), 0..1, of each pixel's colour to the centre of this face, whoever it is.

    Logarithmic colour ratios, so that shading counts little and skin tone not at all; median and median deviation of
    the cheeks and nose as the model. Burnt-out and black pixels carry no pulse and weigh nothing.
    """
    safe = np.maximum(patch, 1.0)
    logs = np.log(safe)
    features = np.stack([logs[..., 0] - logs[..., 1], logs[..., 1] - logs[..., 2], 0.5 * logs.mean(axis=-1)], axis=-1)
    s = patch.shape[0]
    centre = features[int(0.40 * s) : int(0.75 * s), int(0.2 * s) : int(0.8 * s)].reshape(-1, 3)
    middle = np.median(centre, axis=0)
    spread = 1.4826 * np.median(np.abs(centre - middle), axis=0)
    # 0.04 is our guess at a webcam's colour noise: a cleaner picture must not make the test stricter than that.
    distance = np.sqrt((((features - middle) / np.maximum(spread, 0.04)) ** 2).sum(axis=-1) / 3)
    alike = 0.5 - 0.5 * np.tanh(2.0 * (distance - SKIN_SPREAD))
    lightest = patch.max(axis=-1)
    usable = np.clip((250 - lightest) / 10, 0, 1) * np.clip((lightest - 15) / 15, 0, 1)
    # Never nothing at all: a face that fails every test is still read, and judged by its signal.
    likelihood: NDArray[np.float32] = np.maximum(alike * usable, 1e-3).astype(np.float32)
    return likelihood


def _oval() -> NDArray[np.float32]:
    """Return a soft oval inside the detector's box, the corners of which are hair, ears and background."""
    at = (np.arange(PATCH_PX) + 0.5) / PATCH_PX
    reach = np.sqrt(((at[None, :] - 0.5) / 0.46) ** 2 + ((at[:, None] - 0.5) / 0.52) ** 2)
    return np.clip((1.0 - reach) / 0.08 + 0.5, 0.0, 1.0).astype(np.float32)


_OVAL = _oval()

# Centres of the landmark regions in the frame of eyes and mouth: x along the eye line in eye distances from its middle,
# y down from it in distances to the mouth. Placed by eye; radius in eye distances.
_SPOTS = np.array([[0.0, -0.75], [-0.55, 0.6], [0.55, 0.6], [0.0, 0.45], [0.0, 1.55]])
_SPOT_RADIUS = 0.25
_REGION_SIZE = np.array(
    [(PATCH_PX // GRID) ** 2] * GRID**2
    + [np.pi * (_SPOT_RADIUS * 0.4 * PATCH_PX) ** 2] * len(_SPOTS)  # eyes are about 0.4 of the box apart
)
"""Number of pixels (R,) of each region if all of it were skin."""

_AT = ((np.arange(PATCH_PX) + 0.5) / PATCH_PX).astype(np.float32)


def _landmark_masks(box_xywh: Float, landmarks: Float | None) -> NDArray[np.float32]:
    """Return round regions (5, S * S) placed by two eyes and two mouth corners; zeros without landmarks."""
    if landmarks is None:
        return np.zeros((len(_SPOTS), PATCH_PX * PATCH_PX), dtype=np.float32)
    x, y, w, h = (float(v) for v in box_xywh)
    points = (np.asarray(landmarks, dtype=np.float64) - (x, y)) / (w, h)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    along, down = points[1] - points[0], mouth - eyes
    centres = eyes + _SPOTS[:, :1] * along + _SPOTS[:, 1:] * down
    radius = _SPOT_RADIUS * max(float(np.hypot(*along)), 0.1)
    across, down_by = ((_AT - centres[:, axis, None].astype(np.float32)) ** 2 for axis in (0, 1))
    away = np.sqrt(down_by[:, :, None] + across[:, None, :])
    soft = np.clip((np.float32(radius) - away) * np.float32(PATCH_PX) + np.float32(0.5), 0.0, 1.0)
    masks: NDArray[np.float32] = soft.reshape(len(_SPOTS), -1)
    return masks
