"""Synthetic faces: what was asked of a scene is in its pixels, and nothing else is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autohr.errors import BadRecording
from autohr.lab.synth import face as faces
from autohr.lab.synth import video as scenes
from autohr.lab.synth.face import Identity, Illumination, draw_face, random_identity
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.video import SceneConfig, decoys, read_truth, render, truth, truth_path, write_scene
from autohr.types import Float, Frame
from made_faces import STATUE, WALL, photograph, save_portraits

Mask = NDArray[np.bool_]

PLAIN = SceneConfig(
    width=320, height=240, head=STATUE, light_drift=0.0, noise_sd=0.0, identity=Identity(), light=Illumination()
)
"""Nothing happens but the pulse."""
QUIET = replace(PLAIN, noise_sd=1.0)
"""The same with the noise that lets a pulse below one grey level through."""
BARE_WALL = replace(PLAIN, kind="wall", background="plain", width=48, height=32, noise_sd=1.0)


def trace(config: SceneConfig, masks: list[Mask]) -> Float:
    """(len(masks), T, 3) mean linear light of each region."""
    rows = []
    for frame, _ in render(config):
        light = (frame / 255.0) ** config.gamma
        rows.append([light[mask].mean(axis=0) for mask in masks])
    return np.array(rows).transpose(1, 0, 2)


def regions(config: SceneConfig) -> dict[str, Mask]:
    """Masks (H, W) of bare skin, hair, background and clothes of a still scene with one face."""
    texture = draw_face(config.identity or Identity(), config.height_of_faces, config.light)
    # Where the middle of the face lies is read off the truth's box, which is the outline of the same landmarks.
    box, at = truth(config).box_xywh[0], texture.box_xywh
    shift = (box[0] - at[0], box[1] - at[1])
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)

    def moved(image: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(cv2.warpAffine(image.astype(np.float32), matrix, (config.width, config.height)))

    cover = moved(texture.alpha)
    x, y = np.meshgrid(np.arange(config.width), np.arange(config.height))
    u, v = ((p - c - s) / texture.face_px for p, c, s in zip((x, y), texture.centre_xy, shift, strict=True))
    return {
        "skin": cv2.erode(moved(texture.skin), np.ones((3, 3))) > 0.99,
        "hair": (np.hypot(u / 0.3, (v + 0.65) / 0.06) < 1) & (cover > 0.99),
        "clothes": (v > 0.98) & (np.abs(u) < 0.3) & (cover > 0.99),
        "background": cover == 0,
    }


def depth_of_pulse(light: Float, bvp: Float) -> float:
    """Relative loss of light (T,) from the least to the most blood."""
    return -float(np.polyfit(bvp / np.ptp(bvp), light / light.mean(), 1)[0])


def frames_of(config: SceneConfig) -> Float:
    """(T, H, W, 3)"""
    return np.stack([frame for frame, _ in render(config)]).astype(np.float64)


# --- the face


def test_random_identities_differ_and_can_be_made_again() -> None:
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    people = [random_identity(rng) for _ in range(300)]
    assert people[:5] == [random_identity(again) for _ in range(5)]
    assert {person.hair_style for person in people} == set(faces._CUTS) | {"bald"}
    assert {person.beard for person in people} == {"none", "stubble", "moustache", "full"}
    melanin = np.array([person.melanin for person in people])
    assert np.histogram(melanin, bins=5, range=(0, 1))[0].min() > 30, "every skin tone is common"


@pytest.mark.slow
@pytest.mark.parametrize("hair_style", [*faces._CUTS, "bald"])
def test_every_style_draws_a_complete_face(hair_style: Any) -> None:
    identity = Identity(seed=3, hair_style=hair_style, beard="full", glasses="thick", melanin=0.6, freckles=0.5)
    texture = draw_face(identity, 60)
    for name in ("diffuse", "specular", "shine", "alpha", "blood", "delay_s"):
        assert np.isfinite(getattr(texture, name)).all(), name
        assert name == "delay_s" or getattr(texture, name).min() >= 0, name
    assert texture.alpha.max() <= 1
    # The sides and the top are free, so that a warp may repeat the border.
    assert texture.alpha[0].max() == texture.alpha[:, 0].max() == texture.alpha[:, -1].max() == 0
    assert texture.blood[texture.alpha == 0].max() == 0
    assert texture.skin.sum() > 0.15 * 60 * 60
    assert abs(texture.delay_s).max() <= 0.02
    _, _, width, height = texture.box_xywh
    assert height == pytest.approx(60, rel=0.12)
    assert 0.6 < width / height < 1.1


def test_blood_is_normalised_to_the_light_of_the_skin_and_absent_from_eyes_hair_and_clothes() -> None:
    texture = draw_face(Identity(hair_style="short", beard="full"), 120)
    skin, blood = texture.skin, texture.blood
    received = texture.diffuse[..., 1] + texture.specular
    assert (texture.diffuse[..., 1] * blood)[skin].sum() / received[skin].sum() == pytest.approx(1.0, abs=1e-3)
    assert blood[round(texture.centre_xy[1] + 1.1 * 120) + 1 :].max() == 0, "clothes"
    for ring in faces.EYES:
        x, y = texture.landmarks[list(ring)].mean(axis=0).round().astype(int)
        assert blood[y, x] == 0, "eyes"
    (chin_x, chin_y), *bare = texture.landmarks[[152, 151, 50]].round().astype(int)
    assert blood[chin_y - 4, chin_x] < 0.15, "beard"
    assert all(blood[y, x] > 0.8 for x, y in bare), "forehead and cheek"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Identity(melanin=1.5), "melanin=1.5"),
        (lambda: Identity(nose_width=3), "nose_width=3"),
        (lambda: Identity(hair_style="mohawk"), "mohawk"),  # type: ignore[arg-type]
        (lambda: Illumination(azimuth_deg=120), "azimuth"),
        (lambda: draw_face(Identity(), 5), "face_px=5"),
    ],
)
def test_impossible_faces_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# --- the pulse in the pixels


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "noise_sd", "gamma"), [(0.01, 1.0, 2.2), (0.05, 0.0, 1.7), (0.05, 0.0, 2.2)])
def test_green_of_skin_follows_the_pulse_downwards_by_the_depth_asked_for(
    depth: float, noise_sd: float, gamma: float
) -> None:
    config = replace(PLAIN, pulse_depth=depth, noise_sd=noise_sd, gamma=gamma, duration_s=6 if noise_sd else 4)
    known, where = truth(config), regions(config)
    skin, background = trace(config, [where["skin"], where["background"]])
    assert np.corrcoef(skin[:, 1], known.bvp)[0, 1] < (-0.98 if noise_sd else -0.99)
    red, green, blue = (depth_of_pulse(skin[:, channel], known.bvp) for channel in range(3))
    assert green == pytest.approx(depth, rel=0.15)
    assert red < blue < green, "the blood's signature"
    assert noise_sd or np.ptp(background, axis=0).max() == 0


def test_the_pulse_touches_nothing_but_skin() -> None:
    """The same scene with and without a pulse, noise and all: every other pixel is equal to the bit."""
    config = replace(QUIET, pulse_depth=0.05, duration_s=1, background="room")
    where = regions(config)
    differs = (frames_of(config) != frames_of(replace(config, pulse_depth=0.0))).any(axis=(0, 3))
    for name in ("hair", "clothes", "background"):
        assert where[name].sum() > 100, name
        assert not differs[where[name]].any(), name
    assert differs[where["skin"]].mean() > 0.95


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    rgb, drawn = photograph(face_px=110)
    save_portraits(folder, {"anna": rgb}, drawn.mesh_xyz)
    return folder


def blood_in_frames(config: SceneConfig, monkeypatch: pytest.MonkeyPatch) -> Mask:
    """(T, H, W) where blood is, by rendering the map of the blood itself as if it were the face."""
    texture = scenes._texture(config, 0)
    dead = replace(config, pulse_depth=0.0, noise_sd=0.0)
    films = []
    for colour in (texture.blood > 0, np.zeros_like(texture.blood)):
        none = 0 * texture.blood
        marked = replace(texture, diffuse=np.repeat(colour[..., None], 3, axis=2).astype(np.float32))
        marked = replace(marked, specular=none, shine=none, blood=none)
        with monkeypatch.context() as patch:
            patch.setattr(scenes, "_texture", lambda _config, _number, one=marked: one)
            films.append(frames_of(dead))
    differs = (films[0] != films[1]).any(axis=3).astype(np.uint8)
    return np.stack([cv2.dilate(one, np.ones((3, 3), np.uint8)) > 0 for one in differs])


@pytest.mark.parametrize("made", ["drawn", "portrait", "cut out"])
def test_the_pulse_touches_nothing_but_skin_while_the_head_lives(
    made: str, portraits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scene with and without a pulse, while the head turns, talks, blinks and is lit by a screen."""
    head = HeadMotion(sway=1.0, turn_deg=6, talk=1.0, expression=1.0, blinks_per_min=50)
    portrait = None if made == "drawn" else str(portraits / "anna.png")
    config = replace(QUIET, head=head, pulse_depth=0.1, duration_s=2, fps=5, screen_depth=0.03, width=200, height=160)
    config = replace(config, portrait=portrait, cut_out=made == "cut out")
    differs = (frames_of(config) != frames_of(replace(config, pulse_depth=0.0))).any(axis=3)
    allowed = blood_in_frames(config, monkeypatch)
    assert not (differs & ~allowed).any()
    shares = allowed.mean(axis=(1, 2))
    assert (shares > 0.02).all() and (shares < 0.4).all(), "a face, not the picture"
    assert (differs & allowed).sum() > 10_000


@pytest.mark.parametrize("cut_out", [False, True])
def test_a_portrait_beats_in_a_scene(cut_out: bool, portraits: Path) -> None:
    anna = str(portraits / "anna.png")
    config = replace(QUIET, portrait=anna, cut_out=cut_out, pulse_depth=0.03, duration_s=5, fps=15)
    known = truth(config)
    x, y, width, height = known.box_xywh[0]
    assert height == pytest.approx(config.height_of_faces, rel=0.15)
    assert x + width / 2 == pytest.approx(160, abs=8)
    cheek, corner = np.zeros((2, 240, 320), bool)
    cheek[round(y + 0.45 * height) : round(y + 0.65 * height), round(x + 0.15 * width) : round(x + 0.85 * width)] = True
    corner[:40, :40] = True
    face, behind = trace(config, [cheek, corner])
    assert np.corrcoef(face[:, 1], known.bvp)[0, 1] < -0.95
    assert 0.01 < depth_of_pulse(face[:, 1], known.bvp) < 0.06
    assert abs(np.corrcoef(behind[:, 1], known.bvp)[0, 1]) < 0.4
    # Behind him is his own wall, or the scene's background.
    off = np.abs(behind.mean(axis=0) / (0.75 * np.array(WALL)) - 1).max()
    assert (off > 0.1) if cut_out else (off < 0.1)


def test_a_portrait_that_is_not_there_is_named(portraits: Path) -> None:
    with pytest.raises(BadRecording, match="no portrait 'bob'"):
        truth(replace(PLAIN, portrait=str(portraits / "bob.png")))


@pytest.mark.slow
def test_a_pulse_of_zero_leaves_no_line() -> None:
    lines = []
    for depth in (0.0, 0.01):
        config = replace(QUIET, pulse_depth=depth, hr_bpm=80.0, hrv=0.0, light_drift=0.02, width=200, height=150)
        (skin,) = trace(config, [regions(config)["skin"]])
        t_s = np.arange(len(skin)) / 30
        # Drift is slow: take it out, or it hides the floor.
        green = skin[:, 1] - np.polynomial.Polynomial.fit(t_s, skin[:, 1], 8)(t_s)
        power = np.abs(np.fft.rfft((green - green.mean()) * np.hanning(len(green)), 16 * len(green)))
        rates_bpm = 60 * np.fft.rfftfreq(16 * len(green), 1 / 30)
        band = (rates_bpm > 40) & (rates_bpm < 240)
        lines.append(float(power[np.abs(rates_bpm - 80).argmin()] / np.median(power[band])))
    assert lines[0] < 5
    assert lines[1] > 15


def test_truth_without_pulse_knows_no_rate() -> None:
    for name, full in decoys(duration_s=1).items():
        known = truth(replace(full, width=96, height=72))
        assert known.mean_hr_bpm is None, name
        assert len(known.beats_s) == 0 and not known.bvp.any() and np.isnan(known.hr_bpm).all(), name
        assert np.isnan(known.box_xywh).all() == (full.kind == "wall"), name


def test_truth_follows_a_ramp() -> None:
    known = truth(replace(PLAIN, duration_s=30, hr_bpm=(60.0, 120.0), hrv=0.0))
    assert known.hr_bpm[[0, -1]] == pytest.approx([60, 120], abs=0.5)
    assert known.mean_hr_bpm == pytest.approx(90, abs=0.5)
    assert (60 / np.diff(known.beats_s))[[0, -1]] == pytest.approx([61, 119], abs=1.5)
    assert len(known.bvp) == len(known.t_s) == 900


def test_faces_of_one_scene_have_hearts_of_their_own() -> None:
    config = replace(PLAIN, n_faces=3, hr_bpm=60.0, other_hr_bpm=(90.0,), hrv=0.0, face_px=60, duration_s=20)
    known = [truth(config, face) for face in range(3)]
    assert [one.mean_hr_bpm for one in known[:2]] == pytest.approx([60, 90], abs=0.5)
    left_edges = [one.box_xywh[0, 0] for one in known]
    assert left_edges == sorted(left_edges)
    with pytest.raises(ValueError, match=r"face=3 .* 3 face"):
        truth(config, 3)


# --- the rest of the world


@pytest.mark.slow
def test_the_same_config_gives_the_same_frames_and_another_seed_others() -> None:
    config = SceneConfig(duration_s=0.5, width=160, height=120, seed=7, jitter_s=0.002, drop_share=0.2, n_faces=2)
    first, second = list(render(config)), list(render(config))
    other = list(render(replace(config, seed=8)))
    assert [t for _, t in first] == [t for _, t in second] == list(truth(config).t_s)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    assert not np.array_equal(first[0][0], other[0][0])
    assert first[0][0].shape == (120, 160, 3)
    assert first[0][0].dtype == np.uint8


def test_rendering_streams() -> None:
    endless = SceneConfig(duration_s=120, width=64, height=48)
    assert len(list(itertools.islice(render(endless), 3))) == 3


def test_noise_has_the_size_asked_for_and_no_rhythm() -> None:
    frames = frames_of(replace(BARE_WALL, noise_sd=2, width=96, height=96, duration_s=20))
    assert frames.std(axis=0).mean() == pytest.approx(2, rel=0.05)
    means = frames[:, 24:72, 24:72, 1].mean(axis=(1, 2))
    power = np.abs(np.fft.rfft(means - means.mean())) ** 2
    assert power.max() < 12 * power[1:].mean(), "white: no bin stands out"
    channels = np.corrcoef((frames - frames.mean(axis=0))[:, 10, 10].T)
    assert abs(channels[np.triu_indices(3, 1)]).max() < 0.2


def wall_light(**changes: Any) -> Float:
    """(T, 3) mean linear light of a wall."""
    config = replace(BARE_WALL, **changes)
    return np.asarray(trace(config, [np.ones((config.height, config.width), bool)])[0])


@pytest.mark.parametrize("gamma", [1.7, 2.2, 2.6])
def test_flicker_is_in_everything_with_its_depth_whatever_the_cameras_curve(gamma: float) -> None:
    light = wall_light(flicker_hz=1.5, flicker_depth=0.04, duration_s=4, gamma=gamma)
    assert np.ptp(light[:, 1]) / light[:, 1].mean() == pytest.approx(0.04, rel=0.15)


def test_exposure_is_a_factor_of_the_light() -> None:
    bright, dark = (wall_light(duration_s=1, exposure=exposure) for exposure in (1.0, 0.5))
    assert dark.mean() / bright.mean() == pytest.approx(0.5, rel=0.02)


def test_a_screen_lights_by_steps_of_strength_and_colour() -> None:
    light = wall_light(duration_s=120, fps=20, screen_depth=0.03)
    relative = light / light.mean(axis=0) - 1
    assert relative.std(axis=0) == pytest.approx([0.03] * 3, rel=0.35)
    # It jumps now and then and rests between.
    step = np.abs(np.diff(relative[:, 1]))
    assert np.median(step) < 0.002
    assert 10 < (step > 0.01).sum() < 300
    assert 0.3 < np.corrcoef(relative.T)[0, 1] < 0.95, "strength in common, and colours of their own"
    assert wall_light(duration_s=5, fps=20).std(axis=0).max() < 5e-4


def test_a_screen_may_light_the_face_alone() -> None:
    def skin_and_background(room_light: float) -> list[Float]:
        config = replace(QUIET, duration_s=3, pulse_depth=0.0, screen_depth=0.1, room_light=room_light)
        where = regions(config)
        return [light[:, 1] / light[:, 1].mean() for light in trace(config, [where["skin"], where["background"]])]

    skin, background = skin_and_background(0.0)
    assert np.ptp(skin) > 0.05
    assert np.ptp(background) < 0.002
    skin, background = skin_and_background(1.0)
    assert np.corrcoef(skin, background)[0, 1] > 0.99
    assert np.ptp(background) == pytest.approx(np.ptp(skin), rel=0.15)


def test_auto_exposure_takes_slow_changes_back_and_leaves_quick_ones() -> None:
    lights = [wall_light(duration_s=60, fps=10, light_drift=0.1, auto_exposure=share) for share in (0.0, 0.5, 1.0)]
    free, half, held = (float(light.mean(axis=1).std() / light.mean()) for light in lights)
    assert held < 0.25 * free
    assert half == pytest.approx(0.5 * free, rel=0.2)
    quick = {"duration_s": 6, "flicker_hz": 2.0, "flicker_depth": 0.05}
    depths = [float(np.ptp(wall_light(**quick, auto_exposure=share)[60:, 1])) for share in (0.0, 1.0)]
    assert depths[1] > 0.75 * depths[0]


def test_a_background_moves_without_the_face() -> None:
    still = replace(PLAIN, duration_s=2, fps=10, pulse_depth=0.0)
    where = regions(still)
    moving, calm = (frames_of(replace(still, background_motion=motion)).std(axis=0) for motion in (1.0, 0.2))
    assert moving[where["background"]].mean() > 3
    assert moving[where["skin"]].max() == 0
    assert calm[where["background"]].mean() < 0.5 * moving[where["background"]].mean()


@pytest.mark.slow
def test_a_moving_head_is_where_the_truth_says() -> None:
    config = replace(PLAIN, head=HeadMotion(1.0, 0, 0, 0, 0, "nod", 1.0, 0.05), background="plain", duration_s=3)
    boxes = truth(config).box_xywh
    assert boxes[:, 0].std() > 0.5
    frames = frames_of(config).astype(np.float32)
    for index in (30, 60, 85):
        (x0, y0, w0, h0), (x, y, w, h) = boxes[0], boxes[index]
        left, top = int(x0 + 0.15 * w), int(y0 + 0.1 * h)
        patch = frames[0, top : int(y0 + 0.8 * h), left : int(x0 + 0.85 * w)]
        _, best, _, at = cv2.minMaxLoc(cv2.matchTemplate(frames[index], patch, cv2.TM_CCOEFF_NORMED))
        assert best > 0.6
        assert at[0] - left == pytest.approx(x + 0.5 * w - x0 - 0.5 * w0, abs=4)
        assert at[1] - top == pytest.approx(y + 0.5 * h - y0 - 0.5 * h0, abs=4)


def test_heads_stay_in_the_picture() -> None:
    config = replace(PLAIN, head=HeadMotion(sway=4.0), duration_s=60, fps=10, face_px=150, n_faces=2)
    for face in range(2):
        boxes = truth(config, face).box_xywh
        middle = boxes[:, :2] + boxes[:, 2:] / 2
        assert (middle > 0).all()
        assert (middle < (320, 240)).all()


def test_a_still_photograph_does_not_change() -> None:
    frames = frames_of(replace(decoys(0.3)["still_photo"], noise_sd=0.0, width=160, height=120))
    assert np.ptp(frames, axis=0).max() == 0
    assert frames[0].std() > 20


# --- files


def decoded(path: Path) -> tuple[Float, list[Frame]]:
    with av.open(str(path)) as container:
        found = [(float(one.time or 0), one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]
    return np.array([time for time, _ in found]), [frame.astype(np.uint8) for _, frame in found]


@pytest.mark.slow
@pytest.mark.parametrize("steady", [True, False])
def test_a_written_scene_reads_back(tmp_path: Path, steady: bool) -> None:
    config = SceneConfig(duration_s=2, width=160, height=120, fps=25, seed=3)
    if not steady:
        config = replace(config, jitter_s=0.004, drop_share=0.1)
    path = tmp_path / "clip.mp4"
    known = write_scene(config, path, crf=20)
    times_s, frames = decoded(path)
    assert len(frames) == len(known.t_s) == (50 if steady else len(truth(config).t_s))
    assert np.allclose(times_s - times_s[0], known.t_s, atol=1.5e-3)
    assert (len(known.t_s) < 50) == (not steady)
    assert np.abs(frames[0].astype(float) - next(render(config))[0]).mean() < 4
    (again,) = read_truth(path)
    assert again.mean_hr_bpm == known.mean_hr_bpm
    for name in ("t_s", "bvp", "hr_bpm", "beats_s", "box_xywh"):
        assert np.allclose(getattr(again, name), getattr(known, name), atol=0.01), name


@pytest.mark.slow
def test_the_pulse_survives_the_encoder(tmp_path: Path) -> None:
    head = HeadMotion(0.3, 0, 0, 0, 0)
    config = replace(QUIET, pulse_depth=0.015, hr_bpm=72.0, hrv=0.0, head=head, light_drift=0.01)
    known = write_scene(config, tmp_path / "clip.mp4", crf=18)
    values = np.array(
        [
            rgb[int(y + 0.05 * h) : int(y + 0.8 * h), int(x + 0.2 * w) : int(x + 0.8 * w), 1].mean()
            for rgb, (x, y, w, h) in zip(decoded(tmp_path / "clip.mp4")[1], known.box_xywh, strict=True)
        ]
    )
    values = values - np.polynomial.Polynomial.fit(known.t_s, values, 5)(known.t_s)
    power = np.abs(np.fft.rfft(values * np.hanning(len(values)), 8192))
    rates_bpm = 60 * np.fft.rfftfreq(8192, 1 / 30)
    band = (rates_bpm > 45) & (rates_bpm < 180)
    assert rates_bpm[band][power[band].argmax()] == pytest.approx(72, abs=2)


def test_a_wall_is_written_without_a_rate(tmp_path: Path) -> None:
    config = replace(decoys(0.2)["wall"], width=64, height=48)
    write_scene(config, tmp_path / "wall.mkv", codec="ffv1", pix_fmt="yuv444p")
    (known,) = read_truth(truth_path(tmp_path / "wall.mkv"))
    assert known.mean_hr_bpm is None
    assert np.isnan(known.box_xywh).all()


def test_foreign_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="does not exist"):
        read_truth(tmp_path / "nothing.mp4")
    path = tmp_path / "x.truth.json"
    for text in ("no json", "{}", '{"schema": "other/1"}', "[1]"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadRecording, match=r"x\.truth\.json"):
            read_truth(path)


OUT_OF_RANGE = (
    *(("kind", "dog"), ("background", "sea"), ("width", 10), ("fps", 0), ("duration_s", -1), ("pulse_depth", -0.1)),
    *(("seed", -1), ("screen_depth", 0.5), ("room_light", 2), ("auto_exposure", -1), ("gamma", 0.5), ("noise_sd", -1)),
    *(("background_motion", 2), ("n_faces", 0), ("drop_share", 1.0)),
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({name: value}, f"{name}={value!r}") for name, value in OUT_OF_RANGE),
        ({"fps": float("nan")}, "fps=nan"),
        ({"width": 321}, "odd"),
        ({"duration_s": 0.06, "fps": 10}, "two frames"),
        ({"hr_bpm": 5.0}, "5.0 bpm"),
        ({"hr_bpm": (60.0, 400.0)}, "400.0 bpm"),
        ({"hr_bpm": (60.0, 70.0, 80.0)}, "hr_bpm="),
        ({"other_hr_bpm": (0.0,)}, "0.0 bpm"),
        ({"kind": "photo", "pulse_depth": 0.01}, "photograph"),
        ({"flicker_depth": 0.1}, "flicker_hz"),
        ({"flicker_rgb": (1.0, 2.0, 1.0)}, "flicker_rgb"),
        ({"cut_out": True}, "needs a portrait"),
        ({"face_px": 4000}, "does not fit"),
        ({"n_faces": 8, "width": 64, "height": 64}, "too small"),
    ],
)
def test_impossible_scenes_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SceneConfig(**change)
