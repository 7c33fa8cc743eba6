"""Read colours from a frame and a face box: mean skin, regions of the face, background, and the crop that nets see.

Colour means are the signal of every classic method, so they must not change when the box moves by a fraction of a
pixel: the face is first brought to a canonical patch of ``PATCH_PX`` by means of blocks of pixels and a sub-pixel
shift, and all masks are fixed in that patch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.types import Float, Frame

PATCH_PX = 64
"""Side of the canonical face patch, chosen by us: each of its pixels averages 4 to 60 camera pixels of a face 120 to
500 px high, and reading it costs about half a millisecond a frame."""

MIN_STEP, KEPT_STEPS = 0.95, (0.85, 2.1)
"""Distance of a patch's pixels in pixels of the halved picture: the least at which a picture is halved once more, so
that it lies between this and twice this, and the range in which the number of halvings of a followed face stays. On two
real videos and a drawn one the noise of the mean colours was that of an exact area average, within 2 %, from 0.9 to
2."""

GRID = 4
"""Rows and columns of the raster of regions of the face box: enough to tell a pulse, which all share, from noise,
which they do not; large enough that each still shows one."""

SKIN_MEMORY_S = 2.0
"""Time constant with which the soft skin mask follows the face. Slower than any pulse, so that the mask itself cannot
beat; fast enough for a turn of the head."""

SKIN_SPREAD = 2.5
"""Width of the soft colour test, in robust standard deviations of the face's centre: wide enough for shadows on the
same skin, narrower than hair. Chosen by us, not fitted."""

MIN_THIN_PX = (144, 108)
"""Smallest width and height to which a frame is thinned: nine pixels for each cell by which the tracker compares
scenes, in which sensor noise in a dark room averages out."""

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
        self._mask3 = np.zeros((PATCH_PX, PATCH_PX, 3), np.float32)  # the mask for each colour
        self._grid_weights = np.zeros(GRID * GRID)  # its sum in each cell of the raster
        self._measured_s = -np.inf

    def read(self, patch: NDArray[np.float32], box_xywh: Float, landmarks: Float | None, t_s: float) -> Colours:
        """Read the face in a box (4,) of which ``face_patch`` is given; landmarks (5, 2) in pixels, or None."""
        self._follow(patch, t_s)
        assert self._mask is not None
        grid_sums = _grid_sums(patch * self._mask3).reshape(-1, 3)
        spot_sums, spot_weights = _landmark_sums(patch, self._mask, box_xywh, landmarks)
        sums = np.concatenate([grid_sums, spot_sums])
        weights = np.concatenate([self._grid_weights, spot_weights])
        traces = sums / np.where(weights >= MIN_SKIN_SHARE * _REGION_SIZE, weights, np.nan)[:, None]
        return Colours(rgb=grid_sums.sum(axis=0) / self._grid_weights.sum(), traces=traces)

    def _follow(self, patch: NDArray[np.float32], t_s: float) -> None:
        """Move the mask towards this frame's. Ten times a second is enough for a mask with a memory of two seconds."""
        if self._mask is not None and 0 <= t_s - self._measured_s < 0.1:
            return
        mask = _skin_likelihood(patch) * _OVAL
        if self._mask is not None:
            gain = 1 - np.exp(-max(t_s - self._measured_s, 0.0) / SKIN_MEMORY_S)
            mask = (self._mask + np.float32(gain) * (mask - self._mask)).astype(np.float32)
        self._mask, self._measured_s = mask, t_s
        self._mask3 = np.repeat(mask[..., None], 3, axis=2)
        self._grid_weights = _grid_sums(mask).ravel()


def n_halvings(box_xywh: Float, size_px: float, last: int | None = None) -> int:
    """Return how often a picture is halved before its box (4,) is read with ``size_px`` pixels across.

    ``last`` is the number for the same face in the last frame: it is kept as long as it serves, since the colours of a
    face step by a few tenths of a grey level with each change.

    Examples
    --------
    >>> box = np.array([0.0, 0.0, 160.0, 160.0])
    >>> n_halvings(box, 64), n_halvings(0.9 * box, 128, last=1), n_halvings(4 * box, 64)
    (1, 0, 3)
    """
    step = math.sqrt(max(float(box_xywh[2] * box_xywh[3]), 1.0)) / size_px
    if last is not None and KEPT_STEPS[0] <= step / 2**last <= KEPT_STEPS[1]:
        return last
    return max(0, math.floor(math.log2(step / MIN_STEP)))


class Place(NamedTuple):
    """A part of a frame, in whole pixels, and how often it is halved."""

    left: int
    top: int
    right: int
    bottom: int
    halvings: int

    def holds(self, other: Place) -> bool:
        """Return True if another place lies in this one."""
        low = self.left <= other.left and self.top <= other.top
        return low and self.right >= other.right and self.bottom >= other.bottom


def place_around(frame: Frame, box_xywh: Float, reach: tuple[float, float], halvings: int) -> Place:
    """Return the place of a box (4,) in frame (H, W, 3), grown by ``reach`` pixels left and right, above and below.

    It is made of whole blocks of pixels that stay where they are when the box moves, a block or two more than asked for
    and two at least.
    """
    height, width = frame.shape[:2]
    halvings = min(halvings, max(0, int(math.log2(min(height, width) / 2))))
    block = 2**halvings
    x, y, w, h = (float(v) for v in box_xywh)
    across, down = reach[0] + block, reach[1] + block
    left, right = _blocks(x - across, x + w + across, width, block)
    top, bottom = _blocks(y - down, y + h + down, height, block)
    return Place(left, top, right, bottom, halvings)


def _blocks(low: float, high: float, whole: int, block: int) -> tuple[int, int]:
    n_blocks = whole // block
    first = max(0, min(math.floor(low / block), n_blocks - 2))
    return first * block, min(max(math.ceil(high / block), first + 2), n_blocks) * block


class FacePicture:
    """The surroundings of a face, reduced once for all that is read of them: its motion, its colours and its crop."""

    def __init__(self, frame: Frame, place: Place) -> None:
        self.place = place
        # A copy, as in ``thinned``: half the time for a frame that is not in the cache.
        part = np.ascontiguousarray(frame[place.top : place.bottom, place.left : place.right])
        for _ in range(place.halvings):
            # Means of 2 x 2 pixels are the only reduction by OpenCV that takes next to no time.
            half = part.shape[1] // 2, part.shape[0] // 2
            part = np.asarray(cv2.resize(part, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        self.pixels = part
        """(H, W, 3)."""

    @functools.cached_property
    def _exact(self) -> NDArray[np.float32]:
        return self.pixels.astype(np.float32)

    def patch(self, box_xywh: Float, size_px: int = PATCH_PX, margin: float = 0.0) -> NDArray[np.float32]:
        """Cut out a box (4,), grown by ``margin`` of its sides on each of them, as (size_px, size_px, 3), 0..255.

        Linear between pixels; beyond the picture its edge is repeated.
        """
        x, y, w, h = (float(v) for v in box_xywh)
        block = 2**self.place.halvings
        step_x, step_y = (side * (1 + 2 * margin) / size_px / block for side in (w, h))
        # Pixel centres: column i of the patch looks at x + (i + 0.5) w / size_px of the frame.
        to_picture = np.array(
            [
                [step_x, 0.0, (x - margin * w - self.place.left) / block + 0.5 * step_x - 0.5],
                [0.0, step_y, (y - margin * h - self.place.top) / block + 0.5 * step_y - 0.5],
            ]
        )
        patch = cv2.warpAffine(
            self._exact,
            to_picture,
            (size_px, size_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(patch, dtype=np.float32)


def face_picture(
    frame: Frame, box_xywh: Float, halvings: int, margin: float, made: FacePicture | None = None
) -> FacePicture:
    """Return the picture of a box (4,), grown by ``margin`` of its sides: ``made`` if that shows it, or a new one."""
    reach = margin * float(box_xywh[2]), margin * float(box_xywh[3])
    if made is not None and made.place.holds(place_around(frame, box_xywh, reach, made.place.halvings)):
        return made
    return FacePicture(frame, place_around(frame, box_xywh, reach, halvings))


def face_patch(frame: Frame, box_xywh: Float, size_px: int = PATCH_PX, margin: float = 0.0) -> NDArray[np.float32]:
    """Cut out the face box, grown by ``margin`` of its sides on each of them, as (size_px, size_px, 3) float32, 0..255.

    Means of blocks of pixels, linear between them. Outside the frame its edge is repeated.
    """
    halvings = n_halvings(box_xywh, size_px / (1 + 2 * margin))
    return face_picture(frame, box_xywh, halvings, margin).patch(box_xywh, size_px, margin)


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


class Thinned(NamedTuple):
    """Every few pixels of a frame: enough for means of large parts of it, for a fraction of the memory to read."""

    pixels: Frame
    """(H // step, W // step, 3)."""
    step: int


def thinned(frame: Frame) -> Thinned:
    """Return every fourth pixel of frame (H, W, 3) in both directions, of a small frame more of them.

    Examples
    --------
    >>> thinned(np.zeros((480, 640, 3), np.uint8)).pixels.shape, thinned(np.zeros((240, 320, 3), np.uint8)).step
    ((120, 160, 3), 2)
    """
    height, width = frame.shape[:2]
    step = min(max(min(width // MIN_THIN_PX[0], height // MIN_THIN_PX[1]), 1), 4)
    height, width = height // step, width // step
    # Whole rows first, which the processor fetches ahead: a quarter of the time for a frame that is not in its cache.
    # Of those, the nearest pixels of a size that divides the frame's: faster than a strided copy.
    part = np.ascontiguousarray(frame[: height * step : step, : width * step])
    return Thinned(np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8), step)


def background_colour(thin: Thinned, boxes_xywh: list[Float]) -> Float:
    """Return the mean colour (3,) of a thinned frame outside the heads and the bodies under them.

    NaN when less than 3 % of the frame is left, as beside a face that fills the picture. Boxes are (4,), in pixels of
    the frame.
    """
    outside = np.ones(thin.pixels.shape[:2], np.uint8)
    for box in boxes_xywh:
        x, y, w, h = (float(v) / thin.step for v in box)
        left, right = int(max(0, x - 0.5 * w)), int(max(0, x + 1.5 * w))
        outside[int(max(0, y - 0.6 * h)) : int(max(0, y + 1.2 * h)), left:right] = 0
        outside[int(max(0, y + h)) :, int(max(0, x - 1.2 * w)) : int(max(0, x + 2.2 * w))] = 0
    if cv2.countNonZero(outside) < max(1, 0.03 * outside.size):
        return np.full(3, np.nan)
    return np.array(cv2.mean(thin.pixels, outside)[:3])


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
    side = patch.shape[0]
    colours = np.ascontiguousarray(patch.reshape(-1, 3).T)  # one after the other: numpy is slow over a last axis of 3
    logs = np.log(np.maximum(colours, 1.0))
    features = np.stack([logs[0] - logs[1], logs[1] - logs[2], (logs[0] + logs[1] + logs[2]) / 6])
    rows, columns = slice(int(0.40 * side), int(0.75 * side)), slice(int(0.2 * side), int(0.8 * side))
    centre = features.reshape(3, side, side)[:, rows, columns].reshape(3, -1)
    middle = _medians(centre)
    spread = 1.4826 * _medians(np.abs(centre - middle))
    # 0.04 is our guess at a webcam's colour noise: a cleaner picture must not make the test stricter than that.
    off = (features - middle) / np.maximum(spread, np.float32(0.04))
    distance = np.sqrt((off[0] ** 2 + off[1] ** 2 + off[2] ** 2) / 3)
    alike = 0.5 - 0.5 * np.tanh(2.0 * (distance - SKIN_SPREAD))
    lightest = np.maximum(np.maximum(colours[0], colours[1]), colours[2])
    usable = np.clip((250 - lightest) / 10, 0, 1) * np.clip((lightest - 15) / 15, 0, 1)
    # Never nothing at all: a face that fails every test is still read, and judged by its signal.
    likelihood: NDArray[np.float32] = np.maximum(alike * usable, 1e-3).astype(np.float32)
    return likelihood.reshape(side, side)


def _medians(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the medians (R, 1) of rows (R, N); numpy's own takes five times as long."""
    half = rows.shape[1] // 2
    ordered = np.partition(rows, [half - 1, half], axis=1)
    low = ordered[:, half - 1 + rows.shape[1] % 2, None]
    return np.asarray((low + ordered[:, half, None]) / 2, dtype=np.float32)


def _grid_sums(picture: NDArray[np.float32]) -> Float:
    """Return the sums of a picture (PATCH_PX, PATCH_PX) or (.., .., 3) over each cell of the raster, (GRID, GRID, ..).

    The mean of each cell by OpenCV: five times as fast as numpy's sum over two axes.
    """
    means = cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float64) * (PATCH_PX // GRID) ** 2


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


def _landmark_sums(
    patch: NDArray[np.float32], mask: NDArray[np.float32], box_xywh: Float, landmarks: Float | None
) -> tuple[Float, Float]:
    """Return the sums (5, 3) of a patch over round regions, weighted by the mask, and the sums (5,) of the weights.

    The regions are placed by two eyes and two mouth corners; zeros without landmarks.
    """
    if landmarks is None:
        return np.zeros((len(_SPOTS), 3)), np.zeros(len(_SPOTS))
    x, y, w, h = (float(v) for v in box_xywh)
    points = (np.asarray(landmarks, dtype=np.float64) - (x, y)) * (PATCH_PX / w, PATCH_PX / h)
    eyes, mouth = (points[0] + points[1]) / 2, (points[3] + points[4]) / 2
    along, down = points[1] - points[0], mouth - eyes
    centres = eyes + _SPOTS[:, :1] * along + _SPOTS[:, 1:] * down - 0.5  # of pixels: 0 is the middle of the first one
    radius = _SPOT_RADIUS * max(math.hypot(*along), 0.1 * PATCH_PX)
    # Only the pixels of a square around each region, placed so that it lies in the patch.
    side = min(2 * math.ceil(min(radius, PATCH_PX) + 0.5) + 1, PATCH_PX)
    start = np.minimum(np.maximum(np.rint(centres - side // 2), 0), PATCH_PX - side)
    off = (start - centres).T[:, :, None].astype(np.float32) + _COUNT[:side]  # (2, 5, side) columns and rows
    off *= off
    away = np.sqrt(off[1][:, :, None] + off[0][:, None, :]).reshape(len(_SPOTS), -1)
    index = (start[:, 1] * PATCH_PX + start[:, 0]).astype(int)[:, None] + _square(side)
    weights = np.minimum(np.maximum(np.float32(radius + 0.5) - away, 0), 1) * mask.reshape(-1)[index]
    sums = (weights[:, None, :] @ patch.reshape(-1, 3)[index])[:, 0]
    return sums.astype(np.float64), weights.sum(axis=1, dtype=np.float64)


_COUNT = np.arange(PATCH_PX, dtype=np.float32)


@functools.lru_cache
def _square(side: int) -> NDArray[np.intp]:
    """Return the indices (side * side,) in a flat patch of a square at its start."""
    return (np.arange(side)[:, None] * PATCH_PX + np.arange(side)).ravel()
