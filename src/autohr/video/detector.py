"""Find faces in a picture with MTCNN, the detector of the AutoHR paper.

Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE SPL 2016.

    frame (H, W, 3) uint8 RGB -> FaceDetector.detect -> list[Detection]

The three networks are the ONNX files in ``weights/detector``, converted by ``autohr.lab.nets._mtcnn`` from the released
``mtcnn`` package (MIT). Each takes pictures (N, H, W, 3) uint8 and gives face scores and box shifts, the last one
landmarks too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from autohr.errors import BadWeights
from autohr.types import Float, Frame

WEIGHTS_DIR = Path(__file__).parents[1] / "weights" / "detector"
PYRAMID_FACTOR = 0.709
"""Ratio of the sides of two neighbouring pyramid levels, about the root of 1/2 (the paper's code)."""
SMALLEST_PX, LONG_SIDE_PX = 40.0, 640
"""Smallest face looked for, and long side that larger frames are first reduced to: the smallest face found is a
sixteenth of the picture's long side, whatever its resolution. The cost of smaller ones grows by the square."""
CELL_PX, STRIDE_PX = 12, 2
"""Window and step of P-Net (paper, figure 2)."""
MIN_SCORES = (0.6, 0.7, 0.8)
"""Lowest scores accepted from P-, R- and O-Net."""
MAX_PROPOSALS = 400
"""Largest number of windows, best first, that P-Net hands on. Chosen by us: a cluttered frame takes at most twice the
usual time."""
NEAR_REACH = 1.0
"""Surroundings in which a followed face is searched, in face sizes on each side of its box: farther than a tracker
takes a face for the same."""
NEAR_SIZES = (0.4, 2.0)
"""Smallest and largest window of P-Net with which a followed face is searched, in face sizes. With these the detections
were those of the whole frame, to the last digit, in 348 of 348 frames of 14 real and drawn videos; with 0.5 to 1.6 they
differed in a tenth of them, by up to 8 % of the face."""


@dataclass(frozen=True)
class Detection:
    """One face in one picture, in pixels of that picture."""

    box_xywh: Float
    """(4,) left, top, width, height; may reach over the border of the picture."""
    score: float
    """Score of the last network, 0..1."""
    landmarks: Float
    """(5, 2) x, y of left eye, right eye, nose, left and right mouth corner, left and right as seen in the picture."""


class Detects(Protocol):
    """The part of a detector that a ``FaceTracker`` needs."""

    def detect(self, frame: Frame, /) -> Sequence[Detection]:
        """Return the faces of frame (H, W, 3), the largest first."""
        ...


@runtime_checkable
class DetectsNear(Detects, Protocol):
    """A detector that finds a face again for less work than in the whole frame."""

    def detect_near(self, frame: Frame, box_xywh: Float, /) -> Sequence[Detection]:
        """Return the faces of frame (H, W, 3) around a box (4,) that are of about its size."""
        ...


class FaceDetector:
    """MTCNN: three small networks, each looking closer at what the one before let pass.

    Raises
    ------
    BadWeights
        A file of the networks is missing or damaged.
    """

    def __init__(self) -> None:
        for name in ("pnet", "rnet", "onet"):
            load_network(name)  # not kept: a detector is sent to other processes, and a session cannot be

    def detect(self, frame: Frame) -> list[Detection]:
        """Return the faces of frame (H, W, 3) uint8 RGB, sorted by width times score, largest first."""
        return self._detect(frame, None)

    def detect_near(self, frame: Frame, box_xywh: Float) -> list[Detection]:
        """Return the faces of frame (H, W, 3) uint8 RGB in the surroundings of a box (4,), of about its size.

        They are those that ``detect`` finds there; about half the work, less for a small face.
        """
        return self._detect(frame, np.asarray(box_xywh, dtype=np.float64))

    def _detect(self, frame: Frame, near_xywh: Float | None) -> list[Detection]:
        check_frame(frame)
        height, width = frame.shape[:2]
        if min(height, width) < CELL_PX:
            return []
        reduce = min(1.0, LONG_SIDE_PX / max(height, width))
        image: Frame = np.ascontiguousarray(frame)
        if reduce < 1:
            size = (max(CELL_PX, round(width * reduce)), max(CELL_PX, round(height * reduce)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        back = np.array([width / image.shape[1], height / image.shape[0]])
        near = None if near_xywh is None else np.concatenate([near_xywh[:2], near_xywh[:2] + near_xywh[2:]])
        near = None if near is None else near / np.tile(back, 2)
        found = [
            Detection(np.concatenate([box[:2] * back, (box[2:] - box[:2]) * back]), float(score), landmarks * back)
            for box, score, landmarks in zip(*self._cascade(image, near), strict=True)
        ]
        return sorted(found, key=lambda face: -float(face.box_xywh[2]) * face.score)

    def _cascade(self, image: Frame, near: Float | None) -> tuple[Float, Float, Float]:
        """Return boxes (N, 4) as left, top, right, bottom, scores (N,) and landmarks (N, 5, 2) in pixels of image.

        ``near`` (4: left, top, right, bottom) is the box of a face if only that one is searched.
        """
        none: tuple[Float, Float, Float] = (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))

        pictures = halved(image)
        levels = []
        for scale in pyramid_scales(image.shape[0], image.shape[1]):
            size = (math.ceil(image.shape[1] * scale), math.ceil(image.shape[0] * scale))
            left, top, right, bottom = (0, 0, *size) if near is None else surroundings(near, scale, size)
            if min(right - left, bottom - top) < CELL_PX:
                continue
            nearest = pictures[int(np.clip(-math.log2(scale), 0, len(pictures) - 1))]
            small = np.asarray(cv2.resize(nearest, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            part = np.ascontiguousarray(small[None, top:bottom, left:right])
            score_map, shift_map = (output[0] for output in run("pnet", part))
            rows, cols = np.nonzero(score_map >= MIN_SCORES[0])
            corner = np.stack([cols, rows], axis=1) * float(STRIDE_PX) + [left, top]
            windows = np.concatenate([corner, corner + CELL_PX], axis=1) / scale
            scores = score_map[rows, cols]
            keep = suppress(windows, scores, 0.5)
            levels.append((windows[keep], scores[keep], shift_map[rows, cols][keep]))
        if not levels:
            return none
        boxes, scores, shifts = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        keep = suppress(boxes, scores, 0.7)[:MAX_PROPOSALS]
        boxes = squared(shifted(boxes[keep], shifts[keep]))
        if len(boxes) == 0:
            return none

        patches, boxes = cut_out(pictures, boxes, 24)
        scores, shifts = run("rnet", patches)
        passed = np.flatnonzero(scores >= MIN_SCORES[1])
        keep = passed[suppress(boxes[passed], scores[passed], 0.7)]
        boxes = squared(shifted(boxes[keep], shifts[keep]))
        if len(boxes) == 0:
            return none

        patches, boxes = cut_out(pictures, boxes, 48)
        scores, shifts, points = run("onet", patches)
        passed = np.flatnonzero(scores >= MIN_SCORES[2])
        boxes, scores, shifts, points = boxes[passed], scores[passed], shifts[passed], points[passed]
        landmarks = boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2])[:, None, :]
        boxes = shifted(boxes, shifts)
        # Over the smaller box, not the union: a box inside another is the same face.
        keep = suppress(boxes, scores, 0.7, over_smaller=True)
        return boxes[keep], scores[keep], landmarks[keep]


@functools.lru_cache
def load_network(name: str) -> onnxruntime.InferenceSession:
    """Load one of the shipped networks, once for all detectors: a folder of videos makes one detector each."""
    path = WEIGHTS_DIR / f"{name}.onnx"
    options = onnxruntime.SessionOptions()
    # Networks this small gain nothing from more threads, which on a busy machine wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # saves 20 MB; the arena keeps a copy for each level of the pyramid
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no common base
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise BadWeights(
            f"The face detector's file {str(path)!r} cannot be used: {reason}. "
            "Run: pip install --force-reinstall --no-deps autohr"
        ) from None


def run(name: str, images: NDArray[np.uint8]) -> list[Float]:
    """Return the outputs of a network for images (N, H, W, 3): scores, box shifts and, of O-Net, landmarks."""
    outputs = load_network(name).run(None, {"images": images})
    return [np.asarray(output, dtype=np.float64) for output in outputs]


def pyramid_scales(height: int, width: int) -> list[float]:
    """Return the scales at which faces from ``SMALLEST_PX`` up to the whole picture fill P-Net's window."""
    scales = []
    scale = CELL_PX / SMALLEST_PX
    while min(height, width) * scale >= CELL_PX:
        scales.append(scale)
        scale *= PYRAMID_FACTOR
    return scales


def surroundings(near: Float, scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part (left, top, right, bottom) of a pyramid level in which to search a face near a box.

    Empty where P-Net's window does not fit the size of the face. Left and top are whole strides, so that P-Net sees the
    windows that it sees in the whole level.

    Parameters
    ----------
    near
        (4: left, top, right, bottom) the box, in pixels of the picture.
    scale
        Pixels of the level per pixel of the picture.
    size
        Width and height of the level.
    """
    face_px = math.sqrt(float((near[2] - near[0]) * (near[3] - near[1])))
    if not NEAR_SIZES[0] * face_px < CELL_PX / scale < NEAR_SIZES[1] * face_px:
        return 0, 0, 0, 0
    low, high = (near[:2] - NEAR_REACH * face_px) * scale, (near[2:] + NEAR_REACH * face_px) * scale
    left, top = (int(max(0.0, at)) // STRIDE_PX * STRIDE_PX for at in low)
    right, bottom = (int(min(at, whole)) for at, whole in zip(high, size, strict=True))
    return left, top, right, bottom


def suppress(boxes: Float, scores: Float, max_overlap: float, *, over_smaller: bool = False) -> NDArray[np.intp]:
    """Return the indices of boxes (N, 4: left, top, right, bottom) to keep, best first (non-maximum suppression)."""
    order = np.argsort(-scores, kind="stable")
    left, top, right, bottom = boxes[order].T
    area = (right - left) * (bottom - top)
    alive = np.ones(len(order), dtype=bool)
    keep = []
    for best in range(len(order)):
        if not alive[best]:
            continue
        keep.append(best)
        rest = slice(best + 1, None)
        across = np.minimum(right[rest], right[best]) - np.maximum(left[rest], left[best])
        down = np.minimum(bottom[rest], bottom[best]) - np.maximum(top[rest], top[best])
        shared = np.maximum(across, 0.0) * np.maximum(down, 0.0)
        whole = np.minimum(area[rest], area[best]) if over_smaller else area[rest] + area[best] - shared
        alive[rest] &= shared <= max_overlap * whole
    return order[keep]


def shifted(boxes: Float, shifts: Float) -> Float:
    """Move the sides of boxes (N, 4: left, top, right, bottom) by shifts (N, 4) in shares of their width and height."""
    size = boxes[:, 2:] - boxes[:, :2]
    moved: Float = boxes + shifts * np.concatenate([size, size], axis=1)
    return moved


def squared(boxes: Float) -> Float:
    """Return the smallest squares around boxes (N, 4: left, top, right, bottom) with the same centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def halved(image: Frame) -> list[Frame]:
    """Return the picture and its halves, quarters, ... down to P-Net's window: reducing from the nearest is fast."""
    pictures = [image]
    while min(pictures[-1].shape[:2]) >= 2 * CELL_PX:
        last = pictures[-1][: pictures[-1].shape[0] // 2 * 2, : pictures[-1].shape[1] // 2 * 2]
        size = (last.shape[1] // 2, last.shape[0] // 2)
        pictures.append(np.asarray(cv2.resize(last, size, interpolation=cv2.INTER_AREA), dtype=np.uint8))
    return pictures


def cut_out(pictures: Sequence[Frame], boxes: Float, side_px: int) -> tuple[NDArray[np.uint8], Float]:
    """Cut boxes (N, 4: left, top, right, bottom) out of a ``halved`` picture, black beyond its border.

    Returns
    -------
    patches
        (N, side_px, side_px, 3).
    cut
        (N, 4) the boxes that were really cut, on whole pixels: the networks' outputs are relative to these.
    """
    patches = np.zeros((len(boxes), side_px, side_px, 3), np.uint8)
    cut = np.zeros((len(boxes), 4))
    for i, box in enumerate(boxes.tolist()):
        level = min(max(int(math.log2(max(box[2] - box[0], 1.0) / (2 * side_px))), 0), len(pictures) - 1)
        image = pictures[level]
        left, top, right, bottom = (round(v / 2**level) for v in box)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        cut[i] = [side * 2**level for side in (left, top, right, bottom)]
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, image.shape[1]), min(bottom, image.shape[0])
        if x1 <= x0 or y1 <= y0:
            continue
        piece: Any = image[y0:y1, x0:x1]
        if (x0, y0, x1, y1) != (left, top, right, bottom):
            piece = cv2.copyMakeBorder(
                piece, y0 - top, bottom - y1, x0 - left, right - x1, cv2.BORDER_CONSTANT, value=(0, 0, 0)
            )
        patches[i] = cv2.resize(piece, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return patches, cut


def check_frame(frame: Any) -> None:
    """Raise ValueError unless frame is (H, W, 3) uint8."""
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        what = f"{frame.dtype} of shape {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"A frame must be a uint8 array of shape (H, W, 3), RGB; this is {what}.")
    if frame.size == 0:
        raise ValueError(f"A frame must hold at least one pixel; this one has shape {frame.shape}.")
