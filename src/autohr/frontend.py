"""From a video frame to what methods read of a face. The only place that cuts face crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from autohr.types import Float, Frame
from autohr.video.rois import face_patch, scaled


@dataclass(frozen=True)
class Crop:
    """How the face crops of a net are cut: as its training cut them (``data.cache.CropConfig``, ``data.clips``)."""

    stored_px: int
    """Side of the crop that training stored, and cut its clips by chance from."""
    size_px: int
    """Side of what the net is given: the stored crop, made smaller."""
    box: Literal["tracked", "first"]
    margin: float
    """Added on each side of the box, in shares of its width and height."""

    def cut(self, frame: Frame, box_xywh: Float) -> Frame:
        """The crop (size_px, size_px, 3) of frame (H, W, 3). Rounded twice, for the cache stores whole numbers too.

        A ``first`` box must hold its margin already, since it is cut at the frame's border with it.
        """
        margin = self.margin if self.box == "tracked" else 0.0
        stored = np.rint(face_patch(frame, box_xywh, self.stored_px, margin)).astype(np.uint8)
        return np.rint(scaled(stored, self.size_px)).astype(np.uint8)


FORMULA_CROP = Crop(stored_px=80, size_px=64, box="tracked", margin=0.1)
"""For the formula that reads crops: those of the shipped net, so that one search for faces serves both."""
