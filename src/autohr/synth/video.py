"""Bring drawn faces to life: a moving head with a known pulse, changing light, a noisy camera, a real encoder.

    SceneConfig -> render -> (frame (H, W, 3) uint8 RGB, t_s) ...        SceneConfig -> truth -> SceneTruth

What a pixel of skin sends to the camera is

    light(t) * (albedo * (1 - depth * pulse(t) * blood * ratio) + specular)

in linear light, where ``depth`` is of green and ``ratio`` the share of it that red, green and blue get. The camera then
applies a power law, adds noise and rounds to 8 bits, in this order, so that a pulse far below one grey level
survives on average, as it does in a real camera.

Because the curve is a pure power, light is a factor after it as well, and a change of a few percent before it is
the same change divided by gamma after it. So everything is drawn once as the camera shows it; a frame costs one
weighted sum of pictures (the pulse, the shading of a turned head), one warp and one pass of noise.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse
from autohr.synth.face import (
    DISPLAY_GAMMA,
    FaceTexture,
    Identity,
    Illumination,
    Image,
    draw_face,
    face_centre,
    face_landmarks,
    random_identity,
)
from autohr.types import Float, Frame
from autohr.video.encode import write_video

SceneKind = Literal["face", "photo", "wall"]
Background = Literal["plain", "room", "clutter"]

TRUTH_SCHEMA = "autohr.truth/1"
PULSE_FS = 240.0
"""Samples per second at which the pulse is simulated before it is read at the frames' times."""
NOISE_PLANES, NOISE_SHIFT_PX = 4, 64
"""Camera noise is cut from this many pictures of noise, each time at another place up to this far away and with a
random sign: 32 thousand different ones, drawn independently for every frame and channel. Fresh noise took 5 ms for
one channel of 640x480 where this takes 0.1 ms."""


@dataclass(frozen=True)
class SceneConfig:
    """One video, completely: the same config gives the same frames."""

    seed: int = 0
    duration_s: float = 10.0
    width: int = 640
    height: int = 480
    fps: float = 30.0
    kind: SceneKind = "face"
    """face: people. photo: a printed photograph of one, without pulse. wall: nobody."""
    n_faces: int = 1
    identity: Identity | None = None
    """Of the first face; None draws one by the seed, as for the others."""
    face_px: float | None = None
    """Height of the faces, hairline to chin; None is 0.4 of the frame's height, less where several share the width."""
    hr_bpm: float | tuple[float, float] = 72.0
    """Of the first face: one rate, or a straight ramp (at the start, at the end)."""
    other_hr_bpm: tuple[float, ...] = ()
    """Of the other faces; where it is too short, rates are drawn by the seed."""
    hrv: float = 0.03
    """Spread of the rate relative to itself (see simulate_pulse); 0 is a metronome."""
    resp_bpm: float = 15.0
    pulse_depth: float = 0.01
    """Peak to peak of the relative change of green linear light, averaged over the bare skin of the face. Real faces:
    0.003 to 0.02. 0 is no pulse at all, and then the truth knows no heart rate either."""
    motion: float = 0.5
    """How much the head sways: 0 is still, 1 a restless person (sd 5 % of the face's height sideways, 3 degrees of
    roll, 3 % of scale)."""
    nod_hz: float = 0.0
    nod_amplitude: float = 0.0
    """Periodic nod, as a share of the face's height, each way."""
    light: Illumination | None = None
    """Where the light comes from; None draws it by the seed."""
    exposure: float = 1.0
    """Brightness of the picture in linear light, relative to a well-set camera."""
    light_drift: float = 0.03
    """Standard deviation of slow changes of the light (below 0.1 Hz), relative; a third of it also drifts in colour."""
    flicker_hz: float = 0.0
    flicker_depth: float = 0.0
    """Peak to peak of a sine in the light, relative; the frequency may lie in the heart band."""
    flicker_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How much of the flicker each channel gets."""
    noise_sd: float = 1.0
    """Standard deviation of camera noise, of 255. One number for bright and dark: under a power law near 1/2,
    shot noise is equally large everywhere, and read noise only adds to it in the dark."""
    background: Background = "room"
    jitter_s: float = 0.0
    """Standard deviation of the time between the true moments of exposure and a steady clock; at most 0.4 frames."""
    drop_share: float = 0.0
    """Share of frames that the camera lost."""

    def __post_init__(self) -> None:
        for name, allowed in (("kind", get_args(SceneKind)), ("background", get_args(Background))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not (isinstance(value, int | float) and low <= value <= high):
                raise ValueError(f"{name}={value!r} is outside {low:g}..{high:g}.")
        if self.width % 2 or self.height % 2:
            raise ValueError(f"{self.width}x{self.height} is odd; video needs an even width and height.")
        if round(self.duration_s * self.fps) < 2:
            raise ValueError(f"duration_s={self.duration_s} at fps={self.fps} is less than two frames.")
        ramp = self.hr_bpm if isinstance(self.hr_bpm, tuple) else (self.hr_bpm,)
        if len(ramp) not in (1, 2):
            raise ValueError(f"hr_bpm={self.hr_bpm} must be one rate, or two: at the start and at the end.")
        for rate_bpm in (*ramp, *self.other_hr_bpm):
            if not 20 <= rate_bpm <= 300:
                raise ValueError(f"A heart rate of {rate_bpm} bpm is outside 20..300.")
        if len(self.flicker_rgb) != 3 or not all(0 <= share <= 1 for share in self.flicker_rgb):
            raise ValueError(f"flicker_rgb={self.flicker_rgb} must be three numbers in 0..1.")
        if self.flicker_depth and not self.flicker_hz:
            raise ValueError(f"flicker_depth={self.flicker_depth} needs a flicker_hz above 0.")
        if self.nod_amplitude and not self.nod_hz:
            raise ValueError(f"nod_amplitude={self.nod_amplitude} needs a nod_hz above 0.")
        if self.kind == "photo" and self.pulse_depth:
            raise ValueError(f"A photograph has no pulse: set pulse_depth=0 (it is {self.pulse_depth}).")
        room_px = min(0.75 * self.height, self.width / self.n_faces)
        where = f"{self.n_faces} face(s) in {self.width}x{self.height}"
        if self.face_px is not None and not 16 <= self.face_px <= room_px:
            raise ValueError(f"face_px={self.face_px} does not fit: {where} may be 16 to {room_px:.0f} pixels high.")
        if self.kind != "wall" and self.height_of_faces < 16:
            raise ValueError(f"{where} would be too small: a face needs 16 pixels; make the frame larger.")

    @property
    def height_of_faces(self) -> float:
        """Pixels from hairline to chin."""
        if self.face_px is not None:
            return float(self.face_px)
        return min(0.40 * self.height, 0.55 * self.width / self.n_faces)


_LIMITS = (
    *(("seed", 0, 2**63 - 1), ("duration_s", 0.05, 3600), ("width", 32, 7680), ("height", 32, 4320), ("fps", 1, 1000)),
    *(("n_faces", 1, 8), ("hrv", 0, 0.3), ("resp_bpm", 2, 60), ("pulse_depth", 0, 0.2), ("motion", 0, 4)),
    *(("nod_hz", 0, 10), ("nod_amplitude", 0, 0.3), ("exposure", 0.01, 4), ("light_drift", 0, 0.3)),
    *(("flicker_hz", 0, 200), ("flicker_depth", 0, 0.5), ("noise_sd", 0, 30)),
    *(("jitter_s", 0, 1), ("drop_share", 0, 0.9)),
)


@dataclass(frozen=True)
class SceneTruth:
    """What is known of one face of a scene. T is the number of frames.

    Without a pulse (a photograph, ``pulse_depth=0``, a wall) there are no beats, ``bvp`` is 0, ``hr_bpm`` NaN and
    ``mean_hr_bpm`` None.
    """

    t_s: Float
    """(T,) when each frame was taken; starts at 0."""
    bvp: Float
    """(T,) as simulate_pulse gives it: positive means more blood, so green is darker."""
    hr_bpm: Float
    """(T,) instantaneous rate."""
    mean_hr_bpm: float | None
    """Beats passed over the duration."""
    beats_s: Float
    """Times of the systolic peaks."""
    box_xywh: Float
    """(T, 4) the outline of the face in pixels: left, top, width, height; NaN without a face."""


def decoys(duration_s: float = 10.0, seed: int = 0) -> dict[str, SceneConfig]:
    """Scenes without a pulse, which no honest meter may call reliable. By name, so that tests can loop over them."""
    base = SceneConfig(duration_s=duration_s, seed=seed, pulse_depth=0.0)
    return {
        "still_photo": dataclasses.replace(base, kind="photo", motion=0.0, light_drift=0.0),
        "moving_photo": dataclasses.replace(base, kind="photo", motion=1.0),
        "nodding_photo": dataclasses.replace(base, kind="photo", motion=0.3, nod_hz=1.1, nod_amplitude=0.03),
        "flickering_photo": dataclasses.replace(base, kind="photo", motion=0.0, flicker_hz=1.2, flicker_depth=0.02),
        "still_face": dataclasses.replace(base, motion=0.0),
        "moving_face": dataclasses.replace(base, motion=1.0),
        "flickering_face": dataclasses.replace(base, motion=0.2, flicker_hz=1.3, flicker_depth=0.02),
        "wall": dataclasses.replace(base, kind="wall"),
    }


def truth(config: SceneConfig, face: int = 0) -> SceneTruth:
    """What is known of face number ``face`` of the scene, counted from the left. Costs little: nothing is drawn."""
    times_s = _clock(config)
    if config.kind == "wall":
        return _no_pulse(times_s)
    if not 0 <= face < config.n_faces:
        raise ValueError(f"face={face} is outside 0..{config.n_faces - 1}: this scene has {config.n_faces} face(s).")
    return _live(config, times_s, face).truth


def render(config: SceneConfig) -> Iterator[tuple[Frame, float]]:
    """The frames of a scene with their times, one after the other; only one is held in memory."""
    times_s = _clock(config)
    yield from _render(config, times_s, _cast(config, times_s))


def write_scene(
    config: SceneConfig,
    path: Path,
    *,
    codec: str = "libx264",
    crf: int = 18,
    pix_fmt: str = "yuv420p",
    gop: int | None = None,
) -> SceneTruth:
    """Encode a scene into ``path`` and write ``<name>.truth.json`` beside it; returns the truth of the first face.

    ``gop`` is the number of frames from one key frame to the next (None: the encoder's choice): a picture that is drawn
    anew once a second flickers at 60 bpm, which cameras and phones do.

    A scene with jitter or lost frames is written with its true time stamps, any other at the steady ``fps``.

    Raises:
        VideoError: the encoder refused the codec, the container or the path.
    """
    path = Path(path)
    times_s = _clock(config)
    actors = _cast(config, times_s)
    frames = (frame for frame, _ in _render(config, times_s, actors))
    if config.jitter_s or config.drop_share:
        write_video(path, frames, t_s=times_s, codec=codec, crf=crf, pix_fmt=pix_fmt, gop=gop)
    else:
        write_video(path, frames, fps=config.fps, codec=codec, crf=crf, pix_fmt=pix_fmt, gop=gop)
    truths = [actor.truth for actor in actors] or [_no_pulse(times_s)]
    record = {
        "schema": TRUTH_SCHEMA,
        "video": path.name,
        "config": dataclasses.asdict(config),
        "encoding": {"codec": codec, "crf": crf, "pix_fmt": pix_fmt, "gop": gop},
        "t_s": _listed(times_s, 6),
        "faces": [
            {
                "mean_hr_bpm": one.mean_hr_bpm,
                "hr_bpm": _listed(one.hr_bpm, 3),
                "bvp": _listed(one.bvp, 5),
                "beats_s": _listed(one.beats_s, 5),
                "box_xywh": [_listed(row, 2) for row in one.box_xywh],
            }
            for one in truths
        ],
    }
    truth_path(path).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    return truths[0]


def truth_path(video_path: Path) -> Path:
    """Where the truth of a video lies: ``clip.mp4`` has ``clip.truth.json``."""
    return Path(video_path).with_suffix(".truth.json")


def read_truth(path: Path) -> list[SceneTruth]:
    """The truths of all faces of a written scene, from its ``.truth.json`` or from the video beside it.

    Raises:
        BadRecording: no such file, or not one that ``write_scene`` made.
    """
    path = Path(path)
    if path.suffix != ".json":
        path = truth_path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != TRUTH_SCHEMA:
            raise BadRecording(f"{path}: schema {record['schema']!r} is not {TRUTH_SCHEMA!r}; write the scene again.")
        t_s = _array(record["t_s"])
        return [
            SceneTruth(
                t_s=t_s,
                bvp=_array(one["bvp"]),
                hr_bpm=_array(one["hr_bpm"]),
                mean_hr_bpm=one["mean_hr_bpm"],
                beats_s=_array(one["beats_s"]),
                box_xywh=np.array([_array(row) for row in one["box_xywh"]]).reshape(len(t_s), 4),
            )
            for one in record["faces"]
        ]
    except FileNotFoundError:
        raise BadRecording(f"{path} does not exist; write_scene puts it beside the video.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadRecording(f"{path} is not the truth of a scene ({error!r}); write the scene again.") from None


def _listed(values: Float, digits: int) -> list[float | None]:
    """Numbers for strict JSON, which has no NaN."""
    return [round(float(v), digits) if math.isfinite(v) else None for v in values]


def _array(values: list[float | None]) -> Float:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# What happens: clock, pulse, motion, light


def _rng(config: SceneConfig, *purpose: int) -> np.random.Generator:
    """One generator for each purpose, so that a change of one thing does not move the others."""
    return np.random.default_rng([config.seed, *purpose])


_FOR_CLOCK, _FOR_IDENTITY, _FOR_PULSE, _FOR_MOTION, _FOR_LIGHT, _FOR_ROOM, _FOR_NOISE = range(7)


def _clock(config: SceneConfig) -> Float:
    """(T,) when the frames are taken, in seconds."""
    rng = _rng(config, _FOR_CLOCK)
    n_frames = round(config.duration_s * config.fps)
    late = np.clip(rng.normal(0, 1, n_frames) * config.jitter_s * config.fps, -0.4, 0.4)
    times_s = (np.arange(n_frames) + late) / config.fps
    kept = rng.uniform(size=n_frames) >= config.drop_share
    # A video needs two frames; the first one is time 0.
    kept[[0, -1]] = True
    return np.asarray((times_s - times_s[0])[kept])


def _wander(rng: np.random.Generator, t_s: Float, low_hz: float, high_hz: float) -> Float:
    """Unit-variance sway: five sines, slower ones larger, none beyond 2.2 standard deviations in sum."""
    n_sines = 5
    freqs_hz = low_hz * (high_hz / low_hz) ** ((np.arange(n_sines) + rng.uniform(size=n_sines)) / n_sines)
    size = freqs_hz**-0.7
    size *= np.sqrt(2 / (size**2).sum())
    phases = rng.uniform(0, 2 * np.pi, n_sines)
    return np.asarray(2.2 * np.tanh((size * np.sin(2 * np.pi * t_s[:, None] * freqs_hz + phases)).sum(axis=1) / 2.2))


@dataclass(frozen=True)
class _Motion:
    """Where a head is, (T,) each."""

    x: Float
    """Of the middle of the face, in pixels of the frame."""
    y: Float
    scale: Float
    roll_rad: Float
    yaw_rad: Float
    """Turned; seen only in the shading, the outline does not turn yet."""
    pitch_rad: Float


def _move(config: SceneConfig, t_s: Float, number: int) -> _Motion:
    rng = _rng(config, _FOR_MOTION, number)
    size, level = config.height_of_faces, config.motion
    sway = [level * _wander(rng, t_s, 0.04, 0.6) for _ in range(6)]
    nod = config.nod_amplitude * np.sin(2 * np.pi * (config.nod_hz * t_s + rng.uniform()))
    x = config.width * (number + 0.5) / config.n_faces + size * 0.05 * sway[0]
    y = config.height * 0.47 + size * (0.03 * sway[1] + nod)
    # Heads are kept in the picture: a person who leaves it is another scene.
    edge = 0.5 * size
    return _Motion(
        x=np.clip(x, min(edge, config.width / 2), max(config.width - edge, config.width / 2)),
        y=np.clip(y, min(edge, config.height / 2), max(config.height - edge, config.height / 2)),
        scale=np.exp(0.03 * sway[2]),
        roll_rad=np.radians(3.0) * sway[3],
        yaw_rad=np.radians(3.0) * sway[4] + 0.04 * sway[0],
        pitch_rad=np.radians(2.0) * sway[5] + 1.2 * nod,
    )


def _lamps(config: SceneConfig, t_s: Float) -> Float:
    """(T, 3) light in red, green and blue, 1 on average."""
    rng = _rng(config, _FOR_LIGHT)
    drift = config.light_drift * _wander(rng, t_s, 0.01, 0.1)
    hue = np.stack([_wander(rng, t_s, 0.01, 0.06) for _ in range(3)], axis=1)
    sine = 0.5 * config.flicker_depth * np.sin(2 * np.pi * (config.flicker_hz * t_s + rng.uniform()))
    light = (1 + drift)[:, None] * (1 + config.light_drift / 3 * hue)
    light *= 1 + sine[:, None] * np.array(config.flicker_rgb)
    return np.asarray(np.clip(light, 0.05, None) * config.exposure)


def _no_pulse(t_s: Float, box_xywh: Float | None = None) -> SceneTruth:
    nowhere = np.full((len(t_s), 4), np.nan)
    return SceneTruth(
        t_s=t_s,
        bvp=np.zeros(len(t_s)),
        hr_bpm=np.full(len(t_s), np.nan),
        mean_hr_bpm=None,
        beats_s=np.zeros(0),
        box_xywh=nowhere if box_xywh is None else box_xywh,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The cast: each face as pictures that only need to be added and warped


@dataclass(frozen=True)
class _Actor:
    """One face, ready to be rendered. Pictures are display values 0..255, premultiplied by alpha."""

    still: Image
    """(H, W, 4) red, green, blue, alpha of the face at rest."""
    window: tuple[slice, slice]
    """The rows and columns of ``still`` that the modes change."""
    modes: Image
    """(M, h, w, 4) pictures that are added within ``window``, each by its weight."""
    weights: NDArray[np.float32]
    """(T, M) those weights: pulse, its delayed part, yaw, pitch."""
    matrices: Float
    """(T, 2, 3) from texture pixels to frame pixels."""
    border: int
    """What lies beyond the texture, as OpenCV names it."""
    reach: tuple[float, float, float]
    """How far the texture goes from its centre, in its pixels: sideways, upwards, downwards (inf = to the edge)."""
    centre_xy: tuple[float, float]
    truth: SceneTruth


def _cast(config: SceneConfig, t_s: Float) -> list[_Actor]:
    if config.kind == "wall":
        return []
    return [_actor(config, t_s, number) for number in range(config.n_faces)]


def _actor(config: SceneConfig, t_s: Float, number: int) -> _Actor:
    life = _live(config, t_s, number)
    texture = draw_face(life.identity, config.height_of_faces, _illumination(config))
    if config.kind == "photo":
        still, window, modes = _printed(texture)
        weights = np.zeros((len(t_s), 0), np.float32)
        border, down = cv2.BORDER_CONSTANT, still.shape[0] - texture.centre_xy[1]
    else:
        # Which colours blood takes away differs with skin and camera; green, which defines the depth, is held.
        ratio = np.array(CHANNEL_RATIO) / CHANNEL_RATIO[1] * _rng(config, _FOR_PULSE, number, 1).normal(1, 0.06, 3)
        ratio[1] = 1.0
        still, window, modes = _living(texture, ratio)
        turns = (life.motion.yaw_rad, life.motion.pitch_rad)
        weights = np.stack([-life.change, life.slope, *turns], axis=1).astype(np.float32)
        border, down = cv2.BORDER_REPLICATE, math.inf
    cx, cy = texture.centre_xy
    reach = (max(cx, still.shape[1] - cx), cy, down)
    return _Actor(still, window, modes, weights, life.matrices, border, reach, (cx, cy), life.truth)


@dataclass(frozen=True)
class _Life:
    """What one face does during the scene; nothing of it is drawn yet."""

    identity: Identity
    motion: _Motion
    matrices: Float
    """(T, 2, 3) from pixels of the texture to pixels of the frame."""
    change: Float
    """(T,) relative loss of green by the pulse, peak to peak ``pulse_depth``."""
    slope: Float
    """(T,) of ``change``, per second."""
    truth: SceneTruth


def _live(config: SceneConfig, t_s: Float, number: int) -> _Life:
    drawn = random_identity(_rng(config, _FOR_IDENTITY, number))
    identity = config.identity if number == 0 and config.identity is not None else drawn
    motion = _move(config, t_s, number)
    cx, cy = face_centre(config.height_of_faces)
    cos, sin = motion.scale * np.cos(motion.roll_rad), motion.scale * np.sin(motion.roll_rad)
    matrices = np.stack(
        [
            np.stack([cos, -sin, motion.x - cos * cx + sin * cy], axis=1),
            np.stack([sin, cos, motion.y - sin * cx - cos * cy], axis=1),
        ],
        axis=1,
    )
    landmarks = face_landmarks(identity, config.height_of_faces)
    at = landmarks @ matrices[:, :, :2].transpose(0, 2, 1) + matrices[:, None, :, 2]
    low, high = at.min(axis=1), at.max(axis=1)
    known, change, slope = _pulse(config, t_s, number, np.concatenate([low, high - low], axis=1))
    return _Life(identity, motion, matrices, change, slope, known)


def _illumination(config: SceneConfig) -> Illumination:
    rng = _rng(config, _FOR_LIGHT, 1)
    drawn = Illumination(
        azimuth_deg=float(rng.uniform(-45, 45)),
        elevation_deg=float(rng.uniform(5, 50)),
        ambient=float(rng.uniform(0.4, 0.75)),
    )
    return config.light or drawn


def _pulse(config: SceneConfig, t_s: Float, number: int, box_xywh: Float) -> tuple[SceneTruth, Float, Float]:
    """The truth of one face, and (T,) the relative change of green with its slope per second."""
    if not config.pulse_depth:
        return _no_pulse(t_s, box_xywh), np.zeros(len(t_s)), np.zeros(len(t_s))
    rng = _rng(config, _FOR_PULSE, number)
    rate: float | tuple[float, float] = config.hr_bpm
    if number:
        drawn_bpm = float(rng.uniform(50, 110))
        rate = config.other_hr_bpm[number - 1] if number <= len(config.other_hr_bpm) else drawn_bpm
    duration_s = max(config.duration_s, float(t_s[-1]))
    start_bpm, end_bpm = rate if isinstance(rate, tuple) else (rate, rate)
    pulse = simulate_pulse(
        duration_s,
        PULSE_FS,
        np.linspace(start_bpm, end_bpm, round(duration_s * PULSE_FS)),
        seed=int(rng.integers(2**31)),
        hrv=config.hrv,
        resp_bpm=config.resp_bpm,
    )
    clock_s = np.arange(len(pulse.bvp)) / PULSE_FS
    depth = config.pulse_depth / max(float(np.ptp(pulse.bvp)), 1e-9)
    bvp = np.interp(t_s, clock_s, pulse.bvp)
    slope = np.interp(t_s, clock_s, np.gradient(pulse.bvp) * PULSE_FS)
    known = SceneTruth(
        t_s=t_s,
        bvp=bvp,
        hr_bpm=np.interp(t_s, clock_s, pulse.hr_bpm),
        mean_hr_bpm=pulse.mean_hr_bpm,
        beats_s=pulse.beats_s,
        box_xywh=box_xywh,
    )
    return known, depth * bvp, depth * slope


def _displayed(texture: FaceTexture) -> Image:
    """(H, W, 3) the texture as the camera shows it, 0..255."""
    linear = texture.diffuse + texture.specular[..., None]
    return np.asarray(255 * np.clip(linear, 0, 1) ** (1 / DISPLAY_GAMMA), np.float32)


def _living(texture: FaceTexture, ratio: Float) -> tuple[Image, tuple[slice, slice], Image]:
    """A face as still picture and modes: more blood, later blood, turned right, nodded down."""
    shown = _displayed(texture)
    alpha = texture.alpha
    still = np.dstack([shown * alpha[..., None], alpha]).astype(np.float32)

    # Only head and neck change; that part is found by where blood or bare face is.
    x, y, w, h = cv2.boundingRect((texture.blood > 0).astype(np.uint8))
    window = (slice(y, y + h), slice(x, x + w))
    diffuse, specular = texture.diffuse[window], texture.specular[window][..., None]
    # A relative change of the diffuse light, as seen after the camera's power law.
    response = shown[window] * alpha[window][..., None] / np.float32(DISPLAY_GAMMA)
    response *= diffuse / np.maximum(diffuse + specular, 1e-6)
    blood = response * texture.blood[window][..., None] * ratio.astype(np.float32)
    # pulse(t - delay) is pulse(t) - delay * slope(t): delays are a tenth of a beat's rise or less.
    later = blood * texture.delay_s[window][..., None]
    # The body does not turn with the head: fade that out down the neck. The outline stays, so it must fade there too.
    rows = np.arange(y, y + h, dtype=np.float32)
    fade = np.clip(1.6 - (rows - texture.centre_xy[1]) / (0.5 * texture.face_px), 0, 1)[:, None, None]
    turned = response * texture.turn[window][..., :1] * fade
    nodded = response * texture.turn[window][..., 1:] * fade
    none = np.zeros((h, w), np.float32)
    modes = np.stack([np.dstack([mode, none]) for mode in (blood, later, turned, nodded)])
    return still, window, np.ascontiguousarray(modes, np.float32)


def _printed(texture: FaceTexture) -> tuple[Image, tuple[slice, slice], Image]:
    """The same face as a photograph with a white rim, held before the camera."""
    shown = _displayed(texture)
    height, width = texture.alpha.shape
    sky = np.linspace(200, 140, height, dtype=np.float32)[:, None, None] * np.array((0.80, 0.90, 1.0), np.float32)
    picture = shown * texture.alpha[..., None] + sky * (1 - texture.alpha[..., None])
    still = np.zeros((height, width, 4), np.float32)
    (cx, cy), size, rim = texture.centre_xy, texture.face_px, round(0.04 * texture.face_px) + 1
    left, right = round(cx - 0.85 * size), round(cx + 0.85 * size)
    top, bottom = max(rim + 1, round(cy - 0.95 * size)), min(height - rim - 1, round(cy + 1.05 * size))
    still[top - rim : bottom + rim, left - rim : right + rim] = (232, 232, 228, 1)
    still[top:bottom, left:right, :3] = 0.92 * picture[top:bottom, left:right] + 8
    return still, (slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0, 4), np.float32)


# ---------------------------------------------------------------------------------------------------------------------
# Frames


def _render(config: SceneConfig, t_s: Float, actors: list[_Actor]) -> Iterator[tuple[Frame, float]]:
    rng = _rng(config, _FOR_NOISE)
    # One plane per channel: OpenCV is fastest on single channels, and light is a number per channel.
    room = [np.ascontiguousarray(plane) for plane in _draw_room(config).transpose(2, 0, 1)]
    # Light is a factor of display values too, because the curve is a power.
    light = _lamps(config, t_s) ** (1 / DISPLAY_GAMMA)
    height, width, shift = config.height, config.width, NOISE_SHIFT_PX
    bank = [rng.standard_normal((height + shift, width + shift), dtype=np.float32) for _ in range(NOISE_PLANES)]
    planes = [np.empty((height, width), np.float32) for _ in range(3)]
    figures = [actor.still.copy() for actor in actors]
    out = [np.empty((height, width), np.uint8) for _ in range(3)]
    desk = _Desk(np.empty((height, width, 4), np.float32), *(np.empty((height, width), np.float32) for _ in range(2)))

    for index, time_s in enumerate(t_s):
        for plane, wall in zip(planes, room, strict=True):
            np.copyto(plane, wall)
        for actor, figure in zip(actors, figures, strict=True):
            _lay_in(planes, actor, figure, index, desk)
        for channel in range(3):
            noise = bank[int(rng.integers(NOISE_PLANES))]
            top, left = rng.integers(shift, size=2)
            sd = config.noise_sd * (1 if rng.integers(2) else -1)
            cv2.addWeighted(
                *(
                    planes[channel],
                    float(light[index, channel]),
                    noise[top : top + height, left : left + width],
                    sd,
                    0.0,
                ),
                dst=out[channel],
                dtype=cv2.CV_8U,
            )
        yield np.asarray(cv2.merge(out), np.uint8), float(time_s)


@dataclass(frozen=True)
class _Desk:
    """Memory that every frame uses again: fresh arrays of this size cost more than the work done in them."""

    warped: Image
    """(H, W, 4)"""
    clear: Image
    """(H, W)"""
    ink: Image
    """(H, W)"""


def _lay_in(planes: list[Image], actor: _Actor, figure: Image, index: int, desk: _Desk) -> None:
    """Cover the three planes of the frame with one face as it is in frame ``index``."""
    height, width = planes[0].shape
    # Mode by mode and not as one product of matrices: BLAS would start threads, which wait for each other on a busy
    # machine longer than the work takes (measured there: 14 ms a frame instead of 4).
    changed, base = figure[actor.window], actor.still[actor.window]
    for mode, weight in zip(actor.modes, actor.weights[index], strict=True):
        cv2.scaleAdd(mode, float(weight), base, dst=changed)
        base = changed

    # Warp only where the figure can be.
    matrix = actor.matrices[index]
    x, y = matrix[:, :2] @ actor.centre_xy + matrix[:, 2]
    scale, lean = float(np.hypot(matrix[0, 0], matrix[1, 0])), abs(float(np.arctan2(matrix[1, 0], matrix[0, 0])))
    side, up, down = actor.reach
    # A leaning body goes further sideways the lower it is seen.
    far = height - y if math.isinf(down) else max(up, down) * scale
    sine = math.sin(min(lean, 1.5))
    aside = side * scale + sine * max(far, up * scale) + 2
    left, right = max(0, int(x - aside)), min(width, int(x + aside) + 1)
    top = max(0, int(y - up * scale - side * scale * sine - 2))
    bottom = height if math.isinf(down) else min(height, int(y + down * scale + side * scale * sine + 3))
    if right <= left or bottom <= top:
        return
    moved = matrix.copy()
    moved[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    warped, clear, ink = (array[: size[1], : size[0]] for array in (desk.warped, desk.clear, desk.ink))
    cv2.warpAffine(figure, moved, size, dst=warped, flags=cv2.INTER_LINEAR, borderMode=actor.border)
    cv2.extractChannel(warped, 3, dst=clear)
    np.subtract(1, clear, out=clear)
    for channel, plane in enumerate(planes):
        part = plane[top:bottom, left:right]
        np.multiply(part, clear, out=part)
        np.add(part, cv2.extractChannel(warped, channel, dst=ink), out=part)


def _draw_room(config: SceneConfig) -> Image:
    """(H, W, 3) the background as the camera shows it, 0..255."""
    rng = _rng(config, _FOR_ROOM)
    height, width = config.height, config.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width, y / height
    wall = rng.uniform(90, 190) * np.clip(rng.normal(1, 0.07, 3), 0.8, 1.2)
    slope = rng.uniform(-0.25, 0.25, 2)
    glow = 1 + slope[0] * (u - 0.5) + slope[1] * (v - 0.5)
    picture = (wall.astype(np.float32) * glow[..., None]).astype(np.float32)
    if config.background == "room":
        for _ in range(int(rng.integers(3, 7))):
            left, top = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.7) * height
            right, bottom = left + rng.uniform(0.08, 0.35) * width, top + rng.uniform(0.15, 0.7) * height
            colour = rng.uniform(40, 215) * np.clip(rng.normal(1, 0.18, 3), 0.5, 1.5)
            corner, opposite = (round(left), round(top)), (round(right), round(bottom))
            cv2.rectangle(picture, corner, opposite, [float(c) for c in colour], -1)
            if rng.uniform() < 0.5:
                inner = [float(c) for c in np.clip(colour * rng.uniform(0.6, 1.4), 0, 255)]
                for share in np.linspace(0.15, 0.85, int(rng.integers(2, 6))):
                    line_y = round(top + share * (bottom - top))
                    cv2.line(picture, (round(left), line_y), (round(right), line_y), inner, max(1, height // 160))
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), height * rng.uniform(0.004, 0.02)))
    elif config.background == "clutter":
        for octave in range(5):
            size = (3 * 2**octave, 4 * 2**octave)
            cells = rng.standard_normal((*size, 1)) + 0.35 * rng.standard_normal((*size, 3))
            cells = cells.astype(np.float32)
            picture += 34 * 0.62**octave * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(picture, 4, 250), np.float32)
