"""Reader of faces in video frames: the only place that tracks, crops and reads colours.

    reader = FaceReader(CropConfig(box="tracked"))
    for frame, t_s in video:
        rows = reader.push(frame, t_s)

The meter and the laboratory's ``prepare`` both read faces here, so that a net is trained on what it is used on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from autohr.types import Float, Frame
from autohr.video.detector import Detects
from autohr.video.regions import (
    PATCH_PX,
    UNSEEN,
    FacePicture,
    SkinReader,
    background_colour,
    face_picture,
    grown,
    n_halvings,
    scaled,
)
from autohr.video.tracker import FaceTracker, TrackedFace

BRIDGE_S = 1.0
"""Longest time for which a lost face, or missing frames, are filled by interpolation."""

READ_MARGIN = 0.1
"""Margin of the picture that colours are read from: that of the shipped net's crops, which are cut from it too. Always
the same, so that colours do not depend on the crops that are wanted."""

Box = Literal["tracked", "first"]


@dataclass(frozen=True)
class CropConfig:
    """Settings of face crops as they are cut and stored. A net must be used with the crop that it was trained with."""

    size_px: int = 128
    """Side of a stored crop; above the nets' 112 or 64, so that random crops can be cut from it in training."""
    box: Box = "tracked"
    """tracked: the followed, smoothed box of each frame. first: the AutoHR paper's, the box of the first frame that
    shows the face, enlarged and never moved."""
    margin: float = 0.1
    """Added on each side of the box, in shares of its width and height. Beyond the border the picture's edge is
    repeated (tracked), or the box is clamped to the picture (first, as in the paper)."""

    def __post_init__(self) -> None:
        if not 16 <= self.size_px <= 1024:
            raise ValueError(f"size_px={self.size_px} must lie between 16 and 1024.")
        if self.box not in get_args(Box):
            raise ValueError(f"box={self.box!r} is not one of {', '.join(get_args(Box))}.")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin={self.margin} must lie between 0 and 1.")

    def cut(self, frame: Frame, box_xywh: Float) -> Frame:
        """Return the crop (size_px, size_px, 3) of frame (H, W, 3) around a face's box (4,) as ``FaceReader`` gives it.

        A ``first`` box holds its margin already, since it was clamped to the frame with it.

        Examples
        --------
        >>> frame = np.zeros((120, 160, 3), np.uint8)
        >>> CropConfig(size_px=64).cut(frame, np.array([50.0, 25.0, 60.0, 70.0])).shape
        (64, 64, 3)
        """
        halvings = n_halvings(box_xywh, self.density_px)
        return self.cut_from(face_picture(frame, box_xywh, halvings, self.cut_margin), box_xywh)

    def cut_from(self, picture: FacePicture, box_xywh: Float) -> Frame:
        """Return the crop (size_px, size_px, 3) around a face's box (4,) from its reduced picture."""
        return np.rint(picture.patch(box_xywh, self.size_px, self.cut_margin)).astype(np.uint8)

    @property
    def cut_margin(self) -> float:
        """Margin by which a box that ``FaceReader`` gives is still to be grown."""
        return self.margin if self.box == "tracked" else 0.0

    @property
    def density_px(self) -> float:
        """Pixels of the crop across the box itself, without its margin."""
        return self.size_px / (1 + 2 * self.cut_margin)


PAPER_CROP = CropConfig(box="first", margin=0.25)
"""The paper's crop: MTCNN on the first frame, its box enlarged. The paper does not give the factor. 1.5 (0.25 on each
side) is a reconstruction: the default of rPPG-Toolbox and the upper end of the author's other work."""


@dataclass(frozen=True)
class Crop:
    """The face crops that a method reads: those stored in its training, made smaller."""

    stored_px: int
    """Side of the crop that training stored, and cut its clips from."""
    size_px: int
    """Side of what the method is given."""
    box: Box
    margin: float

    @property
    def stored(self) -> CropConfig:
        """The crop that training stored."""
        return CropConfig(self.stored_px, self.box, self.margin)


FORMULA_CROP = Crop(stored_px=80, size_px=64, box="tracked", margin=0.1)
"""Crops for the formula that reads crops: those of the shipped net, so that one search for faces serves both."""


def shrink(stored: Frame, size_px: int) -> Frame:
    """Return a stored crop (S, S, 3) as a method is given it, (size_px, size_px, 3).

    Crops are rounded twice, when they are stored and here, in use as in training.
    """
    return np.rint(scaled(stored, size_px)).astype(np.uint8)


@dataclass(frozen=True)
class FaceRow:
    """One followed face in one frame. Colours are 0..255, NaN where the face was not seen."""

    face_id: int
    t_s: float
    rgb: Float
    """(3,) mean colour of the skin."""
    traces: Float
    """(R, 3) mean colours of the regions ``video.regions.REGIONS``."""
    background_rgb: Float
    """(3,) mean colour of what is no person; NaN where the frame shows little else."""
    box_xywh: Float
    """(4,) pixels of the frame."""
    found: bool
    """False where the face was lost just now; its box is then where it was."""
    whole: bool
    """False for a frame that its file codes as a change of others."""
    crop: Frame | None
    """(S, S, 3) the stored crop; None where none is wanted, or a followed box shows no face."""


@dataclass
class _State:
    """Memory of one face from frame to frame."""

    skin: SkinReader = field(default_factory=SkinReader)
    seen_s: float = -math.inf
    """Time at which the face was last seen."""
    halvings: int | None = None
    """The last ``n_halvings`` for the colours; the other one is for crops of another fineness."""
    crop_halvings: int | None = None


class FaceReader:
    """Follows the faces of a video and reads them, frame by frame.

    ``crop`` says which box is followed and how crops are cut, ``with_crops`` if rows hold any. At most ``max_faces``
    are followed, the largest first. ``detector`` finds them, the shipped one if None.
    """

    def __init__(
        self, crop: CropConfig, *, with_crops: bool = True, max_faces: int = 1, detector: Detects | None = None
    ) -> None:
        self.crop = crop
        self.with_crops = with_crops
        # A crop about as fine as the patch that colours are read from is cut from the same reduced picture.
        self._shares = crop.density_px <= 1.1 * PATCH_PX and crop.cut_margin <= READ_MARGIN
        self.faces: list[TrackedFace] = []
        """The faces of the last frame."""
        self._tracker = FaceTracker(max_faces=max_faces, box=crop.box, bridge_s=BRIDGE_S, detector=detector)
        self._states: dict[int, _State] = {}

    @property
    def n_cuts(self) -> int:
        """Number of scene cuts so far."""
        return self._tracker.n_cuts

    @property
    def n_others(self) -> int:
        """Largest number of faces seen at a time besides those that are followed (``FaceTracker.n_others``)."""
        return self._tracker.n_others

    def push(self, frame: Frame, t_s: float, *, whole: bool = True) -> list[FaceRow]:
        """Return a row for each face in frame (H, W, 3), RGB, or lost less than ``BRIDGE_S`` ago.

        Raises ValueError for another kind of frame, or a ``t_s`` that is not finite or before the last one.
        """
        self.faces = self._tracker.update(frame, t_s)
        frame = np.ascontiguousarray(frame)  # after the tracker has refused what is no frame
        if self.crop.box == "first":
            enlarged = [grown(face.box_xywh, self.crop.margin, frame) for face in self.faces]
            self.faces = [replace(face, box_xywh=box) for face, box in zip(self.faces, enlarged, strict=True)]
        # The skin mask of before a longer gap belongs to another light and another pose.
        for face_id in [face_id for face_id, state in self._states.items() if t_s - state.seen_s > BRIDGE_S]:
            del self._states[face_id]
        if not self.faces:
            return []
        assert self._tracker.thin is not None
        background_rgb = background_colour(self._tracker.thin, [face.box_xywh for face in self.faces])
        rows = []
        for face in self.faces:
            if not face.seen and face.id not in self._states:
                continue
            state = self._states.setdefault(face.id, _State())
            # A box that never moves shows something in every frame; a followed one is a guess where no face is seen.
            shows = self.with_crops and (face.seen or self.crop.box == "first")
            colours, crop = UNSEEN, None
            if face.seen:
                state.seen_s = t_s
                halvings = n_halvings(face.box_xywh, PATCH_PX, state.halvings)
                picture = face_picture(frame, face.box_xywh, halvings, READ_MARGIN, face.picture)
                state.halvings = picture.place.halvings
                colours = state.skin.read(picture.patch(face.box_xywh), face.box_xywh, face.landmarks, t_s)
                if shows and self._shares:
                    crop = self.crop.cut_from(picture, face.box_xywh)
            if shows and crop is None:
                state.crop_halvings = n_halvings(face.box_xywh, self.crop.density_px, state.crop_halvings)
                picture = face_picture(frame, face.box_xywh, state.crop_halvings, self.crop.cut_margin)
                crop = self.crop.cut_from(picture, face.box_xywh)
            row = FaceRow(
                face.id, t_s, colours.rgb, colours.traces, background_rgb, face.box_xywh, face.seen, whole, crop
            )
            rows.append(row)
        return rows
