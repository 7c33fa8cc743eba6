"""Portraits: where the pulse is put on a photograph. Drawn faces stand in for photographs, so the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autohr.errors import BadRecording
from autohr.lab.synth.face import DISPLAY_GAMMA, EYES, FaceTexture, Identity
from autohr.lab.synth.portrait import LANDMARKS_FILE, Portrait, load_portraits, portrait_texture
from autohr.types import Float
from made_faces import PERSON, photograph, save_portraits


def portrait_of(identity: Identity, face_px: float = 150) -> tuple[Portrait, FaceTexture]:
    rgb, drawn = photograph(identity, face_px)
    return Portrait("drawn", rgb, drawn.mesh_xyz), drawn


def around(image: Any, points: Float, radius: float = 3) -> Float:
    """(K,) mean of an image (H, W) around each point."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([image[np.hypot(x - px, y - py) < radius].mean() for px, py in points])


@pytest.mark.parametrize("melanin", [0.0, 0.3, 0.6, 1.0])
def test_blood_is_on_skin_of_every_tone_and_nowhere_else(melanin: float) -> None:
    portrait, _ = portrait_of(Identity(seed=3, melanin=melanin, hair_style="short"))
    texture = portrait_texture(portrait, 120, np.random.default_rng(0))
    cheeks_and_forehead = texture.landmarks[[50, 280, 205, 425, 151, 69, 299]]
    assert around(texture.blood, cheeks_and_forehead).min() > 0.3
    eyes = np.array([texture.landmarks[list(ring)].mean(axis=0) for ring in EYES])
    assert around(texture.blood, eyes).max() < 0.05
    height, width = texture.blood.shape
    assert texture.blood[:, : width // 8].max() < 0.02
    assert texture.blood[: height // 16].max() < 0.02
    assert portrait.skin_share > 0.4


def test_the_map_is_like_the_drawing_that_the_picture_was_made_from() -> None:
    portrait, drawn = portrait_of(Identity(seed=5, melanin=0.5, hair_style="short", beard="full"))
    texture = portrait_texture(portrait, 150, np.random.default_rng(0))
    assert texture.blood.shape == drawn.blood.shape
    # What counts as skin is skin but for single hairs, the greater part of the skin is found, the beard is not skin.
    assert drawn.skin[texture.skin].mean() > 0.85
    assert texture.skin[drawn.skin].mean() > 0.55
    chin = texture.landmarks[[152, 199, 175]].mean(axis=0)[None]
    assert around(texture.blood, chin)[0] < 0.5


@pytest.mark.parametrize("cast", [(1.0, 0.7, 0.45), (0.6, 0.8, 1.0)])
def test_coloured_light_does_not_matter(cast: tuple[float, float, float]) -> None:
    rgb, drawn = photograph()
    light = (rgb / 255) ** DISPLAY_GAMMA * np.array(cast)
    tinted = np.round(255 * light ** (1 / DISPLAY_GAMMA)).astype(np.uint8)
    texture = portrait_texture(Portrait("tinted", tinted, drawn.mesh_xyz), 120, np.random.default_rng(0))
    assert around(texture.blood, texture.landmarks[[50, 280, 151]]).min() > 0.3


@pytest.mark.parametrize("face_px", [60.0, 150.0, 260.0])
def test_a_texture_keeps_its_promises(face_px: float) -> None:
    portrait, _ = portrait_of(Identity(seed=7, melanin=0.3, hair_style="side"))
    texture = portrait_texture(portrait, face_px, np.random.default_rng(2))
    received = (texture.diffuse[..., 1] + texture.specular)[texture.skin]
    beating = (texture.diffuse[..., 1] * texture.blood)[texture.skin]
    assert beating.sum() / received.sum() == pytest.approx(1, abs=1e-3)
    assert abs(float(texture.delay_s[texture.skin].mean())) < 1e-3
    assert np.abs(texture.delay_s).max() <= 0.02
    assert texture.blood[texture.skin].min() > 0.2
    assert texture.shine.max() <= 0.25
    assert texture.shine[texture.skin].min() > 0.005
    assert texture.diffuse.min() >= 0 <= texture.specular.min()
    for name in ("diffuse", "specular", "shine", "alpha", "blood", "delay_s"):
        assert getattr(texture, name).dtype == np.float32, name
        assert np.isfinite(getattr(texture, name)).all(), name
    assert np.linalg.norm(texture.landmarks[152] - texture.landmarks[10]) == pytest.approx(face_px, rel=0.01)
    assert texture.centre_xy == pytest.approx(tuple((texture.landmarks[10] + texture.landmarks[152]) / 2))


def test_the_light_of_the_photograph_is_kept() -> None:
    """Gloss is taken out of the diffuse light, not added to the picture."""
    portrait, drawn = portrait_of(Identity(seed=7, melanin=0.3))
    texture = portrait_texture(portrait, drawn.face_px, np.random.default_rng(2))
    light = texture.diffuse + texture.specular[..., None]
    assert np.abs(light - (portrait.rgb / 255) ** DISPLAY_GAMMA).max() < 1e-3


def test_chance_draws_the_blood_and_nothing_of_the_picture() -> None:
    portrait, _ = portrait_of(Identity(seed=7, melanin=0.3))
    first, again, other = (portrait_texture(portrait, 100, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.blood, again.blood)
    assert np.array_equal(first.skin, other.skin)
    assert np.array_equal(first.diffuse, other.diffuse)
    assert np.abs(first.blood - other.blood)[first.skin].mean() > 0.02


def test_a_person_is_cut_out_of_a_plain_wall_but_not_of_his_like() -> None:
    portrait, drawn = portrait_of(PERSON)
    assert portrait.cut_out
    kept = portrait_texture(portrait, 150, np.random.default_rng(0))
    assert kept.alpha.min() == 1
    texture = portrait_texture(portrait, 150, np.random.default_rng(0), cut_out=True)
    assert np.abs(texture.alpha - drawn.alpha).mean() < 0.03

    # A wall that is nothing but pieces of the person.
    rgb = portrait.rgb.copy()
    pieces = rgb[drawn.alpha > 0.99]
    wall = drawn.alpha < 0.5
    rgb[wall] = np.random.default_rng(0).choice(pieces, int(wall.sum()))
    hidden = Portrait("hidden", rgb, portrait.mesh_xyz)
    assert not hidden.cut_out
    with pytest.raises(ValueError, match="cut_out=False"):
        portrait_texture(hidden, 150, np.random.default_rng(0), cut_out=True)


def test_a_covered_face_is_refused() -> None:
    portrait, drawn = portrait_of(Identity(seed=3))
    rgb = portrait.rgb.copy()
    x, y, width, height = (round(v) for v in drawn.box_xywh)
    patchwork = np.random.default_rng(0).integers(0, 255, (height // 12 + 1, width // 12 + 1, 3), dtype=np.uint8)
    rgb[y : y + height, x : x + width] = np.kron(patchwork, np.ones((12, 12, 1), np.uint8))[:height, :width]
    with pytest.raises(BadRecording, match="bare skin"):
        portrait_texture(Portrait("covered", rgb, portrait.mesh_xyz), 100, np.random.default_rng(0))


@pytest.mark.parametrize("face_px", [5, 5000, float("nan")])
def test_a_size_beyond_sense_is_refused(face_px: float) -> None:
    portrait, _ = portrait_of(Identity(seed=3), face_px=60)
    with pytest.raises(ValueError, match="16..1200"):
        portrait_texture(portrait, face_px, np.random.default_rng(0))


def test_a_portrait_of_another_kind_of_array_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        Portrait("x", np.zeros((9, 9), np.uint8), np.zeros((468, 3)))
    with pytest.raises(ValueError, match="468"):
        Portrait("x", np.zeros((9, 9, 3), np.uint8), np.zeros((468, 2)))


def test_a_folder_is_read_in_order_and_what_has_no_landmarks_is_left_out(tmp_path: Path) -> None:
    rgb, drawn = photograph(face_px=60)
    save_portraits(tmp_path, dict.fromkeys("bac", rgb), drawn.mesh_xyz)
    marks = {"a": drawn.mesh_xyz, "c": drawn.mesh_xyz.astype(np.float32), "triangles": np.zeros((4, 3), np.int16)}
    np.savez(tmp_path / LANDMARKS_FILE, **marks)  # type: ignore[arg-type]
    portraits = load_portraits(tmp_path)
    assert [portrait.name for portrait in portraits] == ["a", "c"]
    assert np.array_equal(portraits[0].rgb, rgb)
    assert portraits[0].face_px == pytest.approx(60, rel=0.05)


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    rgb, drawn = photograph(face_px=60)
    folder, marks, picture = tmp_path / "x", tmp_path / "x" / LANDMARKS_FILE, tmp_path / "x" / "a.png"

    def refused(words: str) -> None:
        with pytest.raises(BadRecording, match=words):
            load_portraits(folder)

    refused("not a folder")
    folder.mkdir()
    refused(f"has no {LANDMARKS_FILE}")
    marks.write_bytes(b"PK\x03\x04 not really")
    refused("damaged")
    np.savez(marks, b=drawn.mesh_xyz)
    refused("no picture")
    save_portraits(folder, {"a": rgb}, drawn.mesh_xyz)
    assert len(load_portraits(folder)) == 1
    for wrong, words in (
        ({"b": drawn.mesh_xyz}, "none with landmarks"),
        ({"a": drawn.mesh_xyz[:, :2]}, r"\(468, 2\)"),
        ({"a": np.full((468, 3), np.nan)}, "not finite"),
        ({"a": drawn.mesh_xyz + 5000}, "lies in its picture"),
    ):
        np.savez(marks, **wrong)
        refused(words)
    np.savez(marks, a=drawn.mesh_xyz)
    for content in (b"\x89PNG\r\n\x1a\n cut off", b""):
        picture.write_bytes(content)
        refused(r"a\.png cannot be read")
