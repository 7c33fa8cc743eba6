"""The second world: a pulse laid in comes out at its rate, nothing comes out without one, and truth survives a file.

Faces are drawn, movements are made up: no real video is needed here.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from autohr.types import Evidence, Float, Frame

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import performances
import real
import second_world
import shots
from performances import INNER_LIPS, LEFT_EYE, LIPS, OVAL, RIGHT_EYE, OwnPulse, Performance

SIZE = (160, 120)
SKIN = (196, 150, 126)


def ring(n: int, centre: tuple[float, float], radii: tuple[float, float]) -> Float:
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.array(centre) + np.column_stack([np.sin(turn), -np.cos(turn)]) * radii


def drawn_mesh() -> Float:
    """468 points of a face in units of the eyes' distance, those with a name where they belong."""
    rng = np.random.default_rng(0)
    mesh = np.array([0.0, 0.5]) + rng.uniform(-0.7, 0.7, (468, 2))
    for names, centre, radii in (
        (OVAL, (0.0, 0.45), (1.05, 1.25)),
        (LEFT_EYE, (-0.5, 0.0), (0.17, 0.07)),
        (RIGHT_EYE, (0.5, 0.0), (0.17, 0.07)),
        (LIPS, (0.0, 1.1), (0.42, 0.14)),
        (INNER_LIPS, (0.0, 1.1), (0.3, 0.03)),
    ):
        mesh[list(names)] = ring(len(names), centre, radii)
    mesh[performances.NOSE] = (0, 0.6)
    mesh[performances.LEFT_MOUTH], mesh[performances.RIGHT_MOUTH] = (-0.42, 1.1), (0.42, 1.1)
    return mesh


def drawn_face(mesh_px: Float, size: int) -> Frame:
    """A skin-coloured oval with eyes and lips before a textured wall."""
    rng = np.random.default_rng(1)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size, 3)), (0, 0), 2) * 30
    picture = np.clip(np.array([90, 110, 130]) + grain, 0, 255).astype(np.uint8)
    for names, colour in ((OVAL, SKIN), (LEFT_EYE, (40, 40, 40)), (RIGHT_EYE, (40, 40, 40)), (LIPS, (170, 90, 90))):
        picture[performances.polygon(mesh_px[list(names)], (size, size)) > 0] = colour
    return picture


def performance(n: int = 240, fps: float = 20.0, own_bpm: float | None = None) -> Performance:
    """A head that sways a little; noise in the colour of its skin, and a pulse where one is asked for."""
    rng = np.random.default_rng(2)
    t_s = np.arange(n) / fps
    pose = np.column_stack([np.full(n, 40.0), 0 * t_s, 80 + 3 * np.sin(0.7 * t_s), 50 + 2 * np.sin(0.9 * t_s)])
    log_rgb = 0.001 * rng.standard_normal((n, len(performances.REGIONS), 3)) + np.log(SKIN)
    if own_bpm is not None:
        log_rgb += 0.01 * np.sin(2 * np.pi * own_bpm / 60 * t_s)[:, None, None] * performances.PULSE_RGB
    return Performance(Path("none.mp4"), 0, fps, pose, np.zeros((n, 468, 2)), log_rgb)


def take(t_s: Float, nod_px: Float | None = None) -> shots.Take:
    played = performance()
    own = performances.find_own_pulse(played.log_rgb, played.fps)
    return shots.Take(
        played, own, drawn_mesh(), SIZE, t_s, (1.0, 1.0), np.zeros(len(t_s)) if nod_px is None else nod_px
    )


@pytest.fixture
def portrait(tmp_path: Path) -> tuple[Path, Float]:
    mesh_px = drawn_mesh() * 50 + [100, 80]
    path = tmp_path / "001.png"
    cv2.imwrite(str(path), drawn_face(mesh_px, 200)[..., ::-1])
    return path, mesh_px


QUIET = second_world.Camera(
    gamma=2.2,
    exposure_lag_s=1.0,
    exposure_strength=0.5,
    exposure_step=0.0,
    balance_lag_s=2.0,
    balance_strength=0.0,
    noise=0.5,
    denoised=False,
)
PLAIN = second_world.Coding("web mjpeg", "mjpeg", ".mkv", "yuvj420p", 1, {}, quantiser=2)


@pytest.mark.slow
def test_a_pulse_laid_in_is_read_from_the_file_at_its_rate_and_is_not_there_without(
    tmp_path: Path, portrait: tuple[Path, Float]
) -> None:
    rng = np.random.default_rng(3)
    t_s = np.arange(0, 10.5, 1 / 15)
    heart = second_world.random_heart(rng, 84.0, 10.5)
    signature = np.array([0.45, 1.0, 0.7])
    shot = shots.film_portrait(take(t_s, 0.2 * heart.nod(t_s, 0.1)), *portrait, rng)
    beat = second_world.pulse_weights(heart, t_s, 0.03, signature, QUIET.gamma)
    names = {True: "with.mkv", False: "without.mkv"}
    light = (np.zeros((len(t_s), 3)), np.zeros((len(t_s), 3)))
    beats = {True: beat, False: np.zeros_like(beat)}
    masks = second_world.record(shot, beats, names, tmp_path, t_s, 15.0, light, QUIET, PLAIN, rng)
    rates = [heart.rate_bpm(*window) for window in second_world.oracle_windows(t_s)]
    read = {
        pulse: second_world.oracle(second_world.skin_colours(tmp_path / name, masks), t_s, signature, rates)
        for pulse, name in names.items()
    }
    assert read[True][0] > 6 and read[True][1] < 2
    assert read[False][0] < 0
    # Green of the skin swings by the depth over gamma, less where the skin's mean is weaker than its strongest place.
    colours = second_world.skin_colours(tmp_path / "with.mkv", masks)
    assert 0.2 < np.ptp(performances.smoothed(colours, 0.5)[:, 1]) / colours[:, 1].mean() / (0.03 / 2.2) < 2.5


def test_the_pulse_is_on_the_skin_and_nowhere_else(portrait: tuple[Path, Float]) -> None:
    rng = np.random.default_rng(4)
    shot = shots.film_portrait(take(np.arange(5) / 15), *portrait, rng)
    frame, lay = next(shot.frames())
    pulse = cv2.resize(lay(shot.skin.pulse), SIZE)
    assert frame.shape == (SIZE[1], SIZE[0], 3) and lay(shot.skin.regions[0]).shape[:2] == shot.field
    is_skin = np.abs(frame.astype(int) - SKIN).max(axis=-1) < 12
    inner = cv2.erode(is_skin.astype(np.uint8), np.ones((5, 5))) > 0
    outer = cv2.dilate(is_skin.astype(np.uint8), np.ones((9, 9))) == 0
    assert inner.sum() > 500 and pulse[inner].mean() > 0.5
    assert pulse[outer].max() < 0.05


def test_a_portrait_moves_as_the_performance_does_and_its_border_stays(portrait: tuple[Path, Float]) -> None:
    t_s = np.arange(60) / 10
    one = take(t_s)
    _, mesh_px = portrait
    at = one.places(np.random.default_rng(5))
    moved, _ = shots._mapped_motion(one, mesh_px, at, 1.0)
    sway = performance().pose[:, 2] / 40  # in units of the eyes' distance
    played = np.interp(at, np.arange(len(sway)), sway)
    assert np.corrcoef(moved[:, 1, 0], played)[0, 1] > 0.99
    points = mesh_px * 0.5
    steering, spread = shots._spreading(points, SIZE)
    field = (spread @ np.full((len(steering), 2), 3.0)).reshape(*shots.GRID, 2)
    middle = tuple((points[performances.NOSE][::-1] * np.array(shots.GRID) / SIZE[::-1]).astype(int))
    assert field[middle] == pytest.approx(3, abs=0.3)
    assert np.abs(field[[0, 0, -1, -1], [0, -1, 0, -1]]).max() < 0.3


@pytest.mark.parametrize("own_bpm", [55.0, 88.0, 121.0])
def test_a_face_loses_its_own_pulse_and_keeps_its_noise(own_bpm: float) -> None:
    played = performance(own_bpm=own_bpm)
    own = performances.find_own_pulse(played.log_rgb, played.fps)
    rng = np.random.default_rng(6)
    other = own.noise(played.n_frames, played.fps, rng)
    after = played.log_rgb + (other - own.wave)[..., None] * own.signature
    t_s = np.arange(played.n_frames) / played.fps
    windows = second_world.oracle_windows(t_s)
    read = [
        second_world.oracle(np.exp(colours.mean(axis=1)), t_s, performances.PULSE_RGB, [own_bpm] * len(windows))[0]
        for colours in (played.log_rgb, after)
    ]
    assert read[0] > 10 and read[1] < 0
    quiet = performance()
    before = performances.find_own_pulse(quiet.log_rgb, quiet.fps).wave
    assert 0.5 < other.std() / before.std() < 2


def test_a_performance_is_played_there_and_back_faster_and_faster() -> None:
    t_s = np.arange(0, 20, 0.1)
    one = dataclasses.replace(take(t_s), speeds=(0.5, 2.0))
    at = one.places(np.random.default_rng(10))
    speed = np.abs(np.gradient(at, t_s)) / one.performance.fps
    assert at.min() >= 0 and at.max() <= one.performance.n_frames - 1
    assert speed[1] == pytest.approx(0.5, rel=0.05) and speed[-2] == pytest.approx(2.0, rel=0.05)
    assert np.abs(np.diff(at)).max() < 1.01 * 2.0 * one.performance.fps * 0.1


def test_points_are_followed_by_flow() -> None:
    rng = np.random.default_rng(7)
    side = performances.PATCH_PX + 20
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (side, side, 3)).astype(np.float32), (0, 0), 2)
    wall = np.clip((wall - wall.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    size = performances.PATCH_PX
    patches = np.stack([wall[5 : 5 + size, 10 - k : 10 - k + size] for k in range(5)])
    shift, log_rgb = performances._follow(patches, 2, drawn_mesh())
    moved = np.median(shift, axis=1)
    assert moved[:, 0] * performances.PX_PER_EYES == pytest.approx(np.arange(5) - 2, abs=0.2)
    assert np.abs(moved[:, 1]).max() * performances.PX_PER_EYES < 0.2
    assert np.ptp(log_rgb, axis=0).max() < 0.05


def test_a_pose_and_the_face_patch_agree() -> None:
    mesh = drawn_mesh()
    pose = np.array([30.0, 8.0, 70.0, 55.0])
    mesh_px = performances.place(pose, mesh)
    assert performances.fit_pose(mesh, mesh_px) == pytest.approx(pose)
    matrix = performances.patch_matrix(pose)
    on_patch = np.column_stack([performances.on_patch(mesh), np.ones(len(mesh))])
    assert on_patch @ matrix.T == pytest.approx(mesh_px)
    u, v = performances.face_coordinates(pose, (120, 160))
    x, y = 80, 60
    assert performances.place(pose, np.array([[u[y, x], v[y, x]]]))[0] == pytest.approx([x, y])


@pytest.mark.parametrize("hr_bpm", [42.0, 75.0, 160.0])
def test_a_heart_keeps_its_rate_and_its_wave_has_a_height_of_one(hr_bpm: float) -> None:
    heart = second_world.random_heart(np.random.default_rng(8), hr_bpm, 60.0)
    assert heart.rate_bpm(0, 60) == pytest.approx(hr_bpm, rel=0.06)
    wave = heart.wave(np.arange(0, 60, 0.01))
    assert 0.8 < np.median([np.ptp(wave[k : k + 200]) for k in range(0, 5800, 200)]) < 1.5
    nod = heart.nod(np.arange(0, 60, 0.01), 0.1)
    assert 0.7 < np.ptp(nod) < 1.6


@pytest.mark.parametrize("timing", ["steady", "jitter", "phone"])
def test_frame_times_start_at_zero_and_rise(timing: str) -> None:
    t_s = second_world.frame_times(np.random.default_rng(9), timing, 30.0, 11.0)
    assert t_s[0] == 0 and np.diff(t_s).min() > 0.003 and 10 < t_s[-1] <= 11.1
    assert (np.ptp(np.diff(t_s)) < 1e-9) == (timing == "steady")


def test_the_exposure_follows_the_skin_with_a_lag() -> None:
    t_s = np.arange(0, 20, 0.05)
    skin = np.where(t_s > 5, 0.2, 0.0)[:, None] * np.ones(3)
    gains = dataclasses.replace(QUIET, exposure_strength=1.0).answer(skin, t_s)
    assert gains[t_s < 5] == pytest.approx(0)
    assert gains[np.searchsorted(t_s, 5.2)].mean() > -0.1
    assert gains[-1] == pytest.approx(-0.2, abs=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Pairs, truth and tables


@pytest.mark.slow
def test_a_pair_is_the_same_for_the_same_seed_but_for_the_pulse(
    tmp_path: Path, portrait: tuple[Path, Float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_world, "SIZES", (SIZE,) * len(second_world.SIZES))
    monkeypatch.setattr(second_world, "VIDEO_SHARE", 0.0)
    played = performance()
    own: OwnPulse = performances.find_own_pulse(played.log_rgb, played.fps)
    material = second_world.Material({"001": portrait}, drawn_mesh(), (played,), (own,))
    made = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        made.append(second_world.make_pair(material, 5, tmp_path / name))
    assert made[0] == made[1]
    beating, still = made[0]
    assert beating.pulse and not still.pulse and still.hr_bpm is None and not still.readable
    differing = {
        field.name
        for field in dataclasses.fields(beating)
        if getattr(beating, field.name) != getattr(still, field.name)
    }
    measured = {"bits_per_pixel", "oracle_snr_db", "oracle_error_bpm", "readable"}
    assert differing - measured == {"video", "pulse", "hr_bpm"}
    assert sorted(second_world.read_clips(tmp_path / "first"), key=lambda clip: not clip.pulse) == made[0]


def clip(seed: int, pulse: bool, readable: bool = True, **changed: object) -> second_world.Clip:
    known = second_world.Clip(
        seed=seed,
        video=f"{seed:04d}_{'with' if pulse else 'without'}.mp4",
        pulse=pulse,
        hr_bpm=80.0 if pulse else None,
        nod_bpm=80.0,
        beats_s=tuple(0.75 * k for k in range(20)),
        kind="portrait",
        source="001.jpg",
        motion="a.mp4",
        wearing="nothing",
        tone="light",
        lightness=60.0,
        pulse_pct=2.0,
        skin_pulse_pct=1.6,
        signature=(0.4, 1.0, 0.7),
        nod_px=0.1,
        light="steady",
        noise=1.0,
        gamma=2.2,
        timing="steady",
        fps=30.0,
        width=640,
        height=480,
        duration_s=12.0,
        coding="phone h264",
        bits_per_pixel=0.1,
        face_px=150.0,
        movement=0.02,
        oracle_snr_db=3.0,
        oracle_error_bpm=0.5,
        readable=readable and pulse,
    )
    return dataclasses.replace(known, **changed)  # type: ignore[arg-type]


def test_truth_comes_back_from_its_file(tmp_path: Path) -> None:
    for pulse in (True, False):
        one = clip(3, pulse)
        one.write(tmp_path)
        (tmp_path / one.video).touch()
    assert second_world.read_clips(tmp_path) == [clip(3, True), clip(3, False)]
    assert clip(3, True).rate_bpm(1.0, 7.0) == pytest.approx(80)
    (tmp_path / "0003_with.mp4").unlink()
    assert second_world.read_clips(tmp_path) == [clip(3, False)]


def row(of: second_world.Clip, hr_bpm: float | None, reliable: bool, why: str | None = None) -> real.Row:
    return real.Row(of.video, "autohr", hr_bpm, 0.9, reliable, why, [])


def test_tables_count_what_they_say() -> None:
    clips = [clip(k, pulse, readable=k < 3) for k in range(5) for pulse in (True, False)]
    rates = {0: (80.5, True), 1: (40.2, False), 2: (79.0, False), 3: (161.0, True), 4: (None, False)}
    measured = []
    for one in clips:
        hr_bpm, reliable = rates[one.seed] if one.pulse else (80.0 if one.seed == 4 else 60.0, one.seed > 3)
        measured.append((one, row(one, hr_bpm, reliable, "the pulse is too weak" if not reliable else None)))
    whole, readable = real.overall(measured, ("autohr",))["rows"]
    assert whole == ["autohr", 5, 2 / 5, 2, 1 / 2, 1, 1, 1, 5, 1, 1]
    assert readable == ["autohr, readable", 3, 2 / 3, 1, 1 / 2, 0, 1, 0, 3, 0, 0]
    assert real.refusals(measured, ("autohr",))["rows"] == [["the pulse is too weak", 1, 1]]
    strata = {line[0]: line[1:] for line in real.by_strata(measured, "autohr")["rows"]}
    assert strata["kind: portrait"] == pytest.approx([5, 2 / 5, 1 / 2, 1, 1, 1, 1, 10.175, -0.25, 3, 2 / 3, 1 / 2])
    assert "rate: 75-100 bpm" in strata and "compression: 0.05-0.15 bits per pixel" in strata


def test_reasons_that_differ_in_numbers_are_one_reason() -> None:
    assert real.reason_of("only 4.5 s of face: a rate needs 8 s to be trusted") == real.reason_of(
        "only 6.0 s of face: a rate needs 8 s to be trusted"
    )
    assert {field.name for field in dataclasses.fields(Evidence)} >= {"snr_db", "agreement", "on_skin"}
