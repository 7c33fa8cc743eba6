"""Videos of living faces, drawn ones and portraits: a known pulse, a moving head, changing light, a noisy camera.

    SceneConfig -> render -> (frame (H, W, 3) uint8 RGB, t_s) ...        SceneConfig -> truth -> SceneTruth

What a pixel of skin sends to the camera is

    light(t) * (albedo * (1 - depth * pulse(t) * blood * ratio) + specular)

in linear light, where ``depth`` is that of green and ``ratio`` the share of it that red, green and blue get. The camera
then applies a power law, adds noise and rounds to 8 bits, in this order, so that a pulse far below one grey level
survives on average, as it does in a real camera.

Because the curve is a pure power, light is a factor after it as well, and a change of a few percent before it is the
same change divided by gamma after it. So everything is drawn once as the camera shows it; a frame costs one weighted
sum of pictures (the pulse), one warp with its change of light (``warp.py``), and one pass of noise.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from autohr.errors import BadRecording
from autohr.files import read_json_object, write_text
from autohr.lab.synth.face import (
    DISPLAY_GAMMA,
    FaceTexture,
    Identity,
    Illumination,
    Image,
    draw_face,
    fixed_point,
    random_identity,
)
from autohr.lab.synth.life import HeadMotion, HeadPose, move_head, wander
from autohr.lab.synth.limits import check_choice, check_numbers
from autohr.lab.synth.portrait import Portrait, load_portraits, portrait_texture
from autohr.lab.synth.strata import Facts, skin_luminance, strata
from autohr.lab.synth.warp import Rig, full_size, lid_outlines, make_rig, mouth_opening, pose_mesh, sampling
from autohr.signals.simulate import CHANNEL_RATIO, simulate_pulse
from autohr.types import Float, Frame
from autohr.video.encode import write_video

SceneKind = Literal["face", "photo", "wall"]
Background = Literal["plain", "room", "clutter"]
T = TypeVar("T")

TRUTH_SCHEMA = "autohr.truth/1"
"""Name and version of the layout of a ``.truth.json``."""
_DIGITS = {"hr_bpm": 3, "bvp": 5, "beats_s": 5, "box_xywh": 2}
"""Decimals of the arrays of ``SceneTruth`` in a ``.truth.json``."""
PULSE_FS = 240.0
"""Samples per second at which the pulse is simulated before it is read at the frames' times."""
NOISE_PLANES, NOISE_SHIFT_PX = 4, 64
"""Number of pictures of noise from which camera noise is cut, at a random place up to so many pixels away and with a
random sign: 32 thousand different ones, drawn independently for every frame and channel. Fresh noise took 5 ms for
one channel of 640x480 where this takes 0.1 ms."""
BODY_SHARE = 0.6
"""Share of the head's sway in which the body joins; the rest is the neck."""
MOUTH_RGB = np.array((62.0, 24.0, 24.0), np.float32)
"""Colour of an open mouth in shadow, in display values."""

_LIMITS: dict[str, tuple[float, float]] = dict(
    (
        *(("seed", (0, 2**63 - 1)), ("duration_s", (0.05, 3600)), ("width", (32, 7680)), ("height", (32, 4320))),
        *(("fps", (1, 1000)), ("n_faces", (1, 8)), ("hrv", (0, 0.3)), ("resp_bpm", (2, 60)), ("pulse_depth", (0, 0.2))),
        *(("exposure", (0.01, 4)), ("light_drift", (0, 0.3)), ("flicker_hz", (0, 200)), ("flicker_depth", (0, 0.5))),
        *(("screen_depth", (0, 0.3)), ("room_light", (0, 1)), ("auto_exposure", (0, 1)), ("gamma", (1, 3))),
        *(("noise_sd", (0, 30)), ("background_motion", (0, 1)), ("jitter_s", (0, 1)), ("drop_share", (0, 0.9))),
    )
)


@dataclass(frozen=True)
class SceneConfig:
    """One video, completely: the same config gives the same frames."""

    seed: int = 0
    duration_s: float = 10.0
    width: int = 640
    height: int = 480
    fps: float = 30.0
    kind: SceneKind = "face"
    """Subject. face: people; photo: a printed photograph of one, without pulse; wall: nobody."""
    n_faces: int = 1
    identity: Identity | None = None
    """Person of the first face; None draws one by the seed, as for the others."""
    portrait: str | None = None
    """Path of a photograph that the first face is made from instead (``portrait.py``)."""
    cut_out: bool = False
    """True cuts the person of the portrait out and puts him before ``background``; else his own stays behind him."""
    face_px: float | None = None
    """Height of the faces, hairline to chin; None is 0.4 of the frame's height, less where several share the width."""
    hr_bpm: float | tuple[float, float] = 72.0
    """Heart rate of the first face: one rate, or a straight ramp (at the start, at the end)."""
    other_hr_bpm: tuple[float, ...] = ()
    """Heart rates of the other faces; where it is too short, rates are drawn by the seed."""
    hrv: float = 0.03
    """Spread of the rate relative to itself (see ``simulate_pulse``); 0 is a metronome."""
    resp_bpm: float = 15.0
    pulse_depth: float = 0.01
    """Relative change of green linear light, peak to peak, averaged over the bare skin of the face. Real faces have
    0.003 to 0.02. 0 is no pulse at all, and then the truth has no heart rate either."""
    head: HeadMotion = field(default_factory=HeadMotion)
    """Movement of the heads."""
    light: Illumination | None = None
    """Direction of the light; None draws it by the seed."""
    exposure: float = 1.0
    """Brightness of the picture in linear light, relative to a well-set camera."""
    light_drift: float = 0.03
    """Standard deviation of slow changes of the light (below 0.1 Hz), relative; a third of it also drifts in colour."""
    flicker_hz: float = 0.0
    flicker_depth: float = 0.0
    """Sine in the light, peak to peak, relative; its frequency may lie in the heart band."""
    flicker_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Share of the flicker in each channel."""
    screen_depth: float = 0.0
    """Standard deviation of light that jumps in strength and colour every second or so, as from a screen."""
    room_light: float = 1.0
    """Share of all these changes that the background gets: a screen lights the face alone."""
    auto_exposure: float = 0.0
    """Share of slow changes that the camera takes back, 0..1, in steps and half a second late."""
    gamma: float = DISPLAY_GAMMA
    """Exponent of the camera's curve."""
    noise_sd: float = 1.0
    """Standard deviation of camera noise, of 255. One number for bright and dark: under a power law near 1/2, shot
    noise is equally large everywhere, and read noise only adds to it in the dark."""
    background: Background = "room"
    background_motion: float = 0.0
    """Strength of changes of the background by itself, 0..1: passers-by, a television."""
    jitter_s: float = 0.0
    """Standard deviation of the true moments of exposure about a steady clock; cut at 0.4 frames."""
    drop_share: float = 0.0
    """Share of frames that the camera lost."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, SceneKind)
        check_choice("background", self.background, Background)
        check_numbers(self, _LIMITS)
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
        if self.cut_out and self.portrait is None:
            raise ValueError("cut_out=True needs a portrait: a drawn face has no background to be cut from.")
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


@dataclass(frozen=True)
class SceneTruth:
    """Truth about one face of a scene of T frames.

    Without a pulse (a photograph, ``pulse_depth=0``, a wall) there are no beats, ``bvp`` is 0, ``hr_bpm`` NaN and
    ``mean_hr_bpm`` None.
    """

    t_s: Float
    """(T,) time of each frame; starts at 0."""
    bvp: Float
    """(T,) pulse wave of ``simulate_pulse``: positive is more blood, so green is darker."""
    hr_bpm: Float
    """(T,) instantaneous rate."""
    mean_hr_bpm: float | None
    """Beats over the duration."""
    beats_s: Float
    """(K,) times of the systolic peaks."""
    box_xywh: Float
    """(T, 4) outline of the face in pixels: left, top, width, height; NaN without a face."""


def decoys(duration_s: float = 10.0, seed: int = 0) -> dict[str, SceneConfig]:
    """Return scenes without a pulse, by name, which no honest meter may call reliable."""
    base = SceneConfig(duration_s=duration_s, seed=seed, pulse_depth=0.0)
    statue = HeadMotion(0, 0, 0, 0, 0)
    photo: dict[str, Any] = {"kind": "photo", "head": statue}
    nodding = HeadMotion(sway=0.3, rhythm_hz=1.1, rhythm_amplitude=0.03)
    changes: dict[str, dict[str, Any]] = {
        "still_photo": {**photo, "light_drift": 0.0},
        "moving_photo": {**photo, "head": HeadMotion(sway=1.0)},
        "nodding_photo": {**photo, "head": nodding},
        "flickering_photo": {**photo, "flicker_hz": 1.2, "flicker_depth": 0.02},
        "still_face": {"head": statue},
        "moving_face": {"head": HeadMotion(sway=1.0, turn_deg=5.0)},
        "talking_face": {"head": HeadMotion(sway=0.5, talk=1.0)},
        "flickering_face": {"head": HeadMotion(sway=0.2), "flicker_hz": 1.3, "flicker_depth": 0.02},
        "wall": {"kind": "wall"},
    }
    return {name: dataclasses.replace(base, **change) for name, change in changes.items()}


def truth(config: SceneConfig, face: int = 0) -> SceneTruth:
    """Return the truth about face number ``face`` of a scene, counted from the left; no frame is drawn."""
    times_s = _frame_times(config)
    if config.kind == "wall":
        return _no_pulse(times_s)
    if not 0 <= face < config.n_faces:
        raise ValueError(f"face={face} is outside 0..{config.n_faces - 1}: this scene has {config.n_faces} face(s).")
    return _live(config, times_s, face).truth


def render(config: SceneConfig) -> Iterator[tuple[Frame, float]]:
    """Yield the frames of a scene with their times; only one is held in memory.

    Examples
    --------
    >>> frame, t_s = next(render(SceneConfig(duration_s=0.1, width=64, height=48)))
    >>> frame.shape, t_s
    ((48, 64, 3), 0.0)
    """
    times_s = _frame_times(config)
    yield from _render(config, times_s, _cast(config, times_s))


def write_scene(
    config: SceneConfig,
    path: Path,
    *,
    codec: str = "libx264",
    crf: int = 18,
    pix_fmt: str = "yuv420p",
    preset: str = "veryfast",
    gop: int | None = None,
) -> SceneTruth:
    """Encode a scene, write ``<name>.truth.json`` beside it, and return the truth about the first face.

    A scene with jitter or lost frames is written with its true time stamps, any other at the steady ``fps``.

    Parameters
    ----------
    gop
        Frames from one key frame to the next; None leaves it to the encoder. A picture that is drawn anew once a second
        flickers at 60 bpm, which cameras and phones do.

    Raises
    ------
    VideoError
        The encoder refused the codec, the container or the path.
    """
    path = Path(path)
    times_s = _frame_times(config)
    actors = _cast(config, times_s)
    truths = [actor.life.truth for actor in actors] or [_no_pulse(times_s)]
    luminance: list[float] = []

    def frames() -> Iterator[Frame]:
        for frame, _ in _render(config, times_s, actors):
            if actors and not luminance:
                luminance.append(skin_luminance(frame, truths[0].box_xywh[0], config.gamma, config.exposure))
            yield frame

    clock: dict[str, Any] = {"t_s": times_s} if config.jitter_s or config.drop_share else {"fps": config.fps}
    encoding: dict[str, Any] = {"codec": codec, "crf": crf, "pix_fmt": pix_fmt, "preset": preset, "gop": gop}
    write_video(path, frames(), **clock, **encoding)
    record = {
        "schema": TRUTH_SCHEMA,
        "video": path.name,
        "config": dataclasses.asdict(config),
        "encoding": encoding,
        "skin_luminance": round(luminance[0], 4) if luminance and math.isfinite(luminance[0]) else None,
        "t_s": _rounded(times_s, 6),
        "faces": [
            {"mean_hr_bpm": one.mean_hr_bpm, **{name: _rounded(getattr(one, name), n) for name, n in _DIGITS.items()}}
            for one in truths
        ],
    }
    write_text(truth_path(path), json.dumps(record, allow_nan=False))
    return truths[0]


def truth_path(video_path: Path) -> Path:
    """Return where the truth of a video lies: ``clip.mp4`` has ``clip.truth.json``."""
    return Path(video_path).with_suffix(".truth.json")


def read_truth(path: Path) -> list[SceneTruth]:
    """Read the truth about all faces of a written scene, from its ``.truth.json`` or from the video beside it.

    Raises
    ------
    BadRecording
        There is no such file, or ``write_scene`` did not make it.
    """

    def truths(record: dict[str, Any]) -> list[SceneTruth]:
        t_s = _array(record["t_s"])
        return [
            SceneTruth(
                t_s=t_s,
                bvp=_array(one["bvp"]),
                hr_bpm=_array(one["hr_bpm"]),
                mean_hr_bpm=one["mean_hr_bpm"],
                beats_s=_array(one["beats_s"]),
                box_xywh=_array(one["box_xywh"]).reshape(len(t_s), 4),
            )
            for one in record["faces"]
        ]

    return _from_record(path, truths)


def read_strata(path: Path) -> dict[str, str]:
    """Read the groups that a written scene belongs to (``strata.py``), from its video with the truth beside it.

    Raises
    ------
    BadRecording
        As ``read_truth``; or there is no video.
    """
    try:
        file_bytes = Path(path).stat().st_size
    except OSError as error:
        raise BadRecording(f"Cannot read {str(path)!r}: {error.strerror}.") from None

    def groups(record: dict[str, Any]) -> dict[str, str]:
        scene, faces = record["config"], record["faces"]
        bits_per_pixel = 8 * file_bytes / (scene["width"] * scene["height"] * len(record["t_s"]))
        hr_bpm = faces[0]["mean_hr_bpm"] if faces else None
        # Recordings of before 22 November 2026 have no luminance of the skin.
        return strata(Facts(scene, record["encoding"], bits_per_pixel, hr_bpm, record.get("skin_luminance")))

    return _from_record(path, groups)


def _from_record(path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """Return what ``parse`` makes of a ``.truth.json``, or of the one beside a video; an error is a BadRecording."""
    path = Path(path)
    path = path if path.suffix == ".json" else truth_path(path)
    if not path.exists():
        raise BadRecording(f"{path} does not exist; write_scene puts it beside the video.")
    record = read_json_object(path, "schema", what="truth of a scene", error=BadRecording)
    try:
        if record["schema"] != TRUTH_SCHEMA:
            raise BadRecording(f"{path}: schema {record['schema']!r} is not {TRUTH_SCHEMA!r}; write the scene again.")
        return parse(record)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadRecording(f"{path} is not the truth of a scene ({error!r}); write the scene again.") from None


def _rounded(values: Float, digits: int) -> list[Any]:
    """Return an array as lists for strict JSON, which has no NaN: None in its place."""
    if values.ndim > 1:
        return [_rounded(row, digits) for row in values]
    return [round(float(v), digits) if math.isfinite(v) else None for v in values]


def _array(values: list[Any]) -> Float:
    """Return lists of strict JSON as an array, with NaN for None."""
    return np.array(list(values), dtype=np.float64)


# ---------------------------------------------------------------------------------------------------------------------
# Clock, pulse, movement, light


def _rng(config: SceneConfig, *purpose: int) -> np.random.Generator:
    """Return the generator of one purpose, so that a change of one thing does not move the others."""
    return np.random.default_rng([config.seed, *purpose])


_FOR_CLOCK, _FOR_IDENTITY, _FOR_PULSE, _FOR_MOTION, _FOR_LIGHT, _FOR_ROOM, _FOR_NOISE = range(7)


def _frame_times(config: SceneConfig) -> Float:
    """Return the times (T,) of the frames, in seconds."""
    rng = _rng(config, _FOR_CLOCK)
    n_frames = round(config.duration_s * config.fps)
    late = np.clip(rng.normal(0, 1, n_frames) * config.jitter_s * config.fps, -0.4, 0.4)
    times_s = (np.arange(n_frames) + late) / config.fps
    kept = rng.uniform(size=n_frames) >= config.drop_share
    # A video needs two frames; the first one is time 0.
    kept[[0, -1]] = True
    return np.asarray((times_s - times_s[0])[kept])


def _place_body(config: SceneConfig, pose: HeadPose, number: int, centre_xy: tuple[float, float]) -> Float:
    """Return the (T, 2, 3) matrices from texture to frame pixels: place of the body, and its share of the movement."""
    share = 1.0 if config.kind == "photo" else BODY_SHARE
    size = config.height_of_faces
    # Heads are kept in the picture: a person who leaves it is another scene.
    edge = 0.5 * size
    middle_x, middle_y = config.width * (number + 0.5) / config.n_faces, config.height * 0.47
    x = np.clip(middle_x + size * share * pose.x, min(edge, middle_x), max(config.width - edge, middle_x))
    y = np.clip(middle_y + size * share * pose.y, min(edge, middle_y), max(config.height - edge, middle_y))
    scale, roll_rad = pose.scale**share, share * pose.roll_rad
    cos, sin = scale * np.cos(roll_rad), scale * np.sin(roll_rad)
    cx, cy = centre_xy
    rows = [[cos, -sin, x - cos * cx + sin * cy], [sin, cos, y - sin * cx - cos * cy]]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def _pose_of_neck(pose: HeadPose) -> HeadPose:
    """Return the head's movement relative to its body."""
    rest = 1 - BODY_SHARE
    return dataclasses.replace(
        pose, x=rest * pose.x, y=rest * pose.y, scale=pose.scale**rest, roll_rad=rest * pose.roll_rad
    )


def _lamps(config: SceneConfig, t_s: Float) -> tuple[Float, Float]:
    """Return the light (T, 3) on the faces and on the background in red, green and blue, 1 on average."""
    rng = _rng(config, _FOR_LIGHT)
    drift = config.light_drift * wander(rng, t_s, 0.01, 0.1)
    hue = np.stack([wander(rng, t_s, 0.01, 0.06) for _ in range(3)], axis=1)
    sine = 0.5 * config.flicker_depth * np.sin(2 * np.pi * (config.flicker_hz * t_s + rng.uniform()))
    light = (1 + drift)[:, None] * (1 + config.light_drift / 3 * hue)
    light *= 1 + sine[:, None] * np.array(config.flicker_rgb)
    light *= 1 + config.screen_depth * _screen(t_s, _rng(config, _FOR_LIGHT, 2))
    light = np.clip(light, 0.05, None)
    room = 1 + config.room_light * (light - 1)
    gain = _gain(config, t_s, light.mean(axis=1))[:, None] * config.exposure
    return light * gain, room * gain


def _screen(t_s: Float, rng: np.random.Generator) -> Float:
    """Return light (T, 3) of unit variance: steps of strength and colour every 0.3 to 3 s, faded over 0.1 s."""
    out = np.zeros((len(t_s), 3))
    level, now_s = rng.normal(0, 0.8, 1) + rng.normal(0, 0.6, 3), 0.0
    out += level
    while now_s < t_s[-1]:
        now_s += float(rng.uniform(0.3, 3.0))
        after = rng.normal(0, 0.8, 1) + rng.normal(0, 0.6, 3)
        out += np.clip((t_s - now_s) / 0.1, 0, 1)[:, None] * (after - level)
        level = after
    return out


def _gain(config: SceneConfig, t_s: Float, brightness: Float) -> Float:
    """Return the gain (T,) of an automatic exposure: half a second behind the brightness, in steps of 1 %."""
    if not config.auto_exposure:
        return np.ones(len(t_s))
    followed, late = np.empty(len(t_s)), float(brightness[0])
    for i, now in enumerate(brightness):
        step_s = t_s[i] - t_s[i - 1] if i else 0.0
        late += (float(now) - late) * (1 - math.exp(-step_s / 0.5))
        followed[i] = late
    steps = np.round(np.log(followed) * config.auto_exposure / 0.01) * 0.01
    # A step is spread over a few frames, as cameras do.
    return np.exp(-np.convolve(np.pad(steps, 3, mode="edge"), np.ones(7) / 7, mode="valid"))


def _illumination(config: SceneConfig) -> Illumination:
    rng = _rng(config, _FOR_LIGHT, 1)
    ranges = ((-45, 45), (5, 50), (0.4, 0.75))
    return config.light or Illumination(*(float(rng.uniform(*limits)) for limits in ranges))


def _no_pulse(t_s: Float, box_xywh: Float | None = None) -> SceneTruth:
    nowhere = np.full((len(t_s), 4), np.nan)
    box_xywh = nowhere if box_xywh is None else box_xywh
    return SceneTruth(t_s, np.zeros(len(t_s)), np.full(len(t_s), np.nan), None, np.zeros(0), box_xywh)


def _pulse(config: SceneConfig, t_s: Float, number: int, box_xywh: Float) -> tuple[SceneTruth, Float, Float]:
    """Return the truth about one face, and the relative loss (T,) of green with its slope per second."""
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
    hr_bpm = np.interp(t_s, clock_s, pulse.hr_bpm)
    known = SceneTruth(t_s, bvp, hr_bpm, pulse.mean_hr_bpm, pulse.beats_s, box_xywh)
    return known, depth * bvp, depth * slope


# ---------------------------------------------------------------------------------------------------------------------
# Faces as pictures that only need to be added and warped


@dataclass(frozen=True)
class _Life:
    """Looks, movement and pulse of one face during the scene; nothing of it is rendered yet."""

    texture: FaceTexture
    rig: Rig | None
    """None: a rigid sheet."""
    pose: HeadPose
    """Pose of the head on its body."""
    matrices: Float
    """(T, 2, 3) from pixels of the texture to pixels of the frame, of the body."""
    change: Float
    """(T,) relative loss of green by the pulse, peak to peak ``pulse_depth``."""
    slope: Float
    """(T,) slope of ``change``, per second."""
    truth: SceneTruth


@dataclass(frozen=True)
class _Actor:
    """One face, ready to be rendered. Pictures are display values 0..255, premultiplied by alpha."""

    still: Image
    """(H, W, 4) red, green, blue, alpha of the face at rest."""
    window: tuple[slice, slice]
    """Rows and columns of ``still`` that the pulse changes."""
    modes: Image
    """(2, h, w, 4) pictures that are added within ``window``, each by its weight: blood, and its delayed part."""
    weights: NDArray[np.float32]
    """(T, 2) weights of the modes."""
    gloss: Image
    """(H, W) display value of a unit of mirrored light."""
    lid_rgb: NDArray[np.float32]
    """(2, 3) colour of the upper lids."""
    border: int
    """Continuation beyond the texture, as OpenCV names it."""
    gamma: float
    reach: tuple[float, float, float]
    """Extent of the texture from its centre, in its pixels: sideways, upwards, downwards (inf = to the edge)."""
    life: _Life


def _cast(config: SceneConfig, t_s: Float) -> list[_Actor]:
    return [] if config.kind == "wall" else [_actor(config, t_s, number) for number in range(config.n_faces)]


def _actor(config: SceneConfig, t_s: Float, number: int) -> _Actor:
    life = _live(config, t_s, number)
    texture = life.texture
    if config.kind == "photo":
        still, window, modes = _printed(texture, config.gamma)
        weights = np.zeros((len(t_s), 0), np.float32)
        gloss, border, down = np.zeros(still.shape[:2], np.float32), cv2.BORDER_CONSTANT, float(still.shape[0])
    else:
        # Which colours blood takes away differs with skin and camera; green, which defines the depth, is held.
        ratio = np.array(CHANNEL_RATIO) / CHANNEL_RATIO[1] * _rng(config, _FOR_PULSE, number, 1).normal(1, 0.08, 3)
        ratio[1] = 1.0
        still, window, modes, gloss = _living(texture, ratio, config.gamma)
        weights = np.stack([-life.change, life.slope], axis=1).astype(np.float32)
        border, down = cv2.BORDER_REPLICATE, math.inf
    cx, cy = texture.centre_xy
    reach = (max(cx, still.shape[1] - cx), cy, down)
    if float(texture.alpha.min()) == 1.0:
        reach, border = (math.inf, math.inf, math.inf), cv2.BORDER_REFLECT_101
    lid_rgb = _lid_colours(still, texture)
    return _Actor(still, window, modes, weights, gloss, lid_rgb, border, config.gamma, reach, life)


def _live(config: SceneConfig, t_s: Float, number: int) -> _Life:
    texture = _texture(config, number)
    pose = move_head(config.head, t_s, _rng(config, _FOR_MOTION, number))
    matrices = _place_body(config, pose, number, texture.centre_xy)
    rig = None if config.kind == "photo" else make_rig(texture)
    pose = _pose_of_neck(pose)
    boxes = np.empty((len(t_s), 4))
    for first in range(0, len(t_s), 256):
        part = slice(first, first + 256)
        points = texture.landmarks[None] if rig is None else pose_mesh(rig, pose, part)[:, :468, :2]
        at = points @ matrices[part, :, :2].transpose(0, 2, 1) + matrices[part, None, :, 2]
        low, high = at.min(axis=1), at.max(axis=1)
        boxes[part] = np.concatenate([low, high - low], axis=1)
    known, change, slope = _pulse(config, t_s, number, boxes)
    return _Life(texture, rig, pose, matrices, change, slope, known)


@lru_cache(maxsize=4)
def _texture(config: SceneConfig, number: int) -> FaceTexture:
    """Draw a face. It is kept, because the truth of a scene and its frames both begin with it."""
    rng = _rng(config, _FOR_IDENTITY, number)
    if number == 0 and config.portrait is not None:
        path = Path(config.portrait)
        portrait = _portraits(path.parent).get(path.stem)
        if portrait is None:
            raise BadRecording(f"There is no portrait {path.stem!r} with landmarks in {str(path.parent)!r}.")
        return portrait_texture(portrait, config.height_of_faces, rng, config.cut_out)
    drawn = random_identity(rng)
    identity = config.identity if number == 0 and config.identity is not None else drawn
    return draw_face(identity, config.height_of_faces, _illumination(config))


@lru_cache(maxsize=2)
def _portraits(folder: Path) -> dict[str, Portrait]:
    return {portrait.name: portrait for portrait in load_portraits(folder)}


def _lid_colours(still: Image, texture: FaceTexture) -> NDArray[np.float32]:
    """Return the colours (2, 3) of the skin between eye and brow, where it is seen when the eye is open."""
    height, width = still.shape[:2]
    colours = []
    for landmark in (27, 257):
        x, y = np.clip(np.rint(texture.landmarks[landmark]), 1, (width - 2, height - 2)).astype(int)
        colours.append(np.median(still[y - 1 : y + 2, x - 1 : x + 2, :3].reshape(-1, 3), axis=0))
    return np.array(colours, np.float32)


def _displayed(texture: FaceTexture, gamma: float) -> Image:
    """Return the texture as the camera shows it, (H, W, 3) in 0..255."""
    linear = texture.diffuse + texture.specular[..., None]
    return np.asarray(255 * np.clip(linear, 0, 1) ** (1 / gamma), np.float32)


def _living(texture: FaceTexture, ratio: Float, gamma: float) -> tuple[Image, tuple[slice, slice], Image, Image]:
    """Return a face as still picture, window, modes (more blood, later blood) and gloss (see ``_Actor``)."""
    shown = _displayed(texture, gamma)
    alpha = texture.alpha
    still = np.dstack([shown * alpha[..., None], alpha]).astype(np.float32)

    # Only that part changes where blood is.
    x, y, w, h = cv2.boundingRect((texture.blood > 0).astype(np.uint8))
    window = (slice(y, y + h), slice(x, x + w))
    diffuse, specular = texture.diffuse[window], texture.specular[window][..., None]
    # A relative change of the diffuse light, as seen after the camera's power law.
    response = shown[window] * alpha[window][..., None] / np.float32(gamma)
    response *= diffuse / np.maximum(diffuse + specular, 1e-6)
    blood = response * texture.blood[window][..., None] * ratio.astype(np.float32)
    # pulse(t - delay) is pulse(t) - delay * slope(t): delays are a tenth of a beat's rise or less.
    later = blood * texture.delay_s[window][..., None]
    none = np.zeros((h, w), np.float32)
    modes = np.stack([np.dstack([mode, none]) for mode in (blood, later)])
    # The lamp's white light, as the green channel shows it: gloss is broad and weak here.
    green = np.maximum(shown[..., 1] / 255, 0.05)
    gloss = texture.shine * alpha * (255 / gamma) * green ** (1 - gamma)
    return still, window, np.ascontiguousarray(modes, np.float32), np.asarray(np.minimum(gloss, 255), np.float32)


def _printed(texture: FaceTexture, gamma: float) -> tuple[Image, tuple[slice, slice], Image]:
    """Return the still picture, window and modes of a printed photograph with a white rim, held before the camera."""
    shown = _displayed(texture, gamma)
    height, width = texture.alpha.shape
    sky = np.linspace(200, 140, height, dtype=np.float32)[:, None, None] * np.array((0.80, 0.90, 1.0), np.float32)
    picture = shown * texture.alpha[..., None] + sky * (1 - texture.alpha[..., None])
    still = np.zeros((height, width, 4), np.float32)
    (cx, cy), size, rim = texture.centre_xy, texture.face_px, round(0.04 * texture.face_px) + 1
    left, right = max(rim + 1, round(cx - 0.85 * size)), min(width - rim - 1, round(cx + 0.85 * size))
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
    scenery, moves = _scenery(config, t_s)
    # Light is a factor of display values too, because the curve is a power.
    on_faces, on_room = (light ** (1 / config.gamma) for light in _lamps(config, t_s))
    height, width, shift = config.height, config.width, NOISE_SHIFT_PX
    bank = [rng.standard_normal((height + shift, width + shift), dtype=np.float32) for _ in range(NOISE_PLANES)]
    planes = [np.empty((height, width), np.float32) for _ in range(3)]
    figures = [actor.still.copy() for actor in actors]
    out = [np.empty((height, width), np.uint8) for _ in range(3)]

    for index, time_s in enumerate(t_s):
        for channel, (plane, wall) in enumerate(zip(planes, room, strict=True)):
            np.copyto(plane, wall)
            for picture, move in zip(scenery, moves[index], strict=True):
                cv2.scaleAdd(picture[channel], float(move), plane, dst=plane)
        for actor, figure in zip(actors, figures, strict=True):
            _draw_actor(planes, actor, figure, index, on_faces[index] / on_room[index])
        for channel in range(3):
            noise = bank[int(rng.integers(NOISE_PLANES))]
            top, left = rng.integers(shift, size=2)
            noise = noise[top : top + height, left : left + width]
            sd = config.noise_sd * (1 if rng.integers(2) else -1)
            light = float(on_room[index, channel])
            cv2.addWeighted(planes[channel], light, noise, sd, 0.0, dst=out[channel], dtype=cv2.CV_8U)
        yield np.asarray(cv2.merge(out), np.uint8), float(time_s)


def _scenery(config: SceneConfig, t_s: Float) -> tuple[list[list[Image]], Float]:
    """Return what moves in the background: pictures as three planes each, and their weights (T, K)."""
    if not config.background_motion:
        return [], np.zeros((len(t_s), 0))
    rng = _rng(config, _FOR_ROOM, 1)
    pictures = []
    for _ in range(2):
        cells = rng.normal(0, 1, (4, 5, 1)) + rng.normal(0, 0.5, (4, 5, 3))
        soft = cv2.resize(cells.astype(np.float32), (config.width, config.height), interpolation=cv2.INTER_CUBIC)
        pictures.append([np.ascontiguousarray(soft[..., channel], np.float32) for channel in range(3)])
    moves = np.stack([wander(rng, t_s, 0.1, 2.5) for _ in pictures], axis=1)
    return pictures, 25 * config.background_motion * moves


def _draw_actor(planes: list[Image], actor: _Actor, figure: Image, index: int, light: Float) -> None:
    """Cover the three planes of the frame with one face as it is in frame ``index``, lit by ``light`` (3,)."""
    height, width = planes[0].shape
    life = actor.life
    # Mode by mode and not as one product of matrices: BLAS would start threads, which wait for each other on a busy
    # machine longer than the work takes (measured there: 14 ms a frame instead of 4).
    changed, base = figure[actor.window], actor.still[actor.window]
    for mode, weight in zip(actor.modes, actor.weights[index], strict=True):
        cv2.scaleAdd(mode, float(weight), base, dst=changed)
        base = changed

    matrix = life.matrices[index]
    left, right, top, bottom = _covered(actor, matrix, width, height)
    if right <= left or bottom <= top:
        return
    moved = matrix.copy()
    moved[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    parts = [plane[top:bottom, left:right] for plane in planes]
    if life.rig is None:
        sheet = cv2.warpAffine(figure, moved, size, flags=cv2.INTER_LINEAR, borderMode=actor.border)
        _cover(parts, np.asarray(sheet, np.float32), light, None, None)
        return
    points = pose_mesh(life.rig, life.pose, slice(index, index + 1))[0]
    found = sampling(life.rig, points, moved, size)
    maps = full_size(found.source_x, size), full_size(found.source_y, size)
    warped = np.asarray(cv2.remap(figure, *maps, cv2.INTER_LINEAR, borderMode=actor.border), np.float32)
    shade = full_size(found.light ** np.float32(1 / actor.gamma), size)
    gloss = cv2.remap(actor.gloss, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    _draw_lids_and_mouth(warped, actor, life.rig, points, moved, float(life.pose.lids[index]))
    _cover(parts, warped, light, shade, np.asarray(gloss * full_size(found.gloss, size)))


def _covered(actor: _Actor, matrix: Float, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, right, top, bottom of the part of the frame where the figure can be."""
    side, up, down = actor.reach
    if math.isinf(side):
        return 0, width, 0, height
    x, y = matrix[:, :2] @ actor.life.texture.centre_xy + matrix[:, 2]
    scale, lean = float(np.hypot(matrix[0, 0], matrix[1, 0])), abs(float(np.arctan2(matrix[1, 0], matrix[0, 0])))
    # A leaning body goes further sideways the lower it is seen; a head may leave its body by a fifth of its height.
    far = height - y if math.isinf(down) else max(up, down) * scale
    sine, loose = math.sin(min(lean, 1.5)), 0.2 * actor.life.texture.face_px + 2
    aside = side * scale + sine * max(far, up * scale) + loose
    left, right = max(0, int(x - aside)), min(width, int(x + aside) + 1)
    top = max(0, int(y - up * scale - side * scale * sine - loose))
    bottom = height if math.isinf(down) else min(height, int(y + down * scale + side * scale * sine + loose))
    return left, right, top, bottom


def _cover(planes: list[Image], warped: Image, light: Float, shade: Image | None, gloss: Image | None) -> None:
    """Set planes to planes * (1 - alpha) + light * (warped * shade + gloss)."""
    clear = 1 - warped[..., 3]
    for channel, plane in enumerate(planes):
        ink = cv2.extractChannel(warped, channel)
        if shade is not None and gloss is not None:
            cv2.add(cv2.multiply(ink, shade, dst=ink), gloss, dst=ink)
        np.multiply(plane, clear, out=plane)
        cv2.scaleAdd(ink, float(light[channel]), plane, dst=plane)


def _draw_lids_and_mouth(warped: Image, actor: _Actor, rig: Rig, points: Float, matrix: Float, closed: float) -> None:
    """Draw what a warp cannot uncover: the lids of closing eyes, and the dark of a mouth that opens."""
    shapes = [(outline, rgb, 1.0) for outline, rgb in zip(lid_outlines(points, closed), actor.lid_rgb, strict=True)]
    shapes = shapes if closed > 0.05 else []
    outline, opened = mouth_opening(rig, points)
    at_rest = float(np.linalg.norm(rig.rest[14, :2] - rig.rest[13, :2])) / rig.texture.face_px
    if opened > 0.004 and at_rest < 0.03:
        shapes.append((outline, MOUTH_RGB, min(1.0, opened / 0.015)))
    for outline, rgb, opacity in shapes:
        _fill(warped, outline @ matrix[:, :2].T + matrix[:, 2], rgb, opacity)


def _fill(picture: Image, outline: Float, rgb: NDArray[np.float32], opacity: float) -> None:
    """Fill an outline (K, 2) in pixels of ``picture`` (H, W, 4) with a colour; edges are soft."""
    height, width = picture.shape[:2]
    low = np.floor(np.clip(outline.min(axis=0) - 2, 0, (width, height))).astype(int)
    high = np.ceil(np.clip(outline.max(axis=0) + 3, 0, (width, height))).astype(int)
    if (high - low).min() < 2:
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [fixed_point(outline - low)], 255, cv2.LINE_AA, 4)
    share = (mask.astype(np.float32) * np.float32(opacity / 255))[..., None]
    part = picture[low[1] : high[1], low[0] : high[0]]
    part[..., :3] += share * (rgb * part[..., 3:] - part[..., :3])


def _draw_room(config: SceneConfig) -> Image:
    """Return the background as the camera shows it, (H, W, 3) in 0..255."""
    rng = _rng(config, _FOR_ROOM)
    height, width = config.height, config.width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wall = rng.uniform(90, 190) * np.clip(rng.normal(1, 0.07, 3), 0.8, 1.2)
    slope = rng.uniform(-0.25, 0.25, 2)
    glow = 1 + slope[0] * (x / width - 0.5) + slope[1] * (y / height - 0.5)
    picture = (wall.astype(np.float32) * glow[..., None]).astype(np.float32)
    if config.background == "room":
        for _ in range(int(rng.integers(3, 7))):
            left, top = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.7) * height
            right, bottom = left + rng.uniform(0.08, 0.35) * width, top + rng.uniform(0.15, 0.7) * height
            colour = rng.uniform(40, 215) * np.clip(rng.normal(1, 0.18, 3), 0.5, 1.5)
            corner, opposite = (round(left), round(top)), (round(right), round(bottom))
            cv2.rectangle(picture, corner, opposite, colour.tolist(), -1)
            if rng.uniform() < 0.5:
                inner = np.clip(colour * rng.uniform(0.6, 1.4), 0, 255).tolist()
                for share in np.linspace(0.15, 0.85, int(rng.integers(2, 6))):
                    line_y = round(top + share * (bottom - top))
                    cv2.line(picture, (round(left), line_y), (round(right), line_y), inner, max(1, height // 160))
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), height * rng.uniform(0.004, 0.02)))
    elif config.background == "clutter":
        for octave in range(5):
            size = (3 * 2**octave, 4 * 2**octave)
            cells = (rng.standard_normal((*size, 1)) + 0.35 * rng.standard_normal((*size, 3))).astype(np.float32)
            picture += 34 * 0.62**octave * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(picture, 4, 250), np.float32)
