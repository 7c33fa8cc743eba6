"""The reader of faces: colours and crops of a followed face, whatever else is read beside them."""

from __future__ import annotations

import numpy as np
import pytest

from autohr.frontend import CropConfig, FaceReader, FaceRow
from autohr.types import Float, Frame
from autohr.video.detector import Detection
from test_regions import LANDMARKS, face
from test_tracker import texture

BOX = (110.0, 60.0, 90.0, 110.0)


class Knows:
    """A detector that knows where the face is."""

    def __init__(self, box: tuple[float, ...] = BOX) -> None:
        self.box: Float = np.array(box)

    def detect(self, frame: Frame) -> list[Detection]:
        return [Detection(self.box, 1.0, self.box[:2] + LANDMARKS * self.box[2:])]


def frames(n: int, size: float = 1.0) -> list[Frame]:
    rng = np.random.default_rng(0)
    x, y, w, h = (size * side for side in BOX)
    still = face(round(320 * size), round(240 * size), (x, y, w, h))
    held = 0.7 * still + 0.3 * texture(1, still.shape[1], still.shape[0])  # something for the flow to hold on to
    return [np.clip(held + rng.normal(0, 3, held.shape), 0, 255).astype(np.uint8) for _ in range(n)]


def read(crop: CropConfig, size: float = 1.0, **options: bool) -> list[FaceRow]:
    reader = FaceReader(crop, detector=Knows(tuple(size * side for side in BOX)), **options)
    return [row for k, frame in enumerate(frames(8, size)) for row in reader.push(frame, k / 25)]


def test_colours_do_not_depend_on_the_crops_that_are_wanted() -> None:
    plain = read(CropConfig(), with_crops=False)
    assert len(plain) == 8 and all(row.crop is None for row in plain)
    for crop in (CropConfig(80), CropConfig(128), CropConfig(64, margin=0.3)):
        rows = read(crop)
        for row, other in zip(rows, plain, strict=True):
            np.testing.assert_array_equal(row.rgb, other.rgb)
            np.testing.assert_array_equal(row.traces, other.traces)
            assert row.crop is not None and row.crop.shape == (crop.size_px, crop.size_px, 3)


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_a_crop_is_the_one_cut_from_the_frame(size: float) -> None:
    """However it is made: from the picture that colours are read from, or by itself."""
    for crop in (CropConfig(80), CropConfig(128)):
        for row, frame in zip(read(crop, size), frames(8, size), strict=True):
            assert row.crop is not None
            off = row.crop.astype(int) - crop.cut(frame, row.box_xywh)
            assert abs(off.mean()) < 0.3 and np.abs(off).mean() < 2


def test_frames_need_not_be_contiguous() -> None:
    rows = []
    for turned in (False, True):
        reader = FaceReader(CropConfig(80), detector=Knows())
        given = [frame[:, :, ::-1].copy()[:, :, ::-1] if turned else frame for frame in frames(4)]
        rows.append([reader.push(frame, k / 25)[0] for k, frame in enumerate(given)])
    for one, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
        np.testing.assert_array_equal(one.background_rgb, other.background_rgb)
        assert one.crop is not None and other.crop is not None
        np.testing.assert_array_equal(one.crop, other.crop)
