"""Regions of interest: colours must follow the face, not the pixel grid, and must leave out what is no skin."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from autohr.types import Float, Frame
from autohr.video.regions import (
    PATCH_PX,
    REGIONS,
    SkinReader,
    background_colour,
    cells_of,
    face_patch,
    face_picture,
    n_halvings,
    skin_of_cells,
    thinned,
)

SKIN = (200, 140, 110)
LANDMARKS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.58], [0.36, 0.76], [0.64, 0.76]])


def face(width: int = 320, height: int = 240, box: tuple[float, float, float, float] = (110, 60, 90, 110)) -> Frame:
    """Draw a skin-coloured oval with dark hair above, on a blue wall, drawn with sub-pixel edges."""
    frame = np.full((height, width, 3), (60, 80, 160), np.uint8)
    x, y, w, h = box
    centre, axes = (round(16 * (x + w / 2)), round(16 * (y + h / 2))), (round(16 * w * 0.55), round(16 * h * 0.6))
    cv2.ellipse(frame, centre, axes, 0, 0, 360, SKIN, -1, cv2.LINE_AA, 4)
    cv2.rectangle(frame, (round(x - 5), round(y - 10)), (round(x + w + 5), round(y + 0.2 * h)), (30, 20, 15), -1)
    return frame


def read(frame: Frame, box: Float, landmarks: bool = True) -> tuple[Float, Float]:
    points = box[:2] + LANDMARKS * box[2:] if landmarks else None
    colours = SkinReader().read(face_patch(frame, box), box, points, 0.0)
    return colours.rgb, colours.traces


def test_skin_is_skin_and_hair_is_not() -> None:
    box = np.array([110.0, 60, 90, 110])
    rgb, traces = read(face(), box)
    np.testing.assert_allclose(rgb, SKIN, atol=2)
    assert traces.shape == (len(REGIONS), 3)
    named = dict(zip(REGIONS, traces, strict=True))
    np.testing.assert_allclose(named["left_cheek"], SKIN, atol=3)
    np.testing.assert_allclose(named["nose"], SKIN, atol=3)
    assert np.isnan(named["grid_00"]).all()  # hair


def test_without_landmarks_only_the_raster_is_read() -> None:
    _, traces = read(face(), np.array([110.0, 60, 90, 110]), landmarks=False)
    assert np.isnan(traces[-5:]).all()
    assert np.isfinite(traces[:-5]).any()


@pytest.mark.parametrize("factor", [0.12, 0.5, 1.0])
def test_brightness_and_skin_tone_do_not_move_the_mask(factor: float) -> None:
    frame = (face() * factor).astype(np.uint8)
    rgb, _ = read(frame, np.array([110.0, 60, 90, 110]))
    np.testing.assert_allclose(rgb / rgb.sum(), np.array(SKIN) / sum(SKIN), atol=0.02)


def test_a_box_that_slides_by_parts_of_a_pixel_makes_no_step() -> None:
    """A real skin has shading; the mean must then change smoothly as the box moves, or motion becomes a pulse."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0.7, 1.0, (240, 320)).astype(np.float32), (0, 0), 3)
    frame = np.clip(face() * texture[..., None] * 1.1, 0, 255).astype(np.uint8)
    means = []
    for shift in np.linspace(0, 3, 61):
        means.append(read(frame, np.array([110.0 + shift, 60, 90, 110]))[0])
    steps = np.abs(np.diff(np.array(means)[:, 1]))
    assert steps.max() < 0.15  # of 255; whole-pixel crops step by 0.5 and more here


def test_the_patch_is_the_area_mean_of_the_box() -> None:
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[:, 100:] = 200
    patch = face_patch(frame, np.array([50.0, 50, 100, 100]))
    assert patch.shape == (PATCH_PX, PATCH_PX, 3)
    assert patch[:, :30].max() == 0 and patch[:, 34:].min() > 199.9
    assert patch.mean() == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    "box", [(-30, -20, 80, 90), (290, 200, 80, 90), (0, 0, 320, 240), (100, 100, 3, 3), (-200, 50, 90, 90)]
)
def test_boxes_at_and_over_the_border_are_read(box: tuple[float, float, float, float]) -> None:
    rgb, traces = read(face(), np.array(box, dtype=np.float64))
    assert np.isfinite(rgb).all()
    assert traces.shape == (len(REGIONS), 3)


def test_black_and_burnt_out_faces_give_numbers() -> None:
    for value in (0, 255):
        rgb, _ = read(np.full((240, 320, 3), value, np.uint8), np.array([110.0, 60, 90, 110]))
        np.testing.assert_allclose(rgb, value, atol=0.05)


def test_the_background_is_what_is_no_person() -> None:
    box = np.array([110.0, 60, 90, 110])
    np.testing.assert_allclose(background_colour(thinned(face()), [box]), (60, 80, 160), atol=1)
    assert np.isnan(background_colour(thinned(face()), [np.array([0.0, 0, 320, 240])])).all()


def test_the_mask_follows_slowly() -> None:
    """A hand before the face must not become skin at once, and a mask must not change within a beat."""
    reader, box = SkinReader(), np.array([110.0, 60, 90, 110])
    points = box[:2] + LANDMARKS * box[2:]
    half = face()
    half[:, 155:] = (40, 160, 40)
    for k in range(30):
        reader.read(face_patch(face(), box), box, points, k / 30)
    before = reader.read(face_patch(face(), box), box, points, 1.0).rgb
    just_after = reader.read(face_patch(half, box), box, points, 1.0 + 1 / 30).rgb
    assert np.abs(just_after - before).max() > 20  # the mask still trusts the covered side
    for k in range(300):
        late = reader.read(face_patch(half, box), box, points, 1.1 + k / 30).rgb
    np.testing.assert_allclose(late, SKIN, atol=6)


def test_a_followed_face_is_halved_alike_until_its_size_changes_much() -> None:
    box = np.array([0.0, 0.0, 100.0, 100.0])
    assert [n_halvings(box * size, 64) for size in (0.5, 1.2, 1.3, 2.4, 2.5)] == [0, 0, 1, 1, 2]
    assert [n_halvings(box * size, 64, last=1) for size in (1.0, 1.1, 2.6, 2.8)] == [0, 1, 1, 2]


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_a_reduced_picture_gives_the_patch_of_the_whole_one(halvings: int) -> None:
    """A smooth picture looks the same however it is reduced, at the border and beyond it too."""
    y, x = np.mgrid[:240, :320]
    frame = np.stack([x * 0.7, y, 120 + 60 * np.sin(x / 40)], axis=-1).astype(np.uint8)
    for box in (np.array([110.3, 60.7, 90, 110]), np.array([-20.0, -30, 100, 120]), np.array([250.0, 150, 100, 120])):
        for size_px, margin in ((64, 0.0), (80, 0.1)):
            exact = face_picture(frame, box, 0, 0.1).patch(box, size_px, margin)
            assert np.abs(face_picture(frame, box, halvings, 0.1).patch(box, size_px, margin) - exact).max() < 2.5


def test_a_picture_serves_again_only_where_it_shows_the_box() -> None:
    box = np.array([110.0, 60.0, 90.0, 110.0])
    made = face_picture(face(), box, 1, 0.3)
    assert face_picture(face(), box + np.array([8, -6, 4, 4]), 0, 0.1, made) is made
    other = face_picture(face(), box + np.array([60, 0, 0, 0]), 0, 0.1, made)
    assert other is not made and other.place.halvings == 0
    assert face_picture(face()[:32, :32], np.array([5.0, 5, 500, 500]), 5, 0.1).patch(box).shape == (64, 64, 3)


def test_cells_are_the_means_of_a_raster_row_by_row() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    means = frames.reshape(3, 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(3, 64, 3)
    np.testing.assert_allclose(cells_of(frames, 8), means.transpose(1, 0, 2), atol=1e-3)
    assert cells_of(frames[:, :36, :36], 8).shape == (64, 3, 3), "sides that 8 does not divide"


@pytest.mark.parametrize("factor", [0.12, 0.5, 1.0])
def test_cells_of_a_face_are_skin_and_wall_and_hair_are_not(factor: float) -> None:
    crop = face_patch((face() * factor).astype(np.uint8), np.array([110.0, 60, 90, 110]), 64, margin=0.3)
    share = skin_of_cells(cells_of(crop[None].astype(np.uint8), 8)[:, 0]).reshape(8, 8)
    assert share[3:6, 3:5].min() > 0.9
    assert share[:, 0].max() < 0.05 and share[0].max() < 0.2
