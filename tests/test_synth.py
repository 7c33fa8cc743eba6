"""Synthetic faces: what was asked of a scene is in its pixels, and nothing else is."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
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
from autohr.lab.synth.face import DISPLAY_GAMMA, Identity, Illumination, draw_face, random_identity
from autohr.lab.synth.life import HeadMotion
from autohr.lab.synth.portrait import LANDMARKS_FILE
from autohr.lab.synth.video import SceneConfig, decoys, read_truth, render, truth, truth_path, write_scene
from autohr.types import Float, Frame

Mask = NDArray[np.bool_]

STATUE = HeadMotion(0, 0, 0, 0, 0)
PLAIN = SceneConfig(
    duration_s=10,
    width=320,
    height=240,
    head=STATUE,
    light_drift=0.0,
    noise_sd=0.0,
    identity=Identity(hair_style="short"),
    light=Illumination(),
)
"""Nothing happens but the pulse."""
QUIET = dataclasses.replace(PLAIN, noise_sd=1.0)
"""The same with the noise that lets a pulse below one grey level through."""


def linear(values: Float | Frame, gamma: float = DISPLAY_GAMMA) -> Float:
    """Display values 0..255 as linear light 0..1."""
    return np.asarray((np.asarray(values, np.float64) / 255) ** gamma)


def trace(config: SceneConfig, masks: list[Mask]) -> Float:
    """(len(masks), T, 3) mean linear light of each region."""
    rows = []
    for frame, _ in render(config):
        light = linear(frame, config.gamma)
        rows.append([light[mask].mean(axis=0) for mask in masks])
    return np.array(rows).transpose(1, 0, 2)


def regions(config: SceneConfig) -> dict[str, Mask]:
    """Masks (H, W) of bare skin, hair, background and clothes of a still scene with one face."""
    texture = draw_face(config.identity or Identity(), config.height_of_faces, config.light)
    cx, cy = texture.centre_xy
    # Where the middle of the face lies is read off the truth's box, which is the outline of the same landmarks.
    box, at = truth(config).box_xywh[0], texture.box_xywh
    shift = (box[0] - at[0], box[1] - at[1])
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)

    def moved(image: NDArray[Any]) -> NDArray[np.float32]:
        size = (config.width, config.height)
        return np.asarray(cv2.warpAffine(image.astype(np.float32), matrix, size))

    skin = cv2.erode(moved(texture.skin), np.ones((3, 3))) > 0.99
    cover = moved(texture.alpha)
    x, y = np.meshgrid(np.arange(config.width), np.arange(config.height))
    u, v = (x - cx - shift[0]) / texture.face_px, (y - cy - shift[1]) / texture.face_px
    return {
        "skin": skin,
        "hair": (np.hypot(u / 0.3, (v + 0.65) / 0.06) < 1) & (cover > 0.99),
        "clothes": (v > 0.98) & (np.abs(u) < 0.3) & (cover > 0.99),
        "background": cover == 0,
    }


def line_at(x: Float, fps: float, hr_bpm: float) -> float:
    """Amplitude of a sine at a rate, over the median amplitude between 40 and 240 bpm."""
    window = np.hanning(len(x))
    power = np.abs(np.fft.rfft((x - x.mean()) * window, 16 * len(x)))
    rates_bpm = 60 * np.fft.rfftfreq(16 * len(x), 1 / fps)
    band = (rates_bpm > 40) & (rates_bpm < 240)
    return float(power[np.abs(rates_bpm - hr_bpm).argmin()] / np.median(power[band]))


# --- the face


def test_random_identities_differ_and_can_be_made_again() -> None:
    rng = np.random.default_rng(5)
    people = [random_identity(rng) for _ in range(300)]
    assert people[:5] == [random_identity(again) for again in [np.random.default_rng(5)] for _ in range(5)]
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
    assert texture.diffuse.min() >= 0
    assert texture.alpha.min() >= 0
    assert texture.alpha.max() <= 1
    # The sides and the top are free, so that a warp may repeat the border.
    assert texture.alpha[0].max() == texture.alpha[:, 0].max() == texture.alpha[:, -1].max() == 0
    assert texture.blood.min() >= 0
    assert texture.blood[texture.alpha == 0].max() == 0
    assert texture.skin.sum() > 0.15 * 60 * 60
    assert abs(texture.delay_s).max() <= 0.02
    _, _, width, height = texture.box_xywh
    assert height == pytest.approx(60, rel=0.12)
    assert 0.6 < width / height < 1.1


def test_blood_is_normalised_to_the_light_of_the_skin_and_absent_from_eyes_hair_and_clothes() -> None:
    texture = draw_face(Identity(hair_style="short", beard="full"), 120)
    received = texture.diffuse[..., 1] + texture.specular
    skin = texture.skin
    share = (texture.diffuse[..., 1] * texture.blood)[skin].sum() / received[skin].sum()
    assert share == pytest.approx(1.0, abs=1e-3)
    rows = np.arange(texture.alpha.shape[0])[:, None] + 0 * texture.alpha
    assert texture.blood[rows > texture.centre_xy[1] + 1.1 * 120].max() == 0, "clothes"
    for ring in faces.EYES:
        x, y = texture.landmarks[list(ring)].mean(axis=0).round().astype(int)
        assert texture.blood[y, x] == 0, "eyes"
    x, y = texture.landmarks[152].round().astype(int)
    assert texture.blood[y - 4, x] < 0.15, "beard"
    forehead, chin = texture.landmarks[151].round().astype(int), texture.landmarks[50].round().astype(int)
    assert texture.blood[forehead[1], forehead[0]] > 0.8
    assert texture.blood[chin[1], chin[0]] > 0.8


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
def test_green_of_skin_follows_the_pulse_downwards_by_the_depth_asked_for() -> None:
    config = dataclasses.replace(QUIET, pulse_depth=0.01, duration_s=6)
    known, where = truth(config), regions(config)
    (skin,) = trace(config, [where["skin"]])
    green = skin[:, 1] / skin[:, 1].mean()
    assert np.corrcoef(green, known.bvp)[0, 1] < -0.98
    slope = np.polyfit(known.bvp / np.ptp(known.bvp), green, 1)[0]
    assert -slope == pytest.approx(0.01, rel=0.15)
    # Red gets less of the pulse than blue, and blue less than green: the blood's signature.
    depths = [-np.polyfit(known.bvp, skin[:, c] / skin[:, c].mean(), 1)[0] for c in range(3)]
    assert depths[0] < depths[2] < depths[1]


def test_the_pulse_touches_nothing_but_skin() -> None:
    """The same scene with and without a pulse, noise and all: every other pixel is equal to the bit."""
    config = dataclasses.replace(QUIET, pulse_depth=0.05, duration_s=1, background="room")
    where = regions(config)
    pairs = zip(render(config), render(dataclasses.replace(config, pulse_depth=0.0)), strict=True)
    differs = np.zeros((config.height, config.width), bool)
    for (beating, _), (dead, _) in pairs:
        differs |= (beating != dead).any(axis=2)
    for name in ("hair", "clothes", "background"):
        assert where[name].sum() > 100, name
        assert not differs[where[name]].any(), name
    assert differs[where["skin"]].mean() > 0.95


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one photograph: a drawn face before a wall."""
    folder = tmp_path_factory.mktemp("portraits")
    drawn = draw_face(Identity(seed=3, melanin=0.4, hair_style="short", clothes_rgb=(0.2, 0.2, 0.6)), 110)
    light = drawn.diffuse + drawn.specular[..., None]
    light = drawn.alpha[..., None] * light + (1 - drawn.alpha[..., None]) * np.array((0.25, 0.42, 0.30))
    noise = np.random.default_rng(1).normal(0, 1, light.shape)
    rgb = np.clip(255 * np.clip(0.75 * light, 0, 1) ** (1 / DISPLAY_GAMMA) + noise, 0, 255).round().astype(np.uint8)
    assert cv2.imwrite(str(folder / "anna.png"), rgb[..., ::-1])
    np.savez(folder / LANDMARKS_FILE, anna=drawn.mesh_xyz)
    return folder


def blood_in_frames(config: SceneConfig, monkeypatch: pytest.MonkeyPatch) -> list[Mask]:
    """(H, W) for each frame: where blood is, by rendering the map of the blood itself as if it were the face."""
    texture = scenes._texture(config, 0)
    nothing = np.zeros_like(texture.diffuse)
    marked = [
        dataclasses.replace(
            texture,
            diffuse=np.repeat(colour[..., None], 3, axis=2).astype(np.float32),
            specular=nothing[..., 0],
            shine=nothing[..., 0],
            blood=nothing[..., 0],
        )
        for colour in (texture.blood > 0, nothing[..., 0])
    ]
    dead = dataclasses.replace(config, pulse_depth=0.0, noise_sd=0.0)
    films = []
    for one in marked:
        with monkeypatch.context() as patch:
            patch.setattr(scenes, "_texture", lambda _config, _number, one=one: one)
            films.append([frame for frame, _ in render(dead)])
    around = np.ones((3, 3), np.uint8)
    return [
        cv2.dilate((with_it != without).any(axis=2).astype(np.uint8), around) > 0
        for with_it, without in zip(*films, strict=True)
    ]


@pytest.mark.parametrize("made", ["drawn", "portrait", "cut out"])
def test_the_pulse_touches_nothing_but_skin_while_the_head_lives(
    made: str, portraits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same scene with and without a pulse, while the head turns, talks, blinks and is lit by a screen."""
    head = HeadMotion(sway=1.0, turn_deg=6, talk=1.0, expression=1.0, blinks_per_min=50)
    config = dataclasses.replace(
        QUIET,
        head=head,
        pulse_depth=0.1,
        duration_s=2,
        fps=5,
        screen_depth=0.03,
        width=200,
        height=160,
        portrait=None if made == "drawn" else str(portraits / "anna.png"),
        cut_out=made == "cut out",
    )
    pairs = zip(render(config), render(dataclasses.replace(config, pulse_depth=0.0)), strict=True)
    touched = 0
    for ((beating, _), (dead, _)), allowed in zip(pairs, blood_in_frames(config, monkeypatch), strict=True):
        differs = (beating != dead).any(axis=2)
        assert not (differs & ~allowed).any()
        assert 0.02 < allowed.mean() < 0.4, "a face, not the picture"
        touched += int((differs & allowed).sum())
    assert touched > 10_000


@pytest.mark.parametrize("cut_out", [False, True])
def test_a_portrait_beats_in_a_scene(cut_out: bool, portraits: Path) -> None:
    config = dataclasses.replace(
        QUIET,
        portrait=str(portraits / "anna.png"),
        cut_out=cut_out,
        pulse_depth=0.03,
        duration_s=5,
        fps=15,
    )
    known = truth(config)
    x, y, width, height = known.box_xywh[0]
    assert height == pytest.approx(config.height_of_faces, rel=0.15)
    assert x + width / 2 == pytest.approx(160, abs=8)
    cheek = np.zeros((240, 320), bool)
    cheek[round(y + 0.45 * height) : round(y + 0.65 * height), round(x + 0.15 * width) : round(x + 0.85 * width)] = True
    corner = np.zeros((240, 320), bool)
    corner[:40, :40] = True
    face, behind = trace(config, [cheek, corner])
    green = face[:, 1] / face[:, 1].mean()
    assert np.corrcoef(green, known.bvp)[0, 1] < -0.95
    assert 0.01 < -np.polyfit(known.bvp / np.ptp(known.bvp), green, 1)[0] < 0.06
    assert abs(np.corrcoef(behind[:, 1], known.bvp)[0, 1]) < 0.4
    # Behind him is his own wall, or the scene's background.
    own = 0.75 * np.array((0.25, 0.42, 0.30))
    off = np.abs(behind.mean(axis=0) / own - 1).max()
    assert (off > 0.1) if cut_out else (off < 0.1)


def test_a_portrait_that_is_not_there_is_named(portraits: Path) -> None:
    with pytest.raises(BadRecording, match="no portrait 'bob'"):
        truth(dataclasses.replace(PLAIN, portrait=str(portraits / "bob.png")))


@pytest.mark.parametrize("gamma", [1.7, 2.2])
def test_without_noise_a_strong_pulse_is_exact(gamma: float) -> None:
    config = dataclasses.replace(PLAIN, pulse_depth=0.05, duration_s=4, gamma=gamma)
    known, where = truth(config), regions(config)
    (skin, background) = trace(config, [where["skin"], where["background"]])
    green = skin[:, 1] / skin[:, 1].mean()
    assert np.corrcoef(green, known.bvp)[0, 1] < -0.99
    assert -np.polyfit(known.bvp / np.ptp(known.bvp), green, 1)[0] == pytest.approx(0.05, rel=0.15)
    assert np.ptp(background, axis=0).max() == 0


@pytest.mark.slow
def test_a_pulse_of_zero_leaves_no_line() -> None:
    lines = []
    for depth in (0.0, 0.01):
        config = dataclasses.replace(
            QUIET, pulse_depth=depth, hr_bpm=80.0, hrv=0.0, light_drift=0.02, width=200, height=150
        )
        (skin,) = trace(config, [regions(config)["skin"]])
        t_s = np.arange(len(skin)) / 30
        # Drift is slow: take it out, or it hides the floor.
        green = skin[:, 1] - np.polynomial.Polynomial.fit(t_s, skin[:, 1], 8)(t_s)
        lines.append(line_at(green, 30, 80))
    assert lines[0] < 5
    assert lines[1] > 15


def test_truth_without_pulse_knows_no_rate() -> None:
    for name, full in decoys(duration_s=1).items():
        config = dataclasses.replace(full, width=96, height=72)
        known = truth(config)
        assert known.mean_hr_bpm is None, name
        assert len(known.beats_s) == 0
        assert not known.bvp.any()
        assert np.isnan(known.hr_bpm).all()
        assert np.isnan(known.box_xywh).all() == (config.kind == "wall")


def test_truth_follows_a_ramp() -> None:
    known = truth(dataclasses.replace(PLAIN, duration_s=30, hr_bpm=(60.0, 120.0), hrv=0.0))
    assert known.hr_bpm[0] == pytest.approx(60, abs=0.5)
    assert known.hr_bpm[-1] == pytest.approx(120, abs=0.5)
    assert known.mean_hr_bpm == pytest.approx(90, abs=0.5)
    rates_bpm = 60 / np.diff(known.beats_s)
    assert rates_bpm[0] == pytest.approx(61, abs=1.5)
    assert rates_bpm[-1] == pytest.approx(119, abs=1.5)
    assert len(known.bvp) == len(known.t_s) == 900


def test_faces_of_one_scene_have_hearts_of_their_own() -> None:
    config = dataclasses.replace(
        PLAIN, n_faces=3, hr_bpm=60.0, other_hr_bpm=(90.0,), hrv=0.0, face_px=60, duration_s=20
    )
    rates_bpm = [truth(config, face).mean_hr_bpm for face in range(3)]
    assert rates_bpm[0] == pytest.approx(60, abs=0.5)
    assert rates_bpm[1] == pytest.approx(90, abs=0.5)
    left_edges = [truth(config, face).box_xywh[0, 0] for face in range(3)]
    assert left_edges == sorted(left_edges)
    with pytest.raises(ValueError, match=r"face=3 .* 3 face"):
        truth(config, 3)


# --- the rest of the world


@pytest.mark.slow
def test_the_same_config_gives_the_same_frames_and_another_seed_others() -> None:
    config = SceneConfig(duration_s=0.5, width=160, height=120, seed=7, jitter_s=0.002, drop_share=0.2, n_faces=2)
    first, second = list(render(config)), list(render(config))
    other = list(render(dataclasses.replace(config, seed=8)))
    assert [t for _, t in first] == [t for _, t in second] == list(truth(config).t_s)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    assert not np.array_equal(first[0][0], other[0][0])
    assert first[0][0].shape == (120, 160, 3)
    assert first[0][0].dtype == np.uint8


def test_rendering_streams() -> None:
    endless = SceneConfig(duration_s=120, width=64, height=48)
    frames = list(itertools.islice(render(endless), 3))
    assert len(frames) == 3


def test_noise_has_the_size_asked_for_and_no_rhythm() -> None:
    config = SceneConfig(kind="wall", background="plain", light_drift=0, noise_sd=2, width=96, height=96, duration_s=20)
    frames = np.stack([frame for frame, _ in render(config)]).astype(np.float64)
    assert frames.std(axis=0).mean() == pytest.approx(2, rel=0.05)
    means = frames[:, 24:72, 24:72, 1].mean(axis=(1, 2))
    power = np.abs(np.fft.rfft(means - means.mean())) ** 2
    assert power.max() < 12 * power[1:].mean(), "white: no bin stands out"
    channels = np.corrcoef((frames - frames.mean(axis=0))[:, 10, 10].T)
    assert abs(channels[np.triu_indices(3, 1)]).max() < 0.2


WALL = dataclasses.replace(PLAIN, kind="wall", background="plain", width=48, height=32, noise_sd=1.0)


def seen(config: SceneConfig) -> Float:
    """(T, 3) mean linear light of a wall."""
    (light,) = trace(config, [np.ones((config.height, config.width), bool)])
    return np.asarray(light)


@pytest.mark.parametrize("gamma", [1.7, 2.2, 2.6])
def test_flicker_is_in_everything_with_its_depth_whatever_the_cameras_curve(gamma: float) -> None:
    config = dataclasses.replace(WALL, flicker_hz=1.5, flicker_depth=0.04, duration_s=4, gamma=gamma)
    light = seen(config)
    assert np.ptp(light[:, 1]) / light[:, 1].mean() == pytest.approx(0.04, rel=0.15)


def test_exposure_is_a_factor_of_the_light() -> None:
    bright, dark = (seen(dataclasses.replace(WALL, duration_s=1, exposure=exposure)) for exposure in (1.0, 0.5))
    assert dark.mean() / bright.mean() == pytest.approx(0.5, rel=0.02)


def test_a_screen_lights_by_steps_of_strength_and_colour() -> None:
    config = dataclasses.replace(WALL, duration_s=120, fps=20, screen_depth=0.03)
    light = seen(config)
    relative = light / light.mean(axis=0) - 1
    assert relative.std(axis=0) == pytest.approx([0.03] * 3, rel=0.35)
    # It jumps now and then and rests between.
    step = np.abs(np.diff(relative[:, 1]))
    assert np.median(step) < 0.002
    assert 10 < (step > 0.01).sum() < 300
    assert 0.3 < np.corrcoef(relative.T)[0, 1] < 0.95, "strength in common, and colours of their own"
    assert seen(dataclasses.replace(config, screen_depth=0.0, duration_s=5)).std(axis=0).max() < 5e-4


def test_a_screen_may_light_the_face_alone() -> None:
    config = dataclasses.replace(QUIET, duration_s=3, pulse_depth=0.0, screen_depth=0.1, room_light=0.0)
    where = regions(config)
    skin, background = (light / light.mean(axis=0) for light in trace(config, [where["skin"], where["background"]]))
    assert np.ptp(skin[:, 1]) > 0.05
    assert np.ptp(background[:, 1]) < 0.002
    shared = dataclasses.replace(config, room_light=1.0)
    skin, background = (light / light.mean(axis=0) for light in trace(shared, [where["skin"], where["background"]]))
    assert np.corrcoef(skin[:, 1], background[:, 1])[0, 1] > 0.99
    assert np.ptp(background[:, 1]) == pytest.approx(np.ptp(skin[:, 1]), rel=0.15)


def test_auto_exposure_takes_slow_changes_back_and_leaves_quick_ones() -> None:
    drifting = dataclasses.replace(WALL, duration_s=60, fps=10, light_drift=0.1)
    free, held, half = (
        seen(dataclasses.replace(drifting, auto_exposure=share)).mean(axis=1) for share in (0.0, 1.0, 0.5)
    )
    spread = [float(light.std() / light.mean()) for light in (free, half, held)]
    assert spread[2] < 0.25 * spread[0]
    assert spread[1] == pytest.approx(0.5 * spread[0], rel=0.2)
    beating = dataclasses.replace(WALL, duration_s=6, flicker_hz=2.0, flicker_depth=0.05)
    depths = [float(np.ptp(seen(dataclasses.replace(beating, auto_exposure=share))[60:, 1])) for share in (0.0, 1.0)]
    assert depths[1] > 0.75 * depths[0]


def test_a_background_moves_without_the_face() -> None:
    still = dataclasses.replace(PLAIN, duration_s=2, fps=10, pulse_depth=0.0)
    moving = dataclasses.replace(still, background_motion=1.0)
    where = regions(still)
    frames = np.stack([frame for frame, _ in render(moving)]).astype(float)
    assert frames.std(axis=0)[where["background"]].mean() > 3
    assert frames.std(axis=0)[where["skin"]].max() == 0
    calm = np.stack([frame for frame, _ in render(dataclasses.replace(still, background_motion=0.2))]).astype(float)
    assert calm.std(axis=0)[where["background"]].mean() < 0.5 * frames.std(axis=0)[where["background"]].mean()


@pytest.mark.slow
def test_a_moving_head_is_where_the_truth_says() -> None:
    config = dataclasses.replace(
        PLAIN, head=HeadMotion(1.0, 0, 0, 0, 0, "nod", 1.0, 0.05), background="plain", duration_s=3
    )
    boxes = truth(config).box_xywh
    assert boxes[:, 0].std() > 0.5
    frames = np.stack([frame for frame, _ in render(config)]).astype(np.float32)
    for index in (30, 60, 85):
        (x0, y0, _, _), (x, y, w, h) = boxes[0], boxes[index]
        patch = frames[0, int(y0 + 0.1 * h) : int(y0 + 0.8 * h), int(x0 + 0.15 * w) : int(x0 + 0.85 * w)]
        score = cv2.matchTemplate(frames[index], patch, cv2.TM_CCOEFF_NORMED)
        _, best, _, at = cv2.minMaxLoc(score)
        assert best > 0.6
        assert at[0] - int(x0 + 0.15 * w) == pytest.approx(x + 0.5 * w - x0 - 0.5 * boxes[0, 2], abs=4)
        assert at[1] - int(y0 + 0.1 * h) == pytest.approx(y + 0.5 * h - y0 - 0.5 * boxes[0, 3], abs=4)


def test_heads_stay_in_the_picture() -> None:
    config = SceneConfig(
        width=320, height=240, head=HeadMotion(sway=4.0), duration_s=60, fps=10, face_px=150, n_faces=2
    )
    for face in range(2):
        boxes = truth(config, face).box_xywh
        middle = boxes[:, :2] + boxes[:, 2:] / 2
        assert (middle > 0).all()
        assert (middle < (320, 240)).all()


def test_a_still_photograph_does_not_change() -> None:
    config = dataclasses.replace(decoys(0.3)["still_photo"], noise_sd=0.0, width=160, height=120)
    frames = [frame for frame, _ in render(config)]
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    assert frames[0].std() > 20


# --- files


@pytest.mark.slow
@pytest.mark.parametrize("steady", [True, False])
def test_a_written_scene_reads_back(tmp_path: Path, steady: bool) -> None:
    config = SceneConfig(duration_s=2, width=160, height=120, fps=25, seed=3)
    if not steady:
        config = dataclasses.replace(config, jitter_s=0.004, drop_share=0.1)
    path = tmp_path / "clip.mp4"
    known = write_scene(config, path, crf=20)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    times_s = np.array([time for time, _ in decoded])
    assert len(decoded) == len(known.t_s) == (50 if steady else len(truth(config).t_s))
    assert np.allclose(times_s - times_s[0], known.t_s, atol=1.5e-3)
    assert (len(known.t_s) < 50) == (not steady)
    frame = next(iter(render(config)))[0]
    assert np.abs(decoded[0][1].astype(float) - frame).mean() < 4
    (again,) = read_truth(path)
    assert again.mean_hr_bpm == known.mean_hr_bpm
    for name in ("t_s", "bvp", "hr_bpm", "beats_s", "box_xywh"):
        assert np.allclose(getattr(again, name), getattr(known, name), atol=0.01), name


@pytest.mark.slow
def test_the_pulse_survives_the_encoder(tmp_path: Path) -> None:
    config = dataclasses.replace(
        QUIET, pulse_depth=0.015, hr_bpm=72.0, hrv=0.0, head=HeadMotion(0.3, 0, 0, 0, 0), light_drift=0.01
    )
    path = tmp_path / "clip.mp4"
    known = write_scene(config, path, crf=18)
    green = []
    with av.open(str(path)) as container:
        for frame, (x, y, w, h) in zip(container.decode(video=0), known.box_xywh, strict=True):
            rgb = frame.to_ndarray(format="rgb24")
            part = rgb[int(y + 0.05 * h) : int(y + 0.8 * h), int(x + 0.2 * w) : int(x + 0.8 * w)]
            green.append(part[..., 1].mean())
    values = np.array(green)
    values = values - np.polynomial.Polynomial.fit(known.t_s, values, 5)(known.t_s)
    power = np.abs(np.fft.rfft(values * np.hanning(len(values)), 8192))
    rates_bpm = 60 * np.fft.rfftfreq(8192, 1 / 30)
    band = (rates_bpm > 45) & (rates_bpm < 180)
    assert rates_bpm[band][power[band].argmax()] == pytest.approx(72, abs=2)


def test_a_wall_and_a_photo_are_written_without_a_rate(tmp_path: Path) -> None:
    config = dataclasses.replace(decoys(0.2)["wall"], width=64, height=48)
    write_scene(config, tmp_path / "wall.mkv", codec="ffv1", pix_fmt="yuv444p")
    (known,) = read_truth(truth_path(tmp_path / "wall.mkv"))
    assert known.mean_hr_bpm is None
    assert np.isnan(known.box_xywh).all()


def test_foreign_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="does not exist"):
        read_truth(tmp_path / "nothing.mp4")
    for text in ("no json", "{}", '{"schema": "other/1"}', "[1]"):
        path = tmp_path / "x.truth.json"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadRecording, match=r"x\.truth\.json"):
            read_truth(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "dog"}, "kind='dog'"),
        ({"background": "sea"}, "background='sea'"),
        ({"width": 321}, "odd"),
        ({"width": 10}, "width=10"),
        ({"fps": 0}, "fps=0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"duration_s": -1}, "duration_s=-1"),
        ({"duration_s": 0.06, "fps": 10}, "two frames"),
        ({"hr_bpm": 5.0}, "5.0 bpm"),
        ({"hr_bpm": (60.0, 400.0)}, "400.0 bpm"),
        ({"hr_bpm": (60.0, 70.0, 80.0)}, "hr_bpm="),
        ({"other_hr_bpm": (0.0,)}, "0.0 bpm"),
        ({"pulse_depth": -0.1}, "pulse_depth=-0.1"),
        ({"kind": "photo", "pulse_depth": 0.01}, "photograph"),
        ({"flicker_depth": 0.1}, "flicker_hz"),
        ({"flicker_rgb": (1.0, 2.0, 1.0)}, "flicker_rgb"),
        ({"cut_out": True}, "needs a portrait"),
        ({"screen_depth": 0.5}, "screen_depth=0.5"),
        ({"room_light": 2}, "room_light=2"),
        ({"auto_exposure": -1}, "auto_exposure=-1"),
        ({"gamma": 0.5}, "gamma=0.5"),
        ({"background_motion": 2}, "background_motion=2"),
        ({"face_px": 4000}, "does not fit"),
        ({"n_faces": 0}, "n_faces=0"),
        ({"n_faces": 8, "width": 64, "height": 64}, "too small"),
        ({"drop_share": 1.0}, "drop_share=1.0"),
        ({"noise_sd": -1}, "noise_sd=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_scenes_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SceneConfig(**change)
